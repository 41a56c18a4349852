-- The keys that blobs are encrypted under, each wrapped under a key derived from the database key.
CREATE TABLE data_keys (
    id         BLOB PRIMARY KEY,
    wrapped    BLOB NOT NULL,
    created_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
