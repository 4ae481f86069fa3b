"""--scene, --all, --watch, and being told to stop."""

from __future__ import annotations

import signal
from datetime import datetime

import pytest

from tests.faulty_s3 import FaultyS3
from tests.support.ground import squares
from tests.support.running import NOTHING_LEFT, wait_until
from tests.support.scenes import COLUMNS, s2_reference
from tests.support.workspace import Workspace

# --scene


@pytest.mark.parametrize(("in_catalogue", "on_command_line"), [(".SAFE", ".SAFE"), (".SAFE", ""), ("", ".SAFE")])
def test_scene_by_its_reference(workspace: Workspace, in_catalogue: str, on_command_line: str) -> None:
    workspace.add_parcels(squares(3))
    name = s2_reference(datetime(2020, 4, 9, 10, 0, 31), safe=False)
    older = workspace.add_s2("2020-04-01T10:00:31")
    wanted = workspace.add_s2("2020-04-09T10:00:31", reference=name + in_catalogue)
    outcome = workspace.run("s2", "--scene", name + on_command_line)
    assert (outcome.code, outcome.errors) == (0, [])
    assert [workspace.status(scene) for scene in (older, wanted)] == ["ingested", "extracted"]


@pytest.mark.parametrize("status", ["extracted", "inprogress"])
def test_scene_that_is_not_ingested(workspace: Workspace, status: str) -> None:
    workspace.add_parcels(squares(3))
    other = workspace.add_s2("2020-04-01T10:00:31")
    scene = workspace.add_s2("2020-04-02T10:00:31", status=status)
    outcome = workspace.run("s2", "--scene", scene.reference)
    assert outcome.code == 0
    assert NOTHING_LEFT in outcome.stdout
    assert [workspace.status(one) for one in (other, scene)] == ["ingested", status]
    assert workspace.rows() == 0


def test_scene_that_nobody_knows(workspace: Workspace) -> None:
    workspace.add_parcels(squares(3))
    other = workspace.add_s2()
    outcome = workspace.run("s2", "--scene", "S2A_MSIL2A_nowhere")
    assert (outcome.code, outcome.errors) == (0, [])
    assert outcome.stdout.splitlines() == [NOTHING_LEFT]
    assert "S2A_MSIL2A_nowhere" in outcome.stderr  # why there is nothing
    assert workspace.status(other) == "ingested"


def test_scene_with_a_percent_sign_is_no_pattern(workspace: Workspace) -> None:
    workspace.add_parcels(squares(3))
    other = workspace.add_s2()
    outcome = workspace.run("s2", "--scene", "S2%")
    assert (outcome.code, outcome.errors) == (0, [])
    assert outcome.stdout.splitlines() == [NOTHING_LEFT]
    assert workspace.status(other) == "ingested"


# --all


def test_all_goes_on_after_a_failed_scene(workspace: Workspace) -> None:
    workspace.add_parcels(squares(3))
    scenes = [workspace.add_s2(f"2020-04-0{day}T10:00:31") for day in range(1, 6)]
    workspace.write(scenes[1].keys["B04"], b"no image")
    workspace.remove(scenes[3].keys["SCL"])

    outcome = workspace.run("s2", "--all")

    assert (outcome.code, len(outcome.errors)) == (1, 2)
    assert NOTHING_LEFT in outcome.stdout
    found = [workspace.status(scene) for scene in scenes]
    assert found == ["extracted", "failed", "extracted", "notfound", "extracted"]
    for scene, line in zip((scenes[1], scenes[3]), outcome.errors, strict=True):
        assert scene.reference in line
    assert workspace.files() == []


def test_one_scene_only_without_all(workspace: Workspace) -> None:
    workspace.add_parcels(squares(3))
    scenes = [workspace.add_s2(f"2020-04-0{day}T10:00:31") for day in (1, 2)]
    workspace.write(scenes[0].keys["B04"], b"no image")
    assert workspace.run("s2").code == 1
    assert [workspace.status(scene) for scene in scenes] == ["failed", "ingested"]


# --watch


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_watch_takes_later_scenes_until_it_is_told_to_stop(workspace: Workspace, number: signal.Signals) -> None:
    workspace.add_parcels(squares(3))
    first = workspace.add_s2("2020-04-01T10:00:31")
    worker = workspace.start("s2", "--watch", "1")
    wait_until(lambda: workspace.status(first) == "extracted", "the first scene")
    wait_until(lambda: NOTHING_LEFT in worker.stdout, "the message that nothing is left")
    later = workspace.add_s2("2020-04-02T10:00:31")
    wait_until(lambda: workspace.status(later) == "extracted", "the scene that came later")
    assert worker.process.poll() is None

    worker.send(number)
    outcome = worker.wait()

    assert (outcome.code, outcome.errors) == (128 + number, [])
    assert "Traceback" not in outcome.output
    assert [len(workspace.log(scene)) for scene in (first, later)] == [1, 1]
    assert workspace.files() == []


def test_watch_outlives_a_failed_scene(workspace: Workspace) -> None:
    workspace.extraction["absent_retry_hours"] = 0
    workspace.add_parcels(squares(3))
    workspace.write("Sentinel-2/MSI/L2A/2019/01/01/another.jp2", b"")  # there are products, but not this one
    broken_reference = s2_reference(datetime(2020, 4, 1, 10, 0, 31), safe=False)
    broken = workspace.add_row(broken_reference, "2020-04-01T10:00:31")
    worker = workspace.start("s2", "--watch", "1")
    wait_until(lambda: workspace.status(broken) == "notfound", "the scene without a product")
    later = workspace.add_s2("2020-04-02T10:00:31")
    wait_until(lambda: workspace.status(later) == "extracted", "the scene that came later")
    worker.send(signal.SIGTERM)
    outcome = worker.wait()
    assert (outcome.code, len(outcome.errors)) == (128 + signal.SIGTERM, 1)
    assert broken_reference in outcome.errors[0]


# Told to stop in the middle of a scene


@pytest.mark.parametrize(
    ("number", "options"),
    [(signal.SIGTERM, ()), (signal.SIGINT, ()), (signal.SIGINT, ("--all",)), (signal.SIGTERM, ("--watch", "1"))],
)
def test_stopped_in_the_middle_of_a_download(
    workspace: Workspace, proxy: FaultyS3, number: signal.Signals, options: tuple[str, ...]
) -> None:
    workspace.add_parcels(squares(3))
    scene = workspace.add_s2("2020-04-01T10:00:31")
    waiting = workspace.add_s2("2020-04-02T10:00:31")
    workspace.s3["host"] = proxy.endpoint
    proxy.spoil("B08", "stall")
    worker = workspace.start("s2", *options)
    wait_until(proxy.stalled.is_set, "the download that hangs")
    assert workspace.status(scene) == "inprogress"  # everyone can see it
    assert workspace.rows() == 0

    worker.send(number)
    outcome = worker.wait()

    assert (outcome.code, outcome.errors) == (128 + number, [])
    assert "Traceback" not in outcome.output
    assert [workspace.status(one) for one in (scene, waiting)] == ["ingested", "ingested"]
    assert workspace.files() == []
    assert workspace.rows() == 0
    (log,) = workspace.log(scene)
    assert log["outcome"] == "given_back"
    assert log["finished_at"]
    assert log["detail"]

    proxy.heal()
    assert workspace.run("s2", "--all").code == 0
    assert {workspace.status(one) for one in (scene, waiting)} == {"extracted"}


def test_scene_that_was_taken_away_meanwhile_is_not_written(workspace: Workspace, proxy: FaultyS3) -> None:
    """Somebody sets our scene to another status while we work on it: what they say holds."""
    workspace.add_parcels(squares(3))
    scene = workspace.add_s2()
    workspace.s3["host"] = proxy.endpoint
    proxy.spoil("B08", "stall", times=1)
    worker = workspace.start("s2")
    wait_until(proxy.stalled.is_set, "the download that hangs")
    workspace.query("UPDATE dias_catalogue SET status = 'Obsolete' WHERE id = %s", scene.id)
    proxy.go_on.set()
    outcome = worker.wait()
    assert (outcome.code, len(outcome.errors)) == (1, 1)
    assert workspace.status(scene) == "Obsolete"
    assert [attempt["outcome"] for attempt in workspace.log(scene)] == ["claim_lost"]
    assert workspace.rows() == 0
    assert workspace.files() == []


def test_connection_that_the_database_ends_meanwhile(workspace: Workspace, proxy: FaultyS3) -> None:
    """Whoever loses the connection loses the claim: the scene is given back, and nothing of it is written."""
    workspace.add_parcels(squares(3))
    scene = workspace.add_s2()
    workspace.s3["host"] = proxy.endpoint
    proxy.spoil("B08", "stall", times=1)
    worker = workspace.start("s2")
    wait_until(proxy.stalled.is_set, "the download that hangs")
    workspace.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    proxy.go_on.set()
    outcome = worker.wait()
    assert (outcome.code, len(outcome.errors)) == (75, 1)
    assert "Traceback" not in outcome.output
    assert workspace.status(scene) == "ingested"
    assert workspace.rows() == 0
    assert workspace.files() == []


# A signal at the end of a single run


@pytest.mark.parametrize("point", ["publish_begin", "before_commit", "committed", "files_removed"])
def test_a_scene_that_is_extracted_in_spite_of_a_signal(workspace: Workspace, point: str) -> None:
    workspace.add_parcels(squares(3))
    scene = workspace.add_s2()
    outcome = workspace.run("s2", env={"EXTRACTION_FAILPOINT": f"{point}=term"})
    assert (outcome.code, outcome.errors, workspace.status(scene)) == (0, [], "extracted")


def test_a_scene_that_fails_before_the_signal(workspace: Workspace) -> None:
    workspace.add_parcels(squares(3))
    workspace.write_others()
    scene = workspace.add_row("nonsense")
    outcome = workspace.run("s2", env={"EXTRACTION_FAILPOINT": "released=term"})
    assert (outcome.code, workspace.status(scene)) == (1, "failed")
    assert len(outcome.errors) == 1


def test_a_configuration_that_is_wrong_before_the_signal(workspace: Workspace) -> None:
    workspace.add_parcels(squares(3))
    scene = workspace.add_s2()
    columns = ", ".join(f"{name} real" for name in COLUMNS)
    workspace.query(f"CREATE TABLE signatures (pid int, obsid int, band char(2), {columns}, CHECK (mean < 0))")
    outcome = workspace.run("s2", env={"EXTRACTION_FAILPOINT": "released=term"})
    assert (outcome.code, workspace.status(scene)) == (2, "ingested")
    (line,) = outcome.errors
    assert f"[scene {scene.id} " in line
    assert "signatures" in line


# -v


def test_tracebacks_of_outages_are_shown_with_v_only(workspace: Workspace) -> None:
    workspace.add_parcels(squares(3))
    workspace.add_s2()
    workspace.s3["host"] = "http://127.0.0.1:9"
    workspace.s3["retry_seconds"] = 0
    assert workspace.run("s2").code == 75  # which looks for tracebacks
    outcome = workspace.run("s2", "-v")
    assert outcome.code == 75
    assert "Traceback" in outcome.stderr
    assert len(outcome.errors) == 1


def test_a_signal_shows_no_traceback(workspace: Workspace) -> None:
    workspace.add_parcels(squares(3))
    workspace.add_s2()
    outcome = workspace.run("s2", "-v", env={"EXTRACTION_FAILPOINT": "s3_listed=term"})
    assert outcome.code == 143
    assert "Traceback" not in outcome.stderr


def test_no_directory_is_made_for_a_configuration_that_is_not_there(workspace: Workspace) -> None:
    outcome = workspace.run("s2", "--db-config", "nowhere.json")
    assert outcome.code == 2
    assert not workspace.data.exists()
