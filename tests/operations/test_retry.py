"""`operations retry`: scenes are set back, but never one that a living worker is at."""

from __future__ import annotations

import pytest

from tests.support.ground import squares
from tests.support.running import wait_until
from tests.support.scenes import assert_same
from tests.support.workspace import Workspace

STATUSES = ("extracted", "no_parcels", "notfound", "failed", "inprogress", "superseded")


def statuses(workspace: Workspace) -> dict[str, str]:
    return dict(workspace.query("SELECT reference, status FROM dias_catalogue ORDER BY id"))


@pytest.fixture
def scenes(workspace: Workspace) -> list[str]:
    """One of each status, and failed ones that are of another CARD, other dates and another area."""
    for status in STATUSES:
        workspace.add_row(status, status=status)
    workspace.add_row("bs", card="bs", status="failed")
    workspace.add_row("then", "2019-04-01T10:00:31", status="failed")
    there = workspace.add_row("there", status="failed")
    workspace.query("UPDATE dias_catalogue SET footprint = ST_Translate(footprint, 5, 5) WHERE id = %s", there)
    return [*STATUSES, "bs", "then", "there"]


@pytest.mark.parametrize(
    ("options", "back"),
    [
        ((), {"failed", "bs"}),
        (("--card", "s2"), {"failed"}),
        *((("--status", status, "--card", "s2"), {status}) for status in STATUSES),
        (("--scene", "there"), {"there"}),
        (("--scene", "extracted.SAFE"), {"extracted"}),
        (("--scene", "extracted", "--status", "failed"), None),
        (("--scene", "nothing"), None),
    ],
)
def test_which(options: tuple[str, ...], back: set[str] | None, workspace: Workspace, scenes: list[str]) -> None:
    before = statuses(workspace)
    said = workspace.operate("retry", "--dry-run", *options)
    assert said.code == (2 if back is None else 0)
    assert statuses(workspace) == before
    outcome = workspace.operate("retry", *options)
    assert outcome.code == (2 if back is None else 0), outcome.output
    after = statuses(workspace)
    assert {name for name in scenes if after[name] != before[name]} == (back or set())
    assert {after[name] for name in back or ()} <= {"ingested"}
    assert len(outcome.stdout.splitlines()) == len(back or ())
    assert outcome.stdout.replace("set back", "would set back") == said.stdout


def test_not_one_that_a_worker_is_at(workspace: Workspace) -> None:
    """But it can be, as soon as that has died; and all its attempts are its own again."""
    parcels = workspace.add_parcels(squares(5))
    scene = workspace.add_s2()
    worker = workspace.start("s2", env={"EXTRACTION_FAILPOINT": "claim_committed=hang"})
    wait_until(lambda: workspace.status(scene) == "inprogress", "the claim")
    outcome = workspace.operate("retry", "--scene", scene.reference)
    assert outcome.code == 1
    assert workspace.status(scene) == "inprogress"
    # Nor if somebody has said that it failed.
    workspace.query("UPDATE dias_catalogue SET status = 'failed'")
    assert workspace.operate("retry").code == 1
    assert workspace.status(scene) == "failed"
    workspace.query("UPDATE dias_catalogue SET status = 'inprogress'")
    worker.kill()
    wait_until(lambda: workspace.operate("retry", "--status", "inprogress").code == 0, "the end of its session")
    assert workspace.status(scene) == "ingested"
    assert [attempt["outcome"] for attempt in workspace.log(scene)] == ["lost"]
    workspace.extraction["max_attempts"] = 5
    assert workspace.run("s2").code == 0
    assert_same(workspace.signatures(scene), scene.expected(parcels))
    assert [attempt["attempt"] for attempt in workspace.log(scene)] == [1, 1]


def test_a_failed_scene_gets_all_its_attempts_again(workspace: Workspace) -> None:
    workspace.add_parcels(squares(5))
    scene = workspace.add_s2()
    workspace.query("UPDATE dias_catalogue SET footprint = ST_GeomFromText('POLYGON EMPTY', 4326)")
    assert workspace.run("s2").code == 1
    outcome = workspace.operate("retry")
    assert outcome.code == 0
    assert "is empty" in outcome.stdout
    assert workspace.status(scene) == "ingested"
    assert workspace.run("s2").code == 1
    assert [attempt["attempt"] for attempt in workspace.log(scene)] == [1, 1]
