-- What is left of a job, and of a result, whose time is over.

-- When the bytes of its result were given up; NULL while they are there, or where there never were any.
ALTER TABLE jobs ADD COLUMN result_expired_at REAL;

-- What the ledger needs to know of a job that is gone. Its number is never given out again.
CREATE TABLE archive (
    seq         INTEGER PRIMARY KEY,
    id          TEXT NOT NULL UNIQUE,
    client      INTEGER NOT NULL REFERENCES clients,
    model       TEXT NOT NULL,
    price       INTEGER NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('completed', 'failed', 'cancelled', 'expired')),
    miner       INTEGER REFERENCES miners, -- Who completed it.
    created_at  REAL NOT NULL,
    finished_at REAL NOT NULL
) STRICT;

CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX jobs_results ON jobs (finished_at) WHERE result_size IS NOT NULL AND result_expired_at IS NULL;
