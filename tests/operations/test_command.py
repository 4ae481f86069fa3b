"""`python -m operations`: one way in, one way out. Errors are lines, and exit codes those of the workers."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from operations.options import VERBS
from tests.support.environment import ROOT, environment
from tests.support.ground import squares
from tests.support.running import wait_until
from tests.support.workspace import Workspace

LOOKING = ("status", "forecast", "setup", "retry", "index")


def test_help_names_every_verb() -> None:
    for arguments in (["--help"], *([verb, "--help"] for verb in VERBS)):
        done = subprocess.run(
            [sys.executable, "-m", "operations", *arguments],
            cwd=ROOT, env=environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, ""), arguments
        assert all(verb in done.stdout for verb in VERBS) or arguments[0] in VERBS


@pytest.mark.parametrize("verb", LOOKING)
def test_what_cannot_be_used_is_one_line(verb: str, workspace: Workspace) -> None:
    workspace.db_config["database"]["tables"]["parcel_tabel"] = "parcels"
    outcome = workspace.operate(verb)
    assert (outcome.code, len(outcome.errors), outcome.stdout) == (2, 1, "")
    assert "parcel_tabel" in outcome.errors[0]
    (workspace.cwd / "db_config.json").unlink()
    outcome = workspace.operate(verb, configure=False)
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert "db_config.json" in outcome.errors[0]


@pytest.mark.parametrize("verb", LOOKING)
def test_no_database_is_an_outage(verb: str, workspace: Workspace) -> None:
    workspace.db_config["database"]["connection"]["port"] = 1
    workspace.extraction["database_wait_seconds"] = 0
    outcome = workspace.operate(verb)
    assert (outcome.code, len(outcome.errors)) == (75, 1)


@pytest.mark.parametrize("verb", LOOKING)
def test_without_its_tables(verb: str, workspace: Workspace) -> None:
    """All but setup say what is lacking, or do without; setup makes it."""
    workspace.query("DROP TABLE dias_catalogue, aois, parcels")
    outcome = workspace.operate(verb)
    assert outcome.code == (0 if verb == "setup" else 2), outcome.output
    assert len(outcome.errors) == (verb != "setup")
    if verb != "setup":
        assert workspace.one("SELECT to_regclass('dias_catalogue') IS NULL")


NEED_PARCELS = (
    ("forecast",),
    ("report", "--out", "a"),
    ("plot", "--parcel", "1", "--out", "a.html"),
    ("backup", "--out", "a"),
)
NEED_AREA = (*NEED_PARCELS[:-1], ("retry",), ("retry", "--status", "extracted"), ("ingest", "--from", "store"))


@pytest.mark.parametrize(
    ("key", "command"),
    [*(("parcel_table", command) for command in NEED_PARCELS), *(("name", command) for command in NEED_AREA)],
    ids=str,
)
def test_a_mistyped_name(key: str, command: tuple[str, ...], workspace: Workspace) -> None:
    """Is named, with its key; nothing is done for all areas in place of one that there is not."""
    workspace.add_parcels(squares(1))
    for status in ("failed", "extracted"):
        workspace.add_row(status, status=status)
    (workspace.tables if key == "parcel_table" else workspace.args)[key] = "mistyped"
    outcome = workspace.operate(*command)
    assert (outcome.code, len(outcome.errors), outcome.stdout) == (2, 1, ""), outcome.output
    assert "mistyped" in outcome.errors[0]
    assert f".{key}: " in outcome.errors[0]
    assert workspace.one("SELECT count(*) FROM dias_catalogue WHERE status = 'ingested'") == 0
    assert not (workspace.cwd / command[-1]).exists()


def test_indexes_before_there_are_parcels(workspace: Workspace) -> None:
    workspace.query("DROP TABLE parcels")
    outcome = workspace.operate("index")
    assert (outcome.code, outcome.errors) == (0, []), outcome.output
    assert "dias_catalogue" in outcome.stdout


def test_options_from_the_environment(workspace: Workspace) -> None:
    workspace.write_config()
    (workspace.cwd / "db_config.json").rename(workspace.cwd / "other.json")
    variables = {"DB_CONFIG": "other.json", "LOG_FORMAT": "json", "VERBOSE": "1"}
    running = workspace.start_python(
        "-m", "operations", "status", "--card", "s2", "--fail-if", "failed<1", env=variables, configure=False
    )
    outcome = running.wait()
    assert outcome.code == 1
    lines = [json.loads(line) for line in outcome.stderr.splitlines()]
    assert any(line["level"] == "ERROR" and line["verb"] == "status" for line in lines)
    wrong = workspace.start_python("-m", "operations", "status", env={"LOG_FORMAT": "xml"}).wait()
    assert wrong.code == 2


def test_a_signal_ends_a_query(workspace: Workspace) -> None:
    """One that waits, for a lock of somebody's, as well."""
    other = workspace.connect()
    with other.cursor() as cursor:
        cursor.execute("LOCK TABLE dias_catalogue")
        running = workspace.start_python("-m", "operations", "status")
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'dias_catalogue'::regclass"
        wait_until(lambda: bool(workspace.one(waiting)), "the query that waits")
        running.send(signal.SIGINT)
        outcome = running.wait(20)
    other.close()
    assert outcome.code == 128 + signal.SIGINT
    assert "Traceback" not in outcome.output
