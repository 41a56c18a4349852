-- How miners did, a row a minute, for some days; and the speeds that they measured of themselves.
CREATE TABLE telemetry_history (
    miner  INTEGER NOT NULL,
    minute INTEGER NOT NULL,
    body   BLOB NOT NULL,
    PRIMARY KEY (miner, minute)
) STRICT, WITHOUT ROWID;
CREATE INDEX telemetry_history_minute ON telemetry_history (minute);
CREATE TABLE speeds (
    miner             INTEGER NOT NULL,
    model             TEXT NOT NULL,
    tokens_per_second REAL NOT NULL CHECK (tokens_per_second > 0),
    PRIMARY KEY (miner, model)
) STRICT, WITHOUT ROWID;
CREATE INDEX speeds_model ON speeds (model);
