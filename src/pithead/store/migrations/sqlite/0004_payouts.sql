-- Payouts, and the account in which their amounts are reserved.

-- A CHECK can only be changed by making the table anew; foreign keys are off meanwhile, and checked before the commit.
CREATE TABLE new_accounts (
    seq     INTEGER PRIMARY KEY,
    owner   TEXT NOT NULL,
    kind    TEXT NOT NULL CHECK (kind IN ('issued', 'fees', 'payouts', 'client', 'escrow', 'miner')),
    balance INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO new_accounts (seq, owner, kind, balance) SELECT seq, owner, kind, balance FROM accounts;
DROP TABLE accounts;
ALTER TABLE new_accounts RENAME TO accounts;
INSERT INTO accounts (seq, owner, kind) VALUES (3, 'operator', 'payouts');

ALTER TABLE miners ADD COLUMN payout_destination TEXT NOT NULL DEFAULT '';

CREATE TABLE payouts (
    seq          INTEGER PRIMARY KEY,
    id           TEXT NOT NULL UNIQUE,
    miner        INTEGER NOT NULL REFERENCES miners,
    amount       INTEGER NOT NULL CHECK (amount > 0),
    destination  TEXT NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('requested', 'approved', 'paid', 'rejected')),
    period       REAL,     -- When the period began whose schedule made it; NULL: the miner asked.
    requested_at REAL NOT NULL,
    decided_at   REAL,
    paid_at      REAL,
    reference    TEXT NOT NULL,
    note         TEXT NOT NULL,
    UNIQUE (miner, period) -- A schedule pays a miner once in a period, whoever runs it.
) STRICT;
CREATE INDEX payouts_miner ON payouts (miner);
CREATE INDEX payouts_state ON payouts (state);

ALTER TABLE transfers ADD COLUMN payout INTEGER REFERENCES payouts;
CREATE INDEX transfers_payout ON transfers (payout) WHERE payout IS NOT NULL;
