"""`pithead serve`: run a coordinator."""

import contextlib
import logging
import sys
from pathlib import Path

import click
import uvicorn

from pithead.bootstrap import Application
from pithead.settings import Settings, SettingsError, load
from pithead.store.errors import StoreError


class _Server(uvicorn.Server):
    """Says where it listens, once it does, and lets those who wait go as soon as it is asked to stop."""

    def __init__(self, config: uvicorn.Config, application: Application) -> None:
        super().__init__(config)
        self._application = application

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            click.echo(f"pithead serves on http://{shown}:{port}", err=True)

    async def shutdown(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        self._application.coordinator.stop()
        await super().shutdown(sockets)  # type: ignore[arg-type]


async def run(settings: Settings) -> None:
    """Serve until a signal. Raises `StoreError`, and `OSError` where the address cannot be had."""
    application = Application(settings)
    async with application.running():
        if application.new_operator_key:
            # Standard output: whoever starts it by hand sees it, and a log collector of standard error does not.
            click.echo(f"operator key (shown once, keep it): {application.new_operator_key}")
        config = uvicorn.Config(
            application.asgi,
            host=settings.host,
            port=settings.port,
            log_level=settings.log_level,
            access_log=settings.log_level == "debug",
            lifespan="off",
            proxy_headers=bool(settings.http.trusted_proxies),
            forwarded_allow_ips=settings.http.trusted_proxies or None,
            timeout_graceful_shutdown=30,
            server_header=False,
            date_header=False,
        )
        server = _Server(config, application)
        await server.serve()
        if not server.started:
            raise OSError(f"cannot listen on {settings.host}:{settings.port}")


@click.command()
@click.option("--host", help="The address to listen on.")
@click.option("--port", type=int, help="The port to listen on; 0 takes a free one.")
@click.option("--data", help="The folder for the database, the results and the signing key.")
@click.option("--config", type=click.Path(path_type=Path), help="A TOML file of settings.")
def serve(host: str | None, port: int | None, data: str | None, config: Path | None) -> None:
    """Run a coordinator. Nothing has to be set; `pithead settings` shows what can be.

    The operator's key is PITHEAD_OPERATOR_KEY, or is made at the first start and printed once.
    """
    try:
        loaded = load({"host": host, "port": port, "data": data}, file=config)
        logging.basicConfig(
            stream=sys.stderr,
            level=loaded.settings.log_level.upper(),
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        )
        for warning in loaded.warnings:
            click.echo(f"pithead: {warning}", err=True)
        import uvloop

        with contextlib.suppress(KeyboardInterrupt):
            uvloop.run(run(loaded.settings))
    except (SettingsError, StoreError) as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        raise click.UsageError(f"cannot serve: {error}") from error
