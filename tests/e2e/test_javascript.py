"""The JavaScript SDK: built from the current OpenAPI document, tried on Node against a served coordinator, as its page says."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from secrets import token_bytes
from typing import Final

import pytest
from standardwebhooks import Webhook
from tests.http.server import OPERATOR_KEY, UNLIMITED, serve

import pithead
from pithead.client import AdminClient, Client, MinerClient
from pithead.http.openapi import document

ROOT: Final = Path(__file__).parents[2]
SDK: Final = ROOT / "sdk" / "js"
#: Seconds; npm has packages to fetch the first time.
PATIENCE: Final = 120.0
MODEL: Final = "smollm2-135m-instruct"


def run(*command: str, folder: Path = SDK, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PITHEAD_")}
    done = subprocess.run(
        command, cwd=folder, env=clean | environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def package() -> Path:
    run(sys.executable, str(ROOT / "sdk" / "build.py"), folder=ROOT)
    return SDK


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    # What is told to a webhook is told to this machine.
    with serve(
        tmp_path_factory.mktemp("coordinator"), **UNLIMITED, PITHEAD_WEBHOOKS__ALLOWED_NETWORKS="127.0.0.0/8"
    ) as url:
        yield url


def test_its_types_are_those_of_the_api(package: Path) -> None:
    """Every operation of the document is in what is shipped, and what is wrong does not compile."""
    shipped = (package / "dist" / "api.d.ts").read_text(encoding="utf-8")
    current = document("Pithead", pithead.__version__)
    assert json.loads((package / "openapi.json").read_text(encoding="utf-8")) == json.loads(json.dumps(current))
    operations = {call["operationId"] for calls in current["paths"].values() for call in calls.values()}
    assert {name for name in operations if f"    {name}: {{" in shipped} == operations
    run("npm", "run", "--silent", "check")


def test_it_does_what_it_says_on_node(package: Path, url: str) -> None:
    said = run("npm", "test", "--silent", PITHEAD_TEST_URL=url, PITHEAD_TEST_OPERATOR_KEY=OPERATOR_KEY)
    assert int(re.findall(r"^# pass (\d+)$", said, re.MULTILINE)[0]) >= 31
    assert re.findall(r"^# (?:skipped|todo) (\d+)$", said, re.MULTILINE) == ["0", "0"]


@pytest.fixture
def key(url: str) -> Iterator[str]:
    """A client's, of an exchange where somebody works: each answer is the same."""
    with AdminClient(url, OPERATOR_KEY) as operator:
        key = operator.create_client("reader", 1).api_key
    made = MinerClient.register(
        url,
        name="m",
        gpu_type="cpu",
        gpu_count=1,
        location="here",
        price_per_hour=0.01,
        max_concurrent=4,
        models=[MODEL],
    )
    stop = threading.Event()
    with MinerClient(url, made.miner_id, made.api_key) as miner:
        miner.heartbeat()
        worker = threading.Thread(target=_work, args=(miner, stop))
        worker.start()
        yield key
        stop.set()
        # Wakes it: there is something to be had once more.
        with Client(url, key) as client:
            client.submit(MODEL, {}, price="0.01", estimated_time=1)
        worker.join(timeout=30)
        assert not worker.is_alive()


def _work(miner: MinerClient, stop: threading.Event) -> None:
    while True:
        for job in miner.available(wait=30).jobs:
            miner.accept(job.job_id)
            miner.upload(job.job_id, b"Red, yellow and blue.")
            miner.complete(job.job_id, "sha256:" + sha256(b"Red, yellow and blue.").hexdigest())
        if stop.is_set():
            return


def test_what_its_page_shows_is_run_as_it_stands(package: Path, url: str, key: str, tmp_path: Path) -> None:
    text = (package / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```js\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    folder = tmp_path / "node_modules" / "@pithead"
    folder.mkdir(parents=True)
    (folder / "client").symlink_to(package)
    said = []
    for number, block in enumerate(blocks):
        program = tmp_path / f"block{number}.mjs"
        program.write_text(block, encoding="utf-8")
        said.append(run("node", program.name, folder=tmp_path, PITHEAD_URL=url, PITHEAD_KEY=key).splitlines())
    assert said == [
        ["completed Red, yellow and blue.", "0.99 left"],
        [f"{n} {word} completed 21" for n, word in enumerate(("one", "two", "three"))],
        ["Red, yellow and blue.", f"{sha256(b'Hello, and welcome.').hexdigest()[:8]} 19"],
        [f"{MODEL} completed"],
        [],
        ["5 completed"],
    ]


def test_it_works_in_a_browser(package: Path, url: str, key: str) -> None:
    """As modules, on a page of the coordinator's own origin: submit, follow, fetch and check."""
    from playwright.sync_api import Route, sync_playwright

    def serve_module(route: Route) -> None:
        name = route.request.url.rpartition("/sdk/")[2]
        file = (
            package / "node_modules/openapi-fetch/dist/index.mjs"
            if name == "openapi-fetch"
            else package / "dist" / name
        )
        text = file.read_text(encoding="utf-8").replace('from "openapi-fetch"', 'from "./openapi-fetch"')
        route.fulfill(body=text, content_type="text/javascript")

    program = """async ([key, signed]) => {
        const { Pithead, verifyWebhook } = await import("/sdk/index.js");
        const exchange = new Pithead({ url: location.origin, key });
        const request = { model: "smollm2-135m-instruct", input: {}, price: 0.01, estimated_time: 1 };
        const news = exchange.accountEvents();
        const begun = (await news.next()).value.event;
        const file = new File([new Uint8Array(100_000)], "in.bin");
        const { job_id } = await exchange.submit(request, { files: { "in.bin": file } });
        const told = (await news.next()).value.data.job_id === job_id;
        await news.return();
        let last;
        for await (const event of exchange.events(job_id)) last = event;
        const [{ sha256 }] = last.data.input_files;
        const same = (await exchange.files.upload(file)).sha256 === sha256 && (await exchange.files.get(sha256)).size;
        const wrong = await new Pithead({ url: location.origin, key: "key_x" }).me().catch((error) => error.name);
        const [secret, headers, body] = signed;
        const { type } = await verifyWebhook(secret, headers, body);
        const forged = await verifyWebhook(secret, headers, body + " ").catch((error) => error.name);
        const said = [last.data.status, await exchange.text(job_id), (await exchange.me()).balance, wrong];
        return [...said, begun, told, same, type, forged];
    }"""
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]  # fmt: skip
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        page = browser.new_page()
        page.route("**/sdk/**", serve_module)
        page.goto(f"{url}/openapi.json")
        said = page.evaluate(program, [key, signed()])
        browser.close()
    assert said[:4] == ["completed", "Red, yellow and blue.", 0.99, "Unauthorized"]
    assert said[4:] == ["sync", True, 100_000, "job.failed", "WebhookRefused"]


def signed() -> tuple[str, dict[str, str], str]:
    """A secret, and a message that the library of Standard Webhooks' own signed with it: its headers and its body."""
    secret, body, now = (
        f"whsec_{b64encode(token_bytes(32)).decode()}",
        '{"type":"job.failed","data":{}}',
        datetime.now(UTC),
    )
    signature = Webhook(secret).sign("msg_1", now, body)
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature}
    return secret, headers, body


def test_the_lock_names_no_registry() -> None:
    lock = json.loads((SDK / "package-lock.json").read_text(encoding="utf-8"))
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert packages
    assert all(package["integrity"].startswith("sha512-") for package in packages.values())
    assert not any("resolved" in package for package in packages.values())
    assert "omit-lockfile-registry-resolved=true" in (SDK / ".npmrc").read_text(encoding="utf-8")
