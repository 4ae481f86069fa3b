"""What is said of scenes that are done again: by workers, in the log, and by `status`, `redo` and `retry`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from shapely.affinity import translate

from extractors.worker import NOTHING_TO_REDO
from tests.support.ground import footprint, ground, squares
from tests.support.poisons import ROWS
from tests.support.redo import corrected, everything, listed, move, outcomes
from tests.support.running import wait_until
from tests.support.scenes import assert_same
from tests.support.workspace import Workspace

LEFT = "have no rows any more"
OTHERS = "for other results tables or areas: "
LISTED, GONE = "parcels_listed", "parcels_left"


@pytest.fixture(autouse=True)
def _no_pauses(workspace: Workspace) -> None:
    workspace.extraction["retry_pause_seconds"] = 0


def name(workspace: Workspace, *pids: int, gone: str = "keep") -> None:
    outcome = workspace.operate("redo", "--parcels", corrected(workspace, *pids), "--gone", gone)
    assert outcome.code == 0, outcome.output


def status(workspace: Workspace, *options: str) -> dict[str, Any]:
    outcome = workspace.operate("status", "--json", *options)
    assert outcome.code == 0, outcome.output
    found: dict[str, Any] = json.loads(outcome.stdout)
    return found


def of_list(workspace: Workspace) -> dict[str, int]:
    return {word: number for word, number in status(workspace)["cards"]["s2"]["redo"].items() if number}


def test_parcels_that_leave_are_counted(workspace: Workspace) -> None:
    """One that has moved away and one that is gone; not one that has moved within the scene."""
    parcels = workspace.add_parcels(squares(5))
    scene = workspace.add_s2()
    assert workspace.run("s2").code == 0
    move(workspace, 1, translate(parcels[1], 100_000, 0))
    move(workspace, 2, translate(parcels[2], 10, 0))
    workspace.query("DELETE FROM parcels WHERE ogc_fid = 3")
    name(workspace, 1, 2, 3, gone="delete")
    done = workspace.run("s2", "--redo")
    assert f"of 3 parcels listed, 2 {LEFT}" in done.stderr
    name(workspace, 2)
    assert LEFT not in workspace.run("s2", "--redo").stderr
    # The last one; of the whole scene, nobody has named any.
    move(workspace, 2, translate(parcels[2], 100_000, 0))
    name(workspace, 2)
    assert LEFT in workspace.run("s2", "--redo").stderr
    workspace.query("UPDATE extraction_log SET results = 'public.others'")
    workspace.query("DELETE FROM signatures")
    assert workspace.operate("redo", "--missing").code == 0
    assert workspace.run("s2", "--redo").code == 0
    settings = [attempt["settings"] for attempt in workspace.log(scene)]
    assert [(one.get(LISTED), one.get(GONE)) for one in settings] == [
        (None, None), (3, 2), (1, 0), (1, 1), (None, None)
    ]  # fmt: skip


@pytest.mark.parametrize(("of_all", "own", "is_left"), [(5, 1, False), (1, 5, True)])
def test_attempts_of_the_card(of_all: int, own: int, is_left: bool, workspace: Workspace) -> None:
    """Those that its workers make are those that count for `status` and `retry`."""
    workspace.extraction["max_attempts"] = of_all
    workspace.extraction["s2"] = {"max_attempts": own}
    workspace.add_parcels(squares(3))
    scene = workspace.add_s2()
    assert workspace.run("s2").code == 0
    name(workspace, 1)
    assert workspace.run("s2", "--redo", env={"EXTRACTION_FAILPOINT": "files_verified=kill"}).code == -9
    wait_until(
        lambda: not workspace.query("SELECT 1 FROM pg_locks WHERE classid = 1128418561"), "the end of its session"
    )
    # An ordinary worker finds it dead, and has nothing else to do.
    assert workspace.run("s2").code == 0
    assert outcomes(workspace, scene) == ["extracted", "lost"]
    assert of_list(workspace) == ({"waiting": 1} if is_left else {"failed": 1})
    assert len(workspace.operate("retry", "--redo", "--dry-run").stdout.splitlines()) == int(not is_left)
    again = workspace.run("s2", "--redo")
    assert (again.stdout.strip() == NOTHING_TO_REDO) == (not is_left)
    assert outcomes(workspace, scene)[2:] == ["redone"] * is_left


@pytest.mark.parametrize(
    "problem",
    [
        "a footprint of another SRID",
        "a footprint of an unknown SRID",
        "a polyhedral footprint",
        "an empty footprint",
        "a footprint with a corner that is no number",
        "a footprint without area",
    ],
)
def test_a_footprint_that_cannot_be_used(problem: str, workspace: Workspace) -> None:
    """It is said in our own words: by the worker, if the scene was listed before, and by whoever lists."""
    workspace.query("ALTER TABLE dias_catalogue ALTER footprint TYPE geometry")
    parcels = workspace.add_parcels(squares(3))
    scene, *_ = (workspace.add_s2(f"2020-04-0{day}T10:00:31") for day in (1, 2, 3))
    assert workspace.run("s2", "--all").code == 0
    parcels[1] = translate(parcels[1], 10, 0)
    move(workspace, 1, parcels[1])
    name(workspace, 1)
    before = everything(workspace)
    spoil, word = ROWS[problem]
    spoil(workspace, scene)
    refused = workspace.run("s2", "--redo")
    assert (refused.code, len(refused.errors)) == (1, 1), refused.output
    said = workspace.log(scene)[-1]
    assert (said["outcome"], said["detail"].startswith("its footprint in ")) == ("failed", True)
    assert word in said["detail"]
    assert said["detail"] in refused.errors[0]
    assert of_list(workspace) == {"waiting": 2, "failed": 1}
    assert everything(workspace) == before
    workspace.query("DELETE FROM redo_list")
    again = workspace.operate("redo", "--parcels", "corrected")
    assert again.code == 0
    assert [f"is left out: {said['detail']}" in line for line in again.warnings] == [True], again.output
    assert len(listed(workspace)) == 2
    assert scene.id not in listed(workspace)
    where = footprint(ground())
    workspace.query("UPDATE dias_catalogue SET footprint = ST_GeomFromText(%s, 4326) WHERE id = %s", where, scene.id)
    name(workspace, 1)
    assert workspace.run("s2", "--redo", "--all").code == 0
    assert_same(workspace.signatures(scene), scene.expected(parcels))


def test_what_is_listed_for_others(workspace: Workspace) -> None:
    """Another table, or another area; each sees that there is more than its own."""
    workspace.add_parcels(squares(3))
    for day in (1, 2):
        workspace.add_s2(f"2020-04-0{day}T10:00:31")
    assert workspace.run("s2", "--all").code == 0
    name(workspace, 1)
    assert status(workspace)["redo_elsewhere"] == []
    assert OTHERS not in workspace.operate("status").stdout
    workspace.tables["results_table"] = "others"
    assert workspace.operate("setup").code == 0
    mine = {"results": "public.signatures", "aoi": "my_aoi", "scenes": 2}
    for options in (("--dry-run",), ()):
        said = workspace.operate("redo", "--missing", *options)
        assert said.stdout.splitlines()[-1].endswith(f"{OTHERS}2 for public.signatures (area my_aoi)"), said.output
    found = status(workspace)
    assert (found["redo_elsewhere"], found["cards"]["s2"]["redo"]["waiting"]) == ([mine], 2)
    assert status(workspace, "--card", "s2")["redo_elsewhere"] == [mine]
    assert status(workspace, "--card", "bs")["redo_elsewhere"] == []
    workspace.query("UPDATE redo_list SET aoi = 'another' WHERE results = 'public.others'")
    others = mine | {"results": "public.others", "aoi": "another"}
    assert status(workspace)["redo_elsewhere"] == [others, mine]
    text = workspace.operate("status").stdout
    assert f"4 scenes are listed to be done again {OTHERS}2 for public.others (area another), 2 for" in text
    workspace.tables["results_table"] = "signatures"
    assert status(workspace)["redo_elsewhere"] == [others]


def test_old_numbers_are_removed_later(workspace: Workspace) -> None:
    """As docs/operations.md says of what was listed without `--gone delete`."""
    parcels = workspace.add_parcels(squares(4))
    scene = workspace.add_s2()
    workspace.query("ALTER TABLE parcels ADD COLUMN code text")
    workspace.query("UPDATE parcels SET code = 'p' || ogc_fid")
    assert workspace.run("s2").code == 0
    workspace.query("CREATE TABLE parcels_before AS TABLE parcels")
    workspace.query("UPDATE parcels SET ogc_fid = ogc_fid + 100")
    renumbered = {100 + pid: where for pid, where in parcels.items()}
    assert workspace.operate("redo", "--changed-since", "parcels_before", "--key", "code").code == 0
    assert workspace.run("s2", "--redo").code == 0
    assert {pid for pid, _ in workspace.signatures(scene)} == {*parcels, *renumbered}
    workspace.query(
        "CREATE TABLE old_numbers AS SELECT ogc_fid AS pid FROM parcels_before EXCEPT SELECT ogc_fid FROM parcels"
    )
    assert workspace.operate("redo", "--parcels", "old_numbers", "--gone", "delete").code == 0
    before = {key: row for key, row in everything(workspace).items() if key[1] in renumbered}
    assert workspace.run("s2", "--redo").code == 0
    assert everything(workspace) == before
    assert_same(workspace.signatures(scene), scene.expected(renumbered))
