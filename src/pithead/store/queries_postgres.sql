-- What PostgreSQL has to be asked in other words than queries.sql does, and why.

-- name: next_account
-- From a sequence, since two coordinators may ask at once; it counts in steps that leave room for an owner's accounts.
SELECT nextval('account_numbers')

-- name: earnings_by_day
-- Its CAST rounds where SQLite's cuts off, and SQLite has no floor.
SELECT CAST(floor(at / 86400) AS BIGINT), count(*), CAST(sum(amount) AS BIGINT) FROM transfers
WHERE credit = :account AND cause = 'payment' AND at >= :since AND at < :until GROUP BY 1 ORDER BY 1

-- name: lapsed
-- Locks each job and its holder, and passes over what another transaction holds: a sweep waits for nobody.
SELECT {jobs.job} FROM jobs JOIN miners ON miners.seq = jobs.miner
WHERE lease_expires_at <= :now AND lease_expires_at IS NOT NULL ORDER BY lease_expires_at LIMIT :limit
FOR NO KEY UPDATE SKIP LOCKED

-- name: mark_offline
-- Passes over miners that another transaction holds: those are being heard of.
UPDATE miners SET online = FALSE WHERE seq IN (
    SELECT seq FROM miners WHERE online AND offline_at <= :now FOR NO KEY UPDATE SKIP LOCKED)
RETURNING seq

-- name: finished_by_minute
-- Likewise.
SELECT CAST(floor(finished_at / 60) AS BIGINT), state, count(*) FROM (
    SELECT finished_at, state FROM jobs WHERE finished_at IS NOT NULL AND finished_at >= :since
    ORDER BY finished_at DESC LIMIT :limit) AS ended
GROUP BY 1, 2 ORDER BY 1, 2

-- name: taken_by_day
-- Likewise.
SELECT CAST(floor(at / 86400) AS BIGINT), count(*), CAST(sum(amount) AS BIGINT) FROM (
    SELECT at, cause, amount FROM transfers WHERE credit = :account ORDER BY seq DESC LIMIT :limit) AS t
WHERE cause = 'payment' AND at >= :since GROUP BY 1 ORDER BY 1

-- name: given_by_day
-- Likewise.
SELECT CAST(floor(at / 86400) AS BIGINT), count(DISTINCT job), CAST(sum(amount) AS BIGINT) FROM (
    SELECT at, cause, amount, job FROM transfers WHERE debit = :account ORDER BY seq DESC LIMIT :limit) AS t
WHERE cause IN ('payment', 'fee') AND at >= :since GROUP BY 1 ORDER BY 1
