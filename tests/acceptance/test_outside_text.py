"""Names that somebody else gave to scenes and objects, with line ends and escape sequences in them: no forged log line,
nothing that a terminal obeys, neither on it nor in the log table."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest
from psycopg2 import sql

from tests.acceptance.test_field_stores import directory_of
from tests.support.environment import ROOT
from tests.support.ground import squares
from tests.support.running import Outcome
from tests.support.scripted import Answer, Scripted
from tests.support.workspace import Workspace

EVIL = "A\n2026-01-01T00:00:00Z ERROR forged\x1b[2J\x1b]0;owned\x07\r\u202e"
ONE_OF_OURS = re.compile(r"20\d\d-\d\d-\d\dT[0-9:]{8}Z (DEBUG|INFO|WARNING|ERROR) ")


def assert_harmless(outcome: Outcome) -> None:
    """Every line of the log begins as ours do, or is part of a traceback; nothing that is not printable."""
    for line in outcome.stderr.split("\n")[:-1]:
        assert ONE_OF_OURS.match(line) or line.startswith("  | "), line
        assert line.isprintable(), line
    assert not any(line.startswith("2026-01-01") for line in outcome.output.split("\n"))
    assert outcome.stdout.replace("\n", "").isprintable()


@pytest.mark.parametrize("options", [(), ("-v",), ("--log-format", "json")], ids=["text", "verbose", "json"])
def test_a_granule_s_name(workspace: Workspace, options: tuple[str, ...]) -> None:
    """A product with two granules fails, and says their keys."""
    workspace.add_parcels(squares(3))
    scene = workspace.add_s2()
    granule = scene.keys["B04"].split("/")[-4]
    another = directory_of(workspace) / scene.keys["B04"].replace(granule, EVIL)
    another.parent.mkdir(parents=True)
    another.write_bytes(b"x")
    outcome = workspace.run("s2", *options)
    assert outcome.code == 1
    if "json" not in options:
        assert_harmless(outcome)
    assert outcome.output.replace("\n", "").isprintable()
    (attempt,) = workspace.log(scene)
    assert "forged" in attempt["detail"]
    assert attempt["detail"].isprintable()


def test_adopted_scenes(workspace: Workspace) -> None:
    """The line that says it is about a scene that no worker has claimed."""
    workspace.add_parcels(squares(3))
    workspace.add_s2()
    workspace.query(
        "INSERT INTO dias_catalogue (obstime, reference, sensor, card, footprint, status)"
        " SELECT obstime, %s, sensor, card, footprint, 'inprogress' FROM dias_catalogue",
        EVIL,
    )
    outcome = workspace.run("s2", "--all", "--adopt-foreign")
    assert outcome.code == 1
    assert "taken from the program" in outcome.stderr
    assert_harmless(outcome)
    assert all(row.isprintable() for (row,) in workspace.query("SELECT detail FROM extraction_log"))


def test_what_the_database_repeats(workspace: Workspace) -> None:
    """Names of tables and users are text from outside as well."""
    workspace.tables["parcel_table"] = EVIL
    workspace.query(sql.SQL("CREATE TABLE {} (x int)").format(sql.Identifier(EVIL)))
    for options in ((), ("--check",)):
        outcome = workspace.run("s2", *options)
        assert outcome.code == 2
        assert_harmless(outcome)


@pytest.mark.parametrize("where", ["bucket", "directory"])
def test_list_and_get(workspace: Workspace, where: str) -> None:
    """The test's store takes no keys with line ends, as real ones do: a directory stands in for them."""
    if where == "directory":
        key = f"evil/{EVIL}"
        (directory_of(workspace) / "evil").mkdir(parents=True)
        (Path(workspace.s3["directory"]) / key).write_bytes(b"abc")
    else:
        key = f"evil/{''.join(EVIL.splitlines())}"
        workspace.write(key, b"abc")
    commands: dict[tuple[str, ...], int] = {("list", "evil/"): 0, ("get", key, "here"): 0, ("get", key + EVIL): 1}
    for arguments, code in commands.items():
        outcome = workspace.start_python(str(ROOT / "download_with_boto3.py"), *arguments).wait()
        assert outcome.code == code, outcome.stderr
        assert_harmless(outcome)
    assert (workspace.cwd / "here").read_bytes() == b"abc"


def test_secrets_in_a_url(workspace: Workspace) -> None:
    """Refused before anything is asked with it; its text would stand in every error of the store."""
    workspace.add_parcels(squares(3))
    scene = workspace.add_s2()
    address = workspace.s3["host"].removeprefix("http://")
    for url in (f"http://jo:canary-pw@{address}", f"http://{address}/?token=canary-pw"):
        workspace.s3["host"] = url
        for options in (("-v",), ("--check",)):
            outcome = workspace.run("s2", *options)
            assert outcome.code == 2
            assert "s3.host" in outcome.output
            assert "canary-pw" not in outcome.output
    assert workspace.log(scene) == []


def test_a_proxy_s_password(workspace: Workspace) -> None:
    """The environment's proxies are boto3's to use; an error of theirs shows no password."""
    workspace.add_parcels(squares(3))
    scene = workspace.add_s2()
    workspace.s3.update(host="http://store.invalid", retry_seconds=0)
    proxy = {"HTTP_PROXY": "http://jo:canary-pw@127.0.0.1:9", "http_proxy": "http://jo:canary-pw@127.0.0.1:9"}
    outcome = workspace.run("s2", "-v", env=proxy)
    assert outcome.code == 75
    assert "canary-pw" not in outcome.output
    assert "canary-pw" not in str(workspace.log(scene))


def test_files_that_all_may_read(workspace: Workspace) -> None:
    """One warning for each, and none for files that only their owner may read."""
    workspace.add_parcels(squares(3))
    workspace.add_s2()
    quiet = workspace.run("s2")
    assert "chmod" not in quiet.stderr
    for name in ("db_config.json", "s3_config.json"):
        os.chmod(workspace.cwd / name, 0o644)  # noqa: PTH101
    workspace.add_s2("2020-04-02T10:00:31")
    outcome = workspace.run("s2")
    said = [line for line in outcome.stderr.splitlines() if " WARNING " in line and "chmod" in line]
    assert (outcome.code, len(said)) == (0, 2)
    assert stat.S_IMODE((workspace.cwd / "db_config.json").stat().st_mode) == 0o644


def test_what_a_store_says(workspace: Workspace) -> None:
    """Its errors may hold what XML can: line ends, the controls beyond ASCII, marks of direction."""
    workspace.add_parcels(squares(3))
    scene = workspace.add_s2()
    message = "a&#10;2026-01-01T00:00:00Z ERROR forged&#x85;"
    said = f"<Error><Code>Odd&#x9b;2J&#x202e;</Code><Message>{message}</Message></Error>"
    with Scripted(lambda _: Answer(said.encode(), 400)) as server:
        workspace.s3.update(host=server.endpoint, retry_seconds=0)
        outcome = workspace.run("s2", "-v")
    assert outcome.code != 0
    assert_harmless(outcome)
    assert all(attempt["detail"].isprintable() for attempt in workspace.log(scene))
