"""No secret is shown, whatever goes wrong, and however much the worker is asked to say.

Injected: one failure of every class, each with `-v`, so that tracebacks and the lines of boto3 and other packages are
shown. Asserted: neither the database's password nor the store's secret key is in the output, in the log table, in the
server's log or in any process's command line and title. Passwords are odd on purpose: quoted or escaped somewhere, they
would not be found by looking for them as a whole, so their parts are looked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest
from psycopg2 import sql

from demo.servers import free_port
from tests.faults import checker
from tests.faults.conftest import MakeSeason
from tests.faults.season import Season
from tests.faults.spoilt_store import SpoiltStore, flipped
from tests.support.running import Outcome, wait_until

PASSWORD = 'canary-pass\' "word" %s 100% \\ = canary-end'
KEY = "canary-key/+ %%\"'=canary-end"
PARTS = ("canary-pass", "canary-key", "canary-end")


@pytest.fixture
def season(make_season: MakeSeason, spoilt: SpoiltStore) -> Iterator[Season]:
    """Its workers have a role of their own, so that its password can be anything."""
    season = make_season(bs=1)
    season.short(max_attempts=1, database_wait_seconds=0)
    spoilt.serve(season.workspace, retry_seconds=0)
    name = f"role_of_{season.workspace.database}"
    role = sql.Identifier(name)
    season.workspace.query(sql.SQL("CREATE ROLE {} LOGIN SUPERUSER PASSWORD {}").format(role, sql.Literal(PASSWORD)))
    season.workspace.db_config["database"]["connection"] |= {"dbuser": name, "dbpasswd": PASSWORD}
    season.workspace.s3["secret_key"] = KEY
    yield season
    season.workspace.query(sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(role))
    season.workspace.query(sql.SQL("DROP ROLE {}").format(role))


def connection(season: Season) -> dict[str, object]:
    found: dict[str, object] = season.workspace.db_config["database"]["connection"]
    return found


def keys(season: Season, file: str) -> str:
    (scene,) = season.scenes["bs"]
    return season.products[scene].keys[file].rsplit("/", 1)[-1] + "$"


def in_the_wrong_place(season: Season) -> None:
    connection(season)["dbpassword"] = connection(season).pop("dbpasswd")


def of_the_wrong_type(season: Season) -> None:
    connection(season)["dbpasswd"] = [PASSWORD]


def key_of_the_wrong_type(season: Season) -> None:
    season.workspace.s3["secret_key"] = {"value": KEY}


def key_alone(season: Season) -> None:
    del season.workspace.s3["access_key"]


# Name -> what is done before the worker starts, and its exit code.
Fault = Callable[[Season, SpoiltStore], None]
FAULTS: dict[str, tuple[Fault, int]] = {
    "none": (lambda season, store: None, 0),
    "password in the wrong place": (lambda season, store: in_the_wrong_place(season), 2),
    "password of the wrong type": (lambda season, store: of_the_wrong_type(season), 2),
    "key of the wrong type": (lambda season, store: key_of_the_wrong_type(season), 2),
    "key without the other": (lambda season, store: key_alone(season), 2),
    "wrong password": (lambda season, store: connection(season).update(dbpasswd=PASSWORD + "x"), 2),
    "wrong database": (lambda season, store: connection(season).update(dbname="nowhere"), 2),
    "wrong parameter": (lambda season, store: connection(season).update(sslmode="perhaps"), 2),
    "no database": (lambda season, store: connection(season).update(port=free_port()), 75),
    "no store": (lambda season, store: season.workspace.s3.update(host=f"http://127.0.0.1:{free_port()}"), 75),
    "wrong key": (lambda season, store: store.error("", 403, "SignatureDoesNotMatch"), 2),
    "forbidden": (lambda season, store: store.error("", 403, "AccessDenied"), 75),
    "throttled": (lambda season, store: store.answer("", 503), 75),
    "no store but a web server": (lambda season, store: store.answer("", 200, b"<html></html>"), 2),
    "missing object": (lambda season, store: store.error(keys(season, "Gamma0_VV.img"), 404, "NoSuchKey"), 1),
    "bit flip": (lambda season, store: store.spoil(keys(season, "Gamma0_VV.img"), flipped), 1),
    "truncated object": (lambda season, store: store.swap(keys(season, "Gamma0_VV.img"), lambda b: b[:-9]), 1),
    "wrong table": (lambda season, store: season.workspace.tables.update(parcel_table="nowhere"), 2),
    "wrong area": (lambda season, store: season.workspace.args.update(name="nowhere"), 2),
}
POINTS = {"publish_begin=raise": 1, "chunk_computed=term": 143, "claim_committed=exit": 1}


def assert_no_secret(season: Season, outcome: Outcome) -> None:
    texts = {
        "output": outcome.output,
        "log table": str(season.attempts()),
        "server's log": season.workspace.postgis.log.read_text(errors="replace"),
        "sessions": str(season.workspace.query("SELECT usename, application_name, query FROM pg_stat_activity")),
    }
    for where, text in texts.items():
        for part in PARTS:
            at = text.find(part)
            assert at < 0, f"a secret is in the {where}: {text[max(0, at - 200) : at + 200]}"


@pytest.mark.parametrize("name", FAULTS)
def test_secrets_in_a_failure(season: Season, spoilt: SpoiltStore, name: str) -> None:
    """Each class of failures that a configuration, a database or a store can cause.

    Without: none
    """
    fault, code = FAULTS[name]
    fault(season, spoilt)
    outcome = season.run("bs", "-v")
    assert outcome.code == code, outcome.stderr
    assert_no_secret(season, outcome)


@pytest.mark.parametrize("name", ["none", "wrong password", "wrong key", "bit flip"])
def test_secrets_in_lines_of_json(season: Season, spoilt: SpoiltStore, name: str) -> None:
    """The same where the log is JSON, with tracebacks as fields.

    Without: none
    """
    fault, code = FAULTS[name]
    fault(season, spoilt)
    outcome = season.run("bs", "-v", "--log-format", "json")
    assert outcome.code == code, outcome.stderr
    assert_no_secret(season, outcome)


@pytest.mark.parametrize("point", POINTS)
def test_secrets_when_a_worker_breaks_off(season: Season, point: str) -> None:
    """An error that nobody thought of, with its traceback; a signal; the end of the process.

    Without: none
    """
    outcome = season.start("bs", "-v", env={"EXTRACTION_FAILPOINT": point}).wait()
    assert outcome.code == POINTS[point], outcome.stderr
    assert_no_secret(season, outcome)


def test_secrets_when_the_session_breaks(season: Season, tmp_path: Path) -> None:
    """Ended by the server while it computes, with everything in the traceback that psycopg2 says then. And while the
    worker lives, its command line and its environment hold no secret.

    Without: none
    """
    gate = tmp_path / "gate"
    worker = season.start(
        "bs",
        "-v",
        env={"EXTRACTION_FAILPOINT": "chunk_computed=touch", "EXTRACTION_FAILPOINT_FILE": str(gate)},
    )
    wait_until(gate.exists, "the worker at its fail point")
    process = Path(f"/proc/{worker.process.pid}")
    shown = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    season.workspace.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", connection(season)["dbuser"]
    )
    gate.unlink()
    outcome = worker.wait()
    assert outcome.code == 75, outcome.stderr
    for part in PARTS:
        assert part.encode() not in shown
    assert_no_secret(season, outcome)


def test_secrets_are_looked_for(season: Season) -> None:
    """The control: where one is shown, it is found; and what libpq would say of a formatted string is shown by it.

    Without: none
    """
    with pytest.raises(AssertionError, match="a secret is in the output"):
        assert_no_secret(season, Outcome(0, "", f"2026-06-01 ERROR {KEY}"))
    with pytest.raises(psycopg2.ProgrammingError) as raised:
        psycopg2.connect(f"host=127.0.0.1 user=nobody password=two {PARTS[2]}")
    with pytest.raises(AssertionError, match="a secret is in the output"):
        assert_no_secret(season, Outcome(0, "", str(raised.value)))
    checker.check_secrets(season.workspace)
