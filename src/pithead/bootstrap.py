"""The only place where the parts meet."""

import asyncio
import contextlib
import fcntl
import logging
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import IO, Final

from starlette.types import ASGIApp

from pithead.core import webhooks
from pithead.core.errors import Invalid
from pithead.core.leases import Policy
from pithead.core.money import micros
from pithead.exchange import accounts
from pithead.exchange.blobs import BlobError, Blobs
from pithead.exchange.collector import Collector
from pithead.exchange.coordinator import Coordinator
from pithead.exchange.courier import Courier
from pithead.exchange.ids import digest, new_key
from pithead.exchange.ports import Tx
from pithead.exchange.retention import Retention
from pithead.exchange.rules import Rules
from pithead.http.api import Services
from pithead.http.app import build
from pithead.http.health import Door
from pithead.http.limits import Limiter, SharedLimiter, redis_storage
from pithead.http.metrics import Metrics
from pithead.http.outgoing import Guard, Network, Outgoing, networks
from pithead.settings import KEY_ADVICE, SHORTEST_KEY, Settings, SettingsError
from pithead.store.cipher import check
from pithead.store.clock import DatabaseClock
from pithead.store.embedded import Embedded
from pithead.store.errors import StoreError
from pithead.store.keyring import Keyring, new_wrapped_key
from pithead.store.keys import DatabaseKey, find_key
from pithead.store.migrate import migrate_postgres
from pithead.store.places import open_blobs
from pithead.store.rates import RateStorage
from pithead.store.recrypt import leftovers
from pithead.store.sealed import SealedBlobs
from pithead.store.shared import Shared
from pithead.store.signing import ReceiptSigner
from pithead.store.sqlite import SqliteStore
from pithead.store.vault import Vault
from pithead.web.app import Dashboard

_log = logging.getLogger("pithead")

_DAY: Final = 86_400.0

#: The database's file in the data folder.
DATABASE: Final = "pithead.db"
#: Lies in a folder that something is being restored into.
UNFINISHED: Final = "restoring"
#: Seconds between two looks at what is due.
SWEEP_EVERY: Final = 1.0
#: Seconds between two notes that this coordinator is up (see `upkeep.GRACE`).
ALIVE_EVERY: Final = 2.0
#: Seconds between two batches of blobs that are looked at for orphans.
COLLECT_EVERY: Final = 10.0


class SteadyClock:
    """Wall time at the start, carried on by the monotonic clock: a step of the system's clock moves no lease."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def __call__(self) -> float:
        return time.monotonic() + self._offset


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
        keep_files=settings.retention.files,
        file_quota=settings.files.quota,
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
        raise StoreError(
            f"cannot use the blob store {settings.blob_store or 'in the data folder'}: {error}; check blob_store"
        ) from error


def limiter_of(settings: Settings) -> Limiter | SharedLimiter:
    """Where requests are counted. Raises `SettingsError`."""
    where = settings.rate_limits.storage or ("database" if settings.database else "memory")
    if where == "memory":
        return Limiter()
    if where != "database":
        return SharedLimiter(redis_storage(where))
    if not settings.database:
        raise SettingsError("rate_limits.storage is database, and the setting database is empty; set it, or leave both")
    return SharedLimiter(RateStorage(settings.database))


def _allowed(settings: Settings) -> tuple[Network, ...]:
    given = settings.webhooks.allowed_networks
    try:
        return networks(given)
    except ValueError as error:
        raise SettingsError(
            f"webhooks.allowed_networks is {given!r}: {error}; write networks like 10.1.0.0/16, separated by commas"
        ) from None


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


def key_of(settings: Settings) -> DatabaseKey:
    """The database key, from where the settings say. Raises `StoreError`."""
    return find_key(
        settings.db_encryption_key_path,
        settings.db_encryption_key_command,
        settings.db_encryption_key,
        names={
            "path": "db_encryption_key_path",
            "command": "db_encryption_key_command",
            "value": "PITHEAD_DB_ENCRYPTION_KEY",
        },
    )


def key_in_use(settings: Settings) -> DatabaseKey | None:
    """The database key, where what is kept is encrypted. Raises `StoreError`."""
    return key_of(settings) if settings.db_encryption_enabled else None


class Application:
    """A coordinator with its store, and the ASGI application in front of it."""

    def __init__(self, settings: Settings, clock: Callable[[], float] | None = None, door: Door | None = None) -> None:
        """Open all that is kept. Raises `StoreError`, and then nothing was changed and all is closed again."""
        self.settings = settings
        folder, rules = settings.folder, rules_of(settings)
        self._key = key_in_use(settings)
        self._keyring = Keyring()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = lock(folder)
        own_clock: Callable[[], float]
        try:
            if (folder / UNFINISHED).exists():
                raise StoreError(f"a restore into {folder} has not ended: do it again, or empty the folder")
            blobs = blobs_of(settings)
            self.blobs: Blobs = blobs if self._key is None else SealedBlobs(blobs, self._keyring)
            if settings.database:
                migrate_postgres(settings.database)
                own_clock = self._database_clock = DatabaseClock()
            else:
                check(folder / DATABASE, self._key)
                for left in leftovers(folder / DATABASE):
                    _log.warning("%s is left from encrypting, decrypting or rekeying; nothing uses it: delete it", left)
                self._store = SqliteStore(folder / DATABASE, self._key)
                own_clock = SteadyClock()
        except BaseException:
            self._lock.close()
            raise
        self._signer = ReceiptSigner(folder)
        self.coordinator = Coordinator(rules, clock or own_clock, self._signer)
        self.database: Embedded | Shared
        self.retention = Retention(self.coordinator, self.blobs)
        self.collector = Collector(self.coordinator, self.blobs, settings.results.orphan_after)
        self._limiter = limiter_of(settings)
        http = settings.http
        services = Services(
            self.coordinator,
            self.blobs,
            http.max_body_bytes,
            http.max_result_bytes,
            http.upload_silence,
            settings.files.max_bytes,
            Guard(_allowed(settings)),
            Vault(None if self._key is None else self._keyring),
            tracing=settings.tracing,
        )
        hooks = settings.webhooks
        policy = webhooks.Policy(hooks.give_up_after, hooks.disable_after, hooks.keep_log)
        self.courier = Courier(self.coordinator, Outgoing(services.guard).send, services.vault, policy)
        metrics = Metrics(self.coordinator, settings.metrics.token, "postgresql" if settings.database else "sqlite")
        app, self._short = build(
            services,
            settings.rate_limits,
            self._limiter,
            metrics,
            tracing=settings.tracing,
            log_requests=settings.log_requests or settings.log_level == "debug",
        )
        self._app: ASGIApp = app
        if settings.dashboard.enabled:
            self._app = Dashboard(app, services, settings, self._limiter)
        #: What a server serves: the door, which opens once the application runs.
        self.asgi = door or Door()
        self._care: asyncio.Task[None] | None = None
        self._sending: asyncio.Task[None] | None = None
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
        coordinator = self.coordinator
        self._limiter.open()
        if url := self.settings.database:
            self.database = Shared(
                url, self._database_clock, coordinator.on_events, coordinator.on_heard, coordinator.on_gap
            )
        else:
            self.database = Embedded(self._store, coordinator.on_events)
        try:
            await coordinator.start(self.database)
            await self._weigh_operator_key()
            await self._fill_keyring()
            self._signer.open(None if self._key is None else self._keyring)
            signer = self._signer
            await coordinator.run(lambda tx, now: tx.add_signing_key(signer.key_id, signer.public_key, now))
            await self._check_blobs()
            # Last of all: a key that was made is shown once, and only by a start that succeeds.
            await self._settle_operator_key()
            self.asgi.open(self._app, lambda: coordinator.peek(lambda tx: tx.alive_at()), self._short)
            if care:
                self._care = asyncio.create_task(self._keep_care(), name="care")
                self._sending = asyncio.create_task(self.courier.run(), name="courier")
            yield self
        finally:
            self.asgi.drain()
            self.coordinator.stop()
            if self._care is not None:
                self._care.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._care
            if self._sending is not None:
                self._sending.cancel()
                await asyncio.wait([self._sending])
            await self.collector.close()
            try:
                await asyncio.shield(self.coordinator.write_down(everything=True))
                await asyncio.shield(self.coordinator.say_alive())
            except StoreError as error:
                # On a full disk too the rest of the stop is in order; the next start finds an older note.
                _log.warning("could not note when this coordinator stopped: %s", error)
            await self.database.close()
            self._limiter.close()
            self._keyring.drop()
            if self._key is not None:
                self._key.wipe()
            self._lock.close()

    async def _fill_keyring(self) -> None:
        """Load the keys that blobs are encrypted under; the first start makes one."""
        key, wrapped = self._key, await self.coordinator.peek(lambda tx: tx.data_keys())
        if key is None:
            if wrapped:
                raise StoreError("the results are encrypted; set db_encryption_enabled and its key")
            return
        first = new_wrapped_key(key, self.coordinator.now())

        def operation(tx: Tx, now: float) -> None:
            # Of several coordinators that start together, one makes it.
            if tx.alone("data-key") and not tx.data_keys():
                tx.add_data_key(first)

        while not wrapped:
            await self.coordinator.run(operation)
            wrapped = await self.coordinator.peek(lambda tx: tx.data_keys())
        self._keyring.fill(wrapped, key)

    async def _check_blobs(self) -> None:
        try:
            await self.blobs.check()
        except BlobError as error:
            raise StoreError(
                f"cannot use the blob store {self.blobs.describe()}: {error}; check blob_store and your rights to it"
            ) from error

    async def _weigh_operator_key(self) -> None:
        """Refuse a key that can be guessed, but for one that this database has: an upgrade locks nobody out."""
        given = self.settings.operator_key
        if not given or len(given) >= SHORTEST_KEY:
            return
        short = f"operator_key has {len(given)} characters, and one with fewer than {SHORTEST_KEY} can be guessed"
        known = await self.coordinator.peek(lambda tx: tx.key(digest(given)))
        if known is None or known.kind != "operator":
            raise SettingsError(f"{short}; {KEY_ADVICE}")
        _log.warning("%s; it is taken as it was before: set another, which replaces it", short)

    async def _settle_operator_key(self) -> None:
        given = self.settings.operator_key
        key = given or new_key()

        def operation(tx: Tx, now: float) -> bool:
            # Of several coordinators that start together on an empty database, one makes the key.
            if _has_operator_key(tx, given) or not tx.alone("operator-key"):
                return False
            accounts.set_operator_key(tx, now, key)
            return True

        if await self.coordinator.run(operation) and not given:
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
                await self.courier.prune()
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


def lock(folder: Path) -> IO[str]:
    """Keep a second coordinator from opening the same folder. Raises `StoreError`."""
    held = (folder / "lock").open("w")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        held.close()
        raise StoreError(f"another coordinator uses {folder}; stop it, or choose another folder with --data") from error
    return held
