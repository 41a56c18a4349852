-- Of an idempotency key only a hash is stored: it may be what an answer is sealed with. What was kept before stays good.
UPDATE idempotency SET key = encode(sha256(convert_to(key, 'UTF8')), 'hex');
ALTER TABLE idempotency RENAME COLUMN key TO key_hash;
