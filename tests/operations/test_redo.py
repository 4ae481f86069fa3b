"""`operations redo` and workers with `--redo`: rows of extracted scenes are replaced, and nothing else changes."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from psycopg2 import sql
from shapely.affinity import translate

from extractors.worker import NOTHING_TO_REDO
from tests.support.ground import GRID, cell, classes, footprint, ground, red, squares, to_epsg
from tests.support.redo import corrected, everything, listed, move, of, outcomes
from tests.support.roles import worker_role
from tests.support.running import wait_until
from tests.support.scenes import assert_same
from tests.support.workspace import Workspace

PARCELS, CHANGED, SCENES = 2_093, 100, 12
# Pixels of a scene with room for so many, of 4 x 4 pixels each.
SIDE, IN_A_ROW = 240, 46

Row = tuple[Any, ...]


@pytest.fixture(autouse=True)
def _several_attempts(workspace: Workspace) -> None:
    workspace.extraction.update({"max_attempts": 5, "retry_pause_seconds": 0})


@contextmanager
def reading(workspace: Workspace) -> Iterator[set[Row]]:
    """A block in which a reader looks again and again; what it has seen: rows and status of each scene, and how many
    parcels these are of."""
    seen: set[Row] = set()
    ended = threading.Event()

    def look() -> None:
        with workspace.connect() as connection, connection.cursor() as cursor:
            while not ended.is_set():
                cursor.execute(
                    "SELECT d.id, d.status, count(*), count(DISTINCT s.pid) FROM dias_catalogue d "
                    "LEFT JOIN signatures s ON s.obsid = d.id GROUP BY d.id, d.status"
                )
                seen.update(cursor.fetchall())
                connection.commit()
        connection.close()

    reader = threading.Thread(target=look)
    reader.start()
    try:
        yield seen
    finally:
        ended.set()
        reader.join()


def test_a_hundred_of_many(workspace: Workspace, tmp_path: Path) -> None:
    """Three workers share a list, one of them dies over its third scene; a reader looks on."""
    workspace.extraction["chunk_size"] = 500
    workspace.query(
        "UPDATE aois SET wkb_geometry = ST_Multi(ST_GeomFromText(%s, 4326))",
        footprint(ground(1000, shape=(SIDE, SIDE))),
    )
    parcels = workspace.add_parcels(
        [cell(1 + 5 * (i % IN_A_ROW), 1 + 5 * (i // IN_A_ROW), 4, 4) for i in range(PARCELS)]
    )
    scenes = [
        workspace.add_s2(
            f"2020-04-{day:02}T10:00:31",
            bands={
                "B04": red(day, (SIDE, SIDE)),
                "B08": red(100 + day, (SIDE, SIDE)),
                "SCL": classes(day, (SIDE // 2, SIDE // 2)),
            },
        )
        for day in range(1, SCENES + 1)
    ]
    assert workspace.run("s2", "--all").code == 0
    before = everything(workspace)
    changed = {pid: translate(parcels[pid], 10, 10) for pid in list(parcels)[50 : 50 + CHANGED]}
    for pid, geometry in changed.items():
        move(workspace, pid, geometry)
    said = workspace.operate("redo", "--parcels", corrected(workspace, *changed))
    assert said.code == 0, said.output
    assert f"{SCENES} scenes listed" in said.stdout
    assert {obsid: set(pids or ()) for obsid, pids in listed(workspace).items()} == {
        scene.id: {*changed} for scene in scenes
    }
    file = tmp_path / "touched"
    hanging = {"EXTRACTION_FAILPOINT": "claim_committed=touch", "EXTRACTION_FAILPOINT_FILE": str(file)}
    with reading(workspace) as seen:
        assert workspace.run("s2", "--redo", "--all", env={"EXTRACTION_FAILPOINT": "before_commit:3=kill"}).code == -9
        one = workspace.start("s2", "--redo", "--all", env=hanging)
        wait_until(file.exists, "the first claim")
        other = workspace.start("s2", "--redo", "--all")
        wait_until(lambda: len(listed(workspace)) == 1, "all but the scene of the first worker")
        file.unlink()
        assert (one.wait().code, other.wait().code) == (0, 0)
    # Whatever the reader saw, it saw of each scene all that there is of it.
    assert {row[0]: 1 for row in seen} == {row[0]: sum(row[0] == each[0] for each in seen) for row in seen}
    after = everything(workspace)
    assert after.keys() == before.keys()
    assert {key[1] for key in after if after[key] != before[key]} == changed.keys()
    assert all((after[key] != before[key]) == (key[1] in changed) for key in after)
    for scene in scenes:
        assert_same(of({*changed}, workspace.signatures(scene)), scene.expected(changed))
    assert listed(workspace) == {}
    ends = [outcome for scene in scenes for outcome in outcomes(workspace, scene)[1:]]
    assert sorted(map(str, ends)) == ["lost"] + ["redone"] * SCENES
    workers = {
        attempt["worker"] for scene in scenes for attempt in workspace.log(scene) if attempt["outcome"] == "redone"
    }
    assert len(workers) == 3


POINTS = (
    "claim_updated", "claim_locked", "claim_committed", "files_verified", "parcels_selected", "publish_begin", "copied",
    "status_updated", "journal_updated", "before_commit", "committed", "unlocked", "files_removed",
)  # fmt: skip


@pytest.mark.parametrize("point", POINTS)
def test_killed_at(point: str, workspace: Workspace) -> None:
    """All of it is done once, whenever a worker dies."""
    parcels = workspace.add_parcels(squares(9))
    scene = workspace.add_s2()
    assert workspace.run("s2").code == 0
    before = workspace.signatures(scene)
    moved = {1: translate(parcels[1], 10, 0)}
    move(workspace, 1, moved[1])
    workspace.operate("redo", "--parcels", corrected(workspace, 1))
    assert workspace.run("s2", "--redo", env={"EXTRACTION_FAILPOINT": f"{point}=kill"}).code == -9
    assert workspace.status(scene) == "extracted"
    found = workspace.signatures(scene)
    assert of({*parcels} - {1}, found) == of({*parcels} - {1}, before)
    wait_until(
        lambda: not workspace.query("SELECT 1 FROM pg_locks WHERE classid = 1128418561"), "the end of its session"
    )
    assert workspace.run("s2", "--redo", "--all").code == 0
    assert_same(workspace.signatures(scene), scene.expected(parcels | moved))
    assert outcomes(workspace, scene).count("redone") == 1
    assert listed(workspace) == {}


def test_a_parcel_that_moves_away_and_one_that_is_gone(workspace: Workspace) -> None:
    """Rows of the first go: it does not meet the scene any more. Those of the other stay, unless they shall not."""
    parcels = workspace.add_parcels(squares(5))
    scene = workspace.add_s2()
    assert workspace.run("s2").code == 0
    move(workspace, 1, translate(parcels[1], 100_000, 0))
    workspace.query("DELETE FROM parcels WHERE ogc_fid = 2")
    kept = workspace.operate("redo", "--parcels", corrected(workspace, 1, 2))
    assert kept.code == 0
    assert listed(workspace) == {scene.id: [1]}
    assert workspace.run("s2", "--redo").code == 0
    assert {pid for pid, _ in workspace.signatures(scene)} == {2, 3, 4, 5}
    assert workspace.operate("redo", "--parcels", "corrected", "--gone", "delete").code == 0
    assert listed(workspace) == {scene.id: [2]}
    assert workspace.run("s2", "--redo").code == 0
    assert {pid for pid, _ in workspace.signatures(scene)} == {3, 4, 5}
    assert workspace.status(scene) == "extracted"


def test_a_parcel_of_another_area_keeps_its_rows(workspace: Workspace) -> None:
    """Two areas share a results table: a parcel that now lies in the other one is that one's to do again."""
    workspace.tables["gaps_table"] = "gaps"
    parcels = workspace.add_parcels(squares(5))
    scene = workspace.add_s2()
    assert workspace.run("s2").code == 0
    before = everything(workspace)
    small = footprint(cell(18, 0, 42, 10))
    workspace.query("UPDATE aois SET wkb_geometry = ST_Multi(ST_GeomFromText(%s, 4326))", small)
    assert workspace.operate("redo", "--parcels", corrected(workspace, *parcels)).code == 0
    assert workspace.run("s2", "--redo").code == 0
    after = everything(workspace)
    assert after.keys() == before.keys()
    assert {pid for (_, pid, _), text in after.items() if text in before.values()} == {1, 2}
    assert_same(workspace.signatures(scene), scene.expected(parcels))


def test_all_tables_of_results(workspace: Workspace) -> None:
    """A parcel that has become too small for a row gets a gap in the same transaction, and the other way round."""
    workspace.tables.update({"gaps_table": "gaps", "hists_table": "hists"})
    tiny = translate(cell(10, 10, 1, 1, inset=4.9), 4.95, 4.95)
    parcels = workspace.add_parcels([cell(2, 2), tiny])
    scene = workspace.add_s2()
    assert workspace.run("s2").code == 0
    assert set(workspace.query("SELECT DISTINCT pid FROM gaps")) == {(2,)}
    move(workspace, 1, tiny)
    move(workspace, 2, parcels[1])
    assert workspace.operate("redo", "--parcels", corrected(workspace, 1, 2)).code == 0
    assert workspace.run("s2", "--redo").code == 0
    assert set(workspace.query("SELECT DISTINCT pid FROM gaps")) == {(1,)}
    assert set(workspace.query("SELECT DISTINCT pid FROM hists")) == {(2,)}
    assert {pid for pid, _ in workspace.signatures(scene)} == {2}


def test_changed_since(workspace: Workspace) -> None:
    """A key that lasts tells which parcels are which, whatever numbers the import has given."""
    parcels = workspace.add_parcels(squares(6))
    scene = workspace.add_s2()
    workspace.query("ALTER TABLE parcels ADD COLUMN code text")
    workspace.query("UPDATE parcels SET code = 'p' || ogc_fid")
    assert workspace.run("s2").code == 0
    before = everything(workspace)
    workspace.query("CREATE TABLE parcels_before AS SELECT * FROM parcels")
    move(workspace, 2, translate(parcels[2], 10, 0))
    workspace.query("DELETE FROM parcels WHERE ogc_fid = 3")
    (new,) = workspace.add_parcels([cell(2, 40)])
    workspace.query("UPDATE parcels SET code = 'new' WHERE ogc_fid = %s", new)
    said = workspace.operate("redo", "--changed-since", "parcels_before", "--key", "code")
    assert said.code == 0, said.output
    assert said.stdout.splitlines()[0] == "4 unchanged, 1 changed, 1 new, 1 gone, 0 renumbered"
    assert {obsid: sorted(pids or ()) for obsid, pids in listed(workspace).items()} == {scene.id: [2, new]}
    assert workspace.run("s2", "--redo").code == 0
    after = everything(workspace)
    assert {pid for (_, pid, _), text in after.items() if text not in before.values()} == {2, new}
    assert {pid for _, pid, _ in after} == {1, 2, 3, 4, 5, 6, new}
    workspace.query("UPDATE parcels SET ogc_fid = ogc_fid + 100")
    said = workspace.operate("redo", "--changed-since", "parcels_before", "--key", "code", "--gone", "delete")
    assert said.stdout.splitlines()[0] == "0 unchanged, 1 changed, 1 new, 1 gone, 4 renumbered"
    assert ["--gone delete" in warning for warning in said.warnings] == [False]
    kept = workspace.operate("redo", "--changed-since", "parcels_before", "--key", "code", "--dry-run")
    assert ["--gone delete" in warning for warning in kept.warnings] == [True]
    assert workspace.run("s2", "--redo").code == 0
    assert {pid for pid, _ in workspace.signatures(scene)} == {101, 102, 104, 105, 106, 100 + new, new}


@pytest.mark.parametrize(
    "options",
    [
        ("--parcels", "nothing"),
        ("--parcels", "aois"),
        ("--changed-since", "parcels"),
        ("--missing", "--key", "ogc_fid"),
        ("--changed-since", "parcels", "--key", "nothing"),
        ("--changed-since", "parcels", "--key", "same"),
        (),
        ("--missing", "--parcels", "corrected"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_asked_for(options: tuple[str, ...], workspace: Workspace) -> None:
    workspace.add_parcels(squares(3))
    workspace.query("ALTER TABLE parcels ADD COLUMN same text DEFAULT 'x'")
    workspace.add_s2()
    assert workspace.run("s2").code == 0
    assert workspace.operate("redo", *options).code == 2
    assert listed(workspace) == {}


def test_before_anything_is_extracted(workspace: Workspace) -> None:
    workspace.add_parcels(squares(3))
    assert workspace.operate("redo", "--missing").code == 2


def test_missing(workspace: Workspace) -> None:
    """A second region, with parcels and results of its own, over the same catalogue."""
    first = workspace.add_parcels(squares(5))
    scenes = [workspace.add_s2(f"2020-04-0{day}T10:00:31") for day in (1, 2, 3)]
    for scene in scenes[:2]:
        assert workspace.run("s2", "--scene", scene.reference).code == 0
    before = everything(workspace)
    workspace.query("CREATE TABLE others (LIKE parcels INCLUDING ALL)")
    second = workspace.add_parcels([cell(30, 40), cell(40, 40)], table="others")
    area = to_epsg(cell(25, 35, 30, 20), GRID.epsg, 4326).wkt
    workspace.query("INSERT INTO aois (name, wkb_geometry) VALUES ('other', ST_Multi(ST_GeomFromText(%s, 4326)))", area)
    workspace.tables.update({"parcel_table": "others", "results_table": "other_signatures"})
    workspace.args["name"] = "other"
    assert workspace.operate("setup").code == 0
    assert workspace.operate("redo", "--missing", "--dry-run").code == 0
    assert listed(workspace) == {}
    said = workspace.operate("redo", "--missing")
    assert said.code == 0, said.output
    assert listed(workspace) == {scenes[0].id: None, scenes[1].id: None}
    assert workspace.run("s2", "--redo", "--all").code == 0
    for scene in scenes[:2]:
        assert_same(workspace.signatures(scene, "other_signatures"), scene.expected(second))
        assert workspace.status(scene) == "extracted"
    assert workspace.status(scenes[2]) == "ingested"
    assert everything(workspace) == before
    assert "nothing to list" in workspace.operate("redo", "--missing").stdout
    assert first


def test_an_extraction_that_begins_later_does_it_all(workspace: Workspace) -> None:
    """And one that has begun before does not: it may have selected parcels as they were."""
    parcels = workspace.add_parcels(squares(5))
    scene = workspace.add_s2()
    assert workspace.run("s2").code == 0
    move(workspace, 1, translate(parcels[1], 10, 0))
    assert workspace.operate("redo", "--parcels", corrected(workspace, 1)).code == 0
    workspace.ingest(scene)
    assert workspace.run("s2").code == 0
    done = workspace.run("s2", "--redo", "--all")
    assert done.code == 0
    assert done.stdout.strip() == NOTHING_TO_REDO
    assert listed(workspace) == {}
    assert outcomes(workspace, scene) == ["extracted", "extracted"]


def test_an_extraction_that_is_under_way_does_not(workspace: Workspace, tmp_path: Path) -> None:
    parcels = workspace.add_parcels(squares(5))
    scene = workspace.add_s2()
    file = tmp_path / "touched"
    worker = workspace.start(
        "s2", env={"EXTRACTION_FAILPOINT": "parcels_selected=touch", "EXTRACTION_FAILPOINT_FILE": str(file)}
    )
    wait_until(file.exists, "the selection")
    moved = {1: translate(parcels[1], 10, 0)}
    move(workspace, 1, moved[1])
    assert workspace.operate("redo", "--parcels", corrected(workspace, 1)).code == 0
    file.unlink()
    assert worker.wait().code == 0
    assert_same(workspace.signatures(scene), scene.expected(parcels))
    assert listed(workspace) == {scene.id: [1]}
    assert workspace.run("s2", "--redo").code == 0
    assert_same(workspace.signatures(scene), scene.expected(parcels | moved))


@pytest.mark.parametrize("by", ["status", "list"])
def test_somebody_comes_in_between(by: str, workspace: Workspace, tmp_path: Path) -> None:
    """What is set back, or listed anew, is not written."""
    parcels = workspace.add_parcels(squares(5))
    scene = workspace.add_s2()
    assert workspace.run("s2").code == 0
    before = everything(workspace)
    moved = {1: translate(parcels[1], 10, 0)}
    move(workspace, 1, moved[1])
    assert workspace.operate("redo", "--parcels", corrected(workspace, 1)).code == 0
    file = tmp_path / "touched"
    worker = workspace.start(
        "s2", "--redo", env={"EXTRACTION_FAILPOINT": "chunk_spooled=touch", "EXTRACTION_FAILPOINT_FILE": str(file)}
    )
    wait_until(file.exists, "the statistics")
    # A worker of the ordinary kind does not take it meanwhile.
    workspace.ingest(scene)
    assert workspace.run("s2").code == 0
    assert outcomes(workspace, scene) == ["extracted", None]
    if by == "list":
        workspace.query("UPDATE dias_catalogue SET status = 'extracted'")
        assert workspace.operate("redo", "--parcels", corrected(workspace, 1, 2)).code == 0
    file.unlink()
    ended = worker.wait()
    # Whoever lists twice need not see an error: another worker does the new entry.
    assert (ended.code, len(ended.errors)) == ((1, 1) if by == "status" else (0, 0))
    assert everything(workspace) == before
    assert outcomes(workspace, scene) == ["extracted", "claim_lost" if by == "status" else "given_back"]
    assert len(listed(workspace)) == 1
    workspace.query("UPDATE dias_catalogue SET status = 'extracted'")
    assert workspace.run("s2", "--redo").code == 0
    assert_same(workspace.signatures(scene), scene.expected(parcels | moved))


def test_stopped_by_a_signal(workspace: Workspace) -> None:
    """It is given back to the list, and does not count."""
    workspace.add_parcels(squares(5))
    scene = workspace.add_s2()
    assert workspace.run("s2").code == 0
    assert workspace.operate("redo", "--parcels", corrected(workspace, 1)).code == 0
    assert workspace.run("s2", "--redo", env={"EXTRACTION_FAILPOINT": "files_verified=term"}).code == 128 + 15
    assert outcomes(workspace, scene) == ["extracted", "given_back"]
    assert workspace.status(scene) == "extracted"
    assert workspace.run("s2", "--redo").code == 0
    assert [attempt["attempt"] for attempt in workspace.log(scene)] == [1, 1, 1]


def test_a_scene_that_fails_keeps_its_rows_and_is_not_tried_for_ever(workspace: Workspace) -> None:
    workspace.extraction["max_attempts"] = 2
    workspace.add_parcels(squares(5))
    scene = workspace.add_s2()
    assert workspace.run("s2").code == 0
    before = everything(workspace)
    assert workspace.operate("redo", "--parcels", corrected(workspace, 1)).code == 0
    broken = {"EXTRACTION_FAILPOINT": "files_verified=raise"}
    for _ in range(3):
        workspace.run("s2", "--redo", env=broken)
    assert outcomes(workspace, scene) == ["extracted", "error", "failed"]
    assert everything(workspace) == before
    assert workspace.status(scene) == "extracted"
    assert len(listed(workspace)) == 1
    # Listed anew, it gets all its attempts again; and they do not count for others.
    assert workspace.operate("redo", "--parcels", "corrected").code == 0
    assert workspace.run("s2", "--redo").code == 0
    assert [attempt["attempt"] for attempt in workspace.log(scene)] == [1, 1, 2, 1]


def test_without_an_index(workspace: Workspace) -> None:
    workspace.add_parcels(squares(5))
    workspace.add_s2()
    assert workspace.run("s2").code == 0
    assert workspace.operate("redo", "--parcels", corrected(workspace, 1)).code == 0
    workspace.query("DROP INDEX signatures_obsid_idx")
    refused = workspace.run("s2", "--redo")
    assert refused.code == 2
    assert "operations index" in refused.errors[-1]
    assert len(listed(workspace)) == 1
    assert workspace.operate("index").code == 0
    assert workspace.run("s2", "--redo").code == 0
    assert listed(workspace) == {}


def test_without_a_list(workspace: Workspace) -> None:
    workspace.add_parcels(squares(5))
    scene = workspace.add_s2()
    done = workspace.run("s2", "--redo", "--all")
    assert (done.code, done.stdout.strip()) == (0, NOTHING_TO_REDO)
    assert workspace.status(scene) == "ingested"


def test_numbers_of_another_meaning_do_not_come_in(workspace: Workspace) -> None:
    """Rows that a redo has written count as any others."""
    workspace.add_parcels(squares(5))
    workspace.add_s2()
    assert workspace.run("s2").code == 0
    workspace.tables["results_table"] = "elsewhere"
    assert workspace.operate("setup").code == 0
    assert workspace.operate("redo", "--missing").code == 0
    assert workspace.run("s2", "--redo").code == 0
    workspace.extraction["min_pixels"] = 3
    workspace.add_s2("2020-05-01T10:00:31")
    assert workspace.run("s2").code == 2


def test_rights(workspace: Workspace) -> None:
    """Who may write into the log gets the right to the list with it. Only workers with --redo need it."""
    workspace.add_parcels(squares(5))
    scene = workspace.add_s2()
    assert workspace.run("s2").code == 0
    owner = workspace.cwd / "owner.json"
    shutil.copy(workspace.cwd / "db_config.json", owner)
    with worker_role(workspace) as role:
        for _ in range(2):
            named = workspace.operate("redo", "--parcels", corrected(workspace, 1), "--db-config", str(owner))
            assert named.code == 0, named.output
            assert workspace.run("s2", "--redo").code == 0
        assert outcomes(workspace, scene) == ["extracted", "redone", "redone"]
        for right in ("SELECT", "DELETE"):
            names = {"right": sql.SQL(right), "role": sql.Identifier(role)}
            workspace.query(sql.SQL("REVOKE {right} ON redo_list FROM {role}").format(**names))
            refused = workspace.run("s2", "--redo")
            assert refused.code == 2
            assert f"GRANT {right}" in refused.errors[-1]
            workspace.query(sql.SQL("GRANT {right} ON redo_list TO {role}").format(**names))
        workspace.query(sql.SQL("REVOKE ALL ON redo_list FROM {}").format(sql.Identifier(role)))
        workspace.ingest(scene)
        assert workspace.run("s2").code == 0
