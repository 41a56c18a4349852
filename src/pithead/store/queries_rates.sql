-- What rate limits ask that are kept in PostgreSQL (store/rates.py).

-- name: hit
-- Count some requests of a key, if the window then holds no more than the limit; by the clock after waiting for the row.
INSERT INTO rate_windows AS w (key, hits, ends_at)
VALUES (:key, array_fill(extract(epoch FROM clock_timestamp())::FLOAT8, ARRAY[:amount::INTEGER]),
    clock_timestamp() + make_interval(secs => :expiry::FLOAT8))
ON CONFLICT (key) DO UPDATE SET
    hits = ARRAY(SELECT h FROM unnest(w.hits) AS h WHERE h > extract(epoch FROM clock_timestamp()) - :expiry)
        || array_fill(extract(epoch FROM clock_timestamp())::FLOAT8, ARRAY[:amount::INTEGER]),
    ends_at = clock_timestamp() + make_interval(secs => :expiry::FLOAT8)
WHERE :amount + (SELECT count(*) FROM unnest(w.hits) AS h WHERE h > extract(epoch FROM clock_timestamp()) - :expiry)
    <= :limit
RETURNING 1

-- name: window
-- How old the oldest request in the window is, and how many there are.
SELECT extract(epoch FROM clock_timestamp())::FLOAT8 - min(h), count(h)
FROM rate_windows, unnest(hits) AS h
WHERE key = :key AND h > extract(epoch FROM clock_timestamp()) - :expiry

-- name: count_up
-- Count some requests of a key in a window that begins with the first.
INSERT INTO rate_windows AS w (key, hits, ends_at)
VALUES (:key, array_fill(0::FLOAT8, ARRAY[:amount::INTEGER]), clock_timestamp() + make_interval(secs => :expiry::FLOAT8))
ON CONFLICT (key) DO UPDATE SET
    hits = CASE WHEN w.ends_at > clock_timestamp() THEN w.hits ELSE ARRAY[]::FLOAT8[] END || excluded.hits,
    ends_at = CASE WHEN w.ends_at > clock_timestamp() THEN w.ends_at ELSE excluded.ends_at END
RETURNING cardinality(hits)

-- name: counted
-- What such a window holds, and the seconds until it ends.
SELECT cardinality(hits), extract(epoch FROM ends_at - clock_timestamp())::FLOAT8
FROM rate_windows WHERE key = :key AND ends_at > clock_timestamp()

-- name: forget_rate
-- Forget a key's requests.
DELETE FROM rate_windows WHERE key = :key RETURNING 1

-- name: forget_rates
-- Forget all requests.
DELETE FROM rate_windows

-- name: prune_rates
-- Forget windows that are over; one that is just being counted in stays.
DELETE FROM rate_windows WHERE key IN (
    SELECT key FROM rate_windows WHERE ends_at < clock_timestamp() - INTERVAL '1 minute' FOR UPDATE SKIP LOCKED)
