"""Scenes that are done again amid all else that happens in a season: other CARDs and tables, newer products, faults,
backups; and what an operator sees of it, and does wrong."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime

import geopandas
import pytest
from psycopg2 import sql
from shapely.affinity import translate
from shapely.geometry.base import BaseGeometry

from demo.servers import postgis_binaries
from extractors.worker import NOTHING_TO_REDO
from operations.sql import statement
from tests.faults.acts import Gate
from tests.faults.network import TcpProxy
from tests.support.environment import ROOT, environment, skip_unless
from tests.support.ground import GRID, cell, optical, squares, to_epsg
from tests.support.redo import content, corrected, everything, listed, move, outcomes
from tests.support.roles import PASSWORD, create_role
from tests.support.running import Outcome
from tests.support.scenes import COLUMNS, Scene, assert_same, s2_reference
from tests.support.workspace import Workspace

NOON = "2020-04-01T10:00:31"
# A scene, and its parcels as they are now.
Moved = tuple[Scene, dict[int, BaseGeometry]]
OLD = s2_reference(datetime.fromisoformat(NOON))
NEWER = OLD.replace("_N0214_", "_N0500_")


@pytest.fixture(autouse=True)
def _several_attempts(workspace: Workspace) -> None:
    workspace.extraction.update({"max_attempts": 2, "retry_pause_seconds": 0})


def name(workspace: Workspace, *pids: int) -> Outcome:
    """List what is to be done again of these parcels."""
    outcome = workspace.operate("redo", "--parcels", corrected(workspace, *pids))
    assert outcome.code == 0, outcome.output
    return outcome


def redo(workspace: Workspace, card: str = "s2") -> Outcome:
    outcome = workspace.run(card, "--redo", "--all")
    assert (outcome.code, outcome.errors) == (0, []), outcome.output
    return outcome


def status(workspace: Workspace, card: str = "s2") -> dict[str, int]:
    """What `status` says of the list."""
    outcome = workspace.operate("status", "--json")
    assert outcome.code == 0, outcome.output
    found: dict[str, int] = json.loads(outcome.stdout)["cards"][card]["redo"]
    return {word: number for word, number in found.items() if number}


@pytest.fixture
def moved(workspace: Workspace) -> Moved:
    """An extracted scene whose first parcel has moved since, and where all are now; it is listed."""
    parcels = workspace.add_parcels(squares(5))
    scene = workspace.add_s2()
    assert workspace.run("s2").code == 0
    parcels[1] = translate(parcels[1], 10, 0)
    move(workspace, 1, parcels[1])
    name(workspace, 1)
    return scene, parcels


@pytest.mark.parametrize("card", ["bs", "c6", "c1"])
def test_each_card(card: str, workspace: Workspace) -> None:
    """Coherence into a table that others have made, of wider numbers."""
    if card == "c6":
        statistics = ", ".join(f"{one} double precision" for one in COLUMNS)
        workspace.query(f"CREATE TABLE signatures (pid bigint, obsid integer, band char(3), {statistics})")
        workspace.query("CREATE INDEX ON signatures (obsid)")
    parcels = workspace.add_parcels(squares(5))
    add = {"bs": workspace.add_bs, "c6": workspace.add_c6, "c1": workspace.add_c1}[card]
    scenes = [add(f"2020-04-0{day}T05:23:45") for day in (1, 2)]
    assert workspace.run(card, "--all").code == 0
    before = everything(workspace)
    parcels[3] = translate(parcels[3], 0, 10)
    move(workspace, 3, parcels[3])
    assert "2 scenes listed" in name(workspace, 3).stdout
    other = redo(workspace, "s2")
    assert other.stdout.strip() == NOTHING_TO_REDO
    redo(workspace, card)
    for scene in scenes:
        assert_same(workspace.signatures(scene), scene.expected(parcels))
    after = everything(workspace)
    assert {pid for (_, pid, _), text in after.items() if text not in before.values()} == {3}
    assert after.keys() == before.keys()
    assert listed(workspace) == {}


def test_tables_in_partitions(workspace: Workspace) -> None:
    """One of them closed, as its scenes were done."""
    workspace.tables["gaps_table"] = "gaps"
    parcels = workspace.add_parcels(squares(5))
    scenes = [workspace.add_s2(f"2020-04-0{day}T10:00:31") for day in (1, 2, 3)]
    assert workspace.operate("setup", "--partitioned", "2").code == 0
    assert workspace.run("s2", "--all").code == 0
    assert workspace.operate("index").code == 0
    before = everything(workspace)
    parcels[2] = translate(parcels[2], 10, 10)
    move(workspace, 2, parcels[2])
    name(workspace, 2)
    redo(workspace)
    after = everything(workspace)
    assert {pid for (_, pid, _), text in after.items() if text not in before.values()} == {2}
    for scene in scenes:
        assert_same(workspace.signatures(scene), scene.expected(parcels))


def test_all_tables_at_once(workspace: Workspace) -> None:
    """Whatever one table says of the changed parcels, the others say as well; in the end it is what an extraction of
    the whole scene says."""
    tables = ("signatures", "clear", "hists", "gaps")
    workspace.tables.update({"clear_results_table": "clear", "hists_table": "hists", "gaps_table": "gaps"})
    tiny = translate(cell(10, 10, 1, 1, inset=4.9), 4.95, 4.95)
    parcels = workspace.add_parcels([*squares(4), tiny])
    scene = workspace.add_s2()
    assert workspace.run("s2").code == 0
    before = content(workspace, *tables)
    assert all(before.values())
    move(workspace, 1, tiny)
    move(workspace, 5, parcels[1])
    name(workspace, 1, 5)
    for point in ("copied:4", "before_commit"):
        assert workspace.run("s2", "--redo", env={"EXTRACTION_FAILPOINT": f"{point}=kill"}).code == -9
        assert content(workspace, *tables) == before
        workspace.query("UPDATE extraction_log SET finished_at = now(), outcome = 'given_back' WHERE outcome IS NULL")
    redo(workspace)
    after = content(workspace, *tables)
    assert all(after[table] != before[table] for table in tables)
    workspace.ingest(scene)
    assert workspace.run("s2").code == 0
    assert content(workspace, *tables) == after


def test_an_answer_that_is_lost(workspace: Workspace, moved: Moved) -> None:
    """The COMMIT arrives, and the connection breaks before anybody says so: the log does."""
    scene, parcels = moved
    workspace.extraction["database_wait_seconds"] = 10
    connection = workspace.db_config["database"]["connection"]
    with TcpProxy((connection["host"], connection["port"])) as way:
        connection["host"], connection["port"] = way.host, way.port
        gate = Gate(workspace.folder, "before_commit")
        worker = workspace.start("s2", "--redo", env=gate.env)
        gate.wait(worker)
        loss = way.lose_commit("after")
        gate.open()
        ended = worker.wait(60)
        assert loss.happened.is_set(), "the worker sent no COMMIT"
        assert (ended.code, ended.errors) == (0, []), ended.output
    assert outcomes(workspace, scene) == ["extracted", "redone"]
    assert listed(workspace) == {}
    assert_same(workspace.signatures(scene), scene.expected(parcels))


def test_listed_twice(workspace: Workspace, moved: Moved) -> None:
    """The worker that is at it drops what it has, says no error, and does the new entry."""
    scene, parcels = moved
    gate = Gate(workspace.folder, "chunk_spooled")
    worker = workspace.start("s2", "--redo", "--all", env=gate.env)
    gate.wait(worker)
    parcels[2] = translate(parcels[2], 0, 10)
    move(workspace, 2, parcels[2])
    name(workspace, 2)
    assert listed(workspace) == {scene.id: [1, 2]}
    gate.open()
    ended = worker.wait()
    assert (ended.code, ended.errors, ended.warnings) == (0, [], []), ended.output
    assert outcomes(workspace, scene) == ["extracted", "given_back", "redone"]
    assert_same(workspace.signatures(scene), scene.expected(parcels))


def test_missing_of_cards_with_tables_of_their_own(workspace: Workspace) -> None:
    """Rows of one CARD do not come into the table of another."""
    workspace.add_parcels(squares(3))
    s2, bs = workspace.add_s2(), workspace.add_bs()
    assert workspace.run("s2").code == 0
    workspace.tables["results_table"] = "bs_signatures"
    assert workspace.run("bs").code == 0
    workspace.tables["results_table"] = "signatures"
    refused = workspace.operate("redo", "--missing")
    assert (refused.code, len(refused.errors), "--card" in refused.errors[0]) == (2, 1, True), refused.output
    assert workspace.one("SELECT to_regclass('redo_list')") is None
    assert "nothing to list" in workspace.operate("redo", "--missing", "--card", "s2").stdout
    assert (workspace.rows(s2) > 0, workspace.rows(bs)) == (True, 0)


def test_an_extraction_that_leaves_rows_leaves_the_entry(workspace: Workspace) -> None:
    """Rows of parcels that have left the scene, or are gone, are not those of an ordinary extraction to delete."""
    parcels = workspace.add_parcels(squares(4))
    scene = workspace.add_s2()
    assert workspace.run("s2").code == 0
    move(workspace, 1, translate(parcels[1], 100_000, 0))
    workspace.query("DELETE FROM parcels WHERE ogc_fid = 2")
    assert workspace.operate("redo", "--parcels", corrected(workspace, 1, 2), "--gone", "delete").code == 0
    workspace.ingest(scene)
    assert workspace.run("s2").code == 0
    redo(workspace)
    assert {pid for pid, _ in workspace.signatures(scene)} == {3, 4}
    assert listed(workspace) == {}


def test_gone_parcels_are_found_without_an_index(workspace: Workspace) -> None:
    """By one join, not by a walk through the parcel table for each parcel that is meant."""
    workspace.query("CREATE TABLE plain (code integer)")
    workspace.query("CREATE TABLE meant (pid bigint, gone boolean)")
    names = {name: sql.Identifier(name) for name in ("plain", "meant")}
    note = statement("listing.note_gone", meant=names["meant"], parcels=names["plain"], pid=sql.Identifier("p", "code"))
    plan = "\n".join(line for (line,) in workspace.query(sql.SQL("EXPLAIN {}").format(note)))
    assert "SubPlan" not in plan
    assert "plain" in plan


def test_a_list_that_was_dropped(workspace: Workspace, moved: Moved) -> None:
    """Attempts at entries of the one before do not count for those of the next."""
    scene, parcels = moved
    for _ in range(2):
        workspace.run("s2", "--redo", env={"EXTRACTION_FAILPOINT": "files_verified=raise"})
    assert outcomes(workspace, scene)[1:] == ["error", "failed"]
    workspace.query("DROP TABLE redo_list")
    name(workspace, 1)
    redo(workspace)
    assert outcomes(workspace, scene)[-1] == "redone"
    assert_same(workspace.signatures(scene), scene.expected(parcels))


def test_a_foreign_key_that_is_not_about_parcels(workspace: Workspace) -> None:
    """Parcels that are gone, as the list says, are not the reason: it is the operator's to fix."""
    workspace.add_parcels(squares(3))
    workspace.add_s2()
    assert workspace.run("s2").code == 0
    workspace.query("DELETE FROM parcels WHERE ogc_fid = 2")
    assert workspace.operate("redo", "--parcels", corrected(workspace, 1, 2), "--gone", "delete").code == 0
    workspace.query("CREATE TABLE allowed AS SELECT count FROM signatures LIMIT 0")
    workspace.query("ALTER TABLE allowed ADD PRIMARY KEY (count)")
    workspace.query("ALTER TABLE signatures ADD FOREIGN KEY (count) REFERENCES allowed NOT VALID")
    assert workspace.run("s2", "--redo").code == 2


def test_a_log_that_has_forgotten_a_scene(workspace: Workspace) -> None:
    """Its rows are replaced all the same."""
    parcels = workspace.add_parcels(squares(3))
    scene = workspace.add_s2()
    assert workspace.run("s2").code == 0
    workspace.query("DELETE FROM extraction_log")
    parcels[1] = translate(parcels[1], 10, 0)
    move(workspace, 1, parcels[1])
    name(workspace, 1)
    redo(workspace)
    assert_same(workspace.signatures(scene), scene.expected(parcels))
    assert workspace.query("SELECT pid, band FROM signatures GROUP BY obsid, pid, band HAVING count(*) > 1") == []


class TestDuplicates:
    """`duplicates` = `newest`."""

    @pytest.fixture(autouse=True)
    def _newest(self, workspace: Workspace) -> None:
        workspace.extraction["duplicates"] = "newest"

    @pytest.fixture
    def old(self, workspace: Workspace) -> Scene:
        workspace.add_parcels(squares(4))
        scene = workspace.add_s2(NOON, reference=OLD, bands=optical(1))
        assert workspace.run("s2").code == 0
        return scene

    def test_what_is_superseded_is_not_listed(self, workspace: Workspace, old: Scene) -> None:
        newer = workspace.add_s2(NOON, reference=NEWER, bands=optical(2))
        assert workspace.run("s2").code == 0
        name(workspace, 1)
        assert listed(workspace) == {newer.id: [1]}
        redo(workspace)
        assert outcomes(workspace, old)[-1] == "superseded"
        assert workspace.rows(old) == 0

    def test_a_newer_one_comes_after_it_was_listed(self, workspace: Workspace, old: Scene) -> None:
        name(workspace, 1)
        newer = workspace.add_s2(NOON, reference=NEWER, bands=optical(2))
        assert workspace.run("s2").code == 0
        assert redo(workspace).stdout.strip() == NOTHING_TO_REDO
        assert listed(workspace) == {}
        assert (workspace.status(old), workspace.rows(old)) == ("superseded", 0)
        assert workspace.rows(newer) > 0

    def test_a_newer_one_comes_while_it_is_done_again(self, workspace: Workspace, old: Scene) -> None:
        name(workspace, 1)
        gate = Gate(workspace.folder, "chunk_spooled")
        worker = workspace.start("s2", "--redo", "--all", env=gate.env)
        gate.wait(worker)
        newer = workspace.add_s2(NOON, reference=NEWER, bands=optical(2))
        assert workspace.run("s2").code == 0
        gate.open()
        ended = worker.wait()
        assert (ended.code, ended.errors) == (0, []), ended.output
        assert outcomes(workspace, old)[1] == "given_back"
        assert listed(workspace) == {}
        assert (workspace.status(old), workspace.rows(old)) == ("superseded", 0)
        assert workspace.rows(newer) > 0

    def test_products_without_parcels_are_left_out(self, workspace: Workspace) -> None:
        """Both would get rows: nobody replaces the older one of two that have none."""
        where = workspace.add_parcels([translate(cell(2, 2), 50_000, 0)])
        both = [workspace.add_s2(NOON, reference=one, bands=optical(1)) for one in (OLD, NEWER)]
        assert workspace.run("s2", "--all").code == 0
        assert {workspace.status(one) for one in both} == {"no_parcels"}
        elsewhere = name(workspace, 1)
        move(workspace, 1, translate(where[1], -50_000, 0))
        said = name(workspace, 1)
        assert (elsewhere.warnings, len(said.warnings)) == ([], 1)
        assert "2 scenes" in said.warnings[0]
        assert listed(workspace) == {}
        assert workspace.operate("retry", "--status", "no_parcels").code == 0
        assert workspace.run("s2", "--all").code == 0
        assert [workspace.rows(one) > 0 for one in both] == [False, True]


def test_a_backup_holds_the_list(workspace: Workspace, moved: Moved) -> None:
    """Restored, it is what it was, and further scenes can be listed."""
    scene, parcels = moved
    assert workspace.operate("backup", "--out", "season.dump").code == 0
    verified = workspace.operate("verify", "--file", "season.dump")
    assert (verified.code, "ok public.redo_list: 1 " in verified.stdout) == (0, True), verified.output
    before = content(workspace, "redo_list")
    workspace.query("DROP TABLE signatures, redo_list, extraction_log, dias_catalogue, aois, parcels CASCADE")
    server = workspace.postgis
    where = {"PGHOST": server.host, "PGPORT": str(server.port), "PGUSER": server.user, "PGPASSWORD": server.password}
    restore = (f"{postgis_binaries()}/pg_restore", "--exit-on-error", "--dbname", workspace.database, "season.dump")
    subprocess.run(restore, cwd=workspace.cwd, env=environment(**where), check=True)
    assert content(workspace, "redo_list") == before
    other = workspace.add_s2("2020-04-02T10:00:31")
    assert workspace.run("s2").code == 0
    name(workspace, 1)
    assert listed(workspace) == {scene.id: [1], other.id: [1]}
    redo(workspace)
    for one in (scene, other):
        assert_same(workspace.signatures(one), one.expected(parcels))


def test_what_is_gone_is_kept_or_deleted(workspace: Workspace) -> None:
    """Of each scene; and a parcel that has come back is not gone."""
    parcels = workspace.add_parcels(squares(4))
    scene = workspace.add_s2()
    assert workspace.run("s2").code == 0
    geometry = workspace.one("SELECT wkb_geometry FROM parcels WHERE ogc_fid = 2")
    workspace.query("DELETE FROM parcels WHERE ogc_fid IN (1, 2)")
    dry = workspace.operate("redo", "--parcels", corrected(workspace, 1, 2), "--gone", "delete", "--dry-run")
    assert dry.stdout.splitlines() == [
        "2 parcels in corrected, 2 of them gone", "s2: 1 scenes would be listed, 2 parcels in all"
    ]  # fmt: skip
    assert workspace.one("SELECT to_regclass('redo_list')") is None
    kept = workspace.operate("redo", "--parcels", "corrected", "--gone", "keep")
    assert kept.stdout.splitlines() == ["2 parcels in corrected, 2 of them gone", "nothing to list"]
    assert workspace.operate("redo", "--parcels", "corrected", "--gone", "delete").code == 0
    assert workspace.operate("redo", "--parcels", corrected(workspace, 3)).code == 0
    assert workspace.query("SELECT pids, gone FROM redo_list") == [([1, 2, 3], [1, 2])]
    workspace.query("INSERT INTO parcels VALUES (2, %s)", geometry)
    redo(workspace)
    del parcels[1]
    assert_same(workspace.signatures(scene), scene.expected(parcels))


class TestWhatAnOperatorSees:
    def test_numbers_of_the_list(self, workspace: Workspace) -> None:
        """Waiting, being worked on, failed, not extracted now; and the failed ones are set back."""
        workspace.add_parcels(squares(3))
        scenes = [workspace.add_s2(f"2020-04-0{day}T10:00:31") for day in (1, 2, 3, 4)]
        assert workspace.run("s2", "--all").code == 0
        assert status(workspace) == {}
        name(workspace, 1)
        workspace.ingest(scenes[3])
        assert status(workspace) == {"waiting": 3, "kept": 1}
        for _ in range(2):
            workspace.run("s2", "--redo", env={"EXTRACTION_FAILPOINT": "files_verified=raise"})
        assert status(workspace) == {"waiting": 2, "failed": 1, "kept": 1}
        gate = Gate(workspace.folder, "claim_committed")
        worker = workspace.start("s2", "--redo", env=gate.env)
        gate.wait(worker)
        assert status(workspace) == {"waiting": 1, "under_way": 1, "failed": 1, "kept": 1}
        text = workspace.operate("status").stdout
        assert "s2: to be done again: 1 waiting, 1 being worked on, 1 failed, 1 not extracted now" in text
        assert "(once more)" in text
        assert workspace.operate("status", "--fail-if", "redo_failed>0").code == 1
        assert workspace.operate("status", "--fail-if", "redo>2").code == 0
        page = workspace.operate("report", "--out", "page.html")
        assert page.code == 0, page.output
        assert "Scenes to be done again: 1 waiting, 1 being worked on" in (workspace.cwd / "page.html").read_text()
        gate.open()
        assert worker.wait().code == 0
        assert workspace.operate("retry", "--redo", "--dry-run").code == 0
        assert status(workspace) == {"waiting": 1, "failed": 1, "kept": 1}
        back = workspace.operate("retry", "--redo")
        assert scenes[0].reference in back.stdout
        assert len(back.stdout.splitlines()) == 1
        assert status(workspace) == {"waiting": 2, "kept": 1}
        assert workspace.run("s2", "--all").code == 0
        redo(workspace)
        assert listed(workspace) == {}
        assert outcomes(workspace, scenes[0]) == ["extracted", "error", "failed", "redone"]

    def test_retry_of_scenes_or_of_the_list(self, workspace: Workspace) -> None:
        workspace.add_parcels(squares(1))
        assert workspace.operate("retry", "--redo").code == 0
        assert workspace.operate("retry", "--redo", "--status", "failed").code == 2

    def test_a_scene_that_is_deleted_from_the_catalogue(self, workspace: Workspace, moved: Moved) -> None:
        """Before a worker takes it, or while one is at it."""
        scene, _ = moved
        other = workspace.add_s2("2020-04-02T10:00:31")
        assert workspace.run("s2").code == 0
        name(workspace, 1)
        workspace.query("DELETE FROM dias_catalogue WHERE id = %s", other.id)
        gate = Gate(workspace.folder, "chunk_spooled")
        worker = workspace.start("s2", "--redo", "--all", env=gate.env)
        gate.wait(worker)
        before = everything(workspace)
        workspace.query("DELETE FROM dias_catalogue WHERE id = %s", scene.id)
        gate.open()
        ended = worker.wait()
        assert (ended.code, ended.errors) == (0, []), ended.output
        assert len(ended.warnings) == 2, ended.output
        assert [f"({one.id})" in line for one, line in zip((other, scene), ended.warnings, strict=True)] == [True, True]
        assert listed(workspace) == {}
        assert everything(workspace) == before
        assert outcomes(workspace, scene) == ["extracted", "given_back"]

    def test_a_results_table_that_is_renamed(self, workspace: Workspace, moved: Moved) -> None:
        """Its scenes are not missing from it, and are listed again under its new name."""
        scene, parcels = moved
        workspace.query("ALTER TABLE signatures RENAME TO renamed")
        workspace.tables["results_table"] = "renamed"
        nothing = redo(workspace)
        assert nothing.stdout.strip() == NOTHING_TO_REDO
        assert ["public.signatures" in line for line in nothing.warnings] == [True]
        assert "nothing to list" in workspace.operate("redo", "--missing", "--dry-run").stdout
        again = workspace.operate("redo", "--parcels", "corrected")
        assert (again.code, ["public.signatures" in line for line in again.warnings]) == (0, [True]), again.output
        assert workspace.query("SELECT obsid, results FROM redo_list") == [(scene.id, "public.renamed")]
        redo(workspace)
        assert_same(workspace.signatures(scene, "renamed"), scene.expected(parcels))
        assert listed(workspace) == {}

    def test_a_table_without_an_index(self, workspace: Workspace) -> None:
        """Nothing is listed that no worker could do."""
        workspace.add_parcels(squares(3))
        workspace.add_s2()
        assert workspace.run("s2").code == 0
        workspace.query("DROP INDEX signatures_obsid_idx")
        refused = workspace.operate("redo", "--parcels", corrected(workspace, 1))
        assert (refused.code, len(refused.errors), "operations index" in refused.errors[0]) == (2, 1, True)
        assert workspace.one("SELECT to_regclass('redo_list')") is None

    @pytest.mark.parametrize("table", ["dias_catalogue", "extraction_log", "signatures", "redo_list"])
    def test_a_table_that_may_not_be_read(self, table: str, workspace: Workspace, role: str) -> None:
        """One line that names it; and nothing is listed."""
        workspace.add_parcels(squares(3))
        workspace.add_s2()
        assert workspace.run("s2").code == 0
        name(workspace, 1)
        before = content(workspace, "redo_list")
        user = sql.Identifier(role)
        workspace.query(sql.SQL("GRANT ALL ON ALL TABLES IN SCHEMA public TO {}").format(user))
        workspace.query(sql.SQL("REVOKE ALL ON {} FROM {}").format(sql.Identifier(table), user))
        workspace.db_config["database"]["connection"].update({"dbuser": role, "dbpasswd": PASSWORD})
        refused = workspace.operate("redo", "--parcels", "corrected")
        assert (refused.code, len(refused.errors), table in refused.errors[0]) == (2, 1, True), refused.output
        assert content(workspace, "redo_list") == before

    def test_who_may_see_the_log_may_see_the_list(self, workspace: Workspace, role: str) -> None:
        workspace.add_parcels(squares(3))
        workspace.add_s2()
        assert workspace.run("s2").code == 0
        workspace.query(sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}").format(sql.Identifier(role)))
        name(workspace, 1)
        workspace.db_config["database"]["connection"].update({"dbuser": role, "dbpasswd": PASSWORD})
        assert status(workspace) == {"waiting": 1}

    def test_the_owner_of_the_log_may_use_the_list(self, workspace: Workspace, role: str) -> None:
        """Workers who have made the log themselves, when somebody else makes the list."""
        workspace.add_parcels(squares(3))
        workspace.add_s2()
        assert workspace.run("s2").code == 0
        workspace.query(sql.SQL("ALTER TABLE extraction_log OWNER TO {}").format(sql.Identifier(role)))
        name(workspace, 1)
        rights = "SELECT has_table_privilege(%s, 'redo_list', 'SELECT'), has_table_privilege(%s, 'redo_list', 'DELETE')"
        assert workspace.query(rights, role, role) == [(True, True)]

    def test_a_scene_without_parcels_that_gets_some(self, workspace: Workspace) -> None:
        """Its status says that there are rows now."""
        parcels = workspace.add_parcels([translate(cell(2, 2), 50_000, 0)])
        scene = workspace.add_s2()
        assert workspace.run("s2").code == 0
        assert workspace.status(scene) == "no_parcels"
        parcels[1] = cell(2, 2)
        move(workspace, 1, parcels[1])
        name(workspace, 1)
        redo(workspace)
        assert_same(workspace.signatures(scene), scene.expected(parcels))
        assert workspace.status(scene) == "extracted"

    def test_two_regions_share_a_table(self, workspace: Workspace) -> None:
        """What is missing of the second one is added to what the first one has, whose own list stays its own."""
        first, second = cell(2, 2), cell(40, 40)
        parcels = workspace.add_parcels([first, second])
        places = {"my_aoi": cell(0, 0, 20, 20), "other": cell(35, 35, 20, 20)}
        workspace.query("DELETE FROM aois")
        for area, where in places.items():
            wkt = to_epsg(where, GRID.epsg, 4326).wkt
            workspace.query("INSERT INTO aois VALUES (%s, ST_Multi(ST_GeomFromText(%s, 4326)))", area, wkt)
        scene = workspace.add_s2()
        assert workspace.run("s2").code == 0
        assert {pid for pid, _ in workspace.signatures(scene)} == {1}
        before = everything(workspace)
        name(workspace, 1)
        workspace.args["name"] = "other"
        assert "nothing to list" in name(workspace, 1, 2).stdout
        assert workspace.operate("redo", "--missing").code == 0
        assert len(workspace.query("SELECT 1 FROM redo_list")) == 2
        redo(workspace)
        assert workspace.query("SELECT aoi FROM redo_list") == [("my_aoi",)]
        assert_same(workspace.signatures(scene), scene.expected(parcels))
        assert before.items() <= everything(workspace).items()


def test_the_example(workspace: Workspace) -> None:
    """The commands of the page, word for word but for the names of the table and the database."""
    skip_unless("" if shutil.which("ogr2ogr") else "there is no ogr2ogr (Debian: gdal-bin)")
    workspace.query("ALTER TABLE parcels ADD COLUMN parcel_no integer")
    workspace.tables["parcel_id"] = "parcel_no"
    parcels = workspace.add_parcels(squares(5))
    workspace.query("UPDATE parcels SET parcel_no = 100 + ogc_fid")
    scene = workspace.add_s2()
    assert workspace.run("s2").code == 0
    before = everything(workspace)
    after = {100 + pid: where for pid, where in parcels.items() if pid != 2} | {200: cell(40, 40)}
    after[101] = translate(after[101], 10, 0)
    frame = geopandas.GeoDataFrame({"parcel_no": list(after)}, geometry=list(after.values()), crs=GRID.epsg)
    frame.to_file(workspace.cwd / "parcels.gpkg", driver="GPKG", engine="pyogrio")
    section = (ROOT / "docs/operations.md").read_text().partition("\n## redo\n")[2].partition("\n## ")[0]
    text = "\n".join(re.findall(r"```sh\n(.*?)```", section, re.DOTALL))
    names = {"parcels_2018": "parcels", "sentinel": workspace.database, "python": shlex.quote(sys.executable)}
    text = re.sub("|".join(rf"\b{one}\b" for one in names), lambda found: names[found[0]], text)
    server = workspace.postgis
    where = {
        "PGHOST": server.host, "PGPORT": str(server.port), "PGUSER": server.user, "PGPASSWORD": server.password,
        "PATH": f"{postgis_binaries()}:{os.environ['PATH']}",
    }  # fmt: skip
    workspace.write_config()
    done = subprocess.run(
        ("sh", "-e", "-c", text),
        cwd=workspace.cwd,
        env=environment(**where),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if "listed" in line or "unchanged" in line]
    assert said == [
        "3 unchanged, 1 changed, 1 new, 1 gone, 0 renumbered", "s2: 1 scenes would be listed, 3 parcels in all",
        "3 unchanged, 1 changed, 1 new, 1 gone, 0 renumbered", "s2: 1 scenes listed, 3 parcels in all",
    ]  # fmt: skip
    assert_same(workspace.signatures(scene), scene.expected(after))
    assert {pid for (_, pid, _), row in everything(workspace).items() if row not in before.values()} == {101, 200}
    assert listed(workspace) == {}


@pytest.fixture
def role(workspace: Workspace) -> Iterator[str]:
    """A role that may make tables, and do nothing yet with those that are there."""
    made = f"operator_of_{workspace.database}"
    create_role(workspace, made)
    names = {"role": sql.Identifier(made), "database": sql.Identifier(workspace.database)}
    workspace.query(sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {role}").format(**names))
    workspace.query(sql.SQL("GRANT USAGE, CREATE ON SCHEMA public TO {role}").format(**names))
    yield made
    workspace.query(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(made)))
    workspace.postgis.drop_role(made)
