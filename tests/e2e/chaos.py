"""Real language-model jobs through agents that are killed, stopped, cut off and restarted at random: `make chaos`.

Every job must end once and be paid once, and nothing may be left behind: no process, no result on a disk that nobody
delivers, no temporary folder. What happens when is drawn from a seed, which is printed.
"""

import argparse
import contextlib
import os
import random
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from tests.e2e.processes import PATIENCE, Running, models_of, run
from tests.http.server import OPERATOR_KEY, UNLIMITED

from pithead.client import AdminClient, Client

MODEL = "smollm2-135m-instruct"
PRICE = Decimal("0.01")
#: Seconds: short, so that what an agent loses is somebody else's soon.
LEASES = {"PITHEAD_LEASES__TTL": "3", "PITHEAD_LEASES__RETRY_BASE": "0.2", "PITHEAD_LEASES__AVOID_FOR": "0.5",
          "PITHEAD_MINERS__OFFLINE_AFTER": "6"}  # fmt: skip
ACTS = ("kill", "stop", "cut", "restart")


class Proxy:
    """A line to the coordinator that can be cut: bytes pass or do not, and a cut ends every connection."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.setblocking(False)
        self.port = int(self._server.getsockname()[1])
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ)
        self._peers: dict[socket.socket, socket.socket] = {}
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._is_cut = self._closed = False
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def cut(self, is_cut: bool) -> None:
        self._is_cut = is_cut
        self._wake.send(b"!")

    def close(self) -> None:
        self._closed = True
        self._wake.send(b"!")
        self._thread.join(PATIENCE)
        self._wake.close()

    def _serve(self) -> None:
        while not self._closed:
            for key, _ in self._selector.select():
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if sock is self._woken:
                    sock.recv(64)
                    if self._is_cut:
                        self._end_all()
                elif sock is self._server:
                    self._accept()
                elif sock in self._peers:
                    self._pass(sock)
        self._end_all()
        for one in (self._server, self._woken):
            one.close()
        self._selector.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            near, _ = self._server.accept()
            if self._is_cut:
                near.close()
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._to), timeout=5)
            except OSError:
                near.close()
                return
            for one, other in ((near, far), (far, near)):
                one.settimeout(5)
                self._peers[one] = other
                self._selector.register(one, selectors.EVENT_READ)

    def _pass(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(65536)
            if data:
                self._peers[sock].sendall(data)
                return
        except OSError:
            pass
        self._end(sock)

    def _end(self, sock: socket.socket) -> None:
        for one in (sock, self._peers[sock]):
            self._selector.unregister(one)
            del self._peers[one]
            one.close()

    def _end_all(self) -> None:
        while self._peers:
            self._end(next(iter(self._peers)))


@dataclass
class Rig:
    """An agent's machine: its folder, its line, its present life, and the numbers of all its lives."""

    name: str
    home: dict[str, str]
    proxy: Proxy
    stack: contextlib.ExitStack
    life: Running = field(init=False)
    lives: list[int] = field(default_factory=list)

    def start(self) -> None:
        self.life = self.stack.enter_context(Running("miner", "run", "--threads", "1", **self.home))
        self.lives.append(self.life.pid)

    def act(self, what: str, draw: random.Random, later: Callable[[float, Callable[[], None]], None]) -> None:
        if what == "kill":
            self.life.signal(signal.SIGKILL)
            self.life.ended()
            self.start()
        elif what == "restart":
            # Twice: what runs is handed back.
            self.life.signal(signal.SIGTERM)
            self.life.signal(signal.SIGTERM)
            self.life.ended()
            self.start()
        elif what == "stop":
            self.life.signal(signal.SIGSTOP)
            life = self.life
            later(draw.uniform(0.5, 5), lambda: life.signal(signal.SIGCONT))
        else:
            self.proxy.cut(True)
            later(draw.uniform(0.5, 5), lambda: self.proxy.cut(False))


@dataclass
class Outcome:
    """What came of it."""

    acts: Counter[str]
    attempts: int
    seconds: float


@contextlib.contextmanager
def _machines(folder: Path, port: int, number: int) -> Iterator[list[Rig]]:
    with contextlib.ExitStack() as stack:
        rigs = []
        for index in range(number):
            proxy = Proxy(port)
            stack.callback(proxy.close)
            temporary = folder / f"tmp{index}"
            temporary.mkdir()
            home = {"PITHEAD_CONFIG_DIR": str(folder / f"miner{index}"), "TMPDIR": str(temporary)}
            machine = ("--gpu-type", "cpu", "--gpu-count", "1", "--price", "0", "--name", f"miner{index}")
            made = run("miner", "register", "--url", f"http://127.0.0.1:{proxy.port}", *machine, "--json", **home)
            assert made.returncode == 0, made.stderr
            rigs.append(Rig(f"miner{index}", home, proxy, stack))
        for rig in rigs:
            rig.start()
        yield rigs


def chaos(
    folder: Path, *, jobs: int, machines: int, calm_after: float, seed: int, say: Callable[[str], None]
) -> Outcome:
    """Run so many jobs; things go wrong for `calm_after` seconds at the most. Asserts what this module promises."""
    draw, began, acts = random.Random(seed), time.monotonic(), Counter[str]()
    settings = UNLIMITED | LEASES | {"PITHEAD_OPERATOR_KEY": OPERATOR_KEY}
    with contextlib.ExitStack() as stack:
        coordinator = stack.enter_context(
            Running("serve", "--port", "0", "--data", str(folder / "exchange"), **settings)
        )
        port = int(coordinator.says(r"serves on http://127\.0\.0\.1:(\d+)$")[1])
        operator = stack.enter_context(AdminClient(f"http://127.0.0.1:{port}", OPERATOR_KEY))
        credit = PRICE * jobs
        client = stack.enter_context(Client(f"http://127.0.0.1:{port}", operator.create_client("lab", credit).api_key))
        rigs = stack.enter_context(_machines(folder, port, machines))
        ids = [
            job.job_id
            for job in client.submit_batch(
                {
                    "model": MODEL,
                    "input": {"prompt": f"{number} and {number} are", "max_tokens": 8},
                    "price": PRICE,
                    "timeout": 3600,
                    "max_attempts": 100,
                }
                for number in range(jobs)
            ).jobs
        ]
        due: list[tuple[float, Callable[[], None]]] = []
        busy: dict[str, float] = {}
        left = set(ids)
        while left:
            now = time.monotonic()
            for item in [one for one in due if one[0] <= now]:
                due.remove(item)
                item[1]()
            rig = draw.choice(rigs)
            if now - began < calm_after and busy.get(rig.name, 0) <= now:
                what = draw.choice(ACTS)
                acts[what] += 1
                say(f"{now - began:5.1f} s  {rig.name}: {what}; {len(left)} jobs left")
                ends = now + 0.3

                def later(seconds: float, call: Callable[[], None], rig: Rig = rig) -> None:
                    due.append((time.monotonic() + seconds, call))
                    busy[rig.name] = time.monotonic() + seconds + draw.uniform(0.5, 2)

                rig.act(what, draw, later)
                busy[rig.name] = max(busy.get(rig.name, 0), ends + draw.uniform(0.5, 2))
            time.sleep(draw.uniform(0.1, 0.4))
            left = {
                job_id for job_id in left if client.job(job_id).status in ("queued", "assigned", "running", "uploading")
            }
            assert time.monotonic() - began < calm_after + 20 * PATIENCE, f"seed {seed}: {len(left)} jobs do not end"
        for _, call in due:
            call()
        views = [client.job(job_id) for job_id in ids]
        assert {view.status for view in views} == {"completed"}, f"seed {seed}: {Counter(v.status for v in views)}"
        # Each was paid, and none twice.
        ledger = operator.overview().ledger
        assert (ledger["miner"], ledger["escrow"], sum(ledger.values())) == (credit, Decimal(0), Decimal(0)), (
            seed,
            ledger,
        )
        assert sum(operator.miner(one.miner_id).stats.earnings for one in operator.miners().miners) == credit
        assert operator.check_ledger().sound
        for rig in rigs:
            rig.life.signal(signal.SIGINT)
            assert rig.life.ended() in (0, 130)
        _nothing_left(folder, rigs, seed)
        coordinator.signal(signal.SIGINT)
        assert coordinator.ended() == 0
        return Outcome(acts, sum(view.attempts for view in views), time.monotonic() - began)


def _nothing_left(folder: Path, rigs: list[Rig], seed: int) -> None:
    until = time.monotonic() + PATIENCE
    # A process that was killed takes a moment to be gone.
    while (
        alive := [pid for rig in rigs for life in rig.lives for pid in models_of(life)]
    ) and time.monotonic() < until:
        time.sleep(0.05)
    assert alive == [], f"seed {seed}: processes are left"
    spooled = [
        file for rig in rigs for file in Path(rig.home["PITHEAD_CONFIG_DIR"]).glob("spool/*/*") if file.name != "lock"
    ]
    assert spooled == [], f"seed {seed}: results are left"
    assert list(folder.glob("tmp*/*")) == [], f"seed {seed}: temporary folders are left"


def main() -> None:
    """`python -m tests.e2e.chaos`"""
    parser = argparse.ArgumentParser(
        description="Real jobs through agents that are killed, stopped, cut off and restarted."
    )
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--machines", type=int, default=3)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)))
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    sys.stderr.write(f"seed {given.seed}\n")
    try:
        came = chaos(
            folder, jobs=given.jobs, machines=given.machines, calm_after=600, seed=given.seed,
            say=lambda line: print(line, file=sys.stderr),  # noqa: T201 (a command's log)
        )  # fmt: skip
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    acts = ", ".join(f"{number} × {what}" for what, number in sorted(came.acts.items()))
    sys.stdout.write(
        f"{given.jobs} jobs completed and paid once, in {came.attempts} attempts and {came.seconds:.0f} s, "
        f"over {acts}; nothing is left behind\n"
    )


if __name__ == "__main__":
    main()
