-- The files that clients upload for their jobs, one of each content and client, and which jobs name them.
CREATE TABLE input_files (
    seq        INTEGER PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
    client     INTEGER NOT NULL REFERENCES clients,
    sha256     TEXT NOT NULL,
    created_at REAL NOT NULL,
    touched_at REAL NOT NULL,
    size       INTEGER,
    blob       TEXT,
    part_size  INTEGER,
    part_blob  TEXT,
    UNIQUE (client, sha256)
) STRICT;
CREATE INDEX input_files_client ON input_files (client, seq);
CREATE INDEX input_files_whole ON input_files (touched_at) WHERE blob IS NOT NULL;
CREATE INDEX input_files_parts ON input_files (touched_at) WHERE blob IS NULL;

-- Rows of finished jobs stay until these are archived, and may outlive their file: nobody reads them then.
CREATE TABLE job_files (
    file INTEGER NOT NULL,
    job  INTEGER NOT NULL REFERENCES jobs,
    PRIMARY KEY (file, job)
) STRICT, WITHOUT ROWID;
CREATE INDEX job_files_job ON job_files (job);

-- What a job needs beside its input, as JSON; NULL for most.
ALTER TABLE inputs ADD COLUMN needs BLOB;
