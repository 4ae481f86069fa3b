"""Eight workers at once on twelve scenes: every scene once, every signature once, no worker fails."""

from tests.support.ground import optical, squares
from tests.support.running import NOTHING_LEFT
from tests.support.scenes import assert_same
from tests.support.workspace import Workspace


def test_eight_workers_share_twelve_scenes(workspace: Workspace) -> None:
    parcels = workspace.add_parcels(squares(16))
    scenes = [workspace.add_s2(f"2020-04-{day:02d}T10:00:31", bands=optical(seed=day)) for day in range(1, 13)]

    workers = [workspace.start("s2", "--all") for _ in range(8)]
    outcomes = [worker.wait(300) for worker in workers]

    for outcome in outcomes:
        assert (outcome.code, outcome.errors) == (0, []), outcome.stderr
        assert NOTHING_LEFT in outcome.stdout
    assert workspace.query("SELECT DISTINCT status FROM dias_catalogue") == [("extracted",)]
    log = workspace.query("SELECT obsid, outcome FROM extraction_log ORDER BY obsid")
    assert log == [(scene.id, "extracted") for scene in scenes]
    for scene in scenes:
        assert_same(workspace.signatures(scene), scene.expected(parcels))
    assert workspace.rows() == sum(len(scene.expected(parcels)) for scene in scenes)
    assert workspace.files() == []
