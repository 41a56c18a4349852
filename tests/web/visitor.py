"""Somebody at the dashboard without a browser: cookies, forms, and what a page says."""

import re
from html import unescape
from typing import Any

import httpx


class Visitor:
    """Follows no redirect unless told to."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http
        self.cookies: dict[str, str] = {}

    async def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = more.pop("headers", {}) | {"cookie": "; ".join(f"{n}={v}" for n, v in self.cookies.items())}
        answer = await self.http.request(method, path, headers=headers, **more)
        for line in answer.headers.get_list("set-cookie"):
            name, _, rest = line.partition("=")
            value, _, attributes = rest.partition(";")
            if "Max-Age=0" in attributes:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
        return answer

    async def get(self, path: str, **more: Any) -> httpx.Response:
        return await self.call("GET", path, **more)

    async def post(self, path: str, **fields: str) -> httpx.Response:
        return await self.call("POST", path, data=fields)

    async def upload(self, content: bytes, name: str = "in.txt", **fields: str) -> httpx.Response:
        """Choose a file on the page of files, and send it."""
        form = inputs((await self.get("/dashboard/files")).text)
        given = {"csrf": form["csrf"], "then": "files"} | fields
        return await self.call("POST", "/dashboard/files", data=given, files={"file": (name, content)})

    async def sign_in(self, key: str) -> httpx.Response:
        form = inputs((await self.get("/dashboard/sign-in")).text)
        return await self.post("/dashboard/sign-in", **form | {"key": key})

    async def do(self, action: str, fields: dict[str, str] | None = None, **about: str) -> httpx.Response:
        """Ask for the action's form, fill it in, and send it."""
        page = await self.get(f"/dashboard/do/{action}", params=about)
        assert page.status_code == 200, page.text
        form = inputs(page.text[page.text.index('action="/dashboard/do/') :])
        return await self.post(f"/dashboard/do/{action}", **form | (fields or {}))


def inputs(page: str) -> dict[str, str]:
    """What a page's inputs hold, by their names; a box that is not ticked holds nothing."""
    found: dict[str, str] = {}
    for tag in re.findall(r"<input[^>]*>", page, re.DOTALL):
        named = dict(re.findall(r"([\w-]+)=\"([^\"]*)\"", tag))
        if "name" in named and (named.get("type") != "checkbox" or " checked" in tag):
            found[named["name"]] = unescape(named.get("value", ""))
    return found
