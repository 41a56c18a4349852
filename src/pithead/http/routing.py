"""Finding the application for a request: one walk over the path's segments, however many routes there are."""

from collections.abc import Sequence
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send


class Target(NamedTuple):
    """A method and path template (`/v1/jobs/{job_id}`), and what answers there."""

    method: str
    path: str
    app: ASGIApp


class _Node:
    """What may follow a part of a path."""

    __slots__ = ("apps", "parameter", "words")

    def __init__(self) -> None:
        self.words: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        #: By method: the parameters' names in order, and the application.
        self.apps: dict[str, tuple[tuple[str, ...], ASGIApp]] = {}


class Routes:
    """Hands each request to the target that its method and path name; all else to `otherwise`.

    A word goes before a parameter. A target gets the parameters in `scope["path_params"]`.
    """

    def __init__(self, targets: Sequence[Target], otherwise: ASGIApp) -> None:
        self._root = _Node()
        self._otherwise = otherwise
        for target in targets:
            node, names = self._root, []
            for segment in target.path.split("/")[1:]:
                if segment.startswith("{"):
                    names.append(segment[1:-1])
                    node.parameter = node = node.parameter or _Node()
                else:
                    node = node.words.setdefault(segment, _Node())
            node.apps[target.method] = (tuple(names), target.app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            node, values = self._root, []
            path: str = scope["path"]
            if "\x00" in path:
                raise HTTPException(404)  # Nothing is named so, and there are databases that cannot even be asked.
            for segment in path.split("/")[1:]:
                following = node.words.get(segment)
                if following is None:
                    following = node.parameter
                    if following is None or not segment:
                        break
                    values.append(segment)
                node = following
            else:
                target = node.apps.get(scope["method"])
                if target is not None:
                    names, app = target
                    scope["path_params"] = dict(zip(names, values, strict=True))
                    await app(scope, receive, send)
                    return
        await self._otherwise(scope, receive, send)
