"""The coordinator is killed while real miners answer real prompts, and started again: nothing is lost, nothing done twice."""

import contextlib
import signal
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
from tests.e2e.processes import Running, run
from tests.http.server import OPERATOR_KEY, UNLIMITED

from pithead.client import AdminClient, Client

MODEL = "smollm2-135m-instruct"
PROMPTS = 12
PRICE = Decimal("0.01")
#: The coordinator is killed once so many are answered.
KILLED_AT = (1, 4, 8)


@contextlib.contextmanager
def coordinator(folder: Path, port: int = 0) -> Iterator[tuple[Running, int]]:
    """One on this folder; itself and its port, once it serves."""
    settings = UNLIMITED | {"PITHEAD_OPERATOR_KEY": OPERATOR_KEY}
    with Running("serve", "--port", str(port), "--data", str(folder), **settings) as process:
        yield process, int(process.says(r"serves on http://127\.0\.0\.1:(\d+)$")[1])


def miner(folder: Path, url: str, name: str) -> Running:
    """A miner that is registered and at work."""
    home = {"PITHEAD_CONFIG_DIR": str(folder / name)}
    machine = ("--gpu-type", "cpu", "--gpu-count", "1", "--price", "0.05", "--max-concurrent", "1")
    made = run("miner", "register", "--url", url, "--name", name, *machine, "--json", **home)
    assert made.returncode == 0, made.stderr
    return Running("miner", "run", "--threads", "1", **home)


def test_killed_three_times_every_job_is_answered_and_paid_once(tmp_path: Path) -> None:
    home = tmp_path / "coordinator"
    with contextlib.ExitStack() as stack:
        running, port = stack.enter_context(coordinator(home))
        url = f"http://127.0.0.1:{port}"
        miners = [stack.enter_context(miner(tmp_path, url, name)) for name in ("anna", "ben")]
        for one in miners:
            one.says("has this miner as active")
        operator = stack.enter_context(AdminClient(url, OPERATOR_KEY))
        key = operator.create_client("lab", 10).api_key
        client = stack.enter_context(Client(url, key))
        jobs = client.submit_batch(
            {
                "model": MODEL,
                "input": {"prompt": f"{number} and {number} are", "max_tokens": 24},
                "price": PRICE,
                "timeout": 120,
            }
            for number in range(1, PROMPTS + 1)
        ).jobs
        held = 0
        for answered in KILLED_AT:
            # In the order that they were given out: this many are answered, and of the next ones the miners are at work.
            client.wait(jobs[answered - 1].job_id, timeout=60)
            running.signal(signal.SIGKILL)
            assert running.ended() == -signal.SIGKILL
            running, again = stack.enter_context(coordinator(home, port))
            assert again == port
            states = [client.job(job.job_id).status for job in jobs]
            held += sum(state in ("assigned", "running", "uploading") for state in states)
        assert held, "nothing was at stake"

        views = [client.wait(job.job_id, timeout=60) for job in jobs]
        assert [(view.status, view.attempts) for view in views] == [("completed", 1)] * PROMPTS
        for view in views:
            assert msgspec.json.decode(client.result(view.job_id))["choices"][0]["text"]
        # Each was paid, and none twice.
        stats = [operator.miner(one.miner_id).stats for one in operator.miners().miners]
        assert sum(one.total_jobs for one in stats) == PROMPTS
        assert {one.success_rate for one in stats} == {1}
        assert sum(one.earnings for one in stats) == PROMPTS * PRICE
        account = client.me()
        assert (account.balance, account.held) == (10 - PROMPTS * PRICE, Decimal(0))
        ledger = operator.overview().ledger
        assert sum(ledger.values()) == 0
        assert (ledger["miner"], ledger["escrow"]) == (PROMPTS * PRICE, Decimal(0))
        # The agents are those of the beginning, and have nothing left to do.
        for one in miners:
            assert one.runs
            one.signal(signal.SIGINT)
            assert one.ended() == 0
        # Read once they have ended; one that asked nothing while nobody was up has nothing to say.
        assert any("is back" in line for one in miners for line in one.log)
        assert list(tmp_path.glob("*/spool/*/*.result")) == []
        running.signal(signal.SIGINT)
        assert running.ended() == 0
