"""A PostGIS cluster that a test may crash, or have listen where a network namespace reaches it."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path

import psycopg2

from demo.servers import LOOPBACK, START_SECONDS, Postgis, ServerError
from tests.support.running import wait_until

NETWORK_RULE = "host all all 198.18.0.0/15 scram-sha-256\n"


class OwnPostgis(Postgis):
    """Beside the session's cluster, on which other tests rely."""

    def listen_on(self, host: str) -> None:
        """Restart on another of this machine's addresses."""
        self.stop()
        self.host = host
        self.start()

    def crash(self) -> None:
        """kill -9 of the postmaster: its children find out by themselves."""
        os.kill(self.pid, signal.SIGKILL)
        self.reap()

    def shut_down(self, number: signal.Signals) -> None:
        """SIGINT: "fast", SIGQUIT: "immediate" (no checkpoint, so that it has to recover)."""
        os.kill(self.pid, number)
        self.reap()

    def reap(self) -> None:
        assert self._process is not None
        self._process.wait(30)

    def come_back(self) -> None:
        """Start; for as long as children of a crashed postmaster use its memory, that is refused."""
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                self.start()
            except ServerError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)
            else:
                return


@cache
def _cluster() -> OwnPostgis:
    """Made when first needed, for all modules; it ends with the interpreter."""
    folder = Path(tempfile.mkdtemp(prefix="own-postgis-"))
    folder.chmod(0o755)
    server = OwnPostgis(folder / "cluster")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(server.remove)  # the last one registered is the first one called
    with (server.room / "data" / "pg_hba.conf").open("a") as rules:
        rules.write(NETWORK_RULE)
    return server


@contextmanager
def own_postgis(host: str = LOOPBACK) -> Iterator[OwnPostgis]:
    """The cluster, running and listening on `host`, whatever the test before has left."""
    server = _cluster()
    server.stop()
    server.host = host
    server.come_back()
    yield server


def kill_backend(server: Postgis, pid: int) -> None:
    """kill -9 of one of the server's processes: it ends all others and recovers; return when clients may come again."""
    with closing(server.connect()) as witness:
        witness.autocommit = True
        os.kill(pid, signal.SIGKILL)

        def is_cut_off() -> bool:
            try:
                witness.cursor().execute("SELECT 1")
            except psycopg2.Error:
                return True
            return False

        # For a moment the server does not know yet, and would still let clients in.
        wait_until(is_cut_off, "the server's finding the crash", 30)

    def answers() -> bool:
        try:
            server.connect().close()
        except psycopg2.Error:
            return False
        return True

    wait_until(answers, "the server's recovery", 30)
