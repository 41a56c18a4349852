"""`from_profile`: a script finds what the command line saved, by the same precedence, with the same words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from pithead.agent import registration
from pithead.client import (
    AdminClient,
    AsyncClient,
    AsyncMinerClient,
    Client,
    MinerClient,
    Misused,
    NotFound,
    PitheadExecutor,
)
from pithead.saved.profiles import DEFAULT_URL, Profile, save, save_all
from pithead.saved.registrations import Registration

RIG = Registration(url="http://rigs", miner_id="miner_1", key="key_rig")
SPARE = Registration(url="http://rigs/under", miner_id="miner_2", key="key_spare")


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and no settings from outside."""
    for name in ("URL", "KEY", "PROFILE", "MINER_ID", "MINER_PROFILE"):
        monkeypatch.delenv(f"PITHEAD_{name}", raising=False)
    monkeypatch.setenv("PITHEAD_CONFIG_DIR", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.fixture
def saved(config: Path) -> None:
    save("default", Profile("http://home", "key_home"))
    save("lab", Profile("http://lab", "key_lab"))


@pytest.fixture
def registered(config: Path) -> None:
    def keep(one: Registration, name: str) -> None:
        registration.create(name, lambda: one, lambda answer: answer, replace=False)

    keep(RIG, "default")
    keep(SPARE, "spare")


class Seen:
    """The URL and the key that a coordinator was asked with."""

    def __init__(self) -> None:
        self.transport = httpx.MockTransport(self.answer)
        self.asked: tuple[str, str] = ("", "")

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked = str(request.url), request.headers["Authorization"].removeprefix("Bearer ")
        return httpx.Response(404)


async def asked(kind: Any, *args: Any, **options: Any) -> tuple[str, str]:
    """The URL and the key with which a face made `from_profile` asks."""
    seen = Seen()
    face = kind.from_profile(*args, **options, transport=seen.transport, retry_for=0)
    call = {Client: "me", AsyncClient: "me", AdminClient: "overview"}.get(kind, "get")
    with pytest.raises(NotFound):
        answer = getattr(face, call)()
        if kind in (AsyncClient, AsyncMinerClient):
            await answer
    if kind in (AsyncClient, AsyncMinerClient):
        await face.aclose()
    else:
        face.close()
    url, key = seen.asked
    return url.partition("/v1/")[0], key


KEYED = pytest.mark.parametrize("kind", [Client, AsyncClient, AdminClient])
MINERS = pytest.mark.parametrize("kind", [MinerClient, AsyncMinerClient])


@KEYED
async def test_the_nearer_wins(kind: Any, saved: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await asked(kind) == ("http://home", "key_home")
    assert await asked(kind, "lab") == ("http://lab", "key_lab")
    assert await asked(kind, key="mine") == ("http://home", "mine")
    monkeypatch.setenv("PITHEAD_PROFILE", "lab")
    assert await asked(kind) == ("http://lab", "key_lab")
    monkeypatch.setenv("PITHEAD_KEY", "key_env")
    assert await asked(kind) == ("http://lab", "key_env")
    monkeypatch.setenv("PITHEAD_URL", "http://env")
    assert await asked(kind) == ("http://env", "key_env")
    assert await asked(kind, url="http://given", key="mine") == ("http://given", "mine")
    # A profile that is named here is nearer than the environment.
    assert await asked(kind, "default") == ("http://home", "key_home")


async def test_it_is_the_profile_in_use(saved: None) -> None:
    save_all({"default": Profile("http://home", "key_home"), "lab": Profile(None, "key_lab")}, "lab")
    assert await asked(Client) == (DEFAULT_URL, "key_lab")


@KEYED
def test_what_is_not_saved_is_refused(kind: Any, monkeypatch: pytest.MonkeyPatch, config: Path) -> None:
    with pytest.raises(Misused, match=r"^there is no key; give key=, set PITHEAD_KEY, or run 'pithead login'$"):
        kind.from_profile()
    with pytest.raises(
        Misused, match=r"no profile 'lab' \(known: none yet\); make it with 'pithead login --profile lab'"
    ):
        kind.from_profile("lab")
    save("default", Profile("http://home", "key_home"))
    # A saved key goes nowhere but where it was saved for.
    with pytest.raises(Misused, match=r"no key for http://other \(the profile's is for http://home\); give key="):
        kind.from_profile(url="http://other")
    monkeypatch.setenv("PITHEAD_URL", "http://other")
    with pytest.raises(Misused, match="no key for http://other"):
        kind.from_profile()
    (config / "profiles.toml").write_text("[")
    with pytest.raises(Misused, match=r"profiles\.toml cannot be read .*; mend it"):
        kind.from_profile()


def test_a_login_is_not_taken_unasked(saved: None) -> None:
    """A server of somebody's does not work with the key of whoever happens to run it."""
    with pytest.raises(Misused, match=r"set PITHEAD_URL, or take from_profile\(\)"):
        Client()


def test_the_executor_has_it_too(saved: None) -> None:
    seen = Seen()
    with PitheadExecutor.from_profile("lab", model="m", price="0.01", transport=seen.transport) as fleet:
        assert isinstance(fleet.submit(dict).exception(), NotFound)
    assert seen.asked == ("http://lab/v1/jobs", "key_lab")
    with pytest.raises(Misused, match="no profile 'x'"):
        PitheadExecutor.from_profile("x", model="m", price="0.01")


@MINERS
async def test_a_miner_is_the_one_that_was_registered(
    kind: Any, registered: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PITHEAD_KEY", "key_of_a_client")
    assert await asked(kind) == ("http://rigs", "key_rig")
    assert await asked(kind, "spare") == ("http://rigs/under", "key_spare")
    assert await asked(kind, url="http://moved", key="rotated") == ("http://moved", "rotated")
    monkeypatch.setenv("PITHEAD_MINER_PROFILE", "spare")
    assert await asked(kind) == ("http://rigs/under", "key_spare")
    assert kind.from_profile().miner_id == "miner_2"


@MINERS
async def test_a_miner_may_be_named(kind: Any, registered: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Misused, match=r"^there is no key for miner_9; give key=, or set PITHEAD_KEY$"):
        kind.from_profile(miner_id="miner_9")
    assert await asked(kind, miner_id="miner_9", key="key_9") == (DEFAULT_URL, "key_9")
    for name, value in (("MINER_ID", "miner_8"), ("KEY", "key_8"), ("URL", "http://env")):
        monkeypatch.setenv(f"PITHEAD_{name}", value)
    assert await asked(kind) == ("http://env", "key_8")
    assert kind.from_profile().miner_id == "miner_8"


@MINERS
def test_a_miner_that_is_not_registered_here_is_refused(
    kind: Any, registered: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        Misused, match="no miner is registered here under 'x'; run 'pithead miner register --profile x'"
    ):
        kind.from_profile("x")
    with pytest.raises(Misused, match="is no name for a file; use letters"):
        kind.from_profile("../x")
    monkeypatch.setenv("PITHEAD_URL", "http://other")
    with pytest.raises(Misused, match=r"is registered at http://rigs, but PITHEAD_URL is http://other; .* with url="):
        kind.from_profile()
