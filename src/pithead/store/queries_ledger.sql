-- What the pages and the check of the ledger ask; see queries.sql for how these are written.

-- name: set_credit_line
-- How far below 0 a client's balance may go.
UPDATE clients SET credit_line = :amount WHERE seq = :client

-- name: statement
-- Some of an account's postings, the newest first. Each side is read by its own index, which has them in order.
SELECT t.seq, t.at, t.cause, t.debit, t.credit, t.amount,
    coalesce((SELECT id FROM jobs WHERE seq = t.job), (SELECT id FROM archive WHERE seq = t.job)), p.id, t.note FROM (
    SELECT * FROM (
        SELECT * FROM transfers WHERE debit = :account AND seq < :before ORDER BY seq DESC LIMIT :limit) AS given
    UNION ALL
    SELECT * FROM (
        SELECT * FROM transfers WHERE credit = :account AND seq < :before ORDER BY seq DESC LIMIT :limit) AS taken
) AS t LEFT JOIN payouts p ON p.seq = t.payout
ORDER BY t.seq DESC LIMIT :limit

-- name: transfers_page
-- Some of the whole ledger, the newest first, with the owners of both accounts.
SELECT t.seq, t.at, t.cause, d.owner, d.kind, c.owner, c.kind, t.amount,
    coalesce((SELECT id FROM jobs WHERE seq = t.job), (SELECT id FROM archive WHERE seq = t.job)), p.id, t.note
FROM transfers t JOIN accounts d ON d.seq = t.debit JOIN accounts c ON c.seq = t.credit
    LEFT JOIN payouts p ON p.seq = t.payout
WHERE t.seq < :before ORDER BY t.seq DESC LIMIT :limit

-- name: earnings_by_day
-- What a miner was paid, by the days of UTC, which are counted from the epoch.
SELECT CAST(at / 86400 AS BIGINT), count(*), CAST(sum(amount) AS BIGINT) FROM transfers
WHERE credit = :account AND cause = 'payment' AND at >= :since AND at < :until GROUP BY 1 ORDER BY 1

-- name: earnings_by_model
-- What a miner was paid, by model.
SELECT model, count(*), CAST(sum(amount) AS BIGINT) FROM (
    SELECT coalesce((SELECT model FROM jobs WHERE seq = t.job), (SELECT model FROM archive WHERE seq = t.job)) AS model,
        t.amount
    FROM transfers t WHERE t.credit = :account AND t.cause = 'payment' AND t.at >= :since AND t.at < :until
) AS paid GROUP BY model ORDER BY model

-- name: earnings_by_client
-- What a miner was paid, by client.
SELECT c.id, count(*), CAST(sum(paid.amount) AS BIGINT) FROM (
    SELECT coalesce((SELECT client FROM jobs WHERE seq = t.job), (SELECT client FROM archive WHERE seq = t.job)) AS client,
        t.amount
    FROM transfers t WHERE t.credit = :account AND t.cause = 'payment' AND t.at >= :since AND t.at < :until
) AS paid JOIN clients c ON c.seq = paid.client GROUP BY c.id ORDER BY c.id

-- name: ledger_extent
-- How many accounts, jobs, payouts and postings of neither there are to check, and how many postings in all.
SELECT (SELECT count(*) FROM accounts), (SELECT count(*) FROM jobs) + (SELECT count(*) FROM archive), (SELECT count(*) FROM payouts),
    (SELECT count(*) FROM transfers WHERE job IS NULL AND payout IS NULL), (SELECT count(*) FROM transfers)

-- name: ledger_sum
-- The sum of all balances, which is 0.
SELECT CAST(coalesce(sum(balance), 0) AS BIGINT) FROM accounts

-- name: accounts_to_check
-- Some accounts in order, each with what its balance has to agree with.
SELECT a.seq, a.owner, a.kind, a.balance,
    CAST((SELECT coalesce(sum(amount), 0) FROM transfers WHERE credit = a.seq)
       - (SELECT coalesce(sum(amount), 0) FROM transfers WHERE debit = a.seq) AS BIGINT),
    CAST(CASE a.kind
        WHEN 'escrow' THEN (SELECT coalesce(sum(price), 0) FROM jobs WHERE client = a.seq - 1 AND finished_at IS NULL)
        WHEN 'miner' THEN coalesce((SELECT earnings FROM miners WHERE seq = a.seq), 0)
        WHEN 'payouts' THEN (SELECT coalesce(sum(amount), 0) FROM payouts WHERE state IN {OPEN_PAYOUT})
        ELSE 0 END AS BIGINT),
    CAST(CASE a.kind
        WHEN 'miner' THEN (SELECT coalesce(sum(amount), 0) FROM transfers WHERE credit = a.seq AND cause = 'payment')
        ELSE 0 END AS BIGINT)
FROM accounts a WHERE a.seq > :after ORDER BY a.seq LIMIT :limit

-- name: jobs_to_check
-- Some jobs in order, archived ones too, each with what it says of its own money.
SELECT * FROM (
    SELECT * FROM (
        SELECT seq, id, client, price, state, CASE state WHEN 'completed' THEN miner END AS completed_by,
            (SELECT earned FROM attempts WHERE job = jobs.seq AND number = jobs.completed_attempt) AS earned
        FROM jobs WHERE seq > :after ORDER BY seq LIMIT :limit) AS present
    UNION ALL
    SELECT * FROM (
        SELECT seq, id, client, price, state, miner AS completed_by, CAST(NULL AS BIGINT) AS earned
        FROM archive WHERE seq > :after ORDER BY seq LIMIT :limit) AS past
) AS j ORDER BY seq LIMIT :limit

-- name: postings_of_jobs
-- The postings of a stretch of jobs, job by job.
SELECT {posting} FROM transfers WHERE job > :after AND job <= :last ORDER BY job, seq

-- name: loose_postings
-- Some postings that belong to no job and no payout, in order, with the classes of their accounts.
SELECT {posting}, (SELECT kind FROM accounts WHERE seq = debit), (SELECT kind FROM accounts WHERE seq = credit)
FROM transfers WHERE job IS NULL AND payout IS NULL AND seq > :after ORDER BY seq LIMIT :limit

-- name: add_payout
-- Store a new payout; it gets the next number.
INSERT INTO payouts ({payout.but_seq}) VALUES ({payout.but_seq.values}) RETURNING seq

-- name: payout_by_id
-- One payout.
SELECT {payout} FROM payouts WHERE id = :id {LOCK}

-- name: save_payout
-- Move a payout on, if it is still where it was.
UPDATE payouts SET state = :state, decided_at = :decided_at, paid_at = :paid_at, reference = :reference, note = :note
WHERE seq = :seq AND state = :was_state

-- name: payouts_of_miner
-- Some of a miner's payouts, the newest first.
SELECT {payout} FROM payouts WHERE miner = :miner AND seq < :before ORDER BY seq DESC LIMIT :limit

-- name: payouts_page
-- Some payouts, the newest first.
SELECT {payout} FROM payouts WHERE seq < :before ORDER BY seq DESC LIMIT :limit

-- name: payouts_in_state
-- Some payouts in one state, the newest first.
SELECT {payout} FROM payouts WHERE state = :state AND seq < :before ORDER BY seq DESC LIMIT :limit

-- name: miners_due
-- Some miners that the schedule has to pay in this period.
SELECT {miner} FROM miners
WHERE payout_destination <> '' AND (SELECT balance FROM accounts WHERE accounts.seq = miners.seq) >= :least
    AND NOT EXISTS (SELECT 1 FROM payouts WHERE payouts.miner = miners.seq AND period = :period)
ORDER BY seq LIMIT :limit {LOCK}

-- name: meta
-- A number that is kept under a name.
SELECT value FROM meta WHERE key = :key

-- name: set_meta
-- Keep a number under a name.
INSERT INTO meta (key, value) VALUES (:key, :value) ON CONFLICT (key) DO UPDATE SET value = excluded.value

-- name: drop_meta
-- Keep it no longer.
DELETE FROM meta WHERE key = :key

-- name: miner_by_seq
-- One miner, by its number.
SELECT {miner} FROM miners WHERE seq = :seq

-- name: payouts_to_check
-- Some payouts in order.
SELECT {payout} FROM payouts WHERE seq > :after ORDER BY seq LIMIT :limit

-- name: postings_of_payouts
-- The postings of a stretch of payouts, one by one.
SELECT {posting} FROM transfers WHERE payout > :after AND payout <= :last ORDER BY payout, seq
