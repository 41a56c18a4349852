"""Finding what answers a request: one walk over the path's segments, however many routes there are."""

from collections.abc import Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

T = TypeVar("T")


class Target(NamedTuple):
    """A method and path template (`/v1/jobs/{job_id}`), and what answers there."""

    method: str
    path: str
    app: ASGIApp


class _Node(Generic[T]):
    """What may follow a part of a path."""

    __slots__ = ("ends", "parameter", "words")

    def __init__(self) -> None:
        self.words: dict[str, _Node[T]] = {}
        self.parameter: _Node[T] | None = None
        #: By method: the parameters' names in order, and what is there.
        self.ends: dict[str, tuple[tuple[str, ...], T]] = {}


class Paths(Generic[T]):
    """What there is at each method and path template. A word goes before a parameter."""

    def __init__(self, entries: Iterable[tuple[str, str, T]]) -> None:
        self._root: _Node[T] = _Node()
        for method, path, what in entries:
            node, names = self._root, []
            for segment in path.split("/")[1:]:
                if segment.startswith("{"):
                    names.append(segment[1:-1])
                    node.parameter = node = node.parameter or _Node()
                else:
                    node = node.words.setdefault(segment, _Node())
            node.ends[method] = (tuple(names), what)

    def find(self, method: str, path: str) -> tuple[T, dict[str, str]] | None:
        """What is there, and the parameters that the path gives it."""
        node, values = self._root, []
        for segment in path.split("/")[1:]:
            following = node.words.get(segment)
            if following is None:
                following = node.parameter
                if following is None or not segment:
                    return None
                values.append(segment)
            node = following
        end = node.ends.get(method)
        return None if end is None else (end[1], dict(zip(end[0], values, strict=True)))


class Routes:
    """Hands each request to the target that its method and path name; all else to `otherwise`.

    A target gets the parameters in `scope["path_params"]`.
    """

    def __init__(self, targets: Sequence[Target], otherwise: ASGIApp) -> None:
        self._paths = Paths(targets)
        self._otherwise = otherwise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path: str = scope["path"]
            if "\x00" in path:
                raise HTTPException(404)  # Nothing is named so, and there are databases that cannot even be asked.
            found = self._paths.find(scope["method"], path)
            if found is not None:
                app, scope["path_params"] = found
                await app(scope, receive, send)
                return
        await self._otherwise(scope, receive, send)
