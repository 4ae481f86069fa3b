"""What is wrong in the configuration is said in one line that names the file and the key: exit 2, before anything."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from demo import tables
from tests.support.ground import footprint, ground, squares
from tests.support.running import NOTHING_LEFT, Outcome
from tests.support.workspace import Workspace

TABLES = ("database", "tables")
ARGS = ("database", "args")


def changed(config: Mapping[str, Any], path: Iterable[str], value: object) -> dict[str, Any]:
    """A copy of a configuration with one value set, e.g. at ("database", "connection", "port")."""
    result = copy.deepcopy(dict(config))
    *parents, last = path
    at = result
    for name in parents:
        at = at[name]
    at[last] = value
    return result


def refused(outcome: Outcome, *words: str) -> str:
    """Exit 2 and one error line that holds all the words; gives it back."""
    assert outcome.code == 2, outcome.stderr
    assert len(outcome.errors) == 1, outcome.stderr
    for word in words:
        assert word in outcome.errors[0]
    assert outcome.stdout == ""
    return outcome.errors[0]


@pytest.mark.parametrize("name", ["db_config.json", "s3_config.json"])
def test_missing_file(workspace: Workspace, name: str) -> None:
    workspace.write_config()
    (workspace.cwd / name).unlink()
    refused(workspace.run("s2", configure=False), name)


@pytest.mark.parametrize("name", ["db_config.json", "s3_config.json"])
@pytest.mark.parametrize("content", ['{"database": ', "", "[1, 2]", '{"database": {"connection": 3}}'])
def test_broken_file(workspace: Workspace, name: str, content: str) -> None:
    workspace.write_config()
    (workspace.cwd / name).write_text(content)
    refused(workspace.run("s2", configure=False), name)


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        (("extractoin",), "extraction"),
        (("database", "tabels"), "tables"),
        (("database", "connection", "hots"), "host"),
        (("database", "tables", "parcel_tabel"), "parcel_table"),
        (("database", "args", "start_date"), "startdate"),
        (("extraction", "chunksize"), "chunk_size"),
    ],
)
def test_unknown_key_names_the_nearest(workspace: Workspace, path: tuple[str, ...], nearest: str) -> None:
    workspace.db_config = changed(workspace.db_config, path, "2020-01-01")
    refused(workspace.run("s2"), "db_config.json", path[-1], nearest)


def test_unknown_key_of_the_store(workspace: Workspace) -> None:
    workspace.s3["acces_key"] = workspace.s3.pop("access_key")
    refused(workspace.run("s2"), "s3_config.json", "acces_key", "access_key")


@pytest.mark.parametrize(
    "path",
    [
        ("database",),
        ("database", "tables"),
        ("database", "args", "enddate"),
        ("database", "tables", "results_table"),
        ("database", "connection", "host"),
        ("database", "connection", "dbname"),
    ],
)
def test_missing_key(workspace: Workspace, path: tuple[str, ...]) -> None:
    at: dict[str, Any] = workspace.db_config
    for name in path[:-1]:
        at = at[name]
    del at[path[-1]]
    refused(workspace.run("s2"), "db_config.json", path[-1])


@pytest.mark.parametrize("key", ["host", "bucket"])
def test_missing_key_of_the_store(workspace: Workspace, key: str) -> None:
    del workspace.s3[key]
    refused(workspace.run("s2"), "s3_config.json", key)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((*ARGS, "startdate"), "yesterday"),
        ((*ARGS, "enddate"), "2020-02-30"),
        ((*ARGS, "startdate"), 20200101),
        (("database", "connection", "port"), "fifty"),
        (("database", "connection", "port"), 70000),
        ((*TABLES, "parcel_table"), ""),
        ((*TABLES, "parcel_table"), "a.b.c"),
        (("extraction", "chunk_size"), 0),
        (("extraction", "chunk_size"), "many"),
        (("extraction", "engine"), "rasterstat"),
        (("extraction", "band_labels"), "clasic"),
        (("extraction", "coherence_band_order"), "reverse"),
    ],
)
def test_value_that_cannot_be(workspace: Workspace, path: tuple[str, ...], value: object) -> None:
    workspace.db_config = changed(workspace.db_config, path, value)
    refused(workspace.run("s2"), "db_config.json", path[-1])


@pytest.mark.parametrize(("key", "value"), [("connections", 0), ("connections", "four"), ("host", "no address")])
def test_value_of_the_store_that_cannot_be(workspace: Workspace, key: str, value: object) -> None:
    workspace.s3[key] = value
    refused(workspace.run("s2"), "s3_config.json", key)


@pytest.mark.parametrize(("start", "end"), [("2020-07-01", "2020-06-01"), ("2021-01-01", "2020-12-31")])
def test_start_after_end(workspace: Workspace, start: str, end: str) -> None:
    workspace.args.update({"startdate": start, "enddate": end})
    refused(workspace.run("s2"), "db_config.json", "startdate", "enddate")


def test_secrets_are_not_repeated_when_they_are_wrong(workspace: Workspace) -> None:
    """`run` looks for the password and the key in everything that was printed."""
    connection = workspace.db_config["database"]["connection"]
    connection["dbpassword"] = connection.pop("dbpasswd")
    refused(workspace.run("s2"), "db_config.json", "dbpassword", "dbpasswd")
    connection["dbpasswd"] = [connection.pop("dbpassword")]
    refused(workspace.run("s2"), "db_config.json", "dbpasswd")


def test_unknown_engine_on_the_command_line(workspace: Workspace) -> None:
    outcome = workspace.run("s2", "--engine", "rasterstat")
    assert outcome.code == 2
    assert "rasterstat" in outcome.stderr


@pytest.mark.parametrize("options", [("--all", "--watch", "5"), ("--watch", "soon"), ("--watch", "-1"), ("scene",)])
def test_arguments_that_cannot_be(workspace: Workspace, options: tuple[str, ...]) -> None:
    outcome = workspace.run("s2", *options)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert "python -m extractors.s2" in outcome.stderr  # how it is used


# The environment


@pytest.mark.parametrize(("name", "value"), [("ENGINE", "rasterstat"), ("WATCH", "soon")])
def test_environment_that_cannot_be(workspace: Workspace, name: str, value: str) -> None:
    outcome = workspace.run("s2", env={name: value})
    assert outcome.code == 2
    assert name in outcome.stderr
    assert value in outcome.stderr


def test_environment_in_place_of_options(workspace: Workspace, tmp_path: Path) -> None:
    workspace.add_parcels(squares(5))
    scenes = [workspace.add_s2(f"2020-04-0{day}T10:00:31") for day in (1, 2)]
    (tmp_path / "other db.json").write_text(json.dumps(workspace.db_config))
    (tmp_path / "other s3.json").write_text(json.dumps(workspace.s3_config))
    places = {
        "DB_CONFIG": str(tmp_path / "other db.json"),
        "S3_CONFIG": str(tmp_path / "other s3.json"),
        "DATA_DIR": str(tmp_path / "other data"),
        "ALL": "1",
        "ENGINE": "rasterstats",
    }

    outcome = workspace.run("s2", env=places, configure=False)

    assert (outcome.code, outcome.errors) == (0, [])
    assert NOTHING_LEFT in outcome.stdout
    assert {workspace.status(scene) for scene in scenes} == {"extracted"}
    assert list(workspace.cwd.iterdir()) == []  # nothing was made in the working directory
    assert list((tmp_path / "other data").iterdir()) == []  # it was made, and nothing is left in it


def test_a_switch_that_is_off_in_the_environment(workspace: Workspace) -> None:
    """A stack file that passes `ALL=0`, or `ALL=` with nothing in it, asks for one scene."""
    workspace.add_parcels(squares(3))
    scenes = [workspace.add_s2(f"2020-04-0{day}T10:00:31") for day in (1, 2, 3)]
    for value, done in (("0", 1), ("", 2)):
        assert workspace.run("s2", env={"ALL": value, "WATCH": "", "SCENE": "", "VERBOSE": value}).code == 0
        assert [workspace.status(scene) for scene in scenes].count("extracted") == done


def test_scene_from_the_environment(workspace: Workspace) -> None:
    workspace.add_parcels(squares(5))
    older, younger = (workspace.add_s2(f"2020-04-0{day}T10:00:31") for day in (1, 2))
    assert workspace.run("s2", env={"SCENE": younger.reference}).code == 0
    assert [workspace.status(scene) for scene in (older, younger)] == ["ingested", "extracted"]


def test_a_file_named_in_the_environment_is_named_in_the_error(workspace: Workspace) -> None:
    outcome = workspace.run("s2", env={"DB_CONFIG": "/nowhere/my.json"})
    refused(outcome, "/nowhere/my.json")


def test_an_option_beats_the_environment(workspace: Workspace) -> None:
    workspace.add_parcels(squares(1))
    wrong = {"DB_CONFIG": "/nowhere/db.json", "S3_CONFIG": "/nowhere/s3.json", "ENGINE": "none"}
    options = ("--db-config", "db_config.json", "--s3-config", "s3_config.json", "--engine", "rasterstats")
    outcome = workspace.run("s2", *options, env=wrong)
    assert (outcome.code, outcome.errors) == (0, [])


def test_password_and_keys_from_their_own_places(workspace: Workspace) -> None:
    """Without `dbpasswd` libpq's own ways hold, without keys boto3's."""
    workspace.add_parcels(squares(5))
    scene = workspace.add_s2()
    del workspace.db_config["database"]["connection"]["dbpasswd"]
    workspace.s3.update({"access_key": "", "secret_key": ""})
    elsewhere = {
        "PGPASSWORD": workspace.password,
        "AWS_ACCESS_KEY_ID": "from-the-environment",
        "AWS_SECRET_ACCESS_KEY": workspace.secret_key,
    }
    outcome = workspace.run("s2", env=elsewhere)
    assert (outcome.code, workspace.status(scene)) == (0, "extracted")


def test_no_password_anywhere(workspace: Workspace) -> None:
    workspace.db_config["database"]["connection"]["dbpasswd"] = ""
    outcome = workspace.run("s2", env={"PGPASSFILE": "/nowhere/pgpass"})
    assert (outcome.code, len(outcome.errors)) == (2, 1)


def test_no_keys_anywhere(workspace: Workspace) -> None:
    workspace.add_parcels(squares(5))
    scene = workspace.add_s2()
    del workspace.s3["access_key"], workspace.s3["secret_key"]
    outcome = workspace.run("s2")
    refused(outcome, "access_key")
    assert workspace.status(scene) == "ingested"


def test_more_libpq_parameters(workspace: Workspace) -> None:
    workspace.add_parcels(squares(1))
    workspace.db_config["database"]["connection"] |= {"sslmode": "disable", "application_name": "my-worker"}
    outcome = workspace.run("s2")
    assert (outcome.code, outcome.errors) == (0, [])


def test_aoi_field_may_be_any_column(workspace: Workspace) -> None:
    workspace.add_parcels(squares(5))
    scene = workspace.add_s2()
    workspace.query('ALTER TABLE aois ADD COLUMN "Region" text')
    tables.add_aoi(workspace.connection, "no matter", footprint(ground(1000)))
    workspace.query("""UPDATE aois SET "Region" = 'O''Brien' WHERE name = 'no matter'""")
    workspace.args.update({"aoi_field": "Region", "name": "O'Brien"})
    assert workspace.run("s2").code == 0
    assert workspace.status(scene) == "extracted"
