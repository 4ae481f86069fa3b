"""The results tables: which ones are served, and what is written into them and removed."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import psycopg2.extensions
import pytest

from extractors.database import results
from extractors.database.connection import Database
from extractors.database.copy import add_result, encode_hists, encode_signatures
from extractors.database.making import make_tables
from extractors.database.outputs import HISTS, RESULTS
from extractors.database.results import ResultsTable, Rows
from extractors.database.tables import TableReader
from extractors.errors import ClaimLostError, ConfigurationError
from extractors.model import Outcome, ParcelCounts
from extractors.signatures import ChunkResult, Signatures
from tests.integration.conftest import Ground, Worker
from tests.support.ground import squares
from tests.support.workspace import Workspace

Cursor = psycopg2.extensions.cursor

NUMBERS = np.array([[4.0, 8.5, 2.0, 6.0, 11.0, 6.75, 8.5, 10.25], [1.0, 0.5, 0.0, 0.5, 0.5, 0.5, 0.5, 0.5]])
ROWS = Signatures("B4", np.array([101, 102]), NUMBERS)
STORED = [(101, 7, "B4", 4, 8.5, 2, 6, 11, 6.75, 8.5, 10.25), (102, 7, "B4", 1, 0.5, 0, 0.5, 0.5, 0.5, 0.5, 0.5)]
ALL = "pid, obsid, band, count, mean, std, min, max, p25, p50, p75"
STATISTIC_COLUMNS = "mean real, std real, min real, max real, p25 real, p50 real, p75 real"


def opened(ground: Ground, database: Database, *labels: str) -> ResultsTable:
    return ResultsTable(ground.tables(database, *labels).results)


def opened_hists(ground: Ground, database: Database) -> ResultsTable:
    ground.config["database"]["tables"]["hists_table"] = "hists"
    return ResultsTable(ground.tables(database).of_results[HISTS])


def copy_rows(table: ResultsTable, cursor: Cursor, obsid: int, parts: Iterable[Signatures]) -> None:
    with Rows(Path(tempfile.gettempdir()), 1000) as rows:
        for part in parts:
            rows.of[RESULTS].add(encode_signatures(table, obsid, part), len(part.pid))
        table.copy(cursor, rows.of[RESULTS])


def copy_hists(table: ResultsTable, cursor: Cursor, of_parcels: list[tuple[int, dict[str, int]]]) -> None:
    with Rows(Path(tempfile.gettempdir()), 0) as rows:
        rows.of[HISTS].add(encode_hists(7, of_parcels), len(of_parcels))
        table.copy(cursor, rows.of[HISTS])


def copy(table: ResultsTable, database: Database, *parts: Signatures, obsid: int = 7) -> None:
    with database.transaction("testing") as cursor:
        copy_rows(table, cursor, obsid, parts or (ROWS,))


def stored(ground: Ground, columns: str = ALL, table: str = "signatures") -> list[tuple[object, ...]]:
    return ground.query(f"SELECT {columns} FROM {table} ORDER BY pid")


def test_rows_arrive_as_they_are(ground: Ground, database: Database) -> None:
    copy(opened(ground, database), database)
    assert stored(ground) == STORED


@pytest.mark.parametrize(
    "columns",
    [
        "p75 real, p50 real, p25 real, max real, min real, std real, mean real, count real, band char(2), obsid int, "
        "pid int",
        f"id serial PRIMARY KEY, pid bigint, obsid bigint, band text, count real, {STATISTIC_COLUMNS}, note text",
        f"pid int, made timestamptz NOT NULL DEFAULT now(), obsid int, band char(2), count real, {STATISTIC_COLUMNS}",
        "pid int, obsid int, band char(2), count float8, mean float8, std float8, min float8, max float8, p25 float8, "
        "p50 float8, p75 float8",
        "pid int, obsid int, band varchar(12), count numeric, mean numeric, std numeric, min numeric, max numeric, "
        "p25 numeric, p50 numeric, p75 numeric",
        f"pid int, obsid int, band char(2), count int, {STATISTIC_COLUMNS}",
        f"pid int, obsid int, band char(2), count real, {STATISTIC_COLUMNS}, PRIMARY KEY (pid, obsid, band)",
    ],
    ids=["another order", "more columns", "a column that fills itself", "float8", "numeric", "count int4", "a key"],
)
def test_established_tables_are_served(columns: str, ground: Ground, database: Database) -> None:
    ground.query(f"CREATE TABLE signatures ({columns})")
    copy(opened(ground, database), database)
    assert stored(ground) == STORED


def test_stdev_is_another_spelling_of_std(ground: Ground, database: Database) -> None:
    ground.query(
        "CREATE TABLE signatures (pid int, obsid int, band char(2), count real, mean real, stdev real, min real, "
        "max real, p25 real, p50 real, p75 real)"
    )
    copy(opened(ground, database), database)
    assert stored(ground, ALL.replace("std", "stdev")) == STORED


def test_std_is_filled_where_both_are_there(ground: Ground, database: Database) -> None:
    ground.query(
        f"CREATE TABLE signatures (pid int, obsid int, band char(2), stdev real, count real, {STATISTIC_COLUMNS})"
    )
    copy(opened(ground, database), database)
    assert stored(ground, "std, stdev") == [(2, None), (0, None)]


def test_float64_reaches_real_as_postgresql_rounds_it(ground: Ground, database: Database) -> None:
    numbers = NUMBERS.copy()
    numbers[:, 1] = [1 / 3, 16_777_217.0]
    copy(opened(ground, database), database, Signatures("B4", ROWS.pid, numbers))
    assert ground.query("SELECT mean::float8 FROM signatures ORDER BY pid") == [(0.3333333432674408,), (16_777_216.0,)]


def test_float64_stays_float64(ground: Ground, database: Database) -> None:
    ground.query(f"CREATE TABLE signatures (pid int, obsid int, band text, count int, {STATISTIC_COLUMNS})")
    ground.query("ALTER TABLE signatures ALTER mean TYPE float8, ALTER std TYPE numeric")
    numbers = NUMBERS.copy()
    numbers[:, 1] = numbers[:, 2] = [1 / 3, 1e-20]
    copy(opened(ground, database), database, Signatures("B4", ROWS.pid, numbers))
    assert ground.query("SELECT mean, std::float8 FROM signatures ORDER BY pid") == [(1 / 3, 1 / 3), (1e-20, 1e-20)]


def test_many_rows_go_in_several_pieces(ground: Ground, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "ROWS_AT_ONCE", 3)
    parts = [Signatures("B4", np.array([2 * n, 2 * n + 1]), NUMBERS) for n in range(5)]
    copy(opened(ground, database), database, *parts, Signatures("B8", np.array([], np.int64), NUMBERS[:0]))
    assert [row[0] for row in stored(ground, "pid")] == list(range(10))


@pytest.mark.parametrize("labels", [("B4", "B8", "SC"), ("B04", "B08", "SC")], ids=["as long", "of different length"])
@pytest.mark.parametrize("kind", ["real", "numeric"], ids=["binary", "as text"])
def test_a_parcel_s_rows_of_a_chunk_lie_next_to_each_other(
    labels: tuple[str, ...], kind: str, ground: Ground, database: Database
) -> None:
    """They are on one page then, for whoever reads its series; and they are the same rows, each once."""
    ground.query(
        f"CREATE TABLE signatures (pid int, obsid int, band varchar(3), count {kind}, "
        f"{STATISTIC_COLUMNS.replace('real', kind)})"
    )
    table = opened(ground, database)
    pids, random = np.array([300, 100, 200, 50]), np.random.default_rng(1)
    result = ChunkResult(4, pids)
    # Parts as windows give them; one parcel has no row in one band.
    for label in labels:
        for chosen in (slice(0, 1), slice(1, 3), slice(3, 3 if label == "SC" else 4)):
            numbers = random.integers(1, 99, (len(pids[chosen]), 8)).astype(float)
            result.signatures.append(Signatures(label, pids[chosen], numbers))
    with Rows(Path(tempfile.gettempdir()), 1000) as rows, database.transaction("testing") as cursor:
        add_result(rows, {RESULTS: table.table}, 7, result)
        assert rows.of[RESULTS].total == 11
        table.copy(cursor, rows.of[RESULTS])
    found = ground.query(f"SELECT {ALL} FROM signatures ORDER BY ctid")
    assert [(pid, band) for pid, _, band, *_ in found] == [
        (pid, band) for pid in sorted(pids.tolist()) for band in labels if (pid, band) != (50, "SC")
    ]
    expected = {
        (pid, part.label): tuple(row)
        for part in result.signatures
        for pid, row in zip(part.pid.tolist(), part.table.tolist(), strict=True)
    }
    assert {(pid, band): tuple(map(float, row)) for pid, _, band, *row in found} == expected


@pytest.mark.parametrize("kind", ["int2", "int4"])
def test_ids_that_do_not_fit_are_told_of(kind: str, ground: Ground, database: Database) -> None:
    ground.query(f"CREATE TABLE signatures (pid {kind}, obsid int, band char(2), count real, {STATISTIC_COLUMNS})")
    largest = int(np.iinfo(f"i{kind[-1]}").max)
    table = opened(ground, database)
    copy(table, database, Signatures("B4", np.array([largest]), NUMBERS[:1]))
    with pytest.raises(
        ConfigurationError, match=rf"column pid of table public\.signatures is too narrow for {largest + 1}"
    ):
        copy(table, database, Signatures("B4", np.array([largest + 1]), NUMBERS[:1]))
    assert [row[0] for row in stored(ground, "pid")] == [largest]


def test_a_scene_s_number_that_does_not_fit_is_told_of(ground: Ground, database: Database) -> None:
    ground.query(f"CREATE TABLE signatures (pid int, obsid int2, band char(2), count real, {STATISTIC_COLUMNS})")
    with pytest.raises(ConfigurationError, match=r"column obsid of table public\.signatures is too narrow for 40000"):
        copy(opened(ground, database), database, obsid=40_000)


@pytest.mark.parametrize("count", [32_767, 32_768, 70_000])
def test_a_count_that_does_not_fit_is_told_of(count: int, ground: Ground, database: Database) -> None:
    ground.query(f"CREATE TABLE signatures (pid int, obsid int, band char(2), count int2, {STATISTIC_COLUMNS})")
    numbers = NUMBERS[:1].copy()
    numbers[0, 0] = count
    part = Signatures("B4", np.array([101]), numbers)
    if count <= 32_767:
        copy(opened(ground, database), database, part)
        assert ground.one("SELECT count FROM signatures") == count
        return
    with pytest.raises(ConfigurationError, match=r"column count of table public\.signatures"):
        copy(opened(ground, database), database, part)


def test_a_table_with_an_odd_name(ground: Ground, database: Database) -> None:
    ground.query("CREATE SCHEMA nl")
    ground.config["database"]["tables"]["results_table"] = 'nl.Sigs "2020"; --'
    table = opened(ground, database)
    copy(table, database)
    assert str(table.table) == 'nl.Sigs "2020"; --'
    assert ground.one('SELECT count(*) FROM nl."Sigs ""2020""; --"') == 2


def test_copying_is_part_of_the_caller_s_transaction(ground: Ground, database: Database) -> None:
    table = opened(ground, database)
    with pytest.raises(ZeroDivisionError), database.transaction("testing") as cursor:
        copy_rows(table, cursor, 7, [ROWS])
        _ = 1 / 0
    assert stored(ground) == []


def test_no_rows_are_no_trouble(ground: Ground, database: Database) -> None:
    copy(opened(ground, database), database, Signatures("B4", ROWS.pid[:0], NUMBERS[:0]))
    assert stored(ground) == []


# Histograms


def test_histograms_arrive_as_json(ground: Ground, database: Database) -> None:
    table = opened_hists(ground, database)
    with database.transaction("testing") as cursor:
        copy_hists(table, cursor, [(101, {"4": 3, "11": 1}), (103, {"8": 2})])
    assert stored(ground, "pid, obsid, hist", "hists") == [(101, 7, {"4": 3, "11": 1}), (103, 7, {"8": 2})]
    assert ground.one("SELECT sum((hist->>'4')::int) FROM hists") == 3


@pytest.mark.parametrize("kind", ["json", "jsonb", "text"])
def test_histograms_in_established_tables(kind: str, ground: Ground, database: Database) -> None:
    ground.query(f"CREATE TABLE hists (hist {kind}, obsid int, pid int, PRIMARY KEY (pid, obsid))")
    table = opened_hists(ground, database)
    with database.transaction("testing") as cursor:
        copy_hists(table, cursor, [(101, {"4": 3})])
    assert stored(ground, "pid, hist::jsonb", "hists") == [(101, {"4": 3})]


def test_no_hists_table_is_configured(ground: Ground, database: Database) -> None:
    assert HISTS not in ground.tables(database).of_results
    assert ground.one("SELECT to_regclass('hists')") is None


# What is replaced


@pytest.mark.parametrize(
    ("made_here", "before", "left", "kept"),
    [
        # Nothing is looked for: the table may be large, and without an index.
        (True, False, [(101, 7), (101, 8), (102, 7), (103, 7)], 0),
        (True, True, [(101, 8), (103, 7)], 1),
        (False, False, [(101, 8), (103, 7)], 1),
        (False, True, [(101, 8), (103, 7)], 1),
    ],
    ids=["ours, never before", "ours, before", "established, never before", "established, before"],
)
def test_what_a_scene_s_new_rows_replace(
    made_here: bool, before: bool, left: list[tuple[int, int]], kept: int, ground: Ground, database: Database
) -> None:
    if not made_here:
        ground.query(f"CREATE TABLE signatures (pid int, obsid int, band char(2), count real, {STATISTIC_COLUMNS})")
    table = opened(ground, database)
    assert table.table.made_here == made_here
    copy(table, database, ROWS, Signatures("B4", np.array([103]), NUMBERS[:1]))
    copy(table, database, Signatures("SC", np.array([101]), NUMBERS[:1]), obsid=8)
    with database.transaction("testing") as cursor:
        assert table.clear(cursor, 7, before, array("q", [101, 102])) == kept
    assert ground.query("SELECT pid, obsid FROM signatures ORDER BY 1, 2") == left


@pytest.mark.parametrize("made_here", [True, False], ids=["made by the worker", "established"])
def test_a_scene_that_is_extracted_again_into_another_table_has_its_histograms_once(
    made_here: bool, workspace: Workspace
) -> None:
    if not made_here:
        workspace.query("CREATE TABLE hists (pid int, obsid int, hist json)")
    workspace.tables["hists_table"] = "hists"
    workspace.add_parcels(squares(3))
    scene = workspace.add_s2()
    for results_table in ("signatures", "signatures", "other_signatures"):
        workspace.tables["results_table"] = results_table
        workspace.ingest(scene)
        assert workspace.run("s2").code == 0
        assert workspace.rows(scene, results_table) == 9
        assert workspace.rows(scene, "hists") == 3


SIGNATURES = f"CREATE TABLE signatures (pid int, obsid int, band char(2), count real, {STATISTIC_COLUMNS})"


@pytest.mark.parametrize(
    ("statement", "labels", "message"),
    [
        (
            SIGNATURES.replace("p25 real, ", ""),
            ("B4",),
            "table public.signatures has no column p25; add it (its columns must be pid, obsid, band, count, mean, "
            "std, min, max, p25, p50, p75), or write the name of another table",
        ),
        (
            SIGNATURES.replace("std real, ", ""),
            ("B4",),
            "table public.signatures has no column std; add it (its columns must be pid, obsid, band, count, mean, "
            "std, min, max, p25, p50, p75), or write the name of another table",
        ),
        (
            SIGNATURES.replace("mean real", "mean text"),
            ("B4",),
            "column mean of table public.signatures has the type text, which cannot hold it; change it to one of "
            "float4, float8, numeric",
        ),
        (
            SIGNATURES.replace("pid int,", "pid text,"),
            ("B4",),
            "column pid of table public.signatures has the type text, which cannot hold it; change it to one of int2, "
            "int4, int8",
        ),
        (
            SIGNATURES.replace("pid int,", "pid int, year int NOT NULL,"),
            ("B4",),
            "column year of table public.signatures is NOT NULL without a default, and nothing writes it; drop it, "
            "allow NULL or give it a default",
        ),
        (
            SIGNATURES,
            ("B04", "SC"),
            "column band of table public.signatures holds 2 characters, but the labels have 3; widen it (ALTER TABLE "
            "public.signatures ALTER COLUMN band TYPE varchar(3)), or write extraction.band_labels = classic",
        ),
        (
            SIGNATURES.replace("char(2)", "varchar(1)"),
            ("VV",),
            "column band of table public.signatures holds 1 characters, but the labels have 2; widen it (ALTER TABLE "
            "public.signatures ALTER COLUMN band TYPE varchar(2)), or write extraction.band_labels = classic",
        ),
    ],
    ids=["no p25", "no std", "text", "text as id", "a column nobody writes", "narrow band", "narrower band"],
)
def test_tables_that_cannot_be_served(
    statement: str, labels: tuple[str, ...], message: str, ground: Ground, database: Database
) -> None:
    ground.query(statement)
    with pytest.raises(ConfigurationError) as caught:
        ground.read(database, *labels)
    assert str(caught.value) == f"db_config.json: database.tables.results_table: {message}"


def test_a_hists_table_that_cannot_be_served(ground: Ground, database: Database) -> None:
    ground.query("CREATE TABLE hists (pid int, obsid int, hist int)")
    with pytest.raises(ConfigurationError, match=r"hists_table: column hist of table public\.hists has the type int4"):
        opened_hists(ground, database)


def test_a_schema_that_does_not_exist(ground: Ground, database: Database) -> None:
    ground.config["database"]["tables"]["results_table"] = "nowhere.signatures"
    with pytest.raises(ConfigurationError, match=r"results_table.*nowhere"):
        opened(ground, database)


def test_no_right_to_create(ground: Ground, database: Database) -> None:
    ground.read(database)
    ground.query("CREATE ROLE reader LOGIN PASSWORD 'reader'")
    ground.query("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    try:
        ground.config["database"]["connection"] |= {"dbuser": "reader", "dbpasswd": "reader"}
        with ground.database() as database_of_reader:
            tables = TableReader(database_of_reader, ground.settings, "db_config.json", ["B4"], True).all()
            with pytest.raises(
                ConfigurationError,
                match=r"the database user lacks a right while creating the table .*signatures.*GRANT",
            ):
                make_tables(database_of_reader, tables)
    finally:
        ground.query("DROP OWNED BY reader")
        ground.query("DROP ROLE reader")


# Published


def filled(worker: Worker, scene: int, rows: Rows) -> ParcelCounts:
    """What a chunk of three parcels gave, of which the last one has no row."""
    result = ChunkResult(3, np.array([101, 102, 103]), [ROWS], {"B4": {"nodata": np.array([103])}})
    result.hists += [(101, {"4": 3}), (103, {"8": 2})]
    add_result(rows, worker.tables.of_results, scene, result)
    rows.selected = 3
    rows.pids.extend([101, 102, 103])
    counts = ParcelCounts(bands=("B4",))
    counts.add(result)
    return counts


def test_rows_status_and_log_are_published_together(ground: Ground, tmp_path: Path) -> None:
    ground.config["database"]["tables"]["hists_table"] = "hists"
    worker = ground.worker()
    scene = ground.add_scene()
    for _ in range(2):  # the second time, in place of the first one's
        ground.set_status(scene, "ingested")
        claimed = worker.queue.claim()
        assert claimed is not None
        with Rows(tmp_path, 0) as rows:
            counts = filled(worker, scene, rows)
            worker.queue.publishing.publish(claimed, Outcome("extracted", "extracted", counts.in_words()), counts, rows)
        assert ground.status(scene) == "extracted"
        assert ground.query("SELECT pid, obsid FROM signatures ORDER BY 1") == [(101, scene), (102, scene)]
        assert ground.query("SELECT pid, obsid FROM hists ORDER BY 1") == [(101, scene), (103, scene)]
        attempt = ground.log(scene)[-1]
        assert (attempt["outcome"], attempt["detail"]) == ("extracted", "B4: 2 of 3 parcels (1 nodata)")
        assert (attempt["rows_written"], attempt["seconds"].keys()) == ({"B4": 2}, {"publish"})
        assert worker.queue.publishing.published(claimed)
        assert worker.idle


def test_nothing_is_published_of_a_scene_that_is_not_ours_any_more(
    ground: Ground, worker: Worker, tmp_path: Path
) -> None:
    scene = ground.add_scene()
    claimed = worker.queue.claim()
    assert claimed is not None
    ground.set_status(scene, "Obsolete")
    with Rows(tmp_path, 1000) as rows:
        counts = filled(worker, scene, rows)
        with pytest.raises(ClaimLostError, match="nothing was written"):
            worker.queue.publishing.publish(claimed, Outcome("extracted", "extracted", ""), counts, rows)
    assert (ground.status(scene), stored(ground)) == ("Obsolete", [])
    assert ground.log(scene)[0]["outcome"] is None
    assert not worker.queue.publishing.published(claimed)
    assert worker.idle
