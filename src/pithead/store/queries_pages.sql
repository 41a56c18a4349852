-- What only the pages of the dashboard ask; see queries.sql for how these are written. Each looks at a bounded number of
-- rows, however long the history is: the newest, cut off before they are added up.

-- name: attempts_of_job
-- Some of a job's attempts, the newest first, with who made them.
SELECT a.number, m.id, m.name, a.accepted_at, a.ended_at, a.outcome, a.reason, a.upload_size, a.part_size, a.receipt_id,
    a.key_id, a.signature, a.earned
FROM attempts a JOIN miners m ON m.seq = a.miner WHERE a.job = :job ORDER BY a.number DESC LIMIT :limit

-- name: transfers_of_job
-- What was posted for a job, in order.
SELECT at, cause, amount FROM transfers WHERE job = :job ORDER BY seq LIMIT :limit

-- name: finished_by_minute
-- How the newest finished jobs ended, by minutes counted from the epoch.
SELECT CAST(finished_at / 60 AS BIGINT), state, count(*) FROM (
    SELECT finished_at, state FROM jobs WHERE finished_at IS NOT NULL AND finished_at >= :since
    ORDER BY finished_at DESC LIMIT :limit) AS ended
GROUP BY 1, 2 ORDER BY 1, 2

-- name: flows
-- What moved between classes of account among the newest postings.
SELECT t.cause, d.kind, c.kind, count(*), CAST(sum(t.amount) AS BIGINT) FROM (
    SELECT at, cause, debit, credit, amount FROM transfers ORDER BY seq DESC LIMIT :limit) AS t
    JOIN accounts d ON d.seq = t.debit JOIN accounts c ON c.seq = t.credit
WHERE t.at >= :since GROUP BY t.cause, d.kind, c.kind ORDER BY t.cause, d.kind, c.kind

-- name: taken_by_day
-- What an account was given for jobs, among its newest postings, by the days of UTC, which are counted from the epoch.
SELECT CAST(at / 86400 AS BIGINT), count(*), CAST(sum(amount) AS BIGINT) FROM (
    SELECT at, cause, amount FROM transfers WHERE credit = :account ORDER BY seq DESC LIMIT :limit) AS t
WHERE cause = 'payment' AND at >= :since GROUP BY 1 ORDER BY 1

-- name: taken_by_model
-- … and by model.
SELECT model, count(*), CAST(sum(amount) AS BIGINT) FROM (
    SELECT coalesce((SELECT model FROM jobs WHERE seq = t.job), (SELECT model FROM archive WHERE seq = t.job)) AS model, amount
    FROM (SELECT at, cause, amount, job FROM transfers WHERE credit = :account ORDER BY seq DESC LIMIT :limit) AS t
    WHERE cause = 'payment' AND at >= :since
) AS paid GROUP BY model ORDER BY 3 DESC, model

-- name: given_by_day
-- What an escrow paid for jobs, fees included, among its newest postings, by the days of UTC.
SELECT CAST(at / 86400 AS BIGINT), count(DISTINCT job), CAST(sum(amount) AS BIGINT) FROM (
    SELECT at, cause, amount, job FROM transfers WHERE debit = :account ORDER BY seq DESC LIMIT :limit) AS t
WHERE cause IN ('payment', 'fee') AND at >= :since GROUP BY 1 ORDER BY 1

-- name: given_by_model
-- … and by model.
SELECT model, count(DISTINCT job), CAST(sum(amount) AS BIGINT) FROM (
    SELECT coalesce((SELECT model FROM jobs WHERE seq = t.job), (SELECT model FROM archive WHERE seq = t.job)) AS model, amount, job
    FROM (SELECT at, cause, amount, job FROM transfers WHERE debit = :account ORDER BY seq DESC LIMIT :limit) AS t
    WHERE cause IN ('payment', 'fee') AND at >= :since
) AS paid GROUP BY model ORDER BY 3 DESC, model

-- name: forget_ended_keys
-- Forget the keys of an owner that ended long ago.
DELETE FROM keys WHERE owner = :owner AND expires_at <= :before
