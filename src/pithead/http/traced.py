"""A span for each request, under the one that it carries. In front of the application only where traces are made."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pithead import tracing


class Traced:
    """To be put right behind `RequestId`. The span is named by method and path template, as OpenTelemetry asks for."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        method = scope["method"]
        with tracing.span(method, "SERVER", headers=scope["headers"]) as span:
            try:
                await self._app(scope, receive, watched)
            finally:
                route = template(scope)
                span.update_name(f"{method} {route}")
                told = {
                    "http.request.method": method,
                    "http.route": route,
                    "http.response.status_code": status,
                    "pithead.request_id": scope["state"].get("request_id", ""),
                }
                for name, value in told.items():
                    span.set_attribute(name, value)
                if status >= 500 or not status:
                    span.set_status(tracing.failed())


def template(scope: Scope) -> str:
    """The path with the names of its parameters in place of their values; `*` where it led nowhere."""
    names = scope.get("path_params")
    if names is None:
        return "*"
    by_value = {value: name for name, value in names.items()}
    return "/".join(f"{{{by_value[part]}}}" if part in by_value else part for part in scope["path"].split("/"))
