-- What an attempt brought forth so far, piece by piece, for those who watch; forgotten some time after its job's end.
CREATE TABLE outputs (
    job     BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    start   BIGINT NOT NULL,
    size    BIGINT NOT NULL CHECK (size > 0),
    at      DOUBLE PRECISION NOT NULL,
    body    TEXT NOT NULL,
    PRIMARY KEY (job, attempt, start)
);
CREATE INDEX outputs_at ON outputs (at);
