"""What the database must look like after the load: a fast exchange that pays wrongly would be no result."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from pithead.store.cipher import connect
from pithead.store.keys import DatabaseKey


class Rule(msgspec.Struct, frozen=True):
    """Something that must hold: a query for one number, and what it must be."""

    says: str
    query: str
    expected: int = 0


RULES: Final = (
    Rule("all accounts together are 0", "SELECT sum(balance) FROM accounts"),
    Rule(
        "every balance is the sum of its transfers",
        """SELECT count(*) FROM accounts LEFT JOIN
               (SELECT account, sum(amount) AS total FROM (
                    SELECT credit AS account, amount FROM transfers
                    UNION ALL SELECT debit, -amount FROM transfers) AS legs GROUP BY account) AS moved
               ON moved.account = accounts.seq
           WHERE balance <> coalesce(total, 0)""",
    ),
    Rule(
        "every payment is for a completed job, in full, and the only one for it",
        """SELECT count(*) FROM
               (SELECT job, count(*) AS times, sum(amount) AS amount FROM transfers
                WHERE cause = 'payment' GROUP BY job) AS paid
           LEFT JOIN jobs ON jobs.seq = paid.job
           WHERE times <> 1 OR jobs.state IS DISTINCT FROM 'completed' OR paid.amount <> jobs.price""",
    ),
    Rule(
        "every completed job was paid",
        """SELECT (SELECT count(*) FROM jobs WHERE state = 'completed')
                - (SELECT count(DISTINCT job) FROM transfers WHERE cause = 'payment')""",
    ),
    Rule(
        "what miners earned is what was paid",
        "SELECT (SELECT sum(earnings) FROM miners)"
        " - (SELECT coalesce(sum(amount), 0) FROM transfers WHERE cause = 'payment')",
    ),
    Rule(
        "no job is left in a miner's hands",
        "SELECT count(*) FROM jobs WHERE state IN ('assigned', 'running', 'uploading')",
    ),
)


#: How many jobs were completed.
COMPLETED: Final = "SELECT count(*) FROM jobs WHERE state = 'completed'"


def broken(one: Callable[[str], int]) -> list[str]:
    """The rules that do not hold; `one` asks a query for its one number."""
    found = [(rule, one(rule.query)) for rule in RULES]
    return [f"{rule.says}: expected {rule.expected}, found {value}" for rule, value in found if value != rule.expected]


def miscounted(found: int, completed: int) -> list[str]:
    """Whether it completed as many jobs as it said."""
    return [] if found == completed else [f"it completed as many jobs as it said: expected {completed}, found {found}"]


def faults(database: Path, completed: int, key: DatabaseKey | None = None) -> list[str]:
    """What is wrong in the database of a stopped server that said `completed` times that a job was completed."""
    db = connect(str(database), key)
    try:

        def one(query: str) -> int:
            return int(db.execute(query).fetchone()[0] or 0)

        return broken(one) + miscounted(one(COMPLETED), completed)
    finally:
        db.close()
