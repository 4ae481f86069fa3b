"""What queries cost, where it matters and can be counted: temporary files, scans of indexes, pages, time limits.

Nothing here looks at a clock: PostgreSQL counts what it does.
"""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import shapely

from extractors.database.copy import add_result
from extractors.database.mixing import Mixing
from extractors.database.outputs import RESULTS
from extractors.database.results import ResultsTable, Rows
from extractors.database.tables import TableReader
from extractors.errors import ConfigurationError, TooSlowError
from extractors.model import Outcome, ParcelCounts
from extractors.signatures import ChunkResult, Signatures
from tests.integration.conftest import AOI, MORNING, Ground, Worker

SCENES = "INSERT INTO dias_catalogue (obstime, reference, sensor, card, footprint) "


def many_scenes(ground: Ground, number: int) -> None:
    """One every minute; the footprints lie in the AOI."""
    ground.query(
        SCENES + "SELECT timestamp '2020-04-01' + n * interval '1 minute', 'S2A_' || n, '2A', 's2',"
        " ST_MakeEnvelope(15, 46, 15.1 + n * 1e-6, 46.1, 4326) FROM generate_series(1, %s) n",
        number,
    )
    ground.query("ANALYZE dias_catalogue")


def counted(ground: Ground, worker: Worker, what: str) -> int:
    """What the server has counted, of what the worker did too: rows read from end to end of a table, or scans of an
    index."""
    with worker.database.transaction("testing") as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
    return int(ground.one(what))


ROWS_READ = "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = '{}'"
SCANS = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = '{}'"


# Claims


def test_the_outline_of_the_aoi_does_not_travel_through_the_sort(bare_ground: Ground) -> None:
    """20,000 corners, 4,000 scenes, and no index that gives their order: as in the established schema. With a limit on
    temporary files, a claim that sorted the outline with every scene would never succeed."""
    corners = [
        (15 + math.cos(a) * (1 + 1e-4 * (i % 2)), 46 + math.sin(a))
        for i in range(20_000)
        for a in [i * math.tau / 20_000]
    ]
    bare_ground.add_aoi(shapely.Polygon(corners))
    many_scenes(bare_ground, 4000)
    worker = bare_ground.worker(temp_file_limit="1MB", work_mem="64kB")
    assert worker.queue.look()
    for expected in (1, 2, 3):
        scene = worker.queue.claim()
        assert scene is not None
        assert scene.id == expected
        assert worker.queue.give_back(scene, Outcome("extracted", "extracted", ""), ParcelCounts())


def test_a_claim_walks_the_index(ground: Ground) -> None:
    """With the index that `--check` names, scenes are read in their order until one can be taken."""
    many_scenes(ground, 3000)
    ground.query("CREATE INDEX next ON dias_catalogue (card, obstime, id) WHERE status = 'ingested'")
    ground.query("ANALYZE dias_catalogue")
    worker = ground.worker()
    before = counted(ground, worker, ROWS_READ.format("dias_catalogue"))
    first = worker.queue.claim()
    assert first is not None
    assert first.obstime == dt.datetime(2020, 4, 1, 0, 1)
    assert counted(ground, worker, SCANS.format("next")) > 0
    assert counted(ground, worker, ROWS_READ.format("dias_catalogue")) - before < 3000


def test_pauses_are_looked_up_and_not_searched_for(ground: Ground, worker: Worker) -> None:
    """A long log is not read from one end to the other for every claim."""
    many_scenes(ground, 50)
    ground.query(
        "INSERT INTO extraction_log (obsid, reference, card, aoi, results, worker, finished_at, outcome, status)"
        " SELECT 1000 + n, '', 's2', 'nl', '', '', now(), 'extracted', 'extracted' FROM generate_series(1, 20000) n"
    )
    ground.query("ANALYZE extraction_log")
    before = counted(ground, worker, ROWS_READ.format("extraction_log"))
    for _ in range(3):
        assert worker.queue.claim() is not None
        worker.queue.unlock()
        worker.queue.pending(10)
    assert counted(ground, worker, ROWS_READ.format("extraction_log")) - before < 20_000


def test_the_meaning_of_a_table_is_looked_up_in_the_log(ground: Ground, worker: Worker) -> None:
    """Of a long log, mostly of other tables, those rows are read that are about this one."""
    ground.query(
        "INSERT INTO extraction_log (obsid, reference, card, aoi, results, worker, finished_at, outcome, settings)"
        " SELECT n, '', 'c6', 'nl', 'public.' || CASE WHEN n % 500 = 0 THEN 'signatures' ELSE 'others' END, '', now(),"
        " 'extracted', '{\"coherence_band_order\": \"historical\"}' FROM generate_series(1, 20000) n"
    )
    ground.query("INSERT INTO signatures (pid, obsid) VALUES (1, 19500)")
    ground.query("ANALYZE extraction_log")
    before = counted(ground, worker, ROWS_READ.format("extraction_log"))
    for order, refused in (("product", True), ("historical", False)):
        reader = TableReader(worker.database, ground.settings, "db_config.json", LABELS, classes=False)
        mixing = Mixing(worker.database, reader, "c6", {"coherence_band_order": order}, accepted=False)
        with pytest.raises(ConfigurationError, match="holds scene 19500 ") if refused else nullcontext():
            mixing.look()
    assert counted(ground, worker, ROWS_READ.format("extraction_log")) == before


def test_nothing_is_compiled(worker: Worker) -> None:
    with worker.database.transaction("testing") as cursor:
        cursor.execute("SELECT setting, source FROM pg_settings WHERE name = 'jit'")
        assert cursor.fetchone() == ("off", "session")


# Rows

LABELS = ("B4", "B8", "SC")


def chunk(parcels: int) -> ChunkResult:
    """What a chunk gives: the parcels in the order of their neighbours, band by band."""
    pid = np.random.default_rng(1).permutation(np.arange(1, parcels + 1))
    parts = [Signatures(label, pid, np.full((parcels, 8), float(number))) for number, label in enumerate(LABELS)]
    return ChunkResult(parcels, pid, parts)


@pytest.mark.parametrize("established", [False, True], ids=["binary", "CSV"])
def test_a_parcel_s_rows_of_a_scene_lie_together(established: bool, ground: Ground, tmp_path: Path) -> None:
    if established:
        ground.query(
            "CREATE TABLE signatures (pid int, obsid int, band char(2), count numeric, mean real, std real, min real,"
            " max real, p25 real, p50 real, p75 real)"
        )
    worker = ground.worker()
    table = ResultsTable(worker.tables.results)
    assert table.is_binary != established
    with Rows(tmp_path, 0) as rows, worker.database.transaction("testing") as cursor:
        add_result(rows, worker.tables.of_results, 7, chunk(2000))
        table.copy(cursor, rows.of[RESULTS])
    pages = Counter(ground.query("SELECT pid, count(DISTINCT (ctid::text::point)[0]) FROM signatures GROUP BY pid"))
    assert len(pages) == 2000
    # A few lie across the end of a page.
    assert sum(number == 1 for _, number in pages) > 1900
    assert ground.query("SELECT band, count(*), min(mean), max(mean) FROM signatures GROUP BY 1 ORDER BY 1") == [
        (label, 2000, number, number) for number, label in enumerate(LABELS)
    ]


def test_labels_of_different_lengths(ground: Ground, tmp_path: Path) -> None:
    """Rows of different lengths, in the order of the parcels all the same."""
    worker = ground.worker()
    parts = [Signatures(label, np.array([2, 1]), np.ones((2, 8))) for label in ("B04", "SC")]
    with Rows(tmp_path, 0) as rows, worker.database.transaction("testing") as cursor:
        table = ResultsTable(worker.tables.results)
        add_result(rows, worker.tables.of_results, 7, ChunkResult(2, np.array([2, 1]), parts))
        table.copy(cursor, rows.of[RESULTS])
    assert ground.query("SELECT pid, band FROM signatures ORDER BY ctid") == [
        (1, "B04"), (1, "SC"), (2, "B04"), (2, "SC"),
    ]  # fmt: skip


def test_writing_that_takes_too_long_counts_and_names_what_helps(ground: Ground, tmp_path: Path) -> None:
    """Given back as an outage, it would be computed anew for ever."""
    ground.query(
        "CREATE TABLE signatures (pid int, obsid int, band char(2), count real, mean real, std real, min real,"
        " max real, p25 real, p50 real, p75 real)"
    )
    ground.query(
        "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_sleep(60); RETURN NULL; END $$"
    )
    ground.query("CREATE TRIGGER dawdle AFTER INSERT ON signatures EXECUTE FUNCTION dawdle()")
    number = ground.add_scene(MORNING, AOI)
    worker = ground.worker(statement_timeout="3s")
    for index, words in ((False, "CREATE INDEX ON public.signatures USING brin (obsid)"), (True, "statement_timeout")):
        if index:
            ground.query("CREATE INDEX ON signatures (obsid)")
        scene = worker.queue.claim()
        assert scene is not None
        with Rows(tmp_path, 0) as rows:
            add_result(rows, worker.tables.of_results, number, chunk(3))
            with pytest.raises(TooSlowError) as caught:
                worker.queue.publishing.publish(scene, Outcome("extracted", "extracted", ""), ParcelCounts(), rows)
        assert words in str(caught.value)
        assert ("CREATE INDEX" in str(caught.value)) != index
        assert worker.idle
        assert worker.queue.give_back(scene, Outcome("error", "ingested", "too slow", 1), ParcelCounts())
    assert [attempt["attempt"] for attempt in ground.log(number)] == [1, 2]
