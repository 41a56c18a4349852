-- What those who watch are told from; see queries.sql for how these are written.

-- name: output_size
-- How many characters an attempt brought forth so far.
SELECT coalesce(max(start + size), 0) FROM outputs WHERE job = :job AND attempt = :attempt

-- name: add_output
-- A piece more of it.
INSERT INTO outputs (job, attempt, start, size, at, body) VALUES (:job, :attempt, :start, :size, :at, :body)

-- name: output_from
-- The pieces of it that end behind a place, in order.
SELECT start, body FROM outputs WHERE job = :job AND attempt = :attempt AND start + size > :place ORDER BY start

-- name: prune_outputs
-- The pieces of some jobs that are finished, or gone, longer than that. The first piece stands for all of an attempt's.
DELETE FROM outputs WHERE job IN (
    SELECT DISTINCT outputs.job FROM outputs LEFT JOIN jobs ON jobs.seq = outputs.job
    WHERE start = 0 AND outputs.at < :before AND (jobs.seq IS NULL OR jobs.finished_at < :before) LIMIT :limit)

-- name: keep_trace
-- The span that submitted a job.
INSERT INTO traces (job, context) VALUES (:job, :context)

-- name: trace
-- … which its miner's work goes on under.
SELECT context FROM traces WHERE job = :job

-- name: drop_trace
-- A job that is archived has none.
DELETE FROM traces WHERE job = :job
