"""What may pass in the store is waited for; what does not pass never becomes a signature."""

from __future__ import annotations

import pytest

from tests.faulty_s3 import FaultyS3, Kind
from tests.support.ground import squares
from tests.support.scenes import Scene, assert_same
from tests.support.workspace import Workspace


@pytest.fixture
def scene(workspace: Workspace, proxy: FaultyS3) -> Scene:
    """An s2 scene that is fetched through the proxy."""
    workspace.add_parcels(squares(5))
    workspace.s3["host"] = proxy.endpoint
    return workspace.add_s2()


def pids(workspace: Workspace) -> list[int]:
    return [pid for (pid,) in workspace.query("SELECT ogc_fid FROM parcels ORDER BY 1")]


def assert_extracted(workspace: Workspace, scene: Scene) -> None:
    parcels = dict(zip(pids(workspace), squares(5), strict=True))
    assert workspace.status(scene) == "extracted"
    assert_same(workspace.signatures(scene), scene.expected(parcels))
    assert workspace.files() == []


@pytest.mark.parametrize("kind", ["503", "reset", "cut", "wrong"])
def test_fault_that_passes(workspace: Workspace, proxy: FaultyS3, scene: Scene, kind: Kind) -> None:
    workspace.s3["retry_seconds"] = 60
    proxy.spoil("_B04_", kind, times=2 if kind == "503" else 1)
    outcome = workspace.run("s2")
    assert (outcome.code, outcome.errors) == (0, [])
    assert_extracted(workspace, scene)
    assert proxy.asked_for("_B04_10m.jp2") >= 2


def test_listing_that_fails_at_first(workspace: Workspace, proxy: FaultyS3, scene: Scene) -> None:
    workspace.s3["retry_seconds"] = 60
    proxy.spoil("list-type", "503", times=2)
    assert workspace.run("s2").code == 0
    assert_extracted(workspace, scene)


@pytest.mark.parametrize(("card", "name"), [("bs", "Gamma0_VV.img"), ("c6", ".tif")])
def test_radar_after_two_errors(workspace: Workspace, proxy: FaultyS3, card: str, name: str) -> None:
    parcels = workspace.add_parcels(squares(5))
    one = workspace.add_bs() if card == "bs" else workspace.add_c6()
    workspace.s3.update({"host": proxy.endpoint, "retry_seconds": 60})
    proxy.spoil(name, "503", times=2)
    assert workspace.run(card).code == 0
    assert_same(workspace.signatures(one), one.expected(parcels))


@pytest.mark.parametrize("kind", ["wrong", "short"])
def test_body_that_stays_wrong(workspace: Workspace, proxy: FaultyS3, scene: Scene, kind: Kind) -> None:
    """The right length with other bytes (the MD5 tells), or shorter than the listing said."""
    proxy.spoil("_B08_", kind)
    outcome = workspace.run("s2")
    assert (outcome.code, len(outcome.errors)) == (1, 1)
    assert workspace.status(scene) == "failed"
    (log,) = workspace.log(scene)
    assert log["outcome"] == "failed"
    assert "B08" in log["detail"]
    assert workspace.rows() == 0
    assert workspace.files() == []


@pytest.mark.parametrize("kind", ["503", "reset"])
def test_fault_that_does_not_pass(workspace: Workspace, proxy: FaultyS3, scene: Scene, kind: Kind) -> None:
    """The store's trouble, not the scene's: given back, to be done another time."""
    later = workspace.add_s2("2020-04-02T10:00:31")
    proxy.spoil("S2A_MSIL2A", kind)  # all requests about products, and not the look at the store
    workspace.extraction.update({"outage_pause_seconds": 0.1, "outages_in_a_row": 2})
    outcome = workspace.run("s2", "--all")
    assert (outcome.code, len(outcome.errors)) == (75, 1)
    assert [workspace.status(one) for one in (scene, later)] == ["ingested", "ingested"]
    for one in (scene, later):  # the other one has come before a second attempt
        (log,) = workspace.log(one)
        assert log["outcome"] == "given_back"
    assert workspace.rows() == 0
    assert workspace.files() == []


def test_body_that_is_always_cut(workspace: Workspace, proxy: FaultyS3, scene: Scene) -> None:
    proxy.spoil("_SCL_", "cut")
    outcome = workspace.run("s2")
    assert (outcome.code, len(outcome.errors)) == (75, 1)
    assert workspace.status(scene) == "ingested"
    (log,) = workspace.log(scene)
    assert log["outcome"] == "given_back"
    assert workspace.rows() == 0
    assert workspace.files() == []


def test_store_that_is_down(workspace: Workspace, proxy: FaultyS3, scene: Scene) -> None:
    proxy.refuse()
    outcome = workspace.run("s2")
    assert (outcome.code, len(outcome.errors)) == (75, 1)
    assert workspace.status(scene) == "ingested"
    assert proxy.endpoint.removeprefix("http://") in outcome.errors[0]
    assert workspace.log(scene) == []  # seen before the claim

    proxy.listen()
    assert workspace.run("s2").code == 0
    assert_extracted(workspace, scene)


def test_keys_that_expire_in_the_middle(workspace: Workspace, proxy: FaultyS3, scene: Scene) -> None:
    """The listing is answered, then every object is forbidden."""
    later = workspace.add_s2("2020-04-02T10:00:31")
    proxy.spoil("_B04_10m.jp2", "403")
    proxy.spoil("_B08_10m.jp2", "403")
    proxy.spoil("_SCL_20m.jp2", "403")
    outcome = workspace.run("s2", "--all")
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert [workspace.status(one) for one in (scene, later)] == ["ingested", "ingested"]
    assert workspace.files() == []


def test_object_that_goes_away_after_the_listing(workspace: Workspace, proxy: FaultyS3, scene: Scene) -> None:
    proxy.spoil("_B08_10m.jp2", "404")
    outcome = workspace.run("s2")
    assert (outcome.code, len(outcome.errors)) == (1, 1)
    assert workspace.status(scene) == "notfound"


def test_each_file_is_asked_for_once(workspace: Workspace, proxy: FaultyS3, scene: Scene) -> None:
    """No file is fetched twice, in pieces or by chance."""
    workspace.s3["connections"] = 1
    assert workspace.run("s2").code == 0
    assert_extracted(workspace, scene)
    for band in ("_B04_", "_B08_", "_SCL_"):
        assert proxy.asked_for(band) == 1
