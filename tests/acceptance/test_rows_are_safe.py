"""Rows that are there stay unless they are replaced; rows that are written are all there, each of them once.

Cases of people who do this job: a results table is filled again from a table with a few corrected parcels, parcels are
deleted while a scene is computed, ids are there twice, triggers have rows vanish.
"""

from __future__ import annotations

import pytest

from tests.faults.acts import Gate
from tests.support.ground import cell, squares
from tests.support.roles import worker_role
from tests.support.scenes import assert_same
from tests.support.workspace import Workspace

SIGNATURES = (
    "CREATE TABLE signatures (pid int {pid}, obsid int, band char(2), count real, mean real, std real,"
    " min real, max real, p25 real, p50 real, p75 real)"
)
BANDS = 3


# Replaced are the parcels selected now


@pytest.mark.parametrize("made_here", [True, False], ids=["made by the worker", "established"])
def test_a_few_corrected_parcels_replace_their_own_rows_only(made_here: bool, workspace: Workspace) -> None:
    """The natural way to do corrected parcels again: a table with just these, the same AOI and results table. One of
    them gives no row any more."""
    workspace.tables["hists_table"] = "hists"
    if not made_here:
        workspace.query(SIGNATURES.format(pid=""))
        workspace.query("CREATE TABLE hists (pid int, obsid int, hist json)")
    old = workspace.add_parcels(squares(9))
    scene, other = workspace.add_s2("2020-04-01T10:00:31"), workspace.add_s2("2020-04-02T10:00:31")
    assert workspace.run("s2", "--all").code == 0
    before, untouched = workspace.signatures(scene), workspace.signatures(other)
    workspace.query("CREATE TABLE corrected AS SELECT * FROM parcels LIMIT 0")
    first, second, third, *rest = old
    corrected = {first: cell(50, 50, 4, 4), second: old[second], third: cell(40, 2, 0.3, 0.3, inset=0)}
    for pid, shape in corrected.items():
        workspace.query("INSERT INTO corrected VALUES (%s, ST_GeomFromText(%s, 32633))", pid, shape.wkt)
    workspace.tables["parcel_table"] = "corrected"
    workspace.ingest(scene)

    outcome = workspace.run("s2", "--all")

    assert (outcome.code, outcome.errors) == (0, [])
    now = workspace.signatures(scene)
    assert {key: row for key, row in now.items() if key[0] in rest} == {
        key: row for key, row in before.items() if key[0] in rest
    }
    assert_same({key: row for key, row in now.items() if key[0] not in rest}, scene.expected(corrected))
    assert not {pid for pid, _ in now} & {third}
    assert sorted(pid for (pid,) in workspace.query("SELECT pid FROM hists WHERE obsid = %s", scene.id)) == sorted(
        {pid for pid, _ in now}
    )
    assert workspace.signatures(other) == untouched
    noted = ("parcel_table", "rows_kept")
    assert [{name: attempt["settings"][name] for name in noted} for attempt in workspace.log(scene)] == [
        {"parcel_table": "public.parcels", "rows_kept": 0},
        {"parcel_table": "public.corrected", "rows_kept": BANDS * len(rest)},
    ]
    (said,) = outcome.warnings
    assert f" {BANDS * len(rest)} rows " in said


def test_extracted_anew_without_parcels_keeps_the_old_rows(workspace: Workspace) -> None:
    """No parcel is selected now, so none is replaced."""
    old = workspace.add_parcels(squares(2))
    scene = workspace.add_s2()
    assert workspace.run("s2").code == 0
    workspace.query("UPDATE parcels SET wkb_geometry = ST_Translate(wkb_geometry, 5000, 0)")
    workspace.ingest(scene)
    outcome = workspace.run("s2")
    assert (outcome.code, workspace.status(scene)) == (0, "no_parcels")
    assert {pid for pid, _ in workspace.signatures(scene)} == set(old)
    noted = workspace.log(scene)[-1]["settings"]
    assert (noted["parcel_table"], noted["rows_kept"]) == ("public.parcels", BANDS * 2)
    assert len(outcome.warnings) == 1


def test_a_renamed_results_table_has_no_row_twice(workspace: Workspace) -> None:
    """The log knows the table by its former name."""
    parcels = workspace.add_parcels(squares(3))
    scene = workspace.add_s2()
    assert workspace.run("s2").code == 0
    workspace.query("ALTER TABLE signatures RENAME TO signatures_2020")
    workspace.tables["results_table"] = "signatures_2020"
    workspace.ingest(scene)
    assert workspace.run("s2").code == 0
    assert_same(workspace.signatures(scene, "signatures_2020"), scene.expected(parcels))


def test_replacing_looks_at_the_scene_s_rows_and_not_at_every_parcel(workspace: Workspace) -> None:
    """On a table of 100 million rows, going through the index on pid for each parcel takes a hundred times as long."""
    workspace.query(SIGNATURES.format(pid=""))
    workspace.query("CREATE INDEX of_pid ON signatures (pid)")
    workspace.query("CREATE INDEX of_obsid ON signatures USING brin (obsid)")
    # Rows of other scenes, so that the planner has something to choose.
    workspace.query(
        "INSERT INTO signatures SELECT pid, 1000 + obsid, 'B4', 1, 1, 1, 1, 1, 1, 1, 1"
        " FROM generate_series(1, 200) obsid, generate_series(1, 500) pid"
    )
    workspace.query("ANALYZE signatures")
    workspace.add_parcels(squares(20))
    scene = workspace.add_s2()
    for _ in range(2):
        workspace.ingest(scene)
        assert workspace.run("s2").code == 0
    assert workspace.rows(scene) == BANDS * 20
    used = dict(workspace.query("SELECT indexrelname, idx_scan FROM pg_stat_user_indexes WHERE relname = 'signatures'"))
    assert used["of_pid"] == 0
    assert used["of_obsid"] > 0


# A parcel is deleted while its scene is computed


def test_a_parcel_deleted_meanwhile_costs_an_attempt_and_not_the_worker(workspace: Workspace) -> None:
    workspace.query(SIGNATURES.format(pid="REFERENCES parcels ON DELETE CASCADE"))
    workspace.extraction["outage_pause_seconds"] = 0
    parcels = workspace.add_parcels(squares(3))
    scenes = [workspace.add_s2(f"2020-04-0{day}T10:00:31") for day in (1, 2)]
    gate = Gate(workspace.folder, "publish_begin")
    worker = workspace.start("s2", "--all", env=gate.env)
    gate.wait(worker)
    gone = next(iter(parcels))
    workspace.query("DELETE FROM parcels WHERE ogc_fid = %s", gone)
    del parcels[gone]
    gate.open()
    outcome = worker.wait()
    assert (outcome.code, outcome.errors) == (0, [])
    assert [[attempt["outcome"] for attempt in workspace.log(scene)] for scene in scenes] == [
        ["given_back", "extracted"],
        ["extracted"],
    ]
    assert workspace.log(scenes[0])[1]["attempt"] == 1  # the first one does not count
    for scene in scenes:
        assert_same(workspace.signatures(scene), scene.expected(parcels))


def test_a_table_of_parcels_truncated_meanwhile(workspace: Workspace) -> None:
    """All of them gone, and others there in their place: what a new import looks like."""
    workspace.query(SIGNATURES.format(pid="REFERENCES parcels"))
    workspace.extraction["outage_pause_seconds"] = 0
    workspace.add_parcels(squares(3))
    scene = workspace.add_s2()
    gate = Gate(workspace.folder, "publish_begin")
    worker = workspace.start("s2", "--all", env=gate.env)
    gate.wait(worker)
    workspace.query("DELETE FROM parcels")
    parcels = workspace.add_parcels(squares(4))
    gate.open()
    outcome = worker.wait()
    assert (outcome.code, outcome.errors) == (0, [])
    assert_same(workspace.signatures(scene), scene.expected(parcels))


@pytest.mark.parametrize("known", [0, 1])
def test_a_foreign_key_to_something_else_is_the_table_s_fault(known: int, workspace: Workspace) -> None:
    """No attempt at any scene could change that. If not even the first parcel is known, none is begun."""
    workspace.query("CREATE TABLE last_year (ogc_fid int PRIMARY KEY)")
    workspace.query(SIGNATURES.format(pid="REFERENCES last_year"))
    pids = list(workspace.add_parcels(squares(3)))
    workspace.query("INSERT INTO last_year SELECT unnest(%s::int[])", pids[:known])
    scene = workspace.add_s2()
    outcome = workspace.run("s2", "--all")
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert (workspace.status(scene), workspace.rows()) == ("ingested", 0)
    assert [attempt["outcome"] for attempt in workspace.log(scene)] == ["given_back"] * known


# Ids that are there twice


def test_a_view_over_two_regions_with_the_same_ids(workspace: Workspace) -> None:
    for region, left in (("north", 2), ("south", 30)):
        workspace.query(f"CREATE TABLE {region} (ogc_fid int PRIMARY KEY, wkb_geometry geometry(Polygon, 32633))")
        for number in range(1, 4):
            shape = cell(left, 8 * number)
            workspace.query(f"INSERT INTO {region} VALUES (%s, ST_GeomFromText(%s, 32633))", number, shape.wkt)
    workspace.query("CREATE VIEW both_regions AS SELECT * FROM north UNION ALL SELECT * FROM south")
    workspace.tables["parcel_table"] = "both_regions"
    scene = workspace.add_s2()
    outcome = workspace.run("s2", "--all")
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert "1, 2, 3" in outcome.errors[0]
    assert "both_regions" in outcome.errors[0]
    assert (workspace.status(scene), workspace.rows()) == ("ingested", 0)
    assert "statistics" not in workspace.log(scene)[0]["seconds"]  # nothing was computed for it


def test_a_table_that_was_imported_twice(workspace: Workspace) -> None:
    """Without a key `ogr2ogr -append` doubles all; ids that are absent are no doubles."""
    workspace.query("ALTER TABLE parcels DROP CONSTRAINT parcels_pkey, ALTER ogc_fid DROP NOT NULL")
    workspace.add_parcels(squares(8))
    workspace.query("INSERT INTO parcels SELECT NULL, wkb_geometry FROM parcels LIMIT 2")
    scene = workspace.add_s2()
    assert workspace.run("s2").code == 0
    assert workspace.rows(scene) == BANDS * 8
    workspace.query("INSERT INTO parcels SELECT * FROM parcels WHERE ogc_fid IS NOT NULL")
    before = workspace.signatures(scene)
    workspace.ingest(scene)
    outcome = workspace.run("s2")
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert " 8 " in outcome.errors[0]
    assert workspace.signatures(scene) == before


def test_twins_that_lie_elsewhere_do_no_harm_here(workspace: Workspace) -> None:
    workspace.query("ALTER TABLE parcels DROP CONSTRAINT parcels_pkey")
    workspace.add_parcels(squares(3))
    for shape in (cell(900, 900), cell(950, 950)):
        workspace.query("INSERT INTO parcels VALUES (4711, ST_GeomFromText(%s, 32633))", shape.wkt)
    scene = workspace.add_s2()
    assert workspace.run("s2").code == 0
    assert workspace.rows(scene) == BANDS * 3


# Rows that vanish on their way


def vanishing(workspace: Workspace, table: str, condition: str, action: str = "") -> None:
    workspace.query(
        f"CREATE FUNCTION vanish() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF {condition} THEN {action}"
        " RETURN NULL; END IF; RETURN NEW; END $$"
    )
    workspace.query(f"CREATE TRIGGER vanish BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION vanish()")


@pytest.mark.parametrize("condition", ["true", "NEW.pid = 2 AND NEW.band = 'SC'"], ids=["all of them", "one of them"])
def test_a_trigger_that_drops_rows(condition: str, workspace: Workspace) -> None:
    workspace.query(SIGNATURES.format(pid=""))
    vanishing(workspace, "signatures", condition)
    workspace.add_parcels(squares(5))
    scene = workspace.add_s2()
    outcome = workspace.run("s2")
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    dropped = BANDS * 5 if condition == "true" else 1
    assert f" {BANDS * 5 - dropped} of {BANDS * 5} " in outcome.errors[0]
    assert (workspace.status(scene), workspace.rows()) == ("ingested", 0)
    assert [attempt["outcome"] for attempt in workspace.log(scene)] == ["given_back"]


def test_a_trigger_that_sends_rows_elsewhere(workspace: Workspace) -> None:
    """Partitions as they were made before PostgreSQL had them: COPY counts none of these rows."""
    workspace.query(SIGNATURES.format(pid=""))
    workspace.query("CREATE TABLE of_2020 () INHERITS (signatures)")
    vanishing(workspace, "signatures", "true", "INSERT INTO of_2020 SELECT NEW.*;")
    workspace.add_parcels(squares(2))
    scene = workspace.add_s2()
    assert workspace.run("s2").code == 2
    assert (workspace.status(scene), workspace.rows()) == ("ingested", 0)


def test_a_trigger_that_drops_histograms(workspace: Workspace) -> None:
    workspace.tables["hists_table"] = "hists"
    workspace.query("CREATE TABLE hists (pid int, obsid int, hist json)")
    vanishing(workspace, "hists", "true")
    workspace.add_parcels(squares(2))
    scene = workspace.add_s2()
    outcome = workspace.run("s2")
    assert outcome.code == 2
    assert "hists" in outcome.errors[0]
    assert (workspace.status(scene), workspace.rows()) == ("ingested", 0)


def test_a_trigger_that_keeps_rows(workspace: Workspace) -> None:
    """What is to be replaced is not deleted: it would be there twice."""
    workspace.query(SIGNATURES.format(pid=""))
    workspace.query(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN IF OLD.pid = 2 THEN RETURN NULL; END IF; RETURN OLD; END $$"
    )
    workspace.query("CREATE TRIGGER keep BEFORE DELETE ON signatures FOR EACH ROW EXECUTE FUNCTION keep()")
    parcels = workspace.add_parcels(squares(5))
    scene = workspace.add_s2()
    assert workspace.run("s2").code == 0
    workspace.ingest(scene)
    outcome = workspace.run("s2", "--all")
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert f" {BANDS} rows " in outcome.errors[0]
    assert "signatures" in outcome.errors[0]
    assert workspace.status(scene) == "ingested"
    assert_same(workspace.signatures(scene), scene.expected(parcels))
    assert workspace.rows(scene) == BANDS * 5


def test_tables_that_are_published(workspace: Workspace) -> None:
    """For replication: without an identity of their rows, none could be deleted. Tables made here have one."""
    workspace.query("CREATE PUBLICATION everything FOR ALL TABLES")
    workspace.tables["hists_table"] = "hists"
    parcels = workspace.add_parcels(squares(2))
    scene = workspace.add_s2()
    for _ in range(2):
        workspace.ingest(scene)
        outcome = workspace.run("s2")
        assert (outcome.code, outcome.errors) == (0, [])
    assert_same(workspace.signatures(scene), scene.expected(parcels))
    assert workspace.rows(scene) == BANDS * 2


# The log's column


@pytest.mark.owner("the worker gives the log its column")
def test_a_log_of_the_version_before_gets_its_column(workspace: Workspace) -> None:
    workspace.add_parcels(squares(2))
    scene = workspace.add_s2()
    assert workspace.run("s2").code == 0
    workspace.query("ALTER TABLE extraction_log DROP COLUMN settings")
    workspace.ingest(scene)
    assert workspace.run("s2").code == 0
    assert [attempt["settings"] and attempt["settings"]["rows_kept"] for attempt in workspace.log(scene)] == [None, 0]


def test_only_the_owner_can_give_the_log_its_column(workspace: Workspace) -> None:
    workspace.add_parcels(squares(2))
    scene = workspace.add_s2()
    assert workspace.run("s2").code == 0
    workspace.query("ALTER TABLE extraction_log DROP COLUMN settings")
    workspace.ingest(scene)
    with worker_role(workspace, "ALL ON ALL TABLES IN SCHEMA public"):
        outcome = workspace.run("s2")
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert "operations setup" in outcome.errors[0]
    assert (workspace.status(scene), len(workspace.log(scene))) == ("ingested", 1)
