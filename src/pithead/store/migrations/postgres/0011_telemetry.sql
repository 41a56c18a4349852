-- How miners did, a row a minute, for some days; and the speeds that they measured of themselves.
CREATE TABLE telemetry_history (
    miner  BIGINT NOT NULL,
    minute BIGINT NOT NULL,
    body   BYTEA NOT NULL,
    PRIMARY KEY (miner, minute)
);
CREATE INDEX telemetry_history_minute ON telemetry_history (minute);
CREATE TABLE speeds (
    miner             BIGINT NOT NULL,
    model             TEXT NOT NULL,
    tokens_per_second DOUBLE PRECISION NOT NULL CHECK (tokens_per_second > 0),
    PRIMARY KEY (miner, model)
);
CREATE INDEX speeds_model ON speeds (model);
