"""Every parcel that is selected has a row or a reason, in every band and every table of results; else nothing is
written."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import shapely

from extractors.database.outputs import OUTPUTS
from extractors.statistics.zonal import OUTSIDE
from tests.support.accounts import assert_written
from tests.support.ground import GRID, cell, optical, squares
from tests.support.roles import worker_role
from tests.support.scenes import Scene, assert_same
from tests.support.workspace import Workspace

OTHERS = {"clear_results_table": "clear_signatures", "hists_table": "hists", "gaps_table": "gaps"}
SIGNATURES = (
    "CREATE TABLE {} (pid int, obsid int, band char(2), count real, mean real, std real, min real, max real, p25 real,"
    " p50 real, p75 real)"
)
MADE_BY_OTHERS = {
    "signatures": SIGNATURES.format("signatures"),
    "clear_signatures": SIGNATURES.format("clear_signatures"),
    "hists": "CREATE TABLE hists (pid int, obsid int, hist json)",
    "gaps": "CREATE TABLE gaps (note text, bands varchar(20), reason text, pid bigint, obsid int)",
}


@pytest.fixture
def workspace(workspace: Workspace) -> Iterator[Workspace]:
    """One whose configuration names all tables of results."""
    assert set(OTHERS) | {"results_table"} == {output.key for output in OUTPUTS.values()}
    workspace.tables.update(OTHERS)
    yield workspace


def zoo(workspace: Workspace) -> tuple[Scene, dict[str, int]]:
    """A scene with parcels of all kinds; what they are called, and their numbers."""
    bands = optical()
    bands["B04"][2:8, 10:16] = 0
    shapes = {
        "whole": cell(2, 2),
        "without red": cell(10, 2),
        "no pixel": cell(40, 2, 0.3, 0.3, inset=0),
        "between the centres of 20 m": cell(30.1, 2.1, 1, 1),
        "outside": cell(-13, 7, 3, 3),
        "a point": shapely.Point(GRID.left + 300, GRID.top - 300),
    }
    numbers = dict(zip(shapes, workspace.add_parcels(list(shapes.values())), strict=True))
    workspace.query("ALTER TABLE parcels DROP CONSTRAINT parcels_pkey, ALTER ogc_fid DROP NOT NULL")
    workspace.query("INSERT INTO parcels (ogc_fid, wkb_geometry) SELECT NULL, wkb_geometry FROM parcels LIMIT 1")
    return workspace.add_s2(bands=bands), numbers


def gaps(workspace: Workspace) -> list[tuple[int, str, str]]:
    return workspace.query("SELECT pid, reason, bands FROM gaps ORDER BY pid, bands")


def test_the_table_of_gaps(workspace: Workspace) -> None:
    """Each reason with its bands; parcels outside, and without a number, are not in it."""
    scene, pid = zoo(workspace)
    outcome = workspace.run()
    assert (outcome.code, outcome.errors) == (0, []), outcome.stderr
    (log,) = workspace.log(scene)
    reasons = log["parcels_without_row"]["B4"]
    assert reasons == {"nodata": 1, "no_pixel": 1, "outside": 1, "not_polygon": 1, "no_id": 1}
    assert gaps(workspace) == [
        (pid["without red"], "nodata", "B4"),
        (pid["no pixel"], "no_pixel", "B4,B8,SC"),
        (pid["between the centres of 20 m"], "no_pixel", "SC"),
        (pid["a point"], "not_polygon", "B4,B8,SC"),
    ]
    assert workspace.query("SELECT DISTINCT obsid FROM gaps") == [(scene.id,)]
    assert OUTSIDE in reasons
    assert_written(workspace, workspace.tables)


@pytest.mark.parametrize("made", ["by the worker", "by others", "by the role's script"])
def test_all_tables_are_replaced_together(made: str, workspace: Workspace) -> None:
    """Rows of the parcels that are selected now go, others stay, in each of them."""
    for statement in MADE_BY_OTHERS.values() if made == "by others" else ():
        workspace.query(statement)
    scene, pid = zoo(workspace)
    if made == "by the role's script":
        with worker_role(workspace):
            assert workspace.run().code == 0
    else:
        assert workspace.run().code == 0
    before = {table: workspace.rows(scene, table) for table in MADE_BY_OTHERS}
    assert min(before[table] for table in ("signatures", "hists", "gaps")) > 0
    workspace.query("INSERT INTO gaps (pid, obsid, reason, bands) VALUES (4711, %s, 'nodata', 'B4')", scene.id)
    workspace.query("INSERT INTO clear_signatures (pid, obsid, band, count) VALUES (4711, %s, 'B4', 1)", scene.id)
    # One that had a reason has rows now.
    workspace.query(
        "UPDATE parcels SET wkb_geometry = (SELECT wkb_geometry FROM parcels WHERE ogc_fid = %s) WHERE ogc_fid = %s",
        *(pid["whole"], pid["a point"]),
    )
    workspace.ingest(scene)
    assert workspace.run().code == 0
    assert workspace.rows(scene) == before["signatures"] + 3
    assert [reason for number, reason, _ in gaps(workspace) if number == pid["a point"]] == []
    assert workspace.query("DELETE FROM gaps WHERE pid = 4711 RETURNING reason") == [("nodata",)]
    assert workspace.query("DELETE FROM clear_signatures WHERE pid = 4711 RETURNING count") == [(1,)]
    assert_written(workspace, workspace.tables)
    index = "SELECT count(*) FROM pg_indexes WHERE tablename = 'gaps' AND indexdef ~ 'brin'"
    assert workspace.one(index) == (0 if made == "by others" else 1)


@pytest.mark.owner("nobody has made these tables before")
def test_one_table_cannot_be_two(workspace: Workspace) -> None:
    workspace.add_parcels(squares(2))
    scene = workspace.add_s2()
    for name in ("signatures", "public.signatures", "Signatures"):
        workspace.tables["clear_results_table"] = name
        if name == "Signatures":  # found in small letters
            workspace.query(MADE_BY_OTHERS["signatures"])
        outcome = workspace.run()
        assert outcome.code == 2, name
        (line,) = outcome.errors
        assert "database.tables.clear_results_table: public.signatures is the results_table already" in line
    assert workspace.status(scene) == "ingested"
    assert workspace.log(scene) == []


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("CREATE TABLE gaps (pid int, obsid int, reason text)", "gaps_table: table public.gaps has no column bands"),
        ("CREATE TABLE gaps (pid int, obsid int, reason int, bands text)", "gaps_table: column reason"),
        (f"{SIGNATURES.format('clear_signatures')[:-1]}, x int NOT NULL)", "clear_results_table: column x"),
        (SIGNATURES.format("clear_signatures").replace("char(2)", "char(1)"), "clear_results_table: column band"),
        (
            f"{MADE_BY_OTHERS['gaps']}; CREATE UNIQUE INDEX ON gaps (pid, obsid)",
            "gaps_table: a unique index of public.gaps allows but one row for each pid, obsid",
        ),
        (
            f"{SIGNATURES.format('clear_signatures')} PARTITION BY RANGE (obsid)",
            "clear_results_table: table public.clear_signatures does not take rows of scene",
        ),
        (f"{MADE_BY_OTHERS['gaps']} PARTITION BY RANGE (obsid)", "gaps_table: table public.gaps does not take rows"),
    ],
    ids=["columns", "types", "a column of theirs", "labels", "unique index", "partitions", "partitions of gaps"],
)
def test_they_are_checked_as_the_results_table_is(statement: str, words: str, workspace: Workspace) -> None:
    workspace.query(statement)
    workspace.add_parcels(squares(2))
    scene = workspace.add_s2()
    outcome = workspace.run()
    assert (outcome.code, len(outcome.errors)) == (2, 1), outcome.stderr
    assert words in outcome.errors[0]
    assert workspace.status(scene) == "ingested"
    checked = workspace.run("s2", "--check")
    assert checked.code == 2
    assert words in checked.stdout


@pytest.mark.parametrize("right", ["SELECT (pid, obsid)", "INSERT", "DELETE"])
@pytest.mark.parametrize("table", ["clear_signatures", "gaps"])
def test_rights(right: str, table: str, workspace: Workspace) -> None:
    workspace.add_parcels(squares(2))
    scene = workspace.add_s2()
    with worker_role(workspace) as role:
        workspace.query(f'REVOKE {right} ON {table} FROM "{role}"')
        outcome = workspace.run()
        assert outcome.code == 2
        (line,) = outcome.errors
        assert f"may not {right.partition(' ')[0]} in public.{table}" in line
    assert workspace.status(scene) == "ingested"


def test_indexes_and_owners_of_all_are_looked_at(workspace: Workspace) -> None:
    for statement in MADE_BY_OTHERS.values():
        workspace.query(statement)
    workspace.add_parcels(squares(2))
    workspace.add_s2()
    printed = workspace.run("s2", "--check").stdout
    for table in MADE_BY_OTHERS:
        assert f"CREATE INDEX CONCURRENTLY ON public.{table} USING brin (obsid)" in printed
    assert "public.signatures (a table), public.clear_signatures (a table)" in printed


def test_a_trigger_that_drops_gaps(workspace: Workspace) -> None:
    workspace.query(MADE_BY_OTHERS["gaps"])
    workspace.query("CREATE FUNCTION drop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$")
    workspace.query("CREATE TRIGGER drop BEFORE INSERT ON gaps FOR EACH ROW EXECUTE FUNCTION drop()")
    scene, _ = zoo(workspace)
    outcome = workspace.run()
    assert outcome.code == 2
    assert "only 0 of 4 rows went into table public.gaps" in outcome.errors[0]
    assert (workspace.status(scene), workspace.rows()) == ("ingested", 0)


# A parcel that is lost

LOSSY = """
import sys
from extractors import s2
from extractors.signatures import Signatures
def lossy(task):
    original = task.__call__
    def call(self):
        result = original(self)
        {loss}
        return result
    task.__call__ = call
from extractors.raster import chunks
lossy(chunks.ChunkTask)
sys.argv = ["s2"]
sys.exit(s2.main(s2.CARD))
"""
LOSSES = {
    "a row": (
        "part = result.signatures[0]; result.signatures[0] = Signatures(part.label, part.pid[1:], part.table[1:])",
        ["B4: 16 parcels were selected, 13 have a row and 0 a reason for none"],
    ),
    "a reason too many": (
        "result.without_row['B8'] = {'nodata': result.pid[:1]}",
        ["B8: 16 parcels were selected, 16 have a row and 3 a reason for none"],
    ),
    "a parcel": ("result.parcels -= 1", ["16 parcels were selected and 13 computed"]),
    "a band": (
        "result.signatures[:] = [part for part in result.signatures if part.label != 'SC']",
        ["SC: 16 parcels were selected, 0 have a row and 0 a reason for none"],
    ),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_mismatch_fails_the_scene(loss: str, workspace: Workspace) -> None:
    """Three chunks, each of which loses something."""
    code, words = LOSSES[loss]
    workspace.add_parcels(squares(16))
    scene = workspace.add_s2()
    outcome = workspace.start_python("-c", LOSSY.format(loss=code)).wait()
    assert outcome.code == 1, outcome.stderr
    assert "Traceback" not in outcome.stderr, outcome.stderr
    (line,) = outcome.errors
    assert "failed: its accounts do not balance (" in line
    for word in words:
        assert word in line
    assert workspace.status(scene) == "failed"
    assert all(workspace.rows(table=table) == 0 for table in MADE_BY_OTHERS)
    (log,) = workspace.log(scene)
    assert (log["outcome"], log["rows_written"]["B4"]) == ("failed", 0)
    assert log["detail"] in line


def test_rows_that_are_written_and_not_counted(workspace: Workspace) -> None:
    """What COPY reports is held against what was counted."""
    code = "import sys\nfrom extractors import scene, s2\noriginal = scene.add_result\n"
    code += "def twice(*given):\n    original(*given)\n    original(*given)\nscene.add_result = twice\n"
    workspace.add_parcels(squares(16))
    scene = workspace.add_s2()
    outcome = workspace.start_python("-c", code + "sys.argv = ['s2']\nsys.exit(s2.main(s2.CARD))").wait()
    assert outcome.code == 1
    assert "results_table: 48 rows were counted and 96 written" in outcome.errors[0]
    assert (workspace.status(scene), workspace.rows()) == ("failed", 0)


def test_without_them_nothing_changes(workspace: Workspace) -> None:
    for key in OTHERS:
        workspace.tables.pop(key)
    parcels = workspace.add_parcels(squares(9))
    scene = workspace.add_s2()
    assert workspace.run().code == 0
    assert_same(workspace.signatures(scene), scene.expected(parcels))
    assert "tables" not in workspace.log(scene)[0]["settings"]
    assert workspace.query("SELECT relname FROM pg_class WHERE relname IN ('gaps', 'hists', 'clear_signatures')") == []


def test_clear_results_in_partitions_by_band_need_none_for_classes(workspace: Workspace) -> None:
    workspace.add_parcels(squares(4))
    scene = workspace.add_s2()
    workspace.tables["clear_results_table"] = "clear"
    columns = ", ".join(f"{name} real" for name in ("count", "mean", "std", "min", "max", "p25", "p50", "p75"))
    workspace.query(
        f"CREATE TABLE clear (pid integer, obsid integer, band varchar(3), {columns}) PARTITION BY LIST (band);"
        "CREATE TABLE clear_bands PARTITION OF clear FOR VALUES IN ('B4', 'B8')"
    )
    outcome = workspace.run("s2")
    assert outcome.code == 0, outcome.stderr
    assert {label for _, label in workspace.signatures(scene, "clear")} == {"B4", "B8"}
