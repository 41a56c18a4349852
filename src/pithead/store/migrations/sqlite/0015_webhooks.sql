-- Where accounts want to be told what happens, and the messages: those to be sent, and a log of the others.
CREATE TABLE webhooks (
    seq             INTEGER PRIMARY KEY,
    id              TEXT NOT NULL UNIQUE,
    account         INTEGER NOT NULL,
    url             TEXT NOT NULL,
    events          TEXT NOT NULL,
    description     TEXT NOT NULL,
    secret          BLOB NOT NULL,
    created_at      REAL NOT NULL,
    old_secret      BLOB,
    old_until       REAL NOT NULL,
    disabled_at     REAL,
    disabled_reason TEXT NOT NULL,
    failing_since   REAL,
    failures        INTEGER NOT NULL,
    resume_at       REAL NOT NULL
) STRICT;
CREATE INDEX webhooks_account ON webhooks (account, seq);
CREATE TABLE deliveries (
    seq        INTEGER PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
    webhook    INTEGER NOT NULL,
    event      TEXT NOT NULL,
    body       BLOB NOT NULL,
    created_at REAL NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'failed')),
    due_at     REAL NOT NULL,
    attempts   INTEGER NOT NULL,
    started_at REAL,
    status     INTEGER,
    error      TEXT NOT NULL,
    since      REAL NOT NULL
) STRICT;
CREATE INDEX deliveries_due ON deliveries (due_at) WHERE state = 'pending';
CREATE INDEX deliveries_log ON deliveries (webhook, seq);
CREATE INDEX deliveries_age ON deliveries (created_at) WHERE state <> 'pending';
