-- The keys that blobs are encrypted under, each wrapped under a key derived from the database key.
CREATE TABLE data_keys (
    id         BYTEA PRIMARY KEY,
    wrapped    BYTEA NOT NULL,
    created_at DOUBLE PRECISION NOT NULL
);
