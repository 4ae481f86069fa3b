"""Tables that are absent are created once, however many workers start together."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from extractors.database.connection import Database
from extractors.database.making import make_tables
from extractors.database.outputs import HISTS
from extractors.database.tables import TableReader
from extractors.errors import ConfigurationError
from tests.integration.conftest import Ground

WORKERS = 8
TABLES = (
    "SELECT relname FROM pg_class WHERE relname ~ '^(signatures|hists|extraction_log)' AND relkind = 'r' ORDER BY 1"
)


@pytest.fixture
def ground(ground: Ground) -> Ground:
    """One whose configuration names a table for histograms."""
    ground.config["database"]["tables"]["hists_table"] = "hists"
    return ground


def test_eight_workers_that_start_together_create_each_table_once(ground: Ground) -> None:
    ground.read(ground.database())
    barrier = threading.Barrier(WORKERS, timeout=30)

    def start() -> tuple[str, str, str]:
        database = ground.database()
        absent = ground.read(database)
        barrier.wait()
        tables = make_tables(database, absent)
        assert make_tables(database, tables) is tables
        assert ground.read(database) == tables
        return str(tables.results), str(tables.of_results[HISTS]), str(tables.log)

    for _ in range(3):
        with ThreadPoolExecutor(WORKERS) as threads:
            found = [done.result() for done in [threads.submit(start) for _ in range(WORKERS)]]
        assert set(found) == {("public.signatures", "public.hists", "public.extraction_log")}
        assert ground.query(TABLES) == [("extraction_log",), ("hists",), ("signatures",)]
        ground.query("DROP TABLE signatures, hists, extraction_log")


def test_reading_changes_nothing(ground: Ground) -> None:
    """Nor could it: the session may not write."""
    objects = "SELECT oid, relname, xmin::text FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY oid"
    tables = ground.read(ground.database())  # after which there is a table of parcels
    before = ground.query(objects)
    database = ground.database(default_transaction_read_only="on")
    assert ground.read(database) == tables
    assert ground.query(objects) == before
    absent = (tables.log, *tables.of_results.values())
    # Where they would be is known already.
    assert [(str(table), table.absent) for table in absent] == [
        ("public.extraction_log", True),
        ("public.signatures", True),
        ("public.hists", True),
    ]
    assert ground.query("SELECT FROM pg_locks WHERE locktype = 'advisory'") == []


def test_nothing_is_made_for_a_configuration_that_cannot_work(ground: Ground, database: Database) -> None:
    """The last table of all cannot be made: then none is."""
    ground.config["database"]["tables"]["hists_table"] = "nowhere.hists"
    tables = ground.read(database)
    with pytest.raises(ConfigurationError, match=r"database\.tables\.hists_table.*nowhere"):
        make_tables(database, tables)
    assert ground.query(TABLES) == []


def test_without_histograms_their_table_is_not_made(ground: Ground, database: Database) -> None:
    ground.read(database)
    tables = TableReader(database, ground.settings, "db_config.json", ["VV"], False).all()
    assert HISTS not in make_tables(database, tables).of_results
    assert ground.query(TABLES) == [("extraction_log",), ("signatures",)]


def test_a_table_that_others_make_meanwhile_is_checked(ground: Ground, database: Database) -> None:
    tables = ground.read(database)
    ground.query("CREATE TABLE signatures (pid int)")
    with pytest.raises(ConfigurationError, match=r"results_table: table public\.signatures has no column obsid"):
        make_tables(database, tables)
    assert ground.query(TABLES) == [("signatures",)]


def columns(ground: Ground, table: str) -> list[tuple[str, str]]:
    return ground.query(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum",
        table,
    )


def test_created_tables_have_the_columns_that_others_read(ground: Ground) -> None:
    tables = ground.tables(ground.database())
    assert tables.results.made_here
    assert tables.results.columns.keys() == {name for name, _ in columns(ground, "signatures")}
    assert columns(ground, "signatures") == [
        ("pid", "integer"), ("obsid", "integer"), ("band", "character varying(3)"), ("count", "real"),
        ("mean", "real"), ("std", "real"), ("min", "real"), ("max", "real"), ("p25", "real"), ("p50", "real"),
        ("p75", "real"),
    ]  # fmt: skip
    assert columns(ground, "hists") == [("pid", "integer"), ("obsid", "integer"), ("hist", "json")]


@pytest.mark.parametrize(("kind", "expected"), [("smallint", "integer"), ("integer", "integer"), ("bigint", "bigint")])
def test_ids_of_the_parcels_fit(kind: str, expected: str, ground: Ground) -> None:
    ground.query(f"CREATE TABLE parcels (ogc_fid {kind}, wkb_geometry geometry(Polygon, 32633))")
    ground.tables(ground.database())
    assert columns(ground, "signatures")[0] == columns(ground, "hists")[0] == ("pid", expected)


def test_tables_in_a_schema(ground: Ground) -> None:
    ground.query("CREATE SCHEMA nl")
    ground.config["database"]["tables"] |= {"results_table": "nl.sigs", "hists_table": "nl.hists"}
    tables = ground.tables(ground.database())
    assert (str(tables.results), str(tables.of_results[HISTS])) == ("nl.sigs", "nl.hists")
    made = "SELECT relname FROM pg_class WHERE relnamespace = 'nl'::regnamespace AND relkind = 'r' ORDER BY 1"
    assert ground.query(made) == [
        ("hists",),
        ("sigs",),
    ]


def test_the_log_lies_beside_the_catalogue(ground: Ground) -> None:
    ground.query("CREATE SCHEMA nl")
    ground.query("ALTER TABLE dias_catalogue SET SCHEMA nl")
    ground.config["database"]["tables"]["catalogue_table"] = "nl.dias_catalogue"
    assert str(ground.tables(ground.database()).log) == "nl.extraction_log"
    assert ground.one("SELECT to_regclass('nl.extraction_log')") == "nl.extraction_log"


def test_an_existing_table_is_found_in_small_letters_too(ground: Ground) -> None:
    # Configurations of old were used unquoted, which makes small letters of all.
    ground.config["database"]["tables"]["results_table"] = "Sigs_NL"
    database = ground.database()
    assert str(ground.tables(database).results) == "public.Sigs_NL"
    ground.query('ALTER TABLE "Sigs_NL" RENAME TO sigs_nl')
    assert str(ground.tables(database).results) == "public.sigs_nl"
