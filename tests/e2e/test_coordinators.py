"""Several coordinators as their operator runs them: processes over one PostgreSQL database and one folder of results."""

import contextlib
import signal
from pathlib import Path

import httpx
import pytest
from tests.http.exchange import JOB, REGISTRATION
from tests.postgres import Server
from tests.unit.cli.test_serve import Served, refusal, served

KEY = {"X-Api-Key": "key_operator-of-these-tests"}


def test_any_of_them_does_and_the_others_go_on(postgres: Server, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        environment = {
            "PITHEAD_DATABASE": postgres.tcp_url(stack.enter_context(postgres.lent())),
            "PITHEAD_OPERATOR_KEY": "key_operator-of-these-tests",
            "PITHEAD_BLOB_STORE": str(tmp_path / "results"),
        }
        a = stack.enter_context(served(tmp_path / "a", **environment))
        b = Served(tmp_path / "b", **environment)
        stack.callback(lambda: b.process.poll() is None and b.stop())
        http = stack.enter_context(httpx.Client())
        client = http.post(f"{a.url}/v1/admin/clients", headers=KEY, json={"name": "lab", "credit": 1}).json()
        mine = {"X-Api-Key": client["api_key"]}
        miner = http.post(f"{b.url}/v1/miners", json=REGISTRATION).json()
        own, at = {"X-Api-Key": miner["api_key"]}, f"/v1/miners/{miner['miner_id']}"
        http.post(f"{a.url}{at}/heartbeat", headers=own).raise_for_status()
        job = http.post(f"{b.url}/v1/jobs", headers=mine, json=JOB).json()["job_id"]
        lease = http.post(f"{a.url}{at}/jobs/{job}/accept", headers=own).json()["lease_token"]
        fence = own | {"Lease-Token": lease}
        sent = http.put(f"{b.url}{at}/jobs/{job}/result", headers=fence, content=b"the result").json()
        assert b.stop(signal.SIGTERM) == 0, b.stderr
        # What one began another ends: nothing was in the first one's memory alone.
        done = http.post(f"{a.url}{at}/jobs/{job}/complete", headers=fence, json={"result_hash": sent["result_hash"]})
        assert done.status_code == 200, done.text
        assert http.get(f"{a.url}/v1/jobs/{job}/result", headers=mine).content == b"the result"
        keys = {key["key_id"] for key in http.get(f"{a.url}/v1/receipt-keys").json()["keys"]}
        assert len(keys) == 2
        assert done.json()["receipt"]["key_id"] in keys
    for said in (a.stderr, b.stderr):
        assert postgres.PASSWORD not in said
        assert "ERROR" not in said
        assert "WARNING" not in said


@pytest.mark.parametrize(
    ("database", "expected"),
    [
        ("postgresql://postgres:s3cret@127.0.0.1:{port}/postgres", "refuses the user postgres: wrong or no password"),
        ("postgresql://postgres@127.0.0.1:{port}/nowhere?password={password}", "has no database nowhere"),
        ("postgresql://postgres:s3cret@127.0.0.1:1/pithead", "cannot reach the database at 127.0.0.1:1"),
        ("sqlite:///s3cret", "is not of the form postgresql://"),
    ],
)
def test_what_it_cannot_work_with_is_said_in_one_line(
    postgres: Server, tmp_path: Path, database: str, expected: str
) -> None:
    database = database.format(port=postgres.port, password=postgres.PASSWORD.replace(" ", "%20"))
    said = refusal(tmp_path, PITHEAD_DATABASE=database)
    assert expected in said
    assert "s3cret" not in said
    assert postgres.PASSWORD not in said
