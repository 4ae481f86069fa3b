"""Databases as people have them: in other encodings, with PostGIS in a schema of its own, or without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from demo import tables
from demo.servers import Postgis, S3Server
from extractors.config import DatabaseFile
from extractors.database.connection import Database
from tests.faults.own_postgis import own_postgis
from tests.support.elsewhere import Elsewhere
from tests.support.ground import footprint, ground, squares
from tests.support.roles import worker_role
from tests.support.scenes import assert_same
from tests.support.workspace import Workspace

Make = Callable[[Elsewhere], Workspace]
NAME = "Île-de-France"


@pytest.fixture
def make(postgis: Postgis, store: S3Server, tmp_path: Path) -> Iterator[Make]:
    """A workspace on another database."""
    made: list[Workspace] = []

    def one(server: Elsewhere) -> Workspace:
        made.append(Workspace(cast(Postgis, server), store, tmp_path))
        return made[-1]

    yield one
    for workspace in made:
        workspace.close()


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "UTF8", "WIN1252"])
def test_names_with_accents(encoding: str, postgis: Postgis, make: Make) -> None:
    """Of areas, columns and tables. In SQL_ASCII they are as whoever wrote them has encoded them."""
    workspace = make(Elsewhere(postgis, encoding))
    tables.add_aoi(workspace.connection, NAME, footprint(ground(1000)))
    workspace.query('ALTER TABLE parcels RENAME TO "Flächen"')
    workspace.query('ALTER TABLE "Flächen" RENAME ogc_fid TO "numéro"')
    workspace.tables.update({"parcel_table": "Flächen", "parcel_id": "numéro", "results_table": "résultats"})
    workspace.args["name"] = NAME
    for shape in squares(3):
        workspace.query('INSERT INTO "Flächen" (wkb_geometry) VALUES (ST_GeomFromText(%s, 32633))', shape.wkt)
    scene = workspace.add_s2()
    outcome = workspace.run("s2", env={"PGCLIENTENCODING": "LATIN1"})
    assert (outcome.code, outcome.errors) == (0, [])
    (log,) = workspace.log(scene)
    assert (log["aoi"], log["results"]) == (NAME, "public.résultats")
    assert log["settings"]["parcel_table"] == "public.Flächen"
    assert_same(workspace.signatures(scene, "résultats"), scene.expected(dict(zip((1, 2, 3), squares(3), strict=True))))


def test_a_name_that_the_database_cannot_hold(postgis: Postgis, make: Make) -> None:
    workspace = make(Elsewhere(postgis, "LATIN1"))
    workspace.add_parcels(squares(3))
    scene = workspace.add_s2()
    workspace.args["name"] = "Łódź"
    outcome = workspace.run("s2")
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert "area of interest" in outcome.errors[0]
    assert workspace.status(scene) == "ingested"


def test_text_in_a_database_that_does_not_know_its_encoding(postgis: Postgis, make: Make) -> None:
    """Latin-1 beside UTF-8: nobody can read both."""
    workspace = make(Elsewhere(postgis, "SQL_ASCII"))
    workspace.add_parcels(squares(3))
    scene = workspace.add_s2()
    with workspace.connection.cursor() as cursor:
        cursor.execute(r"UPDATE dias_catalogue SET reference = reference || E'\351'")
    outcome = workspace.run("s2", "--all")
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert "SQL_ASCII" in outcome.errors[0]
    workspace.query(f"UPDATE dias_catalogue SET reference = '{scene.reference}'")
    assert (workspace.status(scene), workspace.log(scene)) == ("ingested", [])
    assert workspace.run("s2", "--all").code == 0


def test_a_reason_that_the_database_cannot_hold(postgis: Postgis, make: Make) -> None:
    """It is written as well as can be: here, the name of a folder."""
    workspace = make(Elsewhere(postgis, "LATIN1"))
    workspace.add_parcels(squares(3))
    scene = workspace.add_s2()
    workspace.data = workspace.cwd / "数据"
    (workspace.cwd / "数据").mkdir()
    # The product is broken in a way that names the file.
    workspace.write(scene.keys["B04"], b"no image")
    outcome = workspace.run("s2", "--data-dir", "数据")
    assert outcome.code == 1
    assert workspace.status(scene) == "failed"
    with Database(DatabaseFile.model_validate(workspace.db_config), "db_config.json") as database:
        assert database.storable("née 数据") == "née \\u6570\\u636e"


def test_postgis_in_a_schema_of_its_own(postgis: Postgis, make: Make) -> None:
    """Outside the search path, as some providers have it."""
    workspace = make(Elsewhere(postgis, schema="Gis"))
    parcels = workspace.add_parcels(squares(3))
    scene = workspace.add_s2()
    outcome = workspace.run("s2", "--all")
    assert (outcome.code, outcome.errors) == (0, [])
    assert_same(workspace.signatures(scene), scene.expected(parcels))
    # The session that replaces a broken one finds it as well; and without a right to it, that is said.
    with worker_role(workspace, "ALL ON ALL TABLES IN SCHEMA public"):
        workspace.ingest(scene)
        outcome = workspace.run("s2")
        assert (outcome.code, len(outcome.errors)) == (2, 1)
        assert 'GRANT USAGE ON SCHEMA "Gis"' in outcome.errors[0]


def test_without_postgis(workspace: Workspace) -> None:
    workspace.db_config["database"]["connection"]["dbname"] = "postgres"
    for options in ((), ("--check",)):
        outcome = workspace.run("s2", *options)
        said: Any = outcome.stdout if options else outcome.errors[0]
        assert outcome.code == 2
        assert "CREATE EXTENSION postgis" in said


def test_the_library_of_postgis_is_not_there(workspace: Workspace) -> None:
    """What an upgrade of the server leaves that brings another version of PostGIS: waiting does not help."""
    workspace.query("UPDATE pg_proc SET probin = '$libdir/postgis-2.5' WHERE probin LIKE '$libdir/postgis-%'")
    for options in (("--all",), ("--check",)):
        outcome = workspace.run("s2", *options)
        said = outcome.stdout if options == ("--check",) else outcome.errors[0]
        assert outcome.code == 2
        assert "postgis-2.5" in said
        assert "ALTER EXTENSION postgis UPDATE" in said


def test_a_standby(store: S3Server, tmp_path: Path) -> None:
    """It may become the primary: an outage, and nothing is begun."""
    with own_postgis() as server:
        signal_file = server.room / "data" / "standby.signal"
        workspace = Workspace(server, store, tmp_path)
        try:
            workspace.add_parcels(squares(3))
            scene = workspace.add_s2()
            assert workspace.run("s2").code == 0
            workspace.ingest(scene)
            workspace.connection.close()
            server.stop()
            signal_file.touch()
            server.start()
            workspace.reconnect()

            asked, outcome = workspace.run("s2", "--check"), workspace.run("s2", "--all")

            assert (asked.code, "FAILED writing: the database is a standby" in asked.stdout) == (75, True)
            assert (outcome.code, len(outcome.errors)) == (75, 1)
            assert "standby" in outcome.errors[0]
            assert (workspace.status(scene), len(workspace.log(scene))) == ("ingested", 1)
            workspace.connection.close()
        finally:
            server.stop()
            signal_file.unlink(missing_ok=True)
            server.start()
            workspace.reconnect()
            workspace.close()
