"""What the database must look like after the load: a fast exchange that pays wrongly would be no result."""

from pathlib import Path
from typing import Final

import msgspec
from sqlcipher3 import dbapi2


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
                    UNION ALL SELECT debit, -amount FROM transfers) GROUP BY account) AS moved
               ON moved.account = accounts.seq
           WHERE balance <> coalesce(total, 0)""",
    ),
    Rule(
        "every payment is for a completed job, in full, and the only one for it",
        """SELECT count(*) FROM
               (SELECT job, count(*) AS times, sum(amount) AS amount FROM transfers
                WHERE cause = 'payment' GROUP BY job) AS paid
           LEFT JOIN jobs ON jobs.seq = paid.job
           WHERE times <> 1 OR jobs.state IS NOT 'completed' OR paid.amount <> jobs.price""",
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


def faults(database: Path, completed: int) -> list[str]:
    """What is wrong in the database of a stopped server that said `completed` times that a job was completed."""
    answered = Rule(
        "it completed as many jobs as it said", "SELECT count(*) FROM jobs WHERE state = 'completed'", completed
    )
    db = dbapi2.connect(f"file:{database}?mode=ro", uri=True)
    try:
        found = [(rule, db.execute(rule.query).fetchone()[0]) for rule in (*RULES, answered)]
    finally:
        db.close()
    return [f"{rule.says}: expected {rule.expected}, found {value}" for rule, value in found if value != rule.expected]
