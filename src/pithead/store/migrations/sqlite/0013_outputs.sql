-- What an attempt brought forth so far, piece by piece, for those who watch; forgotten some time after its job's end.
CREATE TABLE outputs (
    job     INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    start   INTEGER NOT NULL,
    size    INTEGER NOT NULL CHECK (size > 0),
    at      REAL NOT NULL,
    body    TEXT NOT NULL,
    PRIMARY KEY (job, attempt, start)
) STRICT, WITHOUT ROWID;
CREATE INDEX outputs_at ON outputs (at);
