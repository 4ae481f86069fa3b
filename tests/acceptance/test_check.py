"""`--check` against what is broken outside of the tables, against a sound set-up, and what it costs.

What is broken in the tables is in test_start.py, led-astray libraries as well.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo.servers import free_port
from tests.acceptance.test_start import CATALOGUE, OBJECTS, SIGNATURES, lines
from tests.support.ground import squares
from tests.support.running import wait_until
from tests.support.scenes import Scene
from tests.support.workspace import Workspace

OUTAGE, CONFIGURATION = 75, 2


@dataclass(frozen=True)
class Broken:
    """What is broken, the check that sees it, the exit code, and words of the check's line."""

    broken: Callable[[Workspace], object]
    check: str
    code: int
    words: tuple[str, ...]


def connection(**changes: object) -> Callable[[Workspace], object]:
    return lambda workspace: workspace.db_config["database"]["connection"].update(changes)


def nobody_there(workspace: Workspace) -> None:
    connection(port=free_port())(workspace)


def store(**changes: object) -> Callable[[Workspace], object]:
    return lambda workspace: workspace.s3.update(changes)


def empty_bucket(workspace: Workspace) -> None:
    for key in workspace.stored():
        workspace.remove(key)
    workspace.write("Sentinel-3/OLCI/placeholder", b"")


def directory(*names: str) -> Callable[[Workspace], None]:
    """A directory in place of a bucket, with these folders in it."""

    def broken(workspace: Workspace) -> None:
        root = workspace.folder / "eodata"
        for name in names:
            (root / name).mkdir(parents=True)
        workspace.s3_config = {"s3": {"directory": str(root)}}

    return broken


def data_is_a_file(workspace: Workspace) -> None:
    workspace.data.write_text("")


_listeners: list[socket.socket] = []


def another_server(workspace: Workspace) -> None:
    """At the database's port somebody speaks another language, and first."""
    listener = socket.create_server(("127.0.0.1", 0))
    _listeners.append(listener)

    def serve() -> None:
        while True:
            try:
                incoming, _ = listener.accept()
            except OSError:
                return
            with incoming:
                incoming.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                incoming.recv(1000)

    threading.Thread(target=serve, daemon=True).start()
    connection(port=listener.getsockname()[1])(workspace)


def another_server_without_tls(workspace: Workspace) -> None:
    another_server(workspace)
    connection(sslmode="disable")(workspace)


@pytest.fixture(autouse=True)
def _no_listeners() -> Iterator[None]:
    yield
    while _listeners:
        listener = _listeners.pop()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def sql(*statements: str) -> Callable[[Workspace], None]:
    def broken(workspace: Workspace) -> None:
        for statement in statements:
            workspace.query(statement)

    return broken


def no_parcel_table(workspace: Workspace) -> None:
    workspace.write_config()  # the role's script reads it
    workspace.query("DROP TABLE parcels")


def two_letters(workspace: Workspace) -> None:
    workspace.query(f"CREATE TABLE signatures {SIGNATURES}")
    workspace.extraction["band_labels"] = "api"


CASES: dict[str, Broken] = {
    "an unknown key": Broken(
        lambda workspace: workspace.extraction.update(chunk_sise=5), "configuration", CONFIGURATION, ("chunk_size",)
    ),
    "an unknown key of the store": Broken(store(bukket="x"), "configuration", CONFIGURATION, ("bukket", "bucket")),
    "no data directory": Broken(data_is_a_file, "data directory", CONFIGURATION, ("data", "--data-dir")),
    "nobody at the database's port": Broken(nobody_there, "database", OUTAGE, ("127.0.0.1", "start it")),
    "a wrong password": Broken(connection(dbpasswd="wrong"), "database", CONFIGURATION, ("dbpasswd",)),
    "no such database": Broken(connection(dbname="nothing"), "database", CONFIGURATION, ("nothing", "dbname")),
    "TLS that the database has not": Broken(
        connection(sslmode="require"), "database", CONFIGURATION, ("127.0.0.1", "TLS")
    ),
    "another server": Broken(another_server, "database", CONFIGURATION, ("127.0.0.1",)),
    "another server, without TLS": Broken(another_server_without_tls, "database", CONFIGURATION, ("127.0.0.1",)),
    "an area of another name": Broken(
        lambda workspace: workspace.args.update(name="elsewhere"), "area of interest", CONFIGURATION, ("elsewhere",)
    ),
    "no table of areas": Broken(sql("DROP TABLE aois"), "area of interest", CONFIGURATION, ("aoi_table", "aois")),
    "an area without geometry": Broken(
        sql("UPDATE aois SET wkb_geometry = NULL"), "area of interest", CONFIGURATION, ("my_aoi", "geometry")
    ),
    "no catalogue": Broken(sql("DROP TABLE dias_catalogue"), "catalogue", CONFIGURATION, ("dias_catalogue",)),
    "no table of parcels": Broken(no_parcel_table, "parcel table", CONFIGURATION, ("parcel_table",)),
    "a log that is not ours": Broken(
        sql("CREATE TABLE extraction_log (line text)"), "extraction log", CONFIGURATION, ("extraction_log", "run_id")
    ),
    "results without a column": Broken(
        sql(f"CREATE TABLE signatures {SIGNATURES}", "ALTER TABLE signatures DROP p75"),
        "results table",
        CONFIGURATION,
        ("signatures", "p75"),
    ),
    "labels that do not fit": Broken(two_letters, "results table", CONFIGURATION, ("band", "varchar(3)")),
    "no bucket": Broken(store(bucket="no-such-bucket"), "store", CONFIGURATION, ("s3.bucket", "no-such-bucket")),
    "a bucket of others": Broken(empty_bucket, "store", CONFIGURATION, ("s3.bucket", "Sentinel-2/")),
    "nobody at the store's port": Broken(
        lambda workspace: workspace.s3.update(host=f"http://127.0.0.1:{free_port()}"), "store", OUTAGE, ("127.0.0.1",)
    ),
    "no TLS at the store's port": Broken(
        lambda workspace: workspace.s3.update(host=workspace.s3["host"].replace("http:", "https:")),
        "store",
        CONFIGURATION,
        ("s3.host", "http://"),
    ),
    "a directory in which nothing is mounted": Broken(directory("."), "store", CONFIGURATION, ("eodata",)),
    "a directory of others": Broken(directory("Sentinel-3"), "store", CONFIGURATION, ("eodata", "Sentinel-2/")),
}


@pytest.fixture
def scene(workspace: Workspace) -> Scene:
    workspace.add_parcels(squares(6))
    return workspace.add_s2()


def described(workspace: Workspace) -> tuple[str | None, str]:
    """The catalogue and the tables that there are."""
    there = workspace.one("SELECT to_regclass('dias_catalogue') IS NOT NULL")
    return workspace.one(CATALOGUE) if there else None, workspace.one(OBJECTS)


@pytest.mark.parametrize("name", CASES)
def test_what_is_broken(name: str, workspace: Workspace, scene: Scene) -> None:
    case = CASES[name]
    case.broken(workspace)
    workspace.write_config()  # the role and its tables
    before = described(workspace)
    files = workspace.files()

    asked = workspace.run("s2", "--check")

    assert (asked.code, asked.errors) == (case.code, []), asked.output
    seen = lines(asked)
    ok, text = seen[case.check]
    assert not ok
    for word in case.words:
        assert word in text
    # Whatever is not looked at is said not to be, and because of what.
    rest = [line for check, (fine, line) in seen.items() if not fine and check != case.check]
    assert [line for line in rest if "not looked at" not in line] == []
    assert (described(workspace), workspace.files()) == (before, files)


@pytest.mark.parametrize("card", ["s2", "bs", "c6"])
def test_a_sound_setup(card: str, workspace: Workspace) -> None:
    workspace.add_parcels(squares(6))
    add: dict[str, Callable[[], Scene]] = {"s2": workspace.add_s2, "bs": workspace.add_bs, "c6": workspace.add_c6}
    scene = add[card]()
    workspace.write_config()  # the role and its tables
    before = described(workspace)
    asked = workspace.run(card, "--check")
    assert (asked.code, asked.stderr) == (0, "")
    assert [check for check, (ok, _) in lines(asked).items() if not ok] == []
    assert described(workspace) == before
    assert workspace.status(scene) == "ingested"


def test_what_is_in_nobodys_way(workspace: Workspace, scene: Scene) -> None:
    """Rules and publications of what is never done: scenes are not deleted, results not updated."""
    workspace.query(f"CREATE TABLE signatures {SIGNATURES}")
    workspace.query("CREATE RULE protect AS ON DELETE TO dias_catalogue DO INSTEAD NOTHING")
    workspace.query("CREATE RULE protect AS ON UPDATE TO signatures DO INSTEAD NOTHING")
    workspace.query("CREATE PUBLICATION new_rows FOR TABLE signatures WITH (publish = 'insert')")
    assert workspace.run("s2", "--check").code == 0
    for _ in range(2):
        workspace.ingest(scene)
        assert workspace.run("s2").code == 0
        assert workspace.rows(scene) == 18


def test_a_sound_directory(workspace: Workspace, scene: Scene) -> None:
    directory(str(Path(scene.keys["B04"]).parent))(workspace)
    assert json.loads(json.dumps(workspace.s3_config))["s3"].keys() == {"directory"}
    (workspace.folder / "eodata" / scene.keys["B04"]).write_bytes(b"")
    asked = workspace.run("s2", "--check")
    assert (asked.code, asked.stderr) == (0, "")


MANY = 20_000


def rows_read(workspace: Workspace, *options: str) -> int:
    """How many rows of the parcel table a worker, or `--check`, reads that goes through it from end to end."""
    workspace.query(
        "INSERT INTO parcels (wkb_geometry) SELECT ST_MakeEnvelope(x, y, x + 9, y + 9, 32633)"
        " FROM generate_series(500000, 501990, 10) x, generate_series(5098000, 5098990, 10) y"
    )
    workspace.query("ANALYZE parcels")
    assert workspace.one("SELECT count(*) FROM parcels") == MANY
    read = "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'parcels'"
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    workspace.query("SELECT pg_stat_force_next_flush()")
    before = int(workspace.one(read))
    assert before >= MANY
    assert workspace.run("s2", *options).code == 0
    # A session's numbers are there when it has ended.
    wait_until(lambda: workspace.one(sessions) == 1, "the end of the worker's session")
    return int(workspace.one(read)) - before


@pytest.mark.parametrize("options", [("--check",), ()], ids=["--check", "nothing to do"])
def test_no_query_walks_through_all_parcels(options: tuple[str, ...], workspace: Workspace) -> None:
    """With the index and the type that ogr2ogr gives them; a million take no longer."""
    workspace.add_s2(status="ingested" if options else "extracted")
    assert rows_read(workspace, *options) < MANY / 10


def test_that_a_walk_is_seen(workspace: Workspace) -> None:
    """The control: SRIDs that no type promises are counted."""
    workspace.add_s2()
    workspace.query("ALTER TABLE parcels ALTER wkb_geometry TYPE geometry")
    assert rows_read(workspace, "--check") >= MANY


def test_what_is_not_known_without_an_index_is_said(workspace: Workspace, scene: Scene) -> None:
    """And which indexes help."""
    workspace.query("ALTER TABLE parcels DROP CONSTRAINT parcels_pkey")
    workspace.query("DROP INDEX parcels_wkb_geometry_idx")
    workspace.query(f"CREATE TABLE signatures {SIGNATURES}")
    asked = workspace.run("s2", "--check")
    assert asked.code == 0
    seen = lines(asked)
    assert "unchecked" in seen["ids of parcels"][1]
    assert "CREATE INDEX CONCURRENTLY ON public.parcels USING gist (wkb_geometry)" in seen["indexes"][1]
    # Without it a table of 100 million rows is read from end to end for every scene.
    assert "CREATE INDEX CONCURRENTLY ON public.signatures USING brin (obsid)" in seen["indexes"][1]
