-- Every query of the store: a name, a sentence, and the text. {job}, {miner} … are the columns of that entity, in the
-- order of its struct. The conditions of the partial indexes are spelt as the indexes spell them, so that those are used.
-- Written in what SQLite and PostgreSQL both understand; the few that cannot be have a counterpart in
-- queries_postgres.sql. Truth is TRUE and FALSE, a sum is cast to BIGINT, least and greatest are a CASE, and what may be
-- NULL is cast where its type does not show.
-- Where several can write at once (docs/locking.md), {LOCK} keeps the rows that an operation reads as they are until its
-- transaction ends, and {TAKE} does so and passes over those that another one keeps.

-- name: next_account
-- The first of some free account numbers.
SELECT max(max(seq) + 1, 100) FROM accounts

-- name: new_account
-- Open an account.
INSERT INTO accounts (seq, owner, kind) VALUES (:seq, :owner, :kind)

-- name: add_transfer
-- Append one transfer to the ledger.
INSERT INTO transfers (at, cause, debit, credit, amount, job, payout, note)
VALUES (:at, :cause, :debit, :credit, :amount, :job, :payout, :note)

-- name: move_balance
-- Bring a balance up to date with a transfer.
UPDATE accounts SET balance = balance + :amount WHERE seq = :account

-- name: balance
-- What an account holds.
SELECT balance FROM accounts WHERE seq = :account

-- name: balances_by_kind
-- The sum of each class of account.
SELECT kind, CAST(sum(balance) AS BIGINT) FROM accounts GROUP BY kind

-- name: add_key
-- Store a key's digest.
INSERT INTO keys (digest, kind, owner, created_at, expires_at) VALUES (:digest, :kind, :owner, :created_at, :expires_at)
ON CONFLICT (digest) DO UPDATE SET expires_at = excluded.expires_at

-- name: key
-- Whose key this is.
SELECT {key} FROM keys WHERE digest = :digest

-- name: end_keys
-- Let an owner's keys end, where they would not end earlier.
UPDATE keys SET expires_at = :at WHERE owner = :owner AND (expires_at IS NULL OR expires_at > :at)

-- name: add_client
-- Store a new client.
INSERT INTO clients ({client}) VALUES ({client.values})

-- name: client_by_id
-- One client.
SELECT {client} FROM clients WHERE id = :id {LOCK}

-- name: client_by_seq
-- One client, by its number.
SELECT {client} FROM clients WHERE seq = :seq

-- name: clients_page
-- Some clients, the newest first.
SELECT {client} FROM clients WHERE seq < :before ORDER BY seq DESC LIMIT :limit

-- name: add_miner
-- Store a new miner.
INSERT INTO miners ({miner}) VALUES ({miner.values})

-- name: miner_by_id
-- One miner.
SELECT {miner} FROM miners WHERE id = :id {LOCK}

-- name: save_miner
-- The registration and the operator's decisions; not what `beat` and `count_ended` write.
UPDATE miners SET name = :name, gpu_type = :gpu_type, gpu_count = :gpu_count, location = :location,
    price_per_hour = :price_per_hour, max_concurrent = :max_concurrent, models = :models, admission = :admission,
    draining = :draining, online = :online, offline_at = :offline_at, requests_per_minute = :requests_per_minute,
    job_operations_per_minute = :job_operations_per_minute, payout_destination = :payout_destination
WHERE seq = :seq

-- name: beat
-- The miner was heard of.
UPDATE miners SET last_seen_at = :now, offline_at = :offline_at, online = TRUE WHERE seq = :miner

-- name: heard
-- A heartbeat of a moment ago is written down; one of a miner that went offline meanwhile does not bring it back, and a later
-- one, that another coordinator heard, stays.
UPDATE miners SET last_seen_at = :at, offline_at = :offline_at
WHERE seq = :miner AND online AND coalesce(last_seen_at, 0) <= :at

-- name: count_ended
-- Count an attempt that ended.
UPDATE miners SET completed = completed + :completed, failed = failed + :failed, lapsed = lapsed + :lapsed,
    completion_seconds = completion_seconds + :wall, gpu_seconds = gpu_seconds + :gpu_seconds,
    earnings = earnings + :earned
WHERE seq = :miner

-- name: miners_page
-- Some miners, the newest first.
SELECT {miner} FROM miners WHERE seq < :before AND (CAST(:status AS TEXT) IS NULL OR status = :status) ORDER BY seq DESC LIMIT :limit

-- name: miners_by_status
-- How many miners there are in each state.
SELECT status, count(*) FROM miners GROUP BY status

-- name: census
-- The miners that are not retired, those together that are alike, and how many jobs they take and could take still.
SELECT m.gpu_type, m.gpu_count, m.price_per_hour, m.models, m.admission, m.draining, m.online,
    coalesce(h.jobs, 0) >= m.max_concurrent AS busy, count(*), sum(m.max_concurrent),
    sum(CASE WHEN coalesce(h.jobs, 0) < m.max_concurrent THEN m.max_concurrent - coalesce(h.jobs, 0) ELSE 0 END)
FROM miners m
LEFT JOIN (SELECT miner, count(*) AS jobs FROM jobs WHERE lease_expires_at IS NOT NULL GROUP BY miner) h ON h.miner = m.seq
WHERE m.admission <> 'retired'
GROUP BY m.gpu_type, m.gpu_count, m.price_per_hour, m.models, m.admission, m.draining, m.online, busy

-- name: set_telemetry
-- Keep the newest telemetry of a miner.
INSERT INTO telemetry (miner, at, body) VALUES (:miner, :now, :body)
ON CONFLICT (miner) DO UPDATE SET at = excluded.at, body = excluded.body WHERE telemetry.at <= excluded.at

-- name: telemetry
-- The newest telemetry of a miner.
SELECT body FROM telemetry WHERE miner = :miner

-- name: add_telemetry
-- Keep the first telemetry of each minute.
INSERT INTO telemetry_history (miner, minute, body) VALUES (:miner, :minute, :body)
ON CONFLICT (miner, minute) DO NOTHING

-- name: telemetry_since
-- A miner's telemetry from a minute on, the oldest first.
SELECT minute, body FROM telemetry_history WHERE miner = :miner AND minute >= :minute ORDER BY minute LIMIT :limit

-- name: prune_telemetry
-- Forget telemetry from before a minute.
DELETE FROM telemetry_history WHERE minute < :minute

-- name: forget_speeds
-- Forget what a miner measured.
DELETE FROM speeds WHERE miner = :miner

-- name: add_speed
-- A miner measured its speed with a model.
INSERT INTO speeds (miner, model, tokens_per_second) VALUES (:miner, :model, :speed)

-- name: speeds_of_miner
-- What a miner measured.
SELECT model, tokens_per_second FROM speeds WHERE miner = :miner ORDER BY model

-- name: speeds_of_model
-- What the miners that may work measured with a model.
SELECT s.tokens_per_second FROM speeds s JOIN miners m ON m.seq = s.miner
WHERE s.model = :model AND m.admission = 'admitted' LIMIT 1000

-- name: add_enrollment_token
-- Store the digest of an enrolment token.
INSERT INTO enrollment_tokens (digest, uses, expires_at) VALUES (:digest, :uses, :expires_at)

-- name: use_enrollment_token
-- Take one use of an enrolment token, if one is left.
UPDATE enrollment_tokens SET uses = uses - 1 WHERE digest = :digest AND uses > 0 AND expires_at > :now

-- name: add_job
-- Store a new job; it gets the next number.
INSERT INTO jobs ({job.but_seq}) VALUES ({job.but_seq.values}) RETURNING seq

-- name: add_input
-- Store a job's input.
INSERT INTO inputs (job, body) VALUES (:job, :body)

-- name: job_by_id
-- One job.
SELECT {job} FROM jobs WHERE id = :id {LOCK}

-- name: save_job
-- Move a job on, if it is still where it was: this is what makes a claim one atomic step. {changes} are what moved.
UPDATE jobs SET {changes} WHERE seq = :seq AND state = :was_state AND attempts = :was_attempts

-- name: job_details
-- Who has or had the job, what was measured, and what it needs.
SELECT m.id, m.name, (SELECT metrics FROM attempts WHERE job = :job AND number = :attempt),
    (SELECT needs FROM inputs WHERE job = :job)
FROM (SELECT 1) AS one LEFT JOIN miners m ON m.seq = :miner

-- name: jobs_page
-- Some jobs, the newest first.
SELECT {job} FROM jobs
WHERE seq < :before AND (CAST(:client AS BIGINT) IS NULL OR client = :client) AND (CAST(:state AS TEXT) IS NULL OR state = :state)
    AND (CAST(:model AS TEXT) IS NULL OR model = :model)
ORDER BY seq DESC LIMIT :limit

-- name: client_jobs_page
-- Some of a client's jobs, the newest first.
SELECT {job} FROM jobs
WHERE client = :client AND seq < :before AND (CAST(:state AS TEXT) IS NULL OR state = :state) AND (CAST(:model AS TEXT) IS NULL OR model = :model)
ORDER BY seq DESC LIMIT :limit

-- name: client_open_jobs_page
-- Some of a client's unfinished jobs, the newest first, however many it has finished.
SELECT {job} FROM jobs
WHERE client = :client AND seq < :before AND finished_at IS NULL AND state = :state
    AND (CAST(:model AS TEXT) IS NULL OR model = :model)
ORDER BY seq DESC LIMIT :limit

-- name: jobs_by_state
-- How many unfinished jobs there are in each state.
SELECT state, count(*) FROM jobs WHERE finished_at IS NULL GROUP BY state

-- name: held_by_state
-- How many jobs miners hold, by their state: what is queued is not looked at.
SELECT state, count(*) FROM jobs WHERE lease_expires_at IS NOT NULL GROUP BY state

-- name: queue_by_model
-- How long the queue is for each gpu type and model, and when its oldest job was submitted: the index, and a job for each.
SELECT queue.gpu_type, queue.model, queue.jobs, oldest.created_at
FROM (SELECT gpu_type, model, count(*) AS jobs, min(seq) AS first FROM jobs WHERE state = 'queued'
      GROUP BY gpu_type, model) AS queue
JOIN jobs AS oldest ON oldest.seq = queue.first

-- name: queued_kinds
-- How many queued jobs there are of each kind, to set up the board at the start: read off the index alone.
SELECT gpu_type, model, gpu_count, rate, count(*) FROM jobs WHERE state = 'queued'
GROUP BY gpu_type, model, gpu_count, rate

-- name: resting_kinds
-- … and how many of them are in back-off.
SELECT gpu_type, model, gpu_count, rate, count(*) FROM jobs WHERE state = 'queued' AND not_before > 0 AND not_before > :now
GROUP BY gpu_type, model, gpu_count, rate

-- name: queued_resting
-- The queued jobs that are in back-off.
SELECT {job} FROM jobs WHERE state = 'queued' AND not_before > 0 AND not_before > :now

-- name: newest_job
-- The highest number that a job has.
SELECT coalesce(max(seq), 0) FROM jobs

-- name: queued
-- The first queued jobs of a kind.
SELECT {job} FROM jobs
WHERE gpu_type = :gpu_type AND model = :model AND gpu_count = :gpu_count AND rate = :rate AND state = 'queued'
    AND not_before <= :now
ORDER BY priority DESC, seq LIMIT :limit

-- name: queued_after
-- The queued jobs of a kind behind a certain one. The first condition on the priority is there for the index.
SELECT {job} FROM jobs
WHERE gpu_type = :gpu_type AND model = :model AND gpu_count = :gpu_count AND rate = :rate AND state = 'queued'
    AND not_before <= :now
    AND priority <= :priority AND (priority < :priority OR seq > :seq)
ORDER BY priority DESC, seq LIMIT :limit

-- name: queued_before
-- How many queued jobs of a kind stand before a certain one: read off the index alone.
SELECT count(*) FROM jobs
WHERE gpu_type = :gpu_type AND model = :model AND gpu_count = :gpu_count AND rate = :rate AND state = 'queued'
    AND priority >= :priority AND (priority > :priority OR seq < :seq)

-- name: held
-- A miner's leases.
SELECT id, lease_expires_at, lease_limit_at FROM jobs WHERE miner = :miner AND lease_expires_at IS NOT NULL

-- name: held_count
-- How many jobs a miner holds: read off the index alone.
SELECT count(*) FROM jobs WHERE miner = :miner AND lease_expires_at IS NOT NULL

-- name: held_jobs
-- The jobs that a miner holds.
SELECT {job} FROM jobs WHERE miner = :miner AND lease_expires_at IS NOT NULL ORDER BY seq {LOCK}

-- name: renew_all
-- Renew all leases of a miner; one that runs longer already is not cut short.
UPDATE jobs SET lease_expires_at = CASE WHEN lease_limit_at < :expires_at THEN lease_limit_at ELSE :expires_at END
WHERE miner = :miner AND lease_expires_at IS NOT NULL AND lease_expires_at < :expires_at

-- name: renew_one
-- Renew one lease of a miner, likewise.
UPDATE jobs SET lease_expires_at = CASE WHEN lease_limit_at < :expires_at THEN lease_limit_at ELSE :expires_at END
WHERE id = :id AND miner = :miner AND lease_expires_at IS NOT NULL AND lease_expires_at < :expires_at

-- name: add_attempt
-- A lease was given.
INSERT INTO attempts (job, number, miner, token, accepted_at) VALUES (:job, :number, :miner, :token, :accepted_at)

-- name: newest_attempt
-- A miner's newest attempt at a job.
SELECT {attempt} FROM attempts WHERE job = :job AND miner = :miner ORDER BY number DESC LIMIT 1

-- name: attempt_by_token
-- The attempt that a lease token names, if it is this miner's.
SELECT {attempt} FROM attempts WHERE job = :job AND miner = :miner AND token = :token

-- name: end_attempt
-- An attempt ended.
UPDATE attempts SET ended_at = :now, outcome = :outcome, reason = :reason
WHERE job = :job AND number = :number AND outcome IS NULL

-- name: set_upload
-- The bytes of an attempt's result arrived.
UPDATE attempts SET upload_digest = :digest, upload_size = :size, blob = :blob, part_blob = NULL, part_size = NULL
WHERE job = :job AND number = :number

-- name: set_part
-- An upload broke off; what arrived is kept.
UPDATE attempts SET part_blob = :blob, part_size = :size WHERE job = :job AND number = :number

-- name: settle
-- An attempt completed its job. One that lapsed before may still do so.
UPDATE attempts SET ended_at = :now, outcome = 'completed', receipt_id = :receipt_id, key_id = :key_id,
    signature = :signature, earned = :earned, metrics = :metrics
WHERE job = :job AND number = :number AND (outcome IS NULL OR outcome = 'lapsed')

-- name: settlement
-- What an attempt that completed its job earned, and its receipt.
SELECT receipt_id, key_id, signature, earned, metrics FROM attempts
WHERE job = :job AND number = :number AND outcome = 'completed'

-- name: result_blob
-- Where the bytes of an attempt's result are.
SELECT blob FROM attempts WHERE job = :job AND number = :number

-- name: is_orphan
-- Whether nobody will ever ask for a blob. A finished job takes no uploads, and needs only what completed it.
SELECT NOT EXISTS (SELECT 1 FROM jobs WHERE id = :job_id AND finished_at IS NULL)
    AND NOT EXISTS (SELECT 1 FROM jobs j JOIN attempts a ON a.job = j.seq AND a.number = j.completed_attempt
        WHERE j.id = :job_id AND a.blob = :blob)

-- name: names_blob
-- Whether an attempt of a job names a blob.
SELECT EXISTS (
    SELECT 1 FROM attempts a JOIN jobs j ON j.seq = a.job WHERE j.id = :job_id AND (a.blob = :blob OR a.part_blob = :blob)
)

-- name: count_blobs
-- How many blobs are named, and how many of them are of this form.
SELECT count(*), count(*) FILTER (WHERE name LIKE :pattern) FROM (
    SELECT blob AS name FROM attempts WHERE blob IS NOT NULL
    UNION ALL SELECT part_blob FROM attempts WHERE part_blob IS NOT NULL
    UNION ALL SELECT blob FROM input_files WHERE blob IS NOT NULL
    UNION ALL SELECT part_blob FROM input_files WHERE part_blob IS NOT NULL
) AS names

-- name: rename_blob
-- The bytes of a result are kept under another name.
UPDATE attempts SET blob = :after WHERE job = (SELECT seq FROM jobs WHERE id = :job_id) AND blob = :before

-- name: rename_part
-- … and likewise a part of them.
UPDATE attempts SET part_blob = :after WHERE job = (SELECT seq FROM jobs WHERE id = :job_id) AND part_blob = :before

-- name: data_keys
-- The keys that blobs are encrypted under, the oldest first.
SELECT id, wrapped, created_at FROM data_keys ORDER BY created_at, id

-- name: add_data_key
-- Store a new one.
INSERT INTO data_keys (id, wrapped, created_at) VALUES (:id, :wrapped, :created_at)

-- name: save_data_key
-- It is wrapped under another key now.
UPDATE data_keys SET wrapped = :wrapped WHERE id = :id

-- name: delete_data_keys
-- Nothing is encrypted any more.
DELETE FROM data_keys

-- name: add_notice
-- A job was taken from a miner, which has to be told.
INSERT INTO notices (miner, job_id, reason, at) VALUES (:miner, :job_id, :reason, :now)
ON CONFLICT (miner, job_id) DO UPDATE SET reason = excluded.reason, at = excluded.at

-- name: notices
-- What a miner has to be told.
SELECT job_id, reason, at FROM notices WHERE miner = :miner ORDER BY at

-- name: claim_answer
-- Take an idempotency key, if nobody did; where another transaction is about to, wait for it.
INSERT INTO idempotency (owner, key_hash, at, fingerprint, status, body)
VALUES (:owner, :name, :now, :fingerprint, 0, :nothing) ON CONFLICT (owner, key_hash) DO NOTHING

-- name: kept_answer
-- The answer kept under an idempotency key.
SELECT fingerprint, status, body FROM idempotency WHERE owner = :owner AND key_hash = :name

-- name: keep_answer
-- Keep an answer under an idempotency key that was claimed.
UPDATE idempotency SET status = :status, body = :body WHERE owner = :owner AND key_hash = :name

-- name: lapsed
-- Held jobs whose lease has run out.
SELECT {job} FROM jobs WHERE lease_expires_at <= :now AND lease_expires_at IS NOT NULL ORDER BY lease_expires_at LIMIT :limit

-- name: overdue
-- Unfinished jobs whose time is up.
SELECT {job} FROM jobs WHERE deadline <= :now AND finished_at IS NULL ORDER BY deadline LIMIT :limit {TAKE}

-- name: mark_offline
-- Miners whose time without a heartbeat is up go offline.
UPDATE miners SET online = FALSE WHERE online AND offline_at <= :now RETURNING seq

-- name: due
-- Whether any lease, deadline or miner is due at `now`.
SELECT EXISTS (SELECT 1 FROM jobs WHERE lease_expires_at <= :now AND lease_expires_at IS NOT NULL)
    OR EXISTS (SELECT 1 FROM jobs WHERE deadline <= :now AND finished_at IS NULL)
    OR EXISTS (SELECT 1 FROM miners WHERE online AND offline_at <= :now)

-- name: prune_notices
-- Forget old notices.
DELETE FROM notices WHERE at < :before

-- name: alive_at
-- When a coordinator last said that it was up.
SELECT value FROM meta WHERE key = 'alive_at'

-- name: set_alive
-- A coordinator is up.
INSERT INTO meta (key, value) VALUES ('alive_at', :now) ON CONFLICT (key) DO UPDATE SET value = excluded.value

-- name: extend_leases
-- Time in which no coordinator was up counts against no lease.
UPDATE jobs SET lease_expires_at = lease_expires_at + :seconds, lease_limit_at = lease_limit_at + :seconds,
    deadline = deadline + :seconds
WHERE lease_expires_at IS NOT NULL

-- name: extend_miners
-- … and against no miner.
UPDATE miners SET offline_at = offline_at + :seconds WHERE online

-- name: add_signing_key
-- A coordinator signs receipts with this key.
INSERT INTO signing_keys (key_id, public_key, since) VALUES (:key_id, :public_key, :now) ON CONFLICT (key_id) DO NOTHING

-- name: signing_keys
-- Every key that receipts are or were signed with, the newest first.
SELECT key_id, public_key FROM signing_keys ORDER BY since DESC, key_id

-- name: audit
-- Something an operator did.
INSERT INTO audit (at, actor, action, subject, detail) VALUES (:now, :actor, :action, :subject, :detail)

-- name: audit_page
-- Some of the log, the newest first.
SELECT seq, at, actor, action, subject, detail FROM audit WHERE seq < :before ORDER BY seq DESC LIMIT :limit

-- name: has_operator_key
-- Whether the operator has a key that does not end.
SELECT EXISTS (SELECT 1 FROM keys WHERE kind = 'operator' AND expires_at IS NULL)
