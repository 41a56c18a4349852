"""Many inputs through a fleet: `map`, the executor, the example, and `pithead job map`, against a served coordinator."""

import concurrent.futures
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.fleet import BAD, SLOW, Fleet, fleet
from tests.http.server import OPERATOR_KEY

from pithead.client import AdminClient, AsyncClient, Client, JobFailed, Misused, PaymentRequired, PitheadExecutor

ROOT = Path(__file__).parents[2]
PITHEAD = [sys.executable, "-m", "pithead.cli.main"]


def ask(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


def said(answer: bytes) -> str:
    return str(json.loads(answer)["choices"][0]["message"]["content"])


@pytest.fixture(scope="module")
def echo(roomy_url: str) -> Iterator[Fleet]:
    with fleet(roomy_url, "echo-of-these-tests") as known:
        yield known


@pytest.fixture
def key(roomy_url: str) -> str:
    """Of a client with credit for a hundred jobs."""
    with AdminClient(roomy_url, OPERATOR_KEY) as operator:
        return operator.create_client("mapper", 1).api_key


@pytest.fixture
def client(roomy_url: str, key: str) -> Iterator[Client]:
    with Client(roomy_url, key) as client:
        yield client


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end, "it does not come to be so"
        time.sleep(0.01)


# ---- The SDK


def test_map_gives_what_came_of_each_input_in_order(echo: Fleet, client: Client) -> None:
    texts = ["one", BAD, "three", "four", "five"]
    found = list(client.map(echo.model, map(ask, texts), price="0.01", in_flight=2))
    assert [one.index for one in found] == [0, 1, 2, 3, 4]
    assert [said(one.bytes()) for one in found if one.completed] == [f"You said: {t}" for t in texts if t != BAD]
    assert found[0].json()["choices"][0]["message"]["content"] == "You said: one"
    assert found[0].text().startswith("{")
    with pytest.raises(JobFailed, match=r"is failed \(bad_input: no such word\); there is no result"):
        found[1].text()


async def test_map_awaited_with_a_key_is_the_same_jobs_again(echo: Fleet, roomy_url: str, key: str) -> None:
    async with AsyncClient(roomy_url, key) as client:

        async def run() -> list[str]:
            mapped = client.map(echo.model, [ask("a"), ask("b")], price="0.01", idempotency_key=f"run of {key}")
            return [one.job.job_id async for one in mapped]

        assert await run() == await run()
        assert (await client.me()).balance * 100 == 98


def test_who_stops_early_gets_the_rest_of_its_money_back(echo: Fleet, client: Client) -> None:
    echo.go_on.clear()
    for mapped in client.map(echo.model, [ask("first"), ask(SLOW), ask(SLOW)], price="0.01", in_flight=3):
        assert mapped.completed
        break
    until(lambda: client.me().held == 0)
    assert client.me().balance * 100 == 99
    assert {job.status for job in client.iter_jobs()} == {"completed", "cancelled"}
    with pytest.raises(Misused, match="in_flight is 0"):
        next(client.map(echo.model, [1], price=1, in_flight=0))


def test_an_executor_of_the_fleet(echo: Fleet, roomy_url: str, key: str, client: Client) -> None:
    echo.go_on.clear()
    with PitheadExecutor(roomy_url, key, model=echo.model, price="0.01", in_flight=4) as executor:
        assert [said(answer) for answer in executor.map(ask, ["x", "y"])] == ["You said: x", "You said: y"]
        bad, slow = executor.submit(ask, BAD), executor.submit(ask, SLOW)
        with pytest.raises(JobFailed, match="no such word"):
            bad.result(20)
        until(lambda: SLOW in echo.taken and client.me().held > 0)
        assert slow.cancel()
        until(lambda: client.me().held == 0)
        with pytest.raises(concurrent.futures.CancelledError):
            slow.result(0)
        dear = executor.submit(ask, "z")
        assert said(dear.result(20)) == "You said: z"
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(ask, "late")
    executor.shutdown()


def test_an_executor_that_is_shut_down_can_cancel_what_waits(
    echo: Fleet, roomy_url: str, key: str, client: Client
) -> None:
    echo.go_on.clear()
    executor = PitheadExecutor(roomy_url, key, model=echo.model, price="0.01", in_flight=1)
    futures = [executor.submit(ask, SLOW) for _ in range(3)]
    until(lambda: client.me().held > 0)
    executor.shutdown(cancel_futures=True)
    assert all(future.cancelled() for future in futures)
    assert client.me().held == 0
    assert client.me().balance == 1
    idle = PitheadExecutor(roomy_url, key, model=echo.model, price=5)
    with pytest.raises(PaymentRequired):
        idle.submit(ask, "unpaid").result(20)
    idle.shutdown()
    PitheadExecutor(roomy_url, key, model=echo.model, price=1).shutdown()
    with pytest.raises(Misused):
        PitheadExecutor(roomy_url, key, model=echo.model, price=1, in_flight=0)


def test_the_example_runs_as_it_stands(echo: Fleet, roomy_url: str, key: str) -> None:
    command = [sys.executable, str(ROOT / "examples" / "embedding.py"), echo.model, "0.01", "Name a colour.", BAD]
    environment = os.environ | {"PITHEAD_URL": roomy_url, "PITHEAD_KEY": key}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stdout == "Name a colour. You said: Name a colour.\n"
    assert done.stderr.startswith(f"{BAD} – job_")


def test_what_the_documentation_shows_of_map_runs_as_it_stands(roomy_url: str, key: str) -> None:
    page = (ROOT / "docs" / "how-to" / "client.md").read_text(encoding="utf-8")
    program = page.partition("test_fleet.py runs this block as it stands -->\n```python\n")[2].partition("```")[0]
    model = "smollm2-135m-instruct"
    with fleet(roomy_url, model):
        environment = os.environ | {"PITHEAD_URL": roomy_url, "PITHEAD_KEY": key}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.splitlines()
    assert first.startswith("Name a colour. {")
    assert "You said: Name a fruit." in second


# ---- The command


class Mapping:
    """`pithead job map` on a file in a folder of its own."""

    def __init__(self, folder: Path, url: str, key: str, model: str) -> None:
        self.file, self.out = folder / "in.jsonl", folder / "in.jsonl.results.jsonl"
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("PITHEAD_")}
        self.environment |= {"PITHEAD_URL": url, "PITHEAD_KEY": key, "PITHEAD_CONFIG_DIR": str(folder)}
        self.command = [*PITHEAD, "job", "map", str(self.file), "--model", model, "--price", "0.01"]

    def __call__(self, *more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*self.command, *more], env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )

    def write(self, *lines: Any) -> None:
        self.file.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def results(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.read_text().splitlines()]


@pytest.fixture
def mapping(tmp_path: Path, roomy_url: str, key: str, echo: Fleet) -> Mapping:
    return Mapping(tmp_path, roomy_url, key, echo.model)


def test_a_file_of_prompts_gives_a_file_of_results_in_order(mapping: Mapping, client: Client) -> None:
    mapping.write(
        "one", {"messages": [{"role": "user", "content": "two"}]}, {"input": ask("three"), "price": 0.02}, BAD
    )
    done = mapping()
    assert (done.returncode, done.stdout) == (1, "")
    assert "jobs: 4 of 4, 1 failed\n" in done.stderr
    assert "line 4: failed (bad_input: no such word)" in done.stderr
    assert "3 of 4 completed for 0.04" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("pithead: 1 of 4 failed; see ")
    found = mapping.results()
    assert [(one["line"], one["status"], one["price"]) for one in found] == [
        (1, "completed", 0.01), (2, "completed", 0.01), (3, "completed", 0.02), (4, "failed", None),
    ]  # fmt: skip
    assert [one["result"]["choices"][0]["message"]["content"] for one in found[:3]] == [
        "You said: one", "You said: two", "You said: three",
    ]  # fmt: skip
    # Again: it is all done, and nothing is bought anew.
    before = client.me().balance
    again = mapping("--json")
    assert (again.returncode, json.loads(again.stdout)["completed"]) == (1, 3)
    assert (mapping.results(), client.me().balance) == (found, before)
    # What failed is tried again, and only that.
    assert mapping("--retry-failed").returncode == 1
    retried = mapping.results()
    assert retried[:3] == found[:3]
    assert retried[3]["status"] == "failed"
    assert retried[3]["job_id"] != found[3]["job_id"]
    assert client.me().balance == before


def test_an_interrupted_run_goes_on_where_it_was(mapping: Mapping, echo: Fleet, client: Client) -> None:
    echo.go_on.clear()
    mapping.write("one", SLOW, "three", "four")
    with subprocess.Popen([*mapping.command], env=mapping.environment, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: sum(job.status == "completed" for job in client.iter_jobs()) == 3)
        until(lambda: mapping.out.exists() and len(mapping.results()) == 1)
        assert "another 'pithead job map' writes" in mapping().stderr
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert stderr.splitlines()[-1] == "pithead: interrupted, 1 of 4 done; the same command again goes on"
    # As a crash may leave them: a line begun, and a job that was submitted and not noted.
    with mapping.out.open("a") as out:
        out.write('{"line": 2, "sta')
    journal = mapping.out.with_name(mapping.out.name + ".journal")
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:-1]) + '{"line')
    echo.go_on.set()
    done = mapping("--in-flight", "1")
    assert (done.returncode, done.stdout) == (0, "")
    assert [one["line"] for one in mapping.results()] == [1, 2, 3, 4]
    assert len(list(client.iter_jobs())) == 4, "nothing was bought twice"
    assert client.me().balance * 100 == 96


def test_credit_that_runs_out_is_said_and_gone_on_from(mapping: Mapping, client: Client, roomy_url: str) -> None:
    mapping.write("one", {"input": 5, "price": 0.5}, {"input": 6, "price": 0.6})
    done = mapping("--in-flight", "1")
    assert done.returncode == 2
    assert "not enough credit" in done.stderr.splitlines()[-1]
    assert "2 of 3 done; mend that, and the same command again goes on" in done.stderr
    with AdminClient(roomy_url, OPERATOR_KEY) as operator:
        operator.credit(client.me().client_id, 1)
    assert mapping("--in-flight", "1").returncode == 0
    assert [one["line"] for one in mapping.results()] == [1, 2, 3]


def test_many_that_cannot_be_paid_are_one_line(mapping: Mapping, client: Client) -> None:
    mapping.write(*({"input": ask(f"question {number}"), "price": 0.1} for number in range(40)))
    done = mapping()
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if not line.startswith("jobs: ")]
    [line] = lines
    assert "not enough credit" in line
    assert "of 40 done; mend that" in line
    assert len(list(client.iter_jobs())) == 10


@pytest.mark.parametrize(
    ("text", "more", "says"),
    [
        ("{", (), "line 1 of "),
        ('"a"\n{"input": 1, "colour": "red"}', (), "line 2 of "),
        ('"a"\n{"input": 1, "price": "dear"}', (), "the price 'dear' is not a number"),
        ('"a"', ("--price", "dear"), "the price 'dear' is not a number; write it like 0.05"),
    ],
)
def test_a_file_that_is_not_right_buys_nothing(
    mapping: Mapping, client: Client, text: str, more: tuple[str, ...], says: str
) -> None:
    mapping.file.write_text(text)
    done = mapping(*more)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert says in line
    assert list(client.iter_jobs()) == []
    assert not mapping.out.exists()


def test_files_of_other_work_are_left_alone(mapping: Mapping) -> None:
    mapping.write("one")
    mapping.out.write_text("a letter")
    assert "and no journal of it; name another file with --output" in mapping().stderr
    mapping.out.unlink()
    assert mapping().returncode == 0
    mapping.write("another")
    assert "is of another file or of other options; name another file with --output" in mapping().stderr
    assert mapping("--name", "second", "-o", str(mapping.out.with_name("second"))).returncode == 0


def test_lines_need_a_model_and_a_price(mapping: Mapping) -> None:
    mapping.file.write_text('"one"')
    mapping.command = [*PITHEAD, "job", "map", str(mapping.file)]
    assert mapping().stderr == "pithead: there is no model for every line; give --model, or name it in each line\n"
