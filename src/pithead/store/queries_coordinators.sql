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

-- name: try_lock
-- Take this lock until the session ends, if nobody has it.
SELECT pg_try_advisory_lock(CAST(:locks AS INTEGER), CAST(:task AS INTEGER))

-- name: share_lock
-- Take this lock beside others that do the same, until the session ends.
SELECT pg_advisory_lock_shared(CAST(:locks AS INTEGER), CAST(:task AS INTEGER))

-- name: end_batch
-- Number a writer's batch, so that it can be asked later whether it was committed, and tell the others what it changed.
WITH numbered AS (
    INSERT INTO writers (id, batch, at) VALUES (:id, :batch, now())
    ON CONFLICT (id) DO UPDATE SET batch = excluded.batch, at = excluded.at)
SELECT pg_notify('pithead', payload) FROM unnest(CAST(:payloads AS TEXT[])) AS payload

-- name: await_writer
-- See that the writer is known. Waits for a commit that makes it known, which `last_batch` would not see.
INSERT INTO writers (id, batch, at) VALUES (:id, 0, now()) ON CONFLICT (id) DO NOTHING

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

-- What operations leave to be written together (see store/together.py): each a column of values for all rows.

-- name: add_inputs
-- Store jobs' inputs.
INSERT INTO inputs (job, body) SELECT * FROM unnest(CAST(:job AS BIGINT[]), CAST(:body AS BYTEA[]))

-- name: add_attempts
-- Leases were given.
INSERT INTO attempts (job, number, miner, token, accepted_at)
SELECT * FROM unnest(CAST(:job AS BIGINT[]), CAST(:number AS BIGINT[]), CAST(:miner AS BIGINT[]), CAST(:token AS TEXT[]),
    CAST(:accepted_at AS FLOAT8[]))

-- name: settle_all
-- Attempts completed their jobs. Those that lapsed before may still do so.
UPDATE attempts SET ended_at = s.ended_at, outcome = 'completed', receipt_id = s.receipt_id, key_id = s.key_id,
    signature = s.signature, earned = s.earned, metrics = s.metrics
FROM unnest(CAST(:job AS BIGINT[]), CAST(:number AS BIGINT[]), CAST(:now AS FLOAT8[]), CAST(:receipt_id AS TEXT[]),
    CAST(:key_id AS TEXT[]), CAST(:signature AS TEXT[]), CAST(:earned AS BIGINT[]), CAST(:metrics AS BYTEA[]))
    AS s (job, number, ended_at, receipt_id, key_id, signature, earned, metrics)
WHERE attempts.job = s.job AND attempts.number = s.number AND (outcome IS NULL OR outcome = 'lapsed')

-- name: add_transfers
-- Append to the ledger, in this order.
INSERT INTO transfers (at, cause, debit, credit, amount, job, payout, note)
SELECT at, cause, debit, credit, amount, job, payout, note
FROM unnest(CAST(:at AS FLOAT8[]), CAST(:cause AS TEXT[]), CAST(:debit AS BIGINT[]), CAST(:credit AS BIGINT[]),
    CAST(:amount AS BIGINT[]), CAST(:job AS BIGINT[]), CAST(:payout AS BIGINT[]), CAST(:note AS TEXT[]))
    WITH ORDINALITY AS t (at, cause, debit, credit, amount, job, payout, note, number)
ORDER BY number

-- name: count_all_ended
-- Count attempts that ended, one row for each miner.
UPDATE miners SET completed = miners.completed + c.completed, failed = miners.failed + c.failed,
    lapsed = miners.lapsed + c.lapsed, completion_seconds = miners.completion_seconds + c.wall,
    gpu_seconds = miners.gpu_seconds + c.gpu_seconds, earnings = miners.earnings + c.earned
FROM unnest(CAST(:miner AS BIGINT[]), CAST(:completed AS BIGINT[]), CAST(:failed AS BIGINT[]), CAST(:lapsed AS BIGINT[]),
    CAST(:wall AS FLOAT8[]), CAST(:gpu_seconds AS FLOAT8[]), CAST(:earned AS BIGINT[]))
    AS c (miner, completed, failed, lapsed, wall, gpu_seconds, earned)
WHERE miners.seq = c.miner

-- name: lock_accounts
-- Keep these accounts until the transaction ends; in the order of their numbers, so that no two wait for each other.
SELECT FROM accounts WHERE seq = ANY(CAST(:accounts AS BIGINT[])) ORDER BY seq FOR NO KEY UPDATE

-- name: move_balances
-- Bring balances up to date with what was transferred.
UPDATE accounts SET balance = balance + m.amount
FROM unnest(CAST(:accounts AS BIGINT[]), CAST(:amounts AS BIGINT[])) AS m (account, amount)
WHERE seq = m.account RETURNING seq
