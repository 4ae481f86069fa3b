"""F24, second part: a pooler between worker and database, and clocks that are wrong.

Injected: pgbouncer in transaction and statement mode (which loses a session's locks between two transactions), and
libfaketime in the workers, a day ahead and a day behind. Asserted: such a pooler is refused at the start, before
anything is claimed; pgbouncer in session mode is taken; clocks change nothing, since only the database's is asked.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.servers import LOOPBACK, Postgis, free_port
from tests.faults.conftest import MakeSeason
from tests.faults.spoilt_store import SpoiltStore
from tests.support.environment import skip_unless
from tests.support.running import wait_until

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")


def _is_open(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def pgbouncer(postgis: Postgis, mode: str, *settings: str) -> Iterator[int]:
    """A pgbouncer in front of the cluster; its port. It does not run as root, and must be able to read its files."""
    folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
    port = free_port()
    (folder / "users").write_text(f'"{postgis.user}" "{postgis.password}"\n')
    lines = [
        "[databases]",
        f"* = host={postgis.host} port={postgis.port}",
        "[pgbouncer]",
        f"listen_addr = {LOOPBACK}",
        f"listen_port = {port}",
        "unix_socket_dir =",
        "auth_type = scram-sha-256",
        f"auth_file = {folder / 'users'}",
        f"pool_mode = {mode}",
        "query_wait_timeout = 5",
        *settings,
    ]
    (folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
    as_user: dict[str, Any] = {}
    if os.geteuid() == 0:
        owner = pwd.getpwnam("postgres")
        as_user = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        for path in (folder, *folder.iterdir()):
            os.chown(path, owner.pw_uid, owner.pw_gid)
    server = subprocess.Popen(
        [str(PGBOUNCER), str(folder / "pgbouncer.ini")],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **as_user,
    )
    try:
        wait_until(lambda: server.poll() is not None or _is_open(port), "pgbouncer", 20)
        assert server.poll() is None, "pgbouncer did not start"
        yield port
    finally:
        server.kill()  # at once: sessions of the test's own do not matter
        server.wait()
        shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def _with_pgbouncer(request: pytest.FixtureRequest) -> None:
    if "pooler" in request.node.name:
        skip_unless("" if PGBOUNCER else "not installed: pgbouncer")


@pytest.mark.parametrize(
    ("mode", "settings"),
    [
        ("transaction", ()),
        ("transaction", ("server_round_robin = 1", "min_pool_size = 3")),
        ("transaction", ("default_pool_size = 1",)),
    ],
    ids=["as it comes", "in turn", "one server connection"],
)
def test_f24_pooler_that_loses_sessions(
    make_season: MakeSeason, postgis: Postgis, mode: str, settings: tuple[str, ...]
) -> None:
    """Refused with 2, also when there is only one worker and the pooler happens to give it the same session each time.

    Without: pooler_check
    """
    season = make_season(bs=1)
    season.short(database_wait_seconds=0)
    with pgbouncer(postgis, mode, *settings) as port:
        season.workspace.db_config["database"]["connection"]["port"] = port
        outcome = season.run("bs", "--all")
    assert (outcome.code, len(outcome.errors)) == (2, 1), outcome.stderr
    assert season.attempts() == []
    season.check(extracted=[])


def test_f24_pooler_of_statements(make_season: MakeSeason, postgis: Postgis) -> None:
    """There is not even a transaction: it breaks the connection at the first one, and nothing is claimed.

    Without: none
    """
    season = make_season(bs=1)
    season.short(database_wait_seconds=0)
    with pgbouncer(postgis, "statement") as port:
        season.workspace.db_config["database"]["connection"]["port"] = port
        outcome = season.run("bs")
    assert (outcome.code, len(outcome.errors)) == (75, 1), outcome.stderr
    assert season.attempts() == []
    season.check(extracted=[])


@pytest.mark.parametrize("size", [20, 1])
def test_f24_pooler_of_sessions(make_season: MakeSeason, postgis: Postgis, size: int) -> None:
    """The control: with a session of its own, a worker behind pgbouncer is as good as any, also when it gets the only
    one there is.

    Without: none
    """
    season = make_season(bs=2)
    season.short()
    with pgbouncer(postgis, "session", f"default_pool_size = {size}") as port:
        season.workspace.db_config["database"]["connection"]["port"] = port
        season.finish()
        season.check()


# Clocks

# libfaketime leaves alone what pauses and limits are measured with; the rest is for its speed, which else is a tenth.
UNTOUCHED = {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_FORCE_MONOTONIC_FIX": "0", "NO_FAKE_STAT": "1"}


def _libfaketime() -> str | None:
    """The library of Debian's package libfaketime, for programs with threads."""
    found = [
        path
        for folder in ("/usr/lib", "/usr/lib64", "/usr/local/lib")
        for path in Path(folder).glob("**/faketime/libfaketimeMT.so.1")
    ]
    return str(found[0]) if found else None


def test_f24_clocks(make_season: MakeSeason, spoilt: SpoiltStore) -> None:
    """Workers a day ahead and a day behind take turns at a season in which a scene fails once. What they write is in
    the database's time, and by that the scene waits for its next attempt.

    Without: back_off
    """
    library = _libfaketime()
    skip_unless("" if library else "not installed: libfaketime")
    season = make_season(bs=3)
    season.short(retry_pause_seconds=600)
    spoilt.serve(season.workspace)
    failing, second, third = season.scenes["bs"]
    # Half of an object, and half of it once more: another attempt may bring it whole.
    image = re.escape(season.products[failing].keys["Gamma0_VV.img"])
    spoilt.spoil(image, lambda body: body[: len(body) // 2], times=2)

    def run(shift: str, code: int = 0) -> None:
        # One scene, and no --all: libfaketime makes a sleep of Python 3.11 an invalid one.
        outcome = season.run("bs", env={"LD_PRELOAD": str(library), "FAKETIME": shift} | UNTOUCHED)
        assert outcome.code == code, outcome.stderr
        assert today not in outcome.stderr, "the clock was not set"

    today = season.workspace.one("SELECT to_char(now(), 'YYYY-MM-DD')")
    run("+1d", code=1)
    assert season.outcomes(failing) == ["error"]
    run("-1d")
    run("+1d")
    assert season.outcomes(second) == season.outcomes(third) == ["extracted"]
    run("+1d")  # for this one the pause would have been over a day ago
    assert season.outcomes(failing) == ["error"]
    season.workspace.query("UPDATE extraction_log SET retry_after = now() WHERE retry_after IS NOT NULL")
    run("-1d")  # and for this one it would not
    assert season.outcomes(failing) == ["error", "extracted"]

    (odd,) = season.workspace.query(
        "SELECT count(*) FILTER (WHERE abs(extract(epoch FROM now() - started_at)) > 3600),"
        " count(*) FILTER (WHERE abs(extract(epoch FROM now() - finished_at)) > 3600) FROM extraction_log"
    )
    assert odd == (0, 0)
    season.check(lost=0)
