-- What came of an upload that broke off, and can be gone on with: the blob's name, and its length in bytes.
ALTER TABLE attempts ADD COLUMN part_blob TEXT;
ALTER TABLE attempts ADD COLUMN part_size INTEGER;
