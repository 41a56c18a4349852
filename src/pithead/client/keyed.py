"""How a face of the SDK comes by its URL and its key, blocking and awaited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Self

import httpx

from pithead.client.environment import given, miner, of_profile
from pithead.client.webhooks import Hooks
from pithead.client.webhooks_aio import AsyncHooks


class Keyed(Hooks):
    """A driver whose URL and key default to `PITHEAD_URL` and `PITHEAD_KEY`."""

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = 30.0,
        retry_for: float = 60.0,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        url, key = given(url, key)
        super().__init__(url, key, timeout=timeout, retry_for=retry_for, transport=transport, sleep=sleep, clock=clock)

    @classmethod
    def from_profile(
        cls,
        profile: str | None = None,
        *,
        url: str | None = None,
        key: str | None = None,
        timeout: float = 30.0,
        retry_for: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> Self:
        """As a command would have it: what is given here, else the environment, else what `pithead login` saved.

        `profile`: the name of a saved coordinator, which then goes before `PITHEAD_URL` and `PITHEAD_KEY`; without it,
        that of `PITHEAD_PROFILE`, else the one in use. A saved key goes nowhere but where it was saved for. Raises
        `Misused` where there is no such profile, or no key.
        """
        url, key = of_profile(profile, url, key)
        return cls(url, key, timeout=timeout, retry_for=retry_for, transport=transport)


class Mining(Hooks):
    """A driver that is a miner's."""

    def __init__(
        self,
        url: str,
        miner_id: str,
        key: str,
        *,
        timeout: float = 30.0,
        retry_for: float = 60.0,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(url, key, timeout=timeout, retry_for=retry_for, transport=transport, sleep=sleep, clock=clock)
        self.miner_id = miner_id

    @classmethod
    def from_profile(
        cls,
        profile: str | None = None,
        *,
        url: str | None = None,
        key: str | None = None,
        miner_id: str | None = None,
        timeout: float = 30.0,
        retry_for: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> Self:
        """The miner that a command would be: one that is named, else one that `pithead miner register` made here.

        `miner_id`, or `PITHEAD_MINER_ID`: that miner, with the key given here or `PITHEAD_KEY`, at the URL given here, of
        `PITHEAD_URL` or of this computer. `profile`: which registration of this computer, else `PITHEAD_MINER_PROFILE`,
        else `default`; `url` and `key` go in place of what it says. Raises `Misused` where there is none, or no key, and
        where `PITHEAD_URL` is another coordinator's than the registration's.
        """
        who = miner(profile, url, key, miner_id)
        return cls(who.url, who.miner_id, who.key, timeout=timeout, retry_for=retry_for, transport=transport)


class AsyncKeyed(AsyncHooks):
    """A driver whose URL and key default to `PITHEAD_URL` and `PITHEAD_KEY`."""

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = 30.0,
        retry_for: float = 60.0,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        url, key = given(url, key)
        super().__init__(url, key, timeout=timeout, retry_for=retry_for, transport=transport, sleep=sleep, clock=clock)

    @classmethod
    def from_profile(
        cls,
        profile: str | None = None,
        *,
        url: str | None = None,
        key: str | None = None,
        timeout: float = 30.0,
        retry_for: float = 60.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> Self:
        """As a command would have it: what is given here, else the environment, else what `pithead login` saved.

        `profile`: the name of a saved coordinator, which then goes before `PITHEAD_URL` and `PITHEAD_KEY`; without it,
        that of `PITHEAD_PROFILE`, else the one in use. A saved key goes nowhere but where it was saved for. Raises
        `Misused` where there is no such profile, or no key.
        """
        url, key = of_profile(profile, url, key)
        return cls(url, key, timeout=timeout, retry_for=retry_for, transport=transport)


class AsyncMining(AsyncHooks):
    """A driver that is a miner's."""

    def __init__(
        self,
        url: str,
        miner_id: str,
        key: str,
        *,
        timeout: float = 30.0,
        retry_for: float = 60.0,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(url, key, timeout=timeout, retry_for=retry_for, transport=transport, sleep=sleep, clock=clock)
        self.miner_id = miner_id

    @classmethod
    def from_profile(
        cls,
        profile: str | None = None,
        *,
        url: str | None = None,
        key: str | None = None,
        miner_id: str | None = None,
        timeout: float = 30.0,
        retry_for: float = 60.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> Self:
        """The miner that a command would be: one that is named, else one that `pithead miner register` made here.

        `miner_id`, or `PITHEAD_MINER_ID`: that miner, with the key given here or `PITHEAD_KEY`, at the URL given here, of
        `PITHEAD_URL` or of this computer. `profile`: which registration of this computer, else `PITHEAD_MINER_PROFILE`,
        else `default`; `url` and `key` go in place of what it says. Raises `Misused` where there is none, or no key, and
        where `PITHEAD_URL` is another coordinator's than the registration's.
        """
        who = miner(profile, url, key, miner_id)
        return cls(who.url, who.miner_id, who.key, timeout=timeout, retry_for=retry_for, transport=transport)
