-- The files that clients upload for their jobs; see queries.sql for how these are written.

-- name: input_file
-- One client's file, by its hash.
SELECT {input_file} FROM input_files WHERE client = :client AND sha256 = :sha256 {LOCK}

-- name: add_input_file
-- Store a new file, of which nothing may have arrived.
INSERT INTO input_files ({input_file.but_seq}) VALUES ({input_file.but_seq.values}) RETURNING seq

-- name: save_input_file
-- What has arrived of a file, and when it was last asked for.
UPDATE input_files SET touched_at = :touched_at, size = :size, blob = :blob, part_size = :part_size, part_blob = :part_blob
WHERE seq = :seq

-- name: touch_input_file
-- A job names a file, which must be there: that it is being removed meanwhile shows in that there is no such row.
UPDATE input_files SET touched_at = :now WHERE client = :client AND sha256 = :sha256 AND blob IS NOT NULL
RETURNING {input_file}

-- name: drop_input_file
-- Forget a file.
DELETE FROM input_files WHERE seq = :file

-- name: input_files_page
-- Some of a client's files, the newest first.
SELECT {input_file} FROM input_files WHERE client = :client AND seq < :before ORDER BY seq DESC LIMIT :limit

-- name: input_files_used
-- How many files a client has, parts included, and their bytes.
SELECT count(*), CAST(coalesce(sum(coalesce(size, part_size, 0)), 0) AS BIGINT) FROM input_files WHERE client = :client

-- name: input_file_in_use
-- Whether a job that is not finished names a file.
SELECT EXISTS (
    SELECT 1 FROM job_files f JOIN jobs j ON j.seq = f.job WHERE f.file = :file AND j.finished_at IS NULL
)

-- name: input_files_due
-- Some files that nobody asked for since then and that no unfinished job names, the first first.
SELECT {input_file} FROM input_files WHERE touched_at < :before AND blob IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM job_files f JOIN jobs j ON j.seq = f.job WHERE f.file = input_files.seq AND j.finished_at IS NULL
)
ORDER BY touched_at LIMIT :limit {TAKE}

-- name: input_parts_due
-- Some files of which nothing, or only a part, has arrived, and nothing came since then.
SELECT {input_file} FROM input_files WHERE touched_at < :before AND blob IS NULL ORDER BY touched_at LIMIT :limit {TAKE}

-- name: add_needs
-- What a job needs beside its input.
UPDATE inputs SET needs = :needs WHERE job = :job

-- name: name_input_file
-- A job names a file.
INSERT INTO job_files (file, job) VALUES (:file, :job) ON CONFLICT (file, job) DO NOTHING

-- name: drop_job_files
-- A job that was archived names none any more.
DELETE FROM job_files WHERE job = :job

-- name: needs
-- What a job needs beside its input.
SELECT needs FROM inputs WHERE job = :job

-- name: job_work
-- A job's input, and what it needs beside it: read together when it is given to a miner.
SELECT body, needs FROM inputs WHERE job = :job

-- name: input_file_is_orphan
-- Whether nobody will ever ask for a blob of a file. One that is not whole may be on its way.
SELECT NOT EXISTS (
    SELECT 1 FROM input_files WHERE id = :id AND (blob IS NULL OR blob = :blob OR part_blob = :blob)
)

-- name: names_input_blob
-- Whether a file names a blob.
SELECT EXISTS (SELECT 1 FROM input_files WHERE id = :id AND (blob = :blob OR part_blob = :blob))

-- name: rename_input_blob
-- The bytes of a file are kept under another name.
UPDATE input_files SET blob = :after WHERE id = :id AND blob = :before

-- name: rename_input_part
-- … and likewise a part of them.
UPDATE input_files SET part_blob = :after WHERE id = :id AND part_blob = :before
