-- Of an idempotency key only a hash is stored: it may be what an answer is sealed with. What was kept before stays good.
-- sha256_hex is the program's: SQLite has no such function.
UPDATE idempotency SET key = sha256_hex(key);
ALTER TABLE idempotency RENAME COLUMN key TO key_hash;
