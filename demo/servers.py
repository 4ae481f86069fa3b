"""Throw-away servers on loopback: a PostGIS cluster and an S3 store, each ended by its process id.

Both start when they are made, and end with `stop()`, at the end of their `with` block, or at the latest when the
interpreter exits; `leave()` gives that up. They run in sessions of their own, so that Ctrl-C reaches only the
program that uses them.
"""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self

import boto3
import psycopg2
from botocore.config import Config
from psycopg2 import sql

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from psycopg2.extensions import connection

LOOPBACK = "127.0.0.1"
START_SECONDS = 60.0  # a server that has not answered by then does not come
STOP_SECONDS = 20.0  # afterwards it is killed
POLL_SECONDS = 0.05
TEMPLATE = "template_for_tests"
# SIGINT is PostgreSQL's fast shutdown: open connections are cut instead of waited for.
FAST_SHUTDOWN = 2


class ServerError(RuntimeError):
    """A server is not to be had; the message says why."""


def free_port() -> int:
    """A TCP port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else "(no log)"


def _end(process: subprocess.Popen[bytes], first_signal: int) -> None:
    """End one process that was started here, asking first."""
    if process.poll() is None:
        process.send_signal(first_signal)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def postgis_binaries() -> Path:
    """The program folder of the newest PostgreSQL that has PostGIS: Debian's layout, then `pg_config`."""
    candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
    pg_config = shutil.which("pg_config")
    if pg_config:
        candidates.append(Path(_ask(pg_config, "--bindir")))
    for binaries in candidates:
        shared = Path("/usr/share/postgresql") / binaries.parent.name
        if not shared.exists() and (binaries / "pg_config").exists():
            shared = Path(_ask(binaries / "pg_config", "--sharedir"))
        if (binaries / "initdb").exists() and (shared / "extension" / "postgis.control").exists():
            return binaries
    raise ServerError("no PostgreSQL with PostGIS found: install postgresql-N-postgis-3 (Debian, Ubuntu)")


def _ask(pg_config: str | Path, question: str) -> str:
    return subprocess.run([pg_config, question], capture_output=True, text=True, check=True).stdout.strip()


def _version(binaries: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", binaries.parent.name))


class Postgis:
    """A PostGIS cluster of its own on 127.0.0.1: SCRAM passwords, UTC, no fsync because nothing in it has to last.
    A commit outlives the server's own crash all the same: tests crash it and count.

    PostgreSQL refuses to run as root, so root runs it as user `postgres`. The log is kept in `folder`; the data too
    where that user can reach it, otherwise in a temporary folder. `stop()` leaves the data, so that `start()` works
    again; the end of the `with` block removes them. settings: the server's, which go before ours.
    """

    def __init__(
        self, folder: Path, port: int | None = None, settings: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.host = LOOPBACK
        self._settings = settings
        self.port = port or free_port()
        self.user = "postgres"
        self.password = secrets.token_urlsafe(16)
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "postgresql.log"
        self._binaries = postgis_binaries()
        self._as_user: dict[str, Any] = {}
        if os.geteuid() == 0:
            try:
                owner = pwd.getpwnam("postgres")
            except KeyError:
                raise ServerError("PostgreSQL does not run as root, and there is no user `postgres`") from None
            self._as_user = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        self.room = self._make_room(folder)
        self._process: subprocess.Popen[bytes] | None = None
        self._end_server: weakref.finalize[..., Postgis] | None = None
        self._remove_room = weakref.finalize(self, shutil.rmtree, self.room, ignore_errors=True)
        try:
            self._initdb()
            self.start()
            self._make_template()
        except BaseException:
            self.remove()
            raise

    def _make_room(self, folder: Path) -> Path:
        """A new folder that belongs to the server's user, who must be able to reach it."""
        # A socket's path may be 107 bytes long: a deep folder will not do either.
        parent = folder.resolve() if self._reaches(folder) and len(str(folder.resolve())) < 70 else None
        room = Path(tempfile.mkdtemp(prefix="postgis-", dir=parent))
        if self._as_user:
            os.chown(room, self._as_user["user"], self._as_user["group"])
            if not self._reaches(room):
                room.rmdir()
                raise ServerError(f"user `postgres` cannot enter {room.parent}: set TMPDIR to an open folder")
        return room

    def _reaches(self, folder: Path) -> bool:
        test = subprocess.run(["test", "-x", str(folder.resolve())], cwd="/", check=False, **self._as_user)
        return test.returncode == 0

    def _initdb(self) -> None:
        password_file = self.room / "password"
        password_file.write_text(self.password + "\n")
        if self._as_user:
            os.chown(password_file, self._as_user["user"], self._as_user["group"])
        command: list[str | Path] = [
            self._binaries / "initdb", "-D", self.room / "data", "-U", self.user, "--auth=scram-sha-256",
            f"--pwfile={password_file}", "--encoding=UTF8", "--locale=C", "--no-sync",
        ]  # fmt: skip
        made = subprocess.run(command, cwd=self.room, capture_output=True, text=True, check=False, **self._as_user)
        password_file.unlink()
        if made.returncode:
            raise ServerError(f"initdb failed: {made.stderr.strip()}")

    def start(self) -> None:
        """Start the server on its port and wait until it lets us in."""
        settings = {
            "listen_addresses": self.host, "port": self.port, "unix_socket_directories": self.room,
            "fsync": "off", "full_page_writes": "off", "jit": "off",
            "timezone": "UTC", "log_timezone": "UTC", "max_connections": 100, **self._settings,
        }  # fmt: skip
        command: list[str | Path] = [self._binaries / "postgres", "-D", self.room / "data"]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.room, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, **self._as_user,
            )  # fmt: skip
        self._end_server = weakref.finalize(self, _end, self._process, FAST_SHUTDOWN)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.connect().close()
                break
            except psycopg2.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise ServerError(f"PostgreSQL did not start: {error}\n{_tail(self.log)}") from error
                time.sleep(POLL_SECONDS)

    def _make_template(self) -> None:
        """A database with PostGIS to copy from: 0.1 s instead of 1.5 s for each new one."""
        self._maintain("CREATE DATABASE {}", TEMPLATE)
        connection = self.connect(TEMPLATE)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute("CREATE EXTENSION postgis")
        finally:
            connection.close()

    def _maintain(self, statement: str, *names: str) -> None:
        connection = self.connect()
        try:
            connection.autocommit = True  # CREATE DATABASE does not run inside a transaction
            with connection.cursor() as cursor:
                cursor.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
        finally:
            connection.close()

    @property
    def pid(self) -> int:
        """Process id of the running (or last) server."""
        if self._process is None:
            raise ServerError("PostgreSQL was never started")
        return self._process.pid

    def connect(self, dbname: str = "postgres", **kw: Any) -> connection:
        """A new psycopg2 connection; keywords are libpq's and go before ours."""
        ours: dict[str, Any] = {
            "host": self.host, "port": self.port, "dbname": dbname, "user": self.user, "password": self.password,
        }  # fmt: skip
        made: connection = psycopg2.connect(**(ours | kw))
        return made

    def create_database(self, name: str) -> None:
        """A new database with PostGIS in it."""
        # Files as such are copied, and dropped, in half the time that pages through the log take.
        by_file = " STRATEGY file_copy" if _version(self._binaries) >= (15,) else ""
        self._maintain("CREATE DATABASE {} TEMPLATE {}" + by_file, name, TEMPLATE)

    def drop_database(self, name: str) -> None:
        """Drop a database if it is there, cutting whoever is connected to it."""
        self._maintain("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def drop_role(self, name: str) -> None:
        """Drop a user who has nothing left."""
        self._maintain("DROP ROLE IF EXISTS {}", name)

    def connection_config(self, dbname: str) -> dict[str, str | int]:
        """The `connection` object of db_config.json."""
        return {
            "host": self.host, "dbname": dbname, "dbuser": self.user, "dbpasswd": self.password, "port": self.port,
        }  # fmt: skip

    def stop(self) -> None:
        """End the server, cutting open connections; the data stay."""
        if self._end_server is not None:
            self._end_server()

    def restart(self) -> None:
        """Stop, and start again with the same data on the same port."""
        self.stop()
        self.start()

    def remove(self) -> None:
        """End the server and remove its data."""
        self.stop()
        self._remove_room()

    def leave(self) -> None:
        """Let the server and its data outlive this program."""
        for ending in (self._end_server, self._remove_room):
            if ending is not None:
                ending.detach()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # After leave() there is nothing left to end.
        self.remove()


def wait_for(url: str, process: subprocess.Popen[bytes], seconds: float = START_SECONDS) -> None:
    """Wait until a server answers; raises OSError if its process ends before, or if it takes longer than that."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy for loopback
    deadline = time.monotonic() + seconds
    while True:
        try:
            direct.open(url, timeout=10).close()
            break
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)


class S3Server:
    """An S3 store over HTTP on 127.0.0.1 (moto's server): objects in memory, any key pair is let in."""

    def __init__(self, port: int | None = None, log: Path | None = None) -> None:
        self.access_key = "demo-access-key"
        self.secret_key = "demo-secret-key"  # noqa: S105  (a store on loopback that lets any key in)
        self.log = log
        self.port = port or free_port()
        command = [sys.executable, "-m", "moto.server", "-H", LOOPBACK, "-p", str(self.port)]
        with (log or Path(os.devnull)).open("ab") as sink:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True
            )
        self._end_server = weakref.finalize(self, _end, self._process, 15)
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def _wait(self) -> None:
        try:
            wait_for(f"{self.endpoint}/moto-api/data.json", self._process)
        except OSError as error:
            why = _tail(self.log) if self.log else str(error)
            raise ServerError(f"the S3 server did not start on port {self.port}: {why}") from error

    @property
    def endpoint(self) -> str:
        """The `host` of s3_config.json."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._process.pid

    def client(self) -> S3Client:
        """A boto3 client for this store."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",  # the one region in which a bucket needs no location
            config=Config(s3={"addressing_style": "path"}, max_pool_connections=20, proxies={}),
        )

    def stop(self) -> None:
        """End the server; its objects are gone."""
        self._end_server()

    def leave(self) -> None:
        """Let the server outlive this program."""
        self._end_server.detach()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
