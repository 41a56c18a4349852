-- The public keys of every coordinator that signs receipts, and of every one that did: receipts can be checked for good.
CREATE TABLE signing_keys (
    key_id     TEXT PRIMARY KEY,
    public_key BLOB NOT NULL,
    since      REAL NOT NULL
) STRICT, WITHOUT ROWID;
