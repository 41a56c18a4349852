"""The files that pages link to: held in memory, compressed once, under names that change with their content."""

import gzip
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

#: Where they are served.
BASE: Final = "/dashboard/static/"
_KINDS: Final = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}


class Static:
    """Every file of the folder `static`, by its path in it."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[str, bytes, bytes]] = {}
        self._urls: dict[str, str] = {}
        self._add(files("pithead.web") / "static", "")

    def _add(self, folder: Traversable, prefix: str) -> None:
        for entry in folder.iterdir():
            if entry.is_dir():
                self._add(entry, f"{prefix}{entry.name}/")
            elif kind := _KINDS.get(entry.name.rpartition(".")[2]):
                name, content = prefix + entry.name, entry.read_bytes()
                self._files[name] = (kind, content, gzip.compress(content, 9, mtime=0))
                self._urls[name] = f"{BASE}{name}?v={sha256(content).hexdigest()[:12]}"

    def url(self, name: str) -> str:
        """Where a page finds the file. Raises `KeyError`."""
        return self._urls[name]

    def answer(self, request: Request) -> Response:
        """The file that the path names."""
        found = self._files.get(request.path_params["file"])
        if found is None:
            return Response("There is no such file.", 404, media_type="text/plain")
        kind, content, compressed = found
        headers = {"cache-control": "public, max-age=31536000, immutable", "vary": "accept-encoding"}
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(compressed, headers=headers | {"content-encoding": "gzip"}, media_type=kind)
        return Response(content, headers=headers, media_type=kind)
