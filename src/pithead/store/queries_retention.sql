-- What is given up when its time is over; see queries.sql for how these are written.

-- name: results_to_expire
-- Some completed jobs whose results are older than that, the oldest first.
SELECT {job} FROM jobs WHERE finished_at < :before AND result_size IS NOT NULL AND result_expired_at IS NULL
ORDER BY finished_at LIMIT :limit {TAKE}

-- name: expire_result
-- The bytes of a job's result are given up.
UPDATE jobs SET result_expired_at = :now WHERE seq = :job

-- name: blobs_of_job
-- Everything that the attempts at a job keep in the blob store.
SELECT blob, part_blob FROM attempts WHERE job = :job AND (blob IS NOT NULL OR part_blob IS NOT NULL)

-- name: forget_blobs
-- The attempts at a job keep nothing there any more.
UPDATE attempts SET blob = NULL, part_blob = NULL, part_size = NULL
WHERE job = :job AND (blob IS NOT NULL OR part_blob IS NOT NULL)

-- name: jobs_to_archive
-- Some jobs that were finished before that, the oldest first. The newest job stays: its number must not be given out again.
SELECT {job} FROM jobs WHERE finished_at < :before AND seq < (SELECT max(seq) FROM jobs)
ORDER BY finished_at LIMIT :limit {TAKE}

-- name: archive
-- Keep of a job what the ledger needs to know of it.
INSERT INTO archive (seq, id, client, model, price, state, miner, created_at, finished_at)
SELECT seq, id, client, model, price, state, CASE state WHEN 'completed' THEN miner END, created_at, finished_at
FROM jobs WHERE seq = :job

-- name: drop_input
-- The input of a job that was archived.
DELETE FROM inputs WHERE job = :job

-- name: drop_attempts
-- Its attempts.
DELETE FROM attempts WHERE job = :job

-- name: drop_job
-- And the job.
DELETE FROM jobs WHERE seq = :job

-- name: archived
-- What is left of a job.
SELECT seq, id, client, model, price, state, miner, created_at, finished_at FROM archive WHERE id = :id

-- name: forget_answers
-- Some answers that are older than that. Chosen first, and once: within the condition PostgreSQL may choose anew for each row,
-- passing over those that it has just deleted, and so delete more than the limit.
WITH old AS MATERIALIZED (SELECT owner, key_hash FROM idempotency WHERE at < :before ORDER BY at LIMIT :limit {TAKE})
DELETE FROM idempotency WHERE (owner, key_hash) IN (SELECT owner, key_hash FROM old)
