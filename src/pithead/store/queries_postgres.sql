-- What PostgreSQL has to be asked in other words than queries.sql does, and why.

-- name: next_account
-- From a sequence, since two coordinators may ask at once; it counts in steps that leave room for an owner's accounts.
SELECT nextval('account_numbers')

-- name: earnings_by_day
-- Its CAST rounds where SQLite's cuts off, and SQLite has no floor.
SELECT CAST(floor(at / 86400) AS BIGINT), count(*), CAST(sum(amount) AS BIGINT) FROM transfers
WHERE credit = :account AND cause = 'payment' AND at >= :since AND at < :until GROUP BY 1 ORDER BY 1
