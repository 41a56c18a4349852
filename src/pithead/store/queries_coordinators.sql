-- What only PostgreSQL is asked: by coordinators that share a database, for the sake of each other.

-- name: clock
-- The time that judges.
SELECT CAST(extract(epoch FROM clock_timestamp()) AS FLOAT8)

-- name: alone
-- Take the lock for this until the transaction ends, if nobody has it.
SELECT pg_try_advisory_xact_lock(CAST(:locks AS INTEGER), CAST(:task AS INTEGER))

-- name: wait_for_lock
-- Take this lock until the session ends, waiting for whoever has it.
SELECT pg_advisory_lock(CAST(:locks AS INTEGER), CAST(:task AS INTEGER))

-- name: share_lock
-- Take this lock beside others that do the same, until the session ends.
SELECT pg_advisory_lock_shared(CAST(:locks AS INTEGER), CAST(:task AS INTEGER))

-- name: end_batch
-- Number a writer's batch, so that it can be asked later whether it was committed, and tell the others what it changed.
WITH numbered AS (
    INSERT INTO writers (id, batch, at) VALUES (:id, :batch, now())
    ON CONFLICT (id) DO UPDATE SET batch = excluded.batch, at = excluded.at)
SELECT pg_notify('pithead', payload) FROM unnest(CAST(:payloads AS TEXT[])) AS payload

-- name: last_batch
-- The last batch of a writer that was committed. Waits for one whose commit is under way.
SELECT batch FROM writers WHERE id = :id FOR UPDATE

-- name: remove_writer
-- A writer has ended in order.
DELETE FROM writers WHERE id = :id

-- name: prune_writers
-- Forget writers that did not, a day after.
DELETE FROM writers WHERE at < now() - INTERVAL '1 day'

-- name: notify
-- Tell whoever listens, the asker included.
SELECT pg_notify('pithead', :payload)

-- name: jobs_by_seq
-- Jobs by their numbers.
SELECT {job} FROM jobs WHERE seq = ANY(CAST(:seqs AS BIGINT[]))

-- name: has_meta
-- Whether there is a schema at all.
SELECT to_regclass('meta') IS NOT NULL

-- name: version
-- The number of the newest migration that ran.
SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'schema'

-- name: set_version
-- A migration ran.
INSERT INTO meta (key, value) VALUES ('schema', :version) ON CONFLICT (key) DO UPDATE SET value = excluded.value
