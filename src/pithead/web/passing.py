"""Answers of the API that are sent as they are."""

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send


class Passed(Response):
    """An ASGI application as an answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)
