-- The public keys of every coordinator that signs receipts, and of every one that did: receipts can be checked for good.
CREATE TABLE signing_keys (
    key_id     TEXT PRIMARY KEY,
    public_key BYTEA NOT NULL,
    since      DOUBLE PRECISION NOT NULL
);

-- Only here: the requests of the last minutes, for rate limits that hold over all coordinators. Not logged, since counting
-- may begin anew after a crash of the server, and costs no wait for the disk.
CREATE UNLOGGED TABLE rate_windows (
    key     TEXT PRIMARY KEY,
    hits    DOUBLE PRECISION[] NOT NULL,
    ends_at TIMESTAMPTZ NOT NULL
);
