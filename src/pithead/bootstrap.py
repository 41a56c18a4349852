"""The only place where the parts meet."""

import asyncio
import contextlib
import fcntl
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.types import ASGIApp

from pithead.core import receipts
from pithead.core.errors import Invalid
from pithead.core.leases import Policy
from pithead.core.money import micros
from pithead.exchange import accounts
from pithead.exchange.blobs import BlobError, Blobs
from pithead.exchange.collector import Collector
from pithead.exchange.coordinator import Coordinator
from pithead.exchange.ids import digest, new_key
from pithead.exchange.ports import Tx
from pithead.exchange.retention import Retention
from pithead.exchange.rules import Rules
from pithead.http.api import Services
from pithead.http.app import build
from pithead.settings import Settings, SettingsError
from pithead.store.embedded import Embedded
from pithead.store.errors import StoreError
from pithead.store.places import open_blobs
from pithead.store.sqlite import SqliteStore

_log = logging.getLogger("pithead")

_DAY: Final = 86_400.0

#: Seconds between two looks at what is due.
SWEEP_EVERY: Final = 1.0
#: Seconds between two notes that this coordinator is up: at most this much of an outage is not made good to a lease.
ALIVE_EVERY: Final = 5.0
#: Seconds between two batches of blobs that are looked at for orphans.
COLLECT_EVERY: Final = 10.0


class SteadyClock:
    """Wall time at the start, carried on by the monotonic clock: a step of the system's clock moves no lease."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def __call__(self) -> float:
        return time.monotonic() + self._offset


class ReceiptSigner:
    """Signs receipts with the coordinator's Ed25519 key, kept in a file that only its owner reads."""

    def __init__(self, file: Path) -> None:
        if not file.exists():
            _write_private(file, _new_signing_key())
        try:
            key = serialization.load_pem_private_key(file.read_bytes(), None)
        except (ValueError, TypeError):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise StoreError(
                f"{file} is not an Ed25519 key in PEM form; restore it, or move it away to have a new one made"
            )
        self._key = key
        self.key_id = receipts.key_id(key.public_key())
        self.public_key = key.public_key().public_bytes_raw()

    def sign(self, receipt: receipts.Receipt) -> str:
        """The signature, in base64."""
        return receipts.sign(receipt, self._key)


def _new_signing_key() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write_private(file: Path, content: bytes) -> None:
    temporary = file.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    temporary.rename(file)


def rules_of(settings: Settings) -> Rules:
    """What the operations go by. Raises `SettingsError`."""
    return Rules(
        leases=Policy(
            lease_ttl=settings.leases.ttl,
            retry_base=settings.leases.retry_base,
            retry_cap=settings.leases.retry_cap,
            avoid_for=settings.leases.avoid_for,
        ),
        enrollment=settings.enrollment,
        offline_after=settings.miners.offline_after,
        job_timeout=settings.jobs.timeout,
        max_attempts=settings.jobs.max_attempts,
        fee_basis_points=settings.fee_basis_points,
        payout_minimum=_minimum(settings.payouts.minimum),
        payout_schedule=settings.payouts.schedule,
        keep_answers=_a_day_or_more(settings.retention.idempotency),
        keep_results=settings.retention.results,
        keep_jobs=settings.retention.jobs,
    )


def blobs_of(settings: Settings) -> Blobs:
    """Where the bytes of results are kept. Raises `StoreError`."""
    s3 = settings.s3
    given = {"endpoint": s3.endpoint, "region": s3.region}
    options = {name: value for name, value in given.items() if value}
    if s3.virtual_hosted:
        options["virtual_hosted_style_request"] = "true"
    try:
        return open_blobs(settings.blob_store, settings.folder / "results", s3=options, allow_http=s3.allow_http)
    except BlobError as error:
        raise StoreError(f"cannot use the blob store {settings.blob_store or 'in the data folder'}: {error}") from error


def _minimum(value: float) -> int:
    try:
        return micros(value, "payouts.minimum")
    except Invalid as error:
        raise SettingsError(str(error)) from None


def _a_day_or_more(seconds: float) -> float:
    if 0 < seconds < _DAY:
        raise SettingsError(
            f"retention.idempotency is {seconds:g} s; keep answers for at least {_DAY:g} s, or 0 for ever: "
            "who asks again after a lost answer counts on them"
        )
    return seconds


class Application:
    """A coordinator with its store, and the ASGI application in front of it."""

    def __init__(self, settings: Settings, clock: Callable[[], float] | None = None) -> None:
        self.settings = settings
        folder = settings.folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = _lock(folder)
        self.blobs = blobs_of(settings)
        self._store = SqliteStore(folder / "pithead.db")
        self.coordinator = Coordinator(
            rules_of(settings), clock or SteadyClock(), ReceiptSigner(folder / "signing.pem")
        )
        self.database: Embedded
        self.retention = Retention(self.coordinator, self.blobs)
        self.collector = Collector(self.coordinator, self.blobs, settings.results.orphan_after)
        services = Services(self.coordinator, self.blobs, settings.http.max_body_bytes, settings.http.max_result_bytes)
        self.asgi: ASGIApp = build(services, settings.rate_limits)
        self._care: asyncio.Task[None] | None = None
        #: When it last said that it is up, by the monotonic clock.
        self._alive_said = float("-inf")
        #: When it last looked for blobs that nobody needs, likewise.
        self._collected = float("-inf")
        #: Whether the database refused a change, and has taken none since.
        self._trouble = False
        #: The operator's key, where this start made one: to be shown once.
        self.new_operator_key: str | None = None

    @contextlib.asynccontextmanager
    async def running(self, *, care: bool = True) -> AsyncIterator["Application"]:
        """Open for business; on leaving, an orderly stop. `care=False`: the caller sweeps (a test that moves the clock)."""
        self.database = Embedded(self._store, self.coordinator.on_events)
        try:
            away = await self.coordinator.start(self.database)
            if away:
                _log.info("no coordinator was up for %.0f s; leases were extended by as much", away)
            await self._settle_operator_key()
            await self._check_blobs()
            if care:
                self._care = asyncio.create_task(self._keep_care(), name="care")
            yield self
        finally:
            self.coordinator.stop()
            if self._care is not None:
                self._care.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._care
            await self.collector.close()
            try:
                await asyncio.shield(self.coordinator.say_alive())
            except StoreError as error:
                # On a full disk too the rest of the stop is in order; the next start finds an older note.
                _log.warning("could not note when this coordinator stopped: %s", error)
            await self.database.close()
            self._lock.close()

    async def _check_blobs(self) -> None:
        try:
            await self.blobs.check()
        except BlobError as error:
            raise StoreError(f"cannot use the blob store {self.blobs.describe()}: {error}") from error

    async def _settle_operator_key(self) -> None:
        given = self.settings.operator_key
        has_one = await self.coordinator.peek(lambda tx: _has_operator_key(tx, given))
        if has_one:
            return
        key = given or new_key()
        await self.coordinator.run(lambda tx, now: accounts.set_operator_key(tx, now, key))
        if not given:
            self.new_operator_key = key

    async def _keep_care(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY)
            await self.look_after()

    async def look_after(self) -> None:
        """One turn of the care. It raises nothing: a full disk must not end the care for good."""
        try:
            await self.coordinator.sweep()
            if time.monotonic() - self._alive_said >= ALIVE_EVERY:
                await self.coordinator.say_alive()
                await self.coordinator.pay_out()
                await self.retention.turn()
                self._alive_said = time.monotonic()
                if self._trouble:
                    self._trouble = False
                    _log.warning("the database takes changes again")
            if time.monotonic() - self._collected >= COLLECT_EVERY:
                self._collected = time.monotonic()
                await self.collector.turn()
        except BlobError as error:
            _log.warning("could not look for blobs that nobody needs: %s", error)
        except StoreError as error:
            if not self._trouble:
                # Once, and not every second.
                self._trouble = True
                _log.error("could not look after what is due, and tries again every second: %s", error)
        except Exception:
            _log.exception("could not look after what is due")


def _has_operator_key(tx: Tx, given: str) -> bool:
    if given:
        return (found := tx.key(digest(given))) is not None and found.expires_at is None
    return tx.has_operator_key()


def _lock(folder: Path) -> IO[str]:
    """Keep a second coordinator from opening the same folder. Raises `StoreError`."""
    held = (folder / "lock").open("w")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        held.close()
        raise StoreError(f"another coordinator uses {folder}; stop it, or choose another folder with --data") from error
    return held
