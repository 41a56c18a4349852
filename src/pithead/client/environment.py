"""The URL and the key: where they come from when the caller gives none, and whether they can be right."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

import httpx
import msgspec

from pithead.client.errors import Misused
from pithead.saved import profiles, registrations
from pithead.saved.place import Unusable
from pithead.saved.registrations import Registration


def given(url: str | None, key: str | None) -> tuple[str, str]:
    """URL and key as given, else of `PITHEAD_URL` and `PITHEAD_KEY`. Raises `Misused` where one is in neither."""
    url = url or os.environ.get("PITHEAD_URL")
    key = key or os.environ.get("PITHEAD_KEY")
    if not url:
        raise Misused(what="no coordinator is named; give its URL, set PITHEAD_URL, or take from_profile()")
    if not key:
        raise Misused(what="there is no key; give one, set PITHEAD_KEY, or take from_profile()")
    return url, key


def of_profile(name: str | None, url: str | None, key: str | None) -> tuple[str, str]:
    """URL and key as `profiles.find` has them. Raises `Misused`."""
    try:
        found = profiles.find(url, key, name, spelled="{}=")
    except Unusable as unusable:
        raise Misused(what=str(unusable)) from None
    if found.key is None:
        raise Misused(what=found.why)
    return found.url, found.key


def miner(
    profile: str | None, url: str | None, key: str | None, miner_id: str | None, *, spelled: str = "{}="
) -> Registration:
    """Which miner to be: as named with id, URL and key, or as registered on this computer. Raises `Misused`.

    `spelled`: how something is given where this is asked, such as `--{}`, for messages.
    """
    miner_id = miner_id or os.environ.get("PITHEAD_MINER_ID")
    if miner_id:
        key = key or os.environ.get("PITHEAD_KEY")
        if not key:
            raise Misused(what=f"there is no key for {miner_id}; give {spelled.format('key')}, or set PITHEAD_KEY")
        to = checked_url(url or os.environ.get("PITHEAD_URL") or profiles.DEFAULT_URL)
        return Registration(url=to, miner_id=miner_id, key=checked_key(key))
    try:
        who = registrations.load(profile or os.environ.get("PITHEAD_MINER_PROFILE") or "default")
    except Unusable as unusable:
        raise Misused(what=str(unusable)) from None
    elsewhere = os.environ.get("PITHEAD_URL")
    if not url and elsewhere and checked_url(elsewhere) != checked_url(who.url):
        # A key goes nowhere but where it is from, unless its owner says so for this very call.
        named = f"name the right one with {spelled.format('url')}"
        raise Misused(what=f"this miner is registered at {who.url}, but PITHEAD_URL is {elsewhere}; {named}")
    # PITHEAD_KEY does not count here: in the same shell it is a client's as a rule, and of no use to a miner.
    return msgspec.structs.replace(who, url=checked_url(url or who.url), key=checked_key(key or who.key))


def checked_url(url: str) -> str:
    """The URL without a slash at its end. Raises `Misused`."""
    try:
        httpx.URL(url)
        parsed = urlsplit(url)
        # A name and password in the URL would take the place of the key.
        good = parsed.scheme in ("http", "https") and parsed.hostname and parsed.username is None and parsed.port != 0
        good = good and not (parsed.query or parsed.fragment) and url.isprintable() and " " not in url
    except (httpx.InvalidURL, ValueError):
        good = False
    if not good:
        shown = url.rpartition("@")[2]
        raise Misused(what=f"{shown!r} is not the URL of a coordinator; write it like http://127.0.0.1:8080")
    return url.rstrip("/")


def checked_key(key: str) -> str:
    """The key. Raises `Misused`, whose message leaves the key out: messages end up in logs."""
    if not (key and key.isascii() and key.isprintable() and " " not in key):
        raise Misused(what="the key has characters that no key has; copy it again, without quotes or line ends")
    return key
