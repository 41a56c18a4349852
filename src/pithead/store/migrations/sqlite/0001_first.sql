-- The first schema. Money is whole millionths; times are seconds since the Unix epoch.

CREATE TABLE meta (key TEXT PRIMARY KEY, value REAL NOT NULL) STRICT, WITHOUT ROWID;

-- An account's balance is the sum of its transfers, written in the same transaction; `ledger check` compares the two.
CREATE TABLE accounts (
    seq     INTEGER PRIMARY KEY,
    owner   TEXT NOT NULL,
    kind    TEXT NOT NULL CHECK (kind IN ('issued', 'fees', 'client', 'escrow', 'miner')),
    balance INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO accounts (seq, owner, kind) VALUES (1, 'operator', 'issued'), (2, 'operator', 'fees');

-- Append only: nothing here is ever updated or deleted.
CREATE TABLE transfers (
    seq    INTEGER PRIMARY KEY,
    at     REAL NOT NULL,
    cause  TEXT NOT NULL,
    debit  INTEGER NOT NULL REFERENCES accounts,
    credit INTEGER NOT NULL REFERENCES accounts,
    amount INTEGER NOT NULL CHECK (amount > 0),
    job    INTEGER,
    note   TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE TRIGGER transfers_are_never_updated BEFORE UPDATE ON transfers
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER transfers_are_never_deleted BEFORE DELETE ON transfers
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;

CREATE TABLE keys (
    digest     BLOB PRIMARY KEY,
    kind       TEXT NOT NULL CHECK (kind IN ('miner', 'client', 'operator')),
    owner      TEXT NOT NULL,
    created_at REAL NOT NULL,
    expires_at REAL
) STRICT, WITHOUT ROWID;
CREATE INDEX keys_owner ON keys (owner);

CREATE TABLE clients (
    seq        INTEGER PRIMARY KEY REFERENCES accounts,
    id         TEXT NOT NULL UNIQUE,
    name       TEXT NOT NULL,
    created_at REAL NOT NULL
) STRICT;

CREATE TABLE miners (
    seq                       INTEGER PRIMARY KEY REFERENCES accounts,
    id                        TEXT NOT NULL UNIQUE,
    name                      TEXT NOT NULL,
    gpu_type                  TEXT NOT NULL,
    gpu_count                 INTEGER NOT NULL,
    location                  TEXT NOT NULL,
    price_per_hour            INTEGER NOT NULL,
    max_concurrent            INTEGER NOT NULL,
    models                    TEXT,             -- a JSON array; NULL: any
    created_at                REAL NOT NULL,
    admission                 TEXT NOT NULL CHECK (admission IN ('pending', 'admitted', 'suspended', 'retired')),
    draining                  INTEGER NOT NULL DEFAULT 0,
    online                    INTEGER NOT NULL DEFAULT 0,
    last_seen_at              REAL,
    offline_at                REAL NOT NULL DEFAULT 0,
    requests_per_minute       INTEGER,
    job_operations_per_minute INTEGER,
    completed                 INTEGER NOT NULL DEFAULT 0,
    failed                    INTEGER NOT NULL DEFAULT 0,
    lapsed                    INTEGER NOT NULL DEFAULT 0,
    completion_seconds        REAL NOT NULL DEFAULT 0,
    gpu_seconds               REAL NOT NULL DEFAULT 0,
    earnings                  INTEGER NOT NULL DEFAULT 0,
    -- The same rule as core.miners.status; a test holds the two together.
    status TEXT GENERATED ALWAYS AS (
        CASE WHEN admission <> 'admitted' THEN admission
             WHEN NOT online THEN 'offline'
             WHEN draining THEN 'draining'
             ELSE 'active' END) VIRTUAL
) STRICT;

CREATE TABLE telemetry (miner INTEGER PRIMARY KEY, at REAL NOT NULL, body BLOB NOT NULL) STRICT;

CREATE TABLE enrollment_tokens (
    digest     BLOB PRIMARY KEY,
    uses       INTEGER NOT NULL CHECK (uses >= 0),
    expires_at REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE jobs (
    seq               INTEGER PRIMARY KEY,
    id                TEXT NOT NULL UNIQUE,
    client            INTEGER NOT NULL REFERENCES clients,
    model             TEXT NOT NULL,
    gpu_type          TEXT NOT NULL,
    gpu_count         INTEGER NOT NULL,
    estimated_ms      INTEGER NOT NULL,
    price             INTEGER NOT NULL CHECK (price >= 0),
    rate              INTEGER NOT NULL,
    priority          INTEGER NOT NULL,
    timeout           REAL NOT NULL,
    attempt_timeout   REAL,
    max_attempts      INTEGER NOT NULL,
    require_result    INTEGER NOT NULL,
    created_at        REAL NOT NULL,
    deadline          REAL NOT NULL,
    state             TEXT NOT NULL CHECK (state IN ('queued', 'assigned', 'running', 'uploading',
                                                     'completed', 'failed', 'cancelled', 'expired')),
    attempts          INTEGER NOT NULL,
    failures          INTEGER NOT NULL,
    not_before        REAL NOT NULL,
    avoid_miner       INTEGER,
    avoid_until       REAL NOT NULL,
    miner             INTEGER REFERENCES miners,
    lease_token       TEXT,
    accepted_at       REAL,
    lease_expires_at  REAL,
    lease_limit_at    REAL,
    progress          REAL,
    progress_message  TEXT NOT NULL,
    finished_at       REAL,
    completed_attempt INTEGER,
    result_hash       TEXT,
    result_size       INTEGER,
    failure_kind      TEXT,
    failure_reason    TEXT
) STRICT;
CREATE INDEX jobs_client ON jobs (client, seq);
-- The partial ones hold unfinished work only, so what they cost does not grow with the history.
CREATE INDEX jobs_open ON jobs (client, seq) WHERE state IN ('queued', 'assigned', 'running', 'uploading');
CREATE INDEX jobs_deadline ON jobs (deadline) WHERE state IN ('queued', 'assigned', 'running', 'uploading');
CREATE INDEX jobs_held ON jobs (miner) WHERE state IN ('assigned', 'running', 'uploading');
CREATE INDEX jobs_lease ON jobs (lease_expires_at) WHERE state IN ('assigned', 'running', 'uploading');

-- Apart from the jobs, so that a long prompt does not make every state change heavier.
CREATE TABLE inputs (job INTEGER PRIMARY KEY REFERENCES jobs, body BLOB NOT NULL) STRICT;

CREATE TABLE attempts (
    job           INTEGER NOT NULL REFERENCES jobs,
    number        INTEGER NOT NULL,
    miner         INTEGER NOT NULL REFERENCES miners,
    token         TEXT NOT NULL,
    accepted_at   REAL NOT NULL,
    ended_at      REAL,
    outcome       TEXT CHECK (outcome IN ('completed', 'failed', 'lapsed', 'released', 'cancelled', 'expired')),
    upload_digest TEXT,
    upload_size   INTEGER,
    blob          TEXT,
    reason        TEXT NOT NULL DEFAULT '',
    receipt_id    TEXT,
    key_id        TEXT,
    signature     TEXT,
    earned        INTEGER,
    metrics       BLOB,
    PRIMARY KEY (job, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE notices (
    miner  INTEGER NOT NULL REFERENCES miners,
    job_id TEXT NOT NULL,
    reason TEXT NOT NULL,
    at     REAL NOT NULL,
    PRIMARY KEY (miner, job_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX notices_at ON notices (at);

CREATE TABLE idempotency (
    owner       TEXT NOT NULL,
    key         TEXT NOT NULL,
    at          REAL NOT NULL,
    fingerprint BLOB NOT NULL,
    status      INTEGER NOT NULL,
    body        BLOB NOT NULL,
    PRIMARY KEY (owner, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_at ON idempotency (at);

CREATE TABLE audit (
    seq     INTEGER PRIMARY KEY,
    at      REAL NOT NULL,
    actor   TEXT NOT NULL,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail  TEXT NOT NULL
) STRICT;
