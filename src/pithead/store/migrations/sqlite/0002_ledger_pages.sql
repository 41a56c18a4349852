-- Credit lines, and what the pages and the check of the ledger read by.

-- How far below 0 the operator lets a client's balance go.
ALTER TABLE clients ADD COLUMN credit_line INTEGER NOT NULL DEFAULT 0 CHECK (credit_line >= 0);

-- Each ends in the row's number, so that an account's postings come in order.
CREATE INDEX transfers_debit ON transfers (debit);
CREATE INDEX transfers_credit ON transfers (credit);
CREATE INDEX transfers_job ON transfers (job);
