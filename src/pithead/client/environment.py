"""The URL and the key: where they come from when the caller gives none, and whether they can be right."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

import httpx

from pithead.client.errors import Misused


def given(url: str | None, key: str | None) -> tuple[str, str]:
    """URL and key as given, else of `PITHEAD_URL` and `PITHEAD_KEY`. Raises `Misused` where one is in neither."""
    url = url or os.environ.get("PITHEAD_URL")
    key = key or os.environ.get("PITHEAD_KEY")
    if not url:
        raise Misused(what="no coordinator is named; give its URL, or set PITHEAD_URL")
    if not key:
        raise Misused(what="there is no key; give one, or set PITHEAD_KEY")
    return url, key


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
