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

-- name: ready_webhooks
-- Some webhooks for which a message is due and that take any, those first that wait the longest.
SELECT seq FROM webhooks
WHERE disabled_at IS NULL AND resume_at <= :now AND EXISTS (
    SELECT 1 FROM deliveries WHERE webhook = webhooks.seq AND state = 'pending' AND due_at <= :now)
ORDER BY (SELECT min(due_at) FROM deliveries WHERE webhook = webhooks.seq AND state = 'pending'), seq LIMIT :limit

-- name: due_deliveries
-- Some messages to a webhook that are due, the oldest first.
SELECT {delivery} FROM deliveries WHERE webhook = :webhook AND state = 'pending' AND due_at <= :now
ORDER BY due_at, seq LIMIT :limit {TAKE}

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
