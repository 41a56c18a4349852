-- The span that submitted a job (W3C Trace Context), where traces are made: its miner's work goes on under it.
CREATE TABLE traces (
    job     BIGINT PRIMARY KEY REFERENCES jobs,
    context TEXT NOT NULL
);
