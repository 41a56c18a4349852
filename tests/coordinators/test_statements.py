"""How many statements the busy operations send to PostgreSQL, each of which is a way there and back."""

import threading
from typing import Any

import psycopg
import pytest
from tests.coordinators.conftest import Pair
from tests.http.exchange import body

#: What a batch takes beside its operations, whatever they are: it begins, reads the clock, sets how long rows are waited for,
#: tells the others, and ends. (Here each is alone in its batch, and what it leaves is written right after it.)
OF_A_BATCH = ("BEGIN", "SELECT CAST(extract", "SET LOCAL", "WITH numbered", "COMMIT", "ROLLBACK")
TOGETHER = ("INSERT INTO inputs", "INSERT INTO attempts", "INSERT INTO transfers", "UPDATE attempts", "UPDATE miners SET comp",
            "SELECT FROM accounts", "UPDATE accounts")  # fmt: skip


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What lanes send, in order."""
    sent: list[str] = []
    execute = psycopg.Connection.execute

    def noting(self: Any, query: Any, *args: Any, **more: Any) -> Any:
        if threading.current_thread() is not threading.main_thread() and self.info.parameter_status(
            "application_name"
        ) == ("pithead writer"):
            sent.append(" ".join(str(query).split()))
        return execute(self, query, *args, **more)

    monkeypatch.setattr(psycopg.Connection, "execute", noting)
    return sent


def of_operations(sent: list[str]) -> list[str]:
    """Those of the operations alone, without what belongs to a batch; what was sent is forgotten."""
    found = [query for query in sent if not query.startswith((*OF_A_BATCH, *TOGETHER))]
    sent.clear()
    return found


async def test_the_busy_operations_take_few_statements(pair: Pair, sent: list[str]) -> None:
    client, miner = await pair.a.client(), await pair.a.miner()
    await client.submit()  # Which looks whether there are miners for it.
    sent.clear()
    job = await client.submit()
    assert len(of_operations(sent)) == 3
    body(await miner.accept(job))
    assert len(of_operations(sent)) == 6
    body(await miner.complete(job))
    assert len(of_operations(sent)) == 4
