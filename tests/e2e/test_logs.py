"""What a busy coordinator and a busy agent write: a line for each request, found by its id, and no key in any of it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import httpx
from tests.unit.cli.test_serve import Served

OPERATOR: Final = "key_of-the-operator-who-is-not-to-be-read"
JOB: Final = {
    "model": "kept-quiet",
    "input": {"prompt": "a secret of the client's"},
    "price": 0.01,
    "estimated_time": 1,
}


def test_no_key_and_no_prompt_is_ever_logged(tmp_path: Path) -> None:
    environment = {
        "PITHEAD_OPERATOR_KEY": OPERATOR, "PITHEAD_LOG_LEVEL": "debug", "PITHEAD_LOG_FORMAT": "json",
        "PITHEAD_ENROLLMENT": "token", "PITHEAD_METRICS__TOKEN": "scrape-with-this-one",
        "PITHEAD_WEBHOOKS__ALLOWED_NETWORKS": "127.0.0.0/8",
    }  # fmt: skip
    served = Served(tmp_path / "coordinator", **environment)
    secrets = {OPERATOR, "scrape-with-this-one", JOB["input"]["prompt"]}  # type: ignore[index]
    answered: dict[str, int] = {}

    def call(method: str, path: str, key: str | None, status: int, **more: Any) -> Any:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        answer = http.request(method, path, headers=headers | more.pop("headers", {}), **more)
        assert answer.status_code == status, answer.text
        answered[answer.headers["x-request-id"]] = status
        if answer.headers["content-type"] == "application/problem+json":
            assert answer.json()["request_id"] == answer.headers["x-request-id"]
            return answer.json()
        return answer.json() if "json" in answer.headers["content-type"] else None

    try:
        with httpx.Client(base_url=served.url) as http:
            client = call("POST", "/v1/admin/clients", OPERATOR, 201, json={"name": "lab", "credit": 5})
            secrets.add(client["api_key"])
            token = call("POST", "/v1/admin/enrollment-tokens", OPERATOR, 201, json={})["enrollment_token"]
            secrets.add(token)
            machine = {"name": "m", "gpu_type": "cpu", "gpu_count": 1, "location": "x", "price_per_hour": 0.01,
                       "max_concurrent": 2, "enrollment_token": token}  # fmt: skip
            call("POST", "/v1/miners", None, 403, json=machine | {"enrollment_token": "enroll_of-somebody-else"})
            secrets.add("enroll_of-somebody-else")
            miner = call("POST", "/v1/miners", None, 201, json=machine)
            secrets.add(miner["api_key"])
            me = f"/v1/miners/{miner['miner_id']}"
            call("POST", f"{me}/heartbeat", miner["api_key"], 200)
            job = call("POST", "/v1/jobs", client["api_key"], 201, json=JOB)["job_id"]
            taken = call("POST", f"{me}/jobs/{job}/accept", miner["api_key"], 200)
            secrets.add(taken["lease_token"])
            done = {"result_hash": "sha256:" + "a" * 64, "metrics": {}}
            lease = {"Lease-Token": taken["lease_token"]}
            call("POST", f"{me}/jobs/{job}/complete", miner["api_key"], 200, json=done, headers=lease)
            # What is wrong is answered at length, and logged in short.
            for key in ("key_nobody-has-this-one-at-all", miner["api_key"] + "x"):
                secrets.add(key)
                call("GET", me, key, 401)
            call("GET", me, client["api_key"], 404, params={"key": miner["api_key"]})
            call("POST", "/v1/jobs", client["api_key"], 422, json={"model": client["api_key"] * 20, "input": {}})
            call("POST", "/v1/jobs", client["api_key"], 400, content=f'{{"key": "{client["api_key"]}"')
            rotated = call("POST", f"/v1/admin/accounts/{client['client_id']}/keys", OPERATOR, 201, json={})
            secrets.add(rotated["api_key"])
            hook = {"url": "http://127.0.0.1:9/?token=of-the-client-s-own", "events": ["job.completed"]}
            hooked = call("POST", "/v1/webhooks", rotated["api_key"], 201, json=hook)
            secrets |= {hooked["secret"], "of-the-client-s-own"}
            # Nobody listens there, so that it fails at once.
            tested = call("POST", f"/v1/webhooks/{hooked['webhook_id']}/test", rotated["api_key"], 201)
            assert tested["delivery_id"]
            secrets |= _signed_in(http, rotated["api_key"])
            call("GET", "/metrics", "scrape-with-this-one", 200)
            call("GET", "/v1/jobs", rotated["api_key"], 200, headers={"X-Request-Id": "mine-1"})
            assert answered["mine-1"] == 200
            said = _agent(served.url, miner, tmp_path)
    finally:
        assert served.stop() == 0
    lines = [json.loads(line) for line in served.stderr.splitlines()]
    requests = {line["request_id"]: line for line in lines if line["logger"] == "pithead.requests"}
    assert {name: requests[name]["status"] for name in answered} == answered
    mine = requests["mine-1"]
    assert (mine["method"], mine["path"], mine["principal"]) == ("GET", "/v1/jobs", client["client_id"])
    assert mine["client"] == "127.0.0.1"
    assert mine["milliseconds"] > 0
    written = served.stderr + served.stdout + said
    assert [secret for secret in secrets if secret in written] == []
    # They were not even there to be blotted out.
    assert "…" not in written


def _signed_in(http: httpx.Client, key: str) -> set[str]:
    """What a browser has that signed in to the dashboard: its session, and what its forms bring along."""
    page = http.get("/dashboard/sign-in")
    csrf = re.findall(r'name="csrf" value="([^"]+)"', page.text)[0]
    signed = http.post("/dashboard/sign-in", data={"csrf": csrf, "next": "/dashboard", "key": key})
    assert signed.status_code == 303, signed.text
    assert http.get("/dashboard").is_success
    cookies = set(http.cookies.values())
    http.cookies.clear()
    assert cookies
    return cookies | {csrf}


def _agent(url: str, miner: dict[str, str], folder: Path) -> str:
    """What an agent says that starts, looks about and is told to stop; as text and as JSON."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PITHEAD_")}
    environment = clean | {
        "PITHEAD_URL": url, "PITHEAD_KEY": miner["api_key"], "PITHEAD_MINER_ID": miner["miner_id"],
        "PITHEAD_CONFIG_DIR": str(folder / "config"),
    }  # fmt: skip
    said = ""
    for more in ([], ["--json"]):
        command = [str(Path(sys.executable).with_name("pithead")), "miner", "run", *more]
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        said += process.stdout.readline()
        process.terminate()
        said += process.communicate(timeout=30)[0]
    return said
