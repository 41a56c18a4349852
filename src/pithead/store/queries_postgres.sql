-- What PostgreSQL has to be asked in other words than queries.sql does, and why.

-- name: next_account
-- From a sequence, since two coordinators may ask at once; it counts in steps that leave room for an owner's accounts.
SELECT nextval('account_numbers')
