"""Tables that are absent are created once, however many workers start together."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from extractors.database.results import open_hists, open_results
from tests.integration.conftest import Ground

WORKERS = 8


def test_eight_workers_that_start_together_create_each_table_once(ground: Ground) -> None:
    ground.config["database"]["tables"]["hists_table"] = "hists"
    settings = ground.settings
    barrier = threading.Barrier(WORKERS, timeout=30)

    def start() -> tuple[str, str, str]:
        session = ground.connect()
        barrier.wait()
        results = open_results(session, settings, "db_config.json", ["B4"], "int4")
        barrier.wait()
        hists = open_hists(session, settings, "db_config.json", "int4")
        barrier.wait()
        catalogue = ground.open_catalogue(session)
        assert hists is not None
        return str(results.table), str(hists.table), str(catalogue.log)

    for _ in range(3):
        with ThreadPoolExecutor(WORKERS) as threads:
            found = [done.result() for done in [threads.submit(start) for _ in range(WORKERS)]]
        assert set(found) == {("public.signatures", "public.hists", "public.extraction_log")}
        assert ground.query(
            "SELECT relname FROM pg_class WHERE relname ~ '^(signatures|hists|extraction_log)' AND relkind = 'r' "
            "ORDER BY 1"
        ) == [("extraction_log",), ("hists",), ("signatures",)]
        ground.query("DROP TABLE signatures, hists, extraction_log")


def test_created_tables_have_the_columns_that_others_read(ground: Ground) -> None:
    ground.config["database"]["tables"]["hists_table"] = "hists"
    session = ground.connect()
    open_results(session, ground.settings, "db_config.json", ["VVb"], "int4")
    open_hists(session, ground.settings, "db_config.json", "int4")

    def columns(table: str) -> list[tuple[str, str]]:
        return [
            (name, kind)
            for name, kind in ground.query(
                "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
                "WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum",
                table,
            )
        ]

    assert columns("signatures") == [
        ("pid", "integer"), ("obsid", "integer"), ("band", "character varying(3)"), ("count", "real"),
        ("mean", "real"), ("std", "real"), ("min", "real"), ("max", "real"), ("p25", "real"), ("p50", "real"),
        ("p75", "real"),
    ]  # fmt: skip
    assert columns("hists") == [("pid", "integer"), ("obsid", "integer"), ("hist", "json")]


def test_ids_of_the_parcels_fit(ground: Ground) -> None:
    results = open_results(ground.connect(), ground.settings, "db_config.json", ["B4"], "int8")
    ground.query("INSERT INTO signatures (pid) VALUES (3000000000)")
    assert results.columns["pid"].type == "int8"


def test_tables_in_a_schema(ground: Ground) -> None:
    ground.query("CREATE SCHEMA nl")
    ground.config["database"]["tables"] |= {"results_table": "nl.sigs", "hists_table": "nl.hists"}
    session = ground.connect()
    assert str(open_results(session, ground.settings, "x", ["B4"], "int4").table) == "nl.sigs"
    hists = open_hists(session, ground.settings, "x", "int4")
    assert hists is not None
    assert str(hists.table) == "nl.hists"


def test_the_log_lies_beside_the_catalogue(ground: Ground) -> None:
    ground.query("CREATE SCHEMA nl")
    ground.query("ALTER TABLE dias_catalogue SET SCHEMA nl")
    ground.config["database"]["tables"]["catalogue_table"] = "nl.dias_catalogue"
    assert str(ground.open_catalogue(ground.connect()).log) == "nl.extraction_log"


def test_an_existing_table_is_found_in_small_letters_too(ground: Ground) -> None:
    # Configurations of old were used unquoted, which makes small letters of all.
    ground.query("CREATE TABLE Sigs_NL (LIKE aois)")
    ground.query("DROP TABLE sigs_nl")
    ground.config["database"]["tables"]["results_table"] = "Sigs_NL"
    session = ground.connect()
    assert str(open_results(session, ground.settings, "x", ["B4"], "int4").table) == "public.Sigs_NL"
    ground.query('ALTER TABLE "Sigs_NL" RENAME TO sigs_nl')
    assert str(open_results(session, ground.settings, "x", ["B4"], "int4").table) == "public.sigs_nl"
