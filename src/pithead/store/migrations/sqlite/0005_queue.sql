-- The partial indexes of unfinished work ask for what changes only when that work begins or ends: an index that names the
-- state is written at every change of it. And the queue by kind, from which the board is filled.

DROP INDEX jobs_open;
DROP INDEX jobs_deadline;
DROP INDEX jobs_held;
DROP INDEX jobs_lease;

CREATE INDEX jobs_open ON jobs (client, seq) WHERE finished_at IS NULL;
CREATE INDEX jobs_deadline ON jobs (deadline) WHERE finished_at IS NULL;
CREATE INDEX jobs_held ON jobs (miner) WHERE lease_expires_at IS NOT NULL;
CREATE INDEX jobs_lease ON jobs (lease_expires_at) WHERE lease_expires_at IS NOT NULL;
CREATE INDEX jobs_queue ON jobs (gpu_type, model, gpu_count, rate, priority DESC, seq) WHERE state = 'queued';
-- Few jobs were ever in back-off.
CREATE INDEX jobs_resting ON jobs (not_before) WHERE state = 'queued' AND not_before > 0;
