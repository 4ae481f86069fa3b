"""Where products lie: a table may say it, and then nothing is composed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from demo.metadata import all_bands, metadata
from demo.servers import S3Server
from tests.faults.spoilt_store import SpoiltStore
from tests.support.bucket import Bucket
from tests.support.ground import squares
from tests.support.roles import worker_role
from tests.support.running import NOTHING_LEFT, Outcome
from tests.support.scenes import Scene, assert_same
from tests.support.workspace import Workspace

DAYS = ("2020-04-01T05:23:45", "2020-04-07T05:23:45")


def root(scene: Scene) -> str:
    """The folder that is the product, with a slash."""
    head, _, _ = next(iter(scene.keys.values())).partition(scene.reference)
    key = next(iter(scene.keys.values())).removeprefix(head)
    return head + key[: key.index("/") + 1]


def move(workspace: Workspace, scene: Scene, to: str, bucket: Bucket | None = None) -> None:
    """Put the product's files under another prefix, as they lie to each other."""
    before = root(scene)
    for key in workspace.stored(before):
        (bucket or workspace).write(to + key.removeprefix(before), workspace.read(key))
        workspace.remove(key)


def say(workspace: Workspace, scene: Scene, prefix: str | None, bucket: str | None = None) -> None:
    workspace.query("CREATE TABLE IF NOT EXISTS scene_source (obsid integer PRIMARY KEY, bucket text, prefix text)")
    workspace.query("INSERT INTO scene_source VALUES (%s, %s, %s)", scene.id, bucket, prefix)


def well(outcome: Outcome) -> None:
    assert (outcome.code, outcome.errors) == (0, []), outcome.stderr


@pytest.fixture
def other(workspace: Workspace) -> Iterator[Bucket]:
    """Another bucket of the same store."""
    made = Bucket(workspace.store, f"o{uuid.uuid4().hex[:12]}")
    yield made
    made.drop_bucket()


@pytest.mark.parametrize("card", ["s2", "bs", "c6", "c1"])
def test_another_prefix(workspace: Workspace, card: str) -> None:
    parcels = workspace.add_parcels(squares(4))
    moved, usual = (getattr(workspace, f"add_{card}")(day) for day in DAYS)
    move(workspace, moved, "some where/product/")
    say(workspace, moved, "some where/product" if card in {"s2", "c6"} else "/some where/product/")
    well(workspace.run(card, "--all"))
    for scene in (moved, usual):
        assert_same(workspace.signatures(scene), scene.expected(parcels))


def test_another_bucket(workspace: Workspace, other: Bucket) -> None:
    parcels = workspace.add_parcels(squares(4))
    moved, usual = (workspace.add_s2(day) for day in DAYS)
    move(workspace, moved, "p/", other)
    say(workspace, moved, "p", other.bucket)
    well(workspace.run("s2", "--all"))
    for scene in (moved, usual):
        assert_same(workspace.signatures(scene), scene.expected(parcels))


def test_a_store_without_the_usual_folders(workspace: Workspace) -> None:
    parcels = workspace.add_parcels(squares(4))
    scene = workspace.add_s2()
    move(workspace, scene, "p/")
    assert workspace.run().code == 2
    say(workspace, scene, "p")
    assert "scene_source says where scenes lie" in workspace.run("s2", "--check").stdout
    well(workspace.run())
    assert_same(workspace.signatures(scene), scene.expected(parcels))


def test_nothing_is_composed(workspace: Workspace, other: Bucket) -> None:
    """Also if the product is where it would usually be; and in the configured bucket if another one is named."""
    workspace.add_parcels(squares(4))
    first, second = (workspace.add_s2(day) for day in DAYS)
    say(workspace, first, "elsewhere")
    say(workspace, second, root(second), other.bucket)
    outcome = workspace.run("s2", "--all")
    assert outcome.code == 1
    for scene, detail in (
        (first, f"bucket {workspace.bucket} has nothing under elsewhere/"),
        (second, f"bucket {other.bucket} has nothing under {root(second)}"),
    ):
        assert workspace.status(scene) == "notfound"
        assert workspace.log(scene)[0]["detail"] == detail
    workspace.assert_no_rows()


@pytest.mark.parametrize("bucket", ["no-such-bucket", "No such, bucket!"])
def test_a_bucket_that_does_not_exist_is_the_row_s_fault(workspace: Workspace, bucket: str) -> None:
    """The worker goes on."""
    parcels = workspace.add_parcels(squares(4))
    wrong, right = (workspace.add_s2(day) for day in DAYS)
    say(workspace, wrong, root(wrong), bucket)
    assert workspace.run("s2", "--all").code == 1
    assert workspace.status(wrong) == "failed"
    assert f"scene_source says that the product lies in bucket {bucket}: " in workspace.log(wrong)[0]["detail"]
    assert_same(workspace.signatures(right), right.expected(parcels))


@pytest.mark.parametrize("prefix", [None, "a/../../../etc"])
def test_what_is_no_place(workspace: Workspace, prefix: str | None) -> None:
    """All that is refused: tests/integration/test_places.py."""
    workspace.add_parcels(squares(4))
    scene = workspace.add_s2()
    (workspace.cwd / "mounted").mkdir()
    (workspace.cwd / "mounted" / "others").write_bytes(b"of others")
    workspace.s3_config["s3"] = {"directory": str(workspace.cwd / "mounted"), "retry_seconds": 0}
    say(workspace, scene, prefix)
    assert workspace.run().code == 1
    assert workspace.status(scene) == "failed"
    assert "which is no place; fix it there" in workspace.log(scene)[0]["detail"]


def test_a_directory(workspace: Workspace) -> None:
    parcels = workspace.add_parcels(squares(4))
    scene = workspace.add_s2()
    for key in workspace.stored():
        path = workspace.cwd / "mounted" / "archive" / key.removeprefix(root(scene))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(workspace.read(key))
    workspace.s3_config["s3"] = {"directory": str(workspace.cwd / "mounted"), "retry_seconds": 0}
    say(workspace, scene, "archive", "whatever")
    well(workspace.run())
    assert_same(workspace.signatures(scene), scene.expected(parcels))


def test_metadata_lie_with_the_product(workspace: Workspace) -> None:
    workspace.add_parcels(squares(4))
    scene = workspace.add_s2()
    workspace.write(f"{root(scene)}MTD_MSIL2A.xml", metadata("04.00", all_bands()))
    move(workspace, scene, "p/")
    say(workspace, scene, "p")
    workspace.extraction["radiometry"] = "harmonised"
    well(workspace.run())
    said = workspace.log(scene)[0]["settings"]["harmonised"]
    assert (said["read_from"], said["offsets"]["B4"]) == ("p/MTD_MSIL2A.xml", -1000)


def test_two_images_of_one_band(workspace: Workspace) -> None:
    workspace.add_parcels(squares(4))
    scene = workspace.add_bs()
    name = "Gamma0_VV.img"
    workspace.write(f"{root(scene)}older/{name}", workspace.read(scene.keys[name]))
    say(workspace, scene, root(scene))
    assert workspace.run("bs").code == 1
    assert f"there are 2 files {name}" in workspace.log(scene)[0]["detail"]


def test_a_table_that_may_not_be_read(workspace: Workspace) -> None:
    """Said before the first claim."""
    workspace.add_parcels(squares(4))
    scene = workspace.add_s2()
    say(workspace, scene, "p")
    assert workspace.run("s2", "--scene", "nothing").code == 0
    with worker_role(
        workspace,
        "SELECT ON parcels, aois, dias_catalogue, extraction_log, signatures",
        "UPDATE (status) ON dias_catalogue",
        "INSERT, UPDATE ON extraction_log",
        "INSERT, DELETE ON signatures",
    ) as role:
        outcome = workspace.run()
        assert outcome.code == 2
        assert "while looking into public.scene_source" in outcome.errors[0]
        assert workspace.status(scene) == "ingested"
        assert workspace.log(scene) == []
        workspace.query(f"GRANT SELECT ON scene_source TO {role}")
        assert workspace.run().code == 1
    assert workspace.status(scene) == "notfound"


# Where something is wrong with the store, and not with a scene


def test_a_directory_that_is_not_mounted(workspace: Workspace) -> None:
    """No scene becomes `notfound` because of it, also where a table says where they lie."""
    workspace.add_parcels(squares(4))
    scenes = [workspace.add_s2(day) for day in DAYS]
    (workspace.cwd / "mounted").mkdir()
    workspace.s3_config["s3"] = {"directory": str(workspace.cwd / "mounted"), "retry_seconds": 0}
    for scene in scenes:
        say(workspace, scene, f"archive/{scene.id}")
    outcome = workspace.run("s2", "--all")
    assert (outcome.code, len(outcome.errors)) == (2, 1)
    assert "holds nothing" in outcome.errors[0]
    assert {workspace.status(scene) for scene in scenes} == {"ingested"}


def test_a_scene_without_a_row_where_all_others_have_one(workspace: Workspace) -> None:
    workspace.add_parcels(squares(4))
    lacking, right = (workspace.add_s2(day) for day in DAYS)
    move(workspace, lacking, "q/")
    move(workspace, right, "p/")
    say(workspace, right, "p")
    outcome = workspace.run("s2", "--all")
    assert (outcome.code, len(outcome.errors)) == (1, 1)
    assert [workspace.status(scene) for scene in (lacking, right)] == ["notfound", "extracted"]


@pytest.fixture
def spoilt(store: S3Server, workspace: Workspace) -> Iterator[SpoiltStore]:
    """A store that refuses what a test says."""
    with SpoiltStore(store) as server:
        workspace.add_parcels(squares(4))
        workspace.extraction.update(max_attempts=2, retry_pause_seconds=0, outage_pause_seconds=0.1)
        server.serve(workspace, retry_seconds=0)
        yield server


def test_a_row_that_names_somebody_else_s_bucket(workspace: Workspace, spoilt: SpoiltStore) -> None:
    """It is refused for ever: that scene fails, the other one is extracted."""
    wrong, right = (workspace.add_s2(day) for day in DAYS)
    say(workspace, wrong, "p", "somebodys-bucket")
    spoilt.error("somebodys-bucket", 403, "AccessDenied")
    assert workspace.run("s2", "--all").code == 1
    assert [workspace.status(scene) for scene in (wrong, right)] == ["failed", "extracted"]
    assert "somebodys-bucket" in workspace.log(wrong)[-1]["detail"]


def test_an_object_that_is_refused_where_nothing_is_in_the_usual_folders(
    workspace: Workspace, spoilt: SpoiltStore
) -> None:
    refused, right = (workspace.add_s2(day) for day in DAYS)
    for scene in (refused, right):
        move(workspace, scene, f"p{scene.id}/")
        say(workspace, scene, f"p{scene.id}")
    spoilt.error(f"p{refused.id}/.*_B08_10m", 403, "AccessDenied")
    assert [workspace.run("s2").code for _ in range(3)] == [1, 1, 0]
    assert [workspace.status(scene) for scene in (refused, right)] == ["failed", "extracted"]


# What a product holds besides


def test_a_manifest_that_cannot_be_had(workspace: Workspace, spoilt: SpoiltStore) -> None:
    """No number depends on it: a warning."""
    scene = workspace.add_s2()
    workspace.write(root(scene) + "manifest.safe", b"<x/>")
    spoilt.error("manifest.safe", 403, "AccessDenied")
    outcome = workspace.run("s2")
    well(outcome)
    assert [line for line in outcome.warnings if "manifest.safe" in line]
    assert workspace.status(scene) == "extracted"


def test_a_store_that_is_away_while_there_is_nothing_to_claim(workspace: Workspace, spoilt: SpoiltStore) -> None:
    """A scene waits for its next attempt, and a worker for one scene does not wait for it: it needs no store."""
    scene = workspace.add_s2()
    workspace.extraction["retry_pause_seconds"] = 600
    spoilt.error("_B08_10m", 403, "AccessDenied")
    assert workspace.run("s2").code == 1
    assert workspace.status(scene) == "ingested"
    spoilt.error("", 503, "SlowDown")
    outcome = workspace.run("s2")
    well(outcome)
    assert NOTHING_LEFT in outcome.stdout
