"""Several products of one observation, extracted by real workers: whatever the order in which they come, the table
holds the rows of the newest, and whatever else it held."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest
import shapely

from tests.support.ground import GRID, footprint, ground, optical, squares
from tests.support.running import NOTHING_LEFT, Outcome
from tests.support.scenes import Scene, assert_same, s2_reference
from tests.support.workspace import Workspace

NOON = "2020-04-01T10:00:31"
OLD = s2_reference(datetime.fromisoformat(NOON))
NEWER, NEWEST = OLD.replace("_N0214_", "_N0300_"), OLD.replace("_N0214_", "_N0500_")
TABLES = ("signatures", "hists", "clear", "gaps")


@dataclass
class Case:
    """A workspace with parcels, whose workers keep only the newest of siblings."""

    workspace: Workspace
    parcels: dict[int, Any]

    def add(self, reference: str, seed: int, **layout: Any) -> Scene:
        return self.workspace.add_s2(NOON, reference=reference, bands=optical(seed), **layout)

    def run(self, *options: str, code: int = 0) -> Outcome:
        """A burst, which has to end well."""
        outcome = self.workspace.run("s2", *(options or ("--all",)))
        assert outcome.code == code, outcome.stderr
        assert code or outcome.errors == [], outcome.stderr
        return outcome

    def statuses(self, *scenes: Scene) -> list[str]:
        return [self.workspace.status(scene) for scene in scenes]

    def holds_only(self, scene: Scene) -> None:
        """The rows of this scene are there as they should be, and no others."""
        assert_same(self.workspace.signatures(scene), scene.expected(self.parcels))
        for table in TABLES:
            rows = self.workspace.query(f"SELECT DISTINCT obsid FROM {table}")
            assert rows == [(scene.id,)], table


@pytest.fixture
def case(workspace: Workspace) -> Case:
    workspace.extraction["duplicates"] = "newest"
    workspace.tables.update({"hists_table": "hists", "clear_results_table": "clear", "gaps_table": "gaps"})
    without_pixel = shapely.box(GRID.left + 1, GRID.top - 2, GRID.left + 2, GRID.top - 1)
    return Case(workspace, workspace.add_parcels([*squares(4), without_pixel]))


def test_the_newer_one_comes_later(case: Case) -> None:
    old = case.add(OLD, 1)
    case.run()
    case.holds_only(old)
    newer = case.add(NEWER, 2)
    outcome = case.run()
    assert f"scene {old.id} {OLD} is superseded" in outcome.stderr
    case.holds_only(newer)
    newest = case.add(NEWEST, 3)
    case.run()
    case.holds_only(newest)
    assert case.statuses(old, newer, newest) == ["superseded", "superseded", "extracted"]
    first, second = case.workspace.log(old)
    assert (first["outcome"], second["outcome"], second["status"]) == ("extracted", "superseded", "superseded")
    assert second["detail"] == f"scene {newer.id} {NEWER} is a newer product of the same datatake and tile"
    assert second["worker"] == case.workspace.log(newer)[0]["worker"]
    # Once more: nothing changes.
    assert NOTHING_LEFT in case.run().stdout
    case.holds_only(newest)


def test_the_older_one_comes_late(case: Case) -> None:
    newest = case.add(NEWEST, 3)
    case.run()
    old = case.add(OLD, 1)
    outcome = case.run()
    assert f"scene {old.id} {OLD} is superseded: scene {newest.id} {NEWEST} is a newer product" in outcome.stderr
    assert NOTHING_LEFT in outcome.stdout
    case.holds_only(newest)
    assert case.statuses(old, newest) == ["superseded", "extracted"]
    (log,) = case.workspace.log(old)
    assert (log["outcome"], log["detail"].split()[1]) == ("superseded", str(newest.id))


def test_both_are_there(case: Case) -> None:
    """The older one is not even computed."""
    scenes = [case.add(reference, seed) for seed, reference in enumerate((NEWER, OLD, NEWEST))]
    case.run()
    case.holds_only(scenes[2])
    assert case.statuses(*scenes) == ["superseded", "superseded", "extracted"]
    for scene in scenes[:2]:
        assert [log["outcome"] for log in case.workspace.log(scene)] == ["superseded"]


def test_without_the_setting_both_are_extracted(case: Case) -> None:
    del case.workspace.extraction["duplicates"]
    old, newest = case.add(OLD, 1), case.add(NEWEST, 3)
    case.run()
    assert case.statuses(old, newest) == ["extracted", "extracted"]
    assert case.workspace.rows(old) == case.workspace.rows(newest) > 0


def test_partial_passes_are_both_kept(case: Case) -> None:
    """Products of one datatake and tile, whose footprints are not those of the whole."""
    whole = ground()
    west, south, east, north = whole.bounds
    part = whole.intersection(type(whole)([(west, south), (east, south), (west, north)]))
    old, new = case.add(OLD, 1), case.add(NEWEST, 3, where=footprint(part))
    case.run()
    assert case.statuses(old, new) == ["extracted", "extracted"]
    assert case.workspace.rows(old) > 0
    assert case.workspace.rows(new) > 0


@pytest.mark.parametrize("status", ["notfound", "failed"])
def test_the_next_one_is_taken_if_the_newest_cannot_be(case: Case, status: str) -> None:
    scenes = [case.add(reference, seed) for seed, reference in enumerate((OLD, NEWER, NEWEST))]
    key = scenes[2].keys["B04"]
    whole = case.workspace.read(key)
    if status == "failed":
        case.workspace.write(key, whole[: len(whole) // 2])
    else:
        case.workspace.remove(key)
    case.run("--all", code=1)
    case.holds_only(scenes[1])
    assert case.statuses(*scenes) == ["superseded", "extracted", status]
    # It has been brought.
    case.workspace.write(key, whole)
    case.workspace.ingest(scenes[2])
    case.run()
    case.holds_only(scenes[2])
    assert case.statuses(*scenes) == ["superseded", "superseded", "extracted"]


def test_what_others_have_written_stays(case: Case) -> None:
    """Rows of other scenes, and of parcels that are not selected: those of another AOI, say."""
    old = case.add(OLD, 1)
    other = case.workspace.add_s2("2020-04-07T10:00:31", bands=optical(7))
    case.run()
    before = case.workspace.signatures(other)
    case.workspace.query("INSERT INTO signatures (pid, obsid, band) VALUES (77, %s, 'B4'), (1, 99, 'B4')", old.id)
    obsolete = case.workspace.add_row(NEWER, NOON, status="Obsolete")
    newest = case.add(NEWEST, 3)
    outcome = case.run()
    (warning,) = outcome.warnings
    assert f"1 rows of scene {old.id} {OLD} stay: their parcels are not selected now" in warning
    assert case.workspace.signatures(other) == before
    assert case.workspace.query(
        "SELECT pid, obsid FROM signatures WHERE obsid NOT IN (%s, %s)", newest.id, other.id
    ) == [
        (77, old.id),
        (1, 99),
    ]
    assert (case.workspace.status(obsolete), *case.statuses(old, other)) == ("Obsolete", "superseded", "extracted")


def test_a_superseded_scene_that_is_set_back(case: Case) -> None:
    """Is superseded again; its rows, which were there from a time when all were wanted, go then."""
    del case.workspace.extraction["duplicates"]
    old, newest = case.add(OLD, 1), case.add(NEWEST, 3)
    case.run()
    case.workspace.extraction["duplicates"] = "newest"
    assert NOTHING_LEFT in case.run().stdout
    assert case.workspace.rows(old) > 0
    case.workspace.ingest(old)
    case.run()
    case.holds_only(newest)
    assert case.statuses(old, newest) == ["superseded", "extracted"]


def test_the_newest_is_extracted_once_more_to_clean_up(case: Case) -> None:
    del case.workspace.extraction["duplicates"]
    old, newest = case.add(OLD, 1), case.add(NEWEST, 3)
    case.run()
    case.workspace.extraction["duplicates"] = "newest"
    case.workspace.ingest(newest)
    case.run()
    case.holds_only(newest)
    assert case.statuses(old, newest) == ["superseded", "extracted"]


def test_asked_for_by_name(case: Case) -> None:
    old, newest = case.add(OLD, 1), case.add(NEWEST, 3)
    outcome = case.run("--scene", OLD)
    assert f"{OLD} waits for scene {newest.id} {NEWEST}, which is newer" in outcome.stderr
    assert case.statuses(old, newest) == ["ingested", "ingested"]
    case.run("--scene", NEWEST)
    outcome = case.run("--scene", OLD)
    assert f"{OLD} is superseded: scene {newest.id} {NEWEST} is a newer product" in outcome.stderr
    case.holds_only(newest)


def test_a_catalogue_that_does_not_take_the_status(case: Case) -> None:
    words = "'ingested', 'inprogress', 'extracted', 'no_parcels', 'notfound', 'failed'"
    case.workspace.query(f"ALTER TABLE dias_catalogue ADD CHECK (status IN ({words}))")
    scene = case.add(OLD, 1)
    outcome = case.run("--all", code=2)
    (line,) = outcome.errors
    assert "does not take 'superseded'" in line
    assert case.statuses(scene) == ["ingested"]
    # Nobody needs it otherwise.
    del case.workspace.extraction["duplicates"]
    case.run()
    assert case.statuses(scene) == ["extracted"]


def test_both_settings_write_the_same_numbers(case: Case) -> None:
    """So both may write into one table: the setting is no part of what its numbers mean."""
    old = case.add(OLD, 1)
    case.run()
    del case.workspace.extraction["duplicates"]
    case.workspace.ingest(old)
    case.run()
    case.holds_only(old)
