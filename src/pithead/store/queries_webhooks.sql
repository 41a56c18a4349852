-- Webhooks and the messages to them; see queries.sql for how these are written.

-- name: add_webhook
-- Store a new webhook.
INSERT INTO webhooks ({webhook.but_seq}) VALUES ({webhook.but_seq.values}) RETURNING seq

-- name: webhook
-- One webhook of an account.
SELECT {webhook} FROM webhooks WHERE account = :account AND id = :id {LOCK}

-- name: webhook_by_seq
-- One webhook, by its number.
SELECT {webhook} FROM webhooks WHERE seq = :seq {LOCK}

-- name: webhooks_of
-- The webhooks of an account.
SELECT {webhook} FROM webhooks WHERE account = :account ORDER BY seq

-- name: all_webhooks
-- Every webhook; for those who change how secrets are kept.
SELECT {webhook} FROM webhooks ORDER BY seq

-- name: hooked_accounts
-- Who is to be told of anything.
SELECT DISTINCT account FROM webhooks WHERE disabled_at IS NULL

-- name: save_webhook
-- Everything of a webhook but what never changes.
UPDATE webhooks SET url = :url, events = :events, description = :description, secret = :secret, old_secret = :old_secret,
    old_until = :old_until, disabled_at = :disabled_at, disabled_reason = :disabled_reason,
    failing_since = :failing_since, failures = :failures, resume_at = :resume_at
WHERE seq = :seq

-- name: delete_webhook
-- A webhook is no more.
DELETE FROM webhooks WHERE seq = :seq

-- name: delete_deliveries
-- Nor its messages.
DELETE FROM deliveries WHERE webhook = :webhook

-- name: add_delivery
-- A message to be sent.
INSERT INTO deliveries ({delivery.but_seq}) VALUES ({delivery.but_seq.values})

-- name: delivery
-- One message to a webhook.
SELECT {delivery} FROM deliveries WHERE webhook = :webhook AND id = :id {LOCK}

-- name: deliveries_page
-- Some messages to a webhook, the newest first.
SELECT {delivery} FROM deliveries
WHERE webhook = :webhook AND seq < :before AND (CAST(:state AS TEXT) IS NULL OR state = :state)
ORDER BY seq DESC LIMIT :limit

-- name: due_deliveries
-- Some messages that are due, the oldest first: a few for each webhook that takes any, so that none holds up the others.
SELECT {delivery} FROM deliveries WHERE seq IN (
    SELECT seq FROM (
        SELECT d.seq, d.due_at, row_number() OVER (PARTITION BY d.webhook ORDER BY d.due_at, d.seq) AS place
        FROM deliveries d JOIN webhooks w ON w.seq = d.webhook
        WHERE d.state = 'pending' AND d.due_at <= :now AND w.disabled_at IS NULL AND w.resume_at <= :now) AS due
    WHERE place <= :each ORDER BY due_at, seq LIMIT :limit)
ORDER BY due_at, seq {TAKE}

-- name: has_due_delivery
-- Whether there is a message to be sent.
SELECT EXISTS (
    SELECT 1 FROM deliveries d JOIN webhooks w ON w.seq = d.webhook
    WHERE d.state = 'pending' AND d.due_at <= :now AND w.disabled_at IS NULL AND w.resume_at <= :now)

-- name: save_delivery
-- How it goes with a message, where nobody else has sent it meanwhile.
UPDATE deliveries SET state = :state, due_at = :due_at, attempts = :attempts, started_at = :started_at, status = :status,
    error = :error, since = :since
WHERE seq = :seq AND state = :was_state AND attempts = :was_attempts

-- name: prune_deliveries
-- Forget some messages that are older than that.
DELETE FROM deliveries WHERE seq IN (
    SELECT seq FROM deliveries WHERE state <> 'pending' AND created_at < :before LIMIT :limit)

-- name: name_of_account
-- The id of a client or miner.
SELECT owner FROM accounts WHERE seq = :seq
