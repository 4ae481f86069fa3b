"""`operations status`: its numbers add up while workers run, a worker that died is gone, and it makes nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from psycopg2 import sql

from operations import progress
from operations.session import session
from operations.sql import statement
from operations.status import CLEAR
from tests.support.environment import environment
from tests.support.ground import squares
from tests.support.running import Running, wait_until
from tests.support.scenes import Scene
from tests.support.workspace import Workspace

STATUSES = ("ingested", "inprogress", "extracted", "no_parcels", "notfound", "failed", "superseded")


def seen(workspace: Workspace, *options: str) -> dict[str, Any]:
    """What `status --json` says."""
    outcome = workspace.operate("status", "--json", *options)
    assert outcome.code == 0, outcome.output
    (line,) = outcome.stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def look(workspace: Workspace) -> progress.Progress:
    """The same within this process."""
    workspace.write_config()
    signals = SimpleNamespace(cancel_with=lambda cancel: None)
    with session(Namespace(db_config=workspace.cwd / "db_config.json", signals=signals)) as opened:
        return progress.read_progress(opened, opened.reader())


def assert_adds_up(status: dict[str, Any], card: str, scenes: int) -> None:
    found = status["cards"][card]
    assert found["scenes"] == sum(found["statuses"].values()) == scenes
    assert sum(found["inprogress"].values()) == found["statuses"]["inprogress"]
    assert min(found["inprogress"].values()) >= 0
    alive = [one for one in status["workers"] if one["ours"] and one["alive"]]
    assert len(alive) == found["inprogress"]["alive"]
    assert len({one["obsid"] for one in status["workers"]}) == len(status["workers"])


@pytest.fixture
def held(workspace: Workspace) -> Iterator[tuple[Scene, Running]]:
    """A scene, and a worker that stays at it."""
    workspace.add_parcels(squares(5))
    scene = workspace.add_s2()
    workspace.add_s2("2020-04-02T10:00:31")
    worker = workspace.start("s2", env={"EXTRACTION_FAILPOINT": "claim_committed=hang"})
    wait_until(lambda: workspace.status(scene) == "inprogress", "the claim")
    yield scene, worker
    worker.kill()


def test_it_adds_up_while_four_workers_run(workspace: Workspace) -> None:
    workspace.add_parcels(squares(30))
    scenes = [workspace.add_s2(f"2020-04-{day:02}T10:00:31") for day in range(1, 25)]
    workspace.add_row("elsewhere", "2019-04-01T10:00:31")
    workers = [workspace.start("s2", "--all") for _ in range(4)]
    looks = []
    while any(worker.process.poll() is None for worker in workers):
        looks.append(seen(workspace))
    for status in [*looks, seen(workspace)]:
        assert_adds_up(status, "s2", len(scenes))
        found = status["cards"]["s2"]
        assert (found["elsewhere"], found["inprogress"]["gone"], found["inprogress"]["foreign"]) == (1, 0, 0)
        assert found["inprogress"]["alive"] <= 4
        assert len({one["worker"] for one in status["workers"]}) == len(status["workers"])
    done = [status["cards"]["s2"]["statuses"]["extracted"] for status in looks]
    assert done == sorted(done)
    assert any(status["workers"] for status in looks), "no look while there was work"
    last = seen(workspace)["cards"]["s2"]
    assert last["statuses"] == dict.fromkeys(STATUSES, 0) | {"extracted": len(scenes)}
    assert (last["last_hour"], last["hours_left"]) == (len(scenes), 0)
    assert last["per_hour"] > 0


def test_a_worker_that_was_killed_is_gone(workspace: Workspace, held: tuple[Scene, Running]) -> None:
    scene, worker = held
    status = seen(workspace)
    assert_adds_up(status, "s2", 2)
    (one,) = status["workers"]
    assert (one["obsid"], one["alive"], one["reference"]) == (scene.id, True, scene.reference)
    assert str(worker.process.pid) in one["worker"]
    worker.kill()
    wait_until(lambda: not seen(workspace)["workers"][0]["alive"], "the end of its session")
    status = seen(workspace)
    assert_adds_up(status, "s2", 2)
    assert status["cards"]["s2"]["inprogress"] == {"alive": 0, "gone": 1, "foreign": 0}
    text = workspace.operate("status").stdout
    assert "gone" in text
    assert scene.reference in text
    # The next worker takes both.
    assert workspace.run("s2", "--all").code == 0
    assert seen(workspace)["cards"]["s2"]["statuses"]["inprogress"] == 0


def test_the_pace_is_that_of_the_living(workspace: Workspace) -> None:
    """When a dead worker's attempt is ended says nothing of when anybody was at work, or got a scene done."""
    workspace.add_parcels(squares(2))
    workspace.add_s2()
    assert workspace.run("s2").code == 0
    before = seen(workspace)["cards"]["s2"]
    for status in ("ingested", "failed"):
        workspace.query(
            "INSERT INTO extraction_log (obsid, reference, card, aoi, results, worker, outcome, status, started_at,"
            " finished_at) SELECT obsid, reference, card, aoi, results, worker, 'lost', %s, now() - interval '5 hours',"
            " now() FROM extraction_log WHERE outcome = 'extracted'",
            status,
        )
    after = seen(workspace)["cards"]["s2"]
    assert after["last_hour"] == before["last_hour"] == 1
    # Of one scene in a whole hour it would be 1.
    assert after["per_hour"] > 2


def test_an_attempt_that_ends_meanwhile_was_alive(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Between the snapshot and the look at locks, a worker comes to its end: nobody died."""
    workspace.add_parcels(squares(5))
    scene = workspace.add_s2()
    held = tmp_path / "held"
    variables = {"EXTRACTION_FAILPOINT": "claim_committed=touch", "EXTRACTION_FAILPOINT_FILE": str(held)}
    worker = workspace.start("s2", env=variables)
    wait_until(held.exists, "the claim")
    living = progress._living

    def later(*arguments: Any) -> Any:
        held.unlink()
        assert worker.wait().code == 0
        return living(*arguments)

    monkeypatch.setattr(progress, "_living", later)
    found = look(workspace)
    assert workspace.status(scene) == "extracted"
    (one,) = found.workers
    assert (one.obsid, one.alive) == (scene.id, True)
    assert (found.cards["s2"].alive, found.cards["s2"].gone) == (1, 0)


def test_all_is_of_one_moment(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker claims a scene while all this is read: it is not seen at all."""
    workspace.add_parcels(squares(5))
    scene = workspace.add_s2()
    assert workspace.operate("setup").code == 0

    def with_a_claim(name: str, **parts: sql.Composable) -> sql.Composed:
        if name == "progress.under_way":
            workspace.query("UPDATE dias_catalogue SET status = 'inprogress'")
            workspace.query(
                "INSERT INTO extraction_log (obsid, reference, card, aoi, results, worker)"
                " VALUES (%s, %s, 's2', 'my_aoi', 'public.signatures', 'somebody')",
                *(scene.id, scene.reference),
            )
        return statement(name, **parts)

    monkeypatch.setattr(progress, "statement", with_a_claim)
    found = look(workspace)
    assert found.workers == []
    assert found.cards["s2"].statuses["ingested"] == 1
    monkeypatch.undo()
    (one,) = look(workspace).workers
    assert (one.worker, one.alive) == ("somebody", False)


def test_what_other_programs_left(workspace: Workspace, held: tuple[Scene, Running]) -> None:
    """And a worker's scene whose status somebody has changed."""
    workspace.add_row("theirs", status="inprogress")
    scene, _ = held
    assert seen(workspace)["cards"]["s2"]["inprogress"] == {"alive": 1, "gone": 0, "foreign": 1}
    workspace.ingest(scene)
    status = seen(workspace)
    assert_adds_up(status, "s2", 3)
    assert status["cards"]["s2"]["inprogress"] == {"alive": 0, "gone": 0, "foreign": 1}
    assert [one["ours"] for one in status["workers"]] == [False]


def test_it_makes_nothing(workspace: Workspace) -> None:
    """No log, no results; nor does it need parcels or an area."""
    relations = (
        "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    )
    workspace.add_row("one")
    workspace.add_row("two", card="bs", status="failed")
    before = workspace.one(relations)
    status = seen(workspace)
    assert_adds_up(status, "s2", 1)
    assert_adds_up(status, "bs", 1)
    assert list(seen(workspace, "--card", "bs")["cards"]) == ["bs"]
    assert workspace.one(relations) == before
    workspace.query("DROP TABLE parcels")
    workspace.query("DELETE FROM aois")
    status = seen(workspace)
    assert_adds_up(status, "s2", 1)
    assert status["area"] is None
    assert "area is lacking" in workspace.operate("status").stdout
    workspace.query("DELETE FROM dias_catalogue")
    assert seen(workspace)["cards"] == {}
    assert workspace.operate("status").code == 0


def test_failures_with_their_reasons(workspace: Workspace) -> None:
    workspace.add_parcels(squares(5))
    workspace.add_s2(status="extracted")
    lost = workspace.add_row("S2A_MSIL2A_20200401T100031_N0214_R122_T33TWN_20200401T135108.SAFE")
    workspace.extraction["absent_retry_hours"] = 0
    assert workspace.run("s2").code == 1
    (failure,) = seen(workspace)["failures"]
    assert (failure["obsid"], failure["outcome"], failure["status"]) == (lost, "notfound", "notfound")
    assert failure["detail"]
    text = workspace.operate("status").stdout
    assert failure["detail"][:40] in text


@pytest.mark.parametrize(
    ("conditions", "code"),
    [
        (["failed>0"], 0),
        (["failed > 0", "extracted>=1"], 1),
        (["ingested==1"], 1),
        (["scenes!=2"], 0),
        (["alive<1"], 1),
        (["idle>3600"], 0),
        (["idle<3600"], 1),
        (["hours_left<1000000"], 1),
    ],
)
def test_conditions(conditions: list[str], code: int, workspace: Workspace) -> None:
    workspace.add_parcels(squares(5))
    workspace.add_s2()
    workspace.add_s2("2020-04-02T10:00:31")
    assert workspace.run("s2").code == 0
    options = [part for one in conditions for part in ("--fail-if", one)]
    outcome = workspace.operate("status", *options)
    assert outcome.code == code, outcome.output
    assert len(outcome.errors) == code


def test_idle(workspace: Workspace, held: tuple[Scene, Running]) -> None:
    """While somebody is at work it is none; nobody ever at work is endless."""
    assert workspace.operate("status", "--fail-if", "idle>0").code == 0
    assert workspace.operate("status", "--fail-if", "idle>0", "--card", "bs").code == 0
    workspace.add_row("new", card="bs")
    assert workspace.operate("status", "--fail-if", "idle>1000000", "--card", "bs").code == 1
    assert workspace.operate("status", "--fail-if", "hours_left>1000000", "--card", "bs").code == 1


@pytest.mark.parametrize("wrong", ["failed", "nothing>1", "failed>", "failed>-1", "failed>1;", "failed=>1"])
def test_no_conditions(wrong: str, workspace: Workspace) -> None:
    outcome = workspace.operate("status", "--fail-if", wrong)
    assert outcome.code == 2
    assert "per_hour" in outcome.stderr


def test_watching(workspace: Workspace) -> None:
    """Again and again, until a signal comes or a condition holds."""
    workspace.add_row("one")
    watching = workspace.start_python("-m", "operations", "status", "--watch", "0.1", "--json")
    wait_until(lambda: watching.stdout.count("\n") > 3, "looks")
    watching.send(signal.SIGTERM)
    outcome = watching.wait()
    assert outcome.code == 128 + signal.SIGTERM
    assert "Traceback" not in outcome.output
    assert all(json.loads(line)["cards"]["s2"]["scenes"] == 1 for line in outcome.stdout.splitlines())
    watching = workspace.start_python("-m", "operations", "status", "--watch", "0.1", "--fail-if", "failed>0")
    time.sleep(0.5)
    workspace.query("UPDATE dias_catalogue SET status = 'failed'")
    assert watching.wait().code == 1


def test_in_place_on_a_terminal(workspace: Workspace) -> None:
    """Each look takes the place of the one before."""
    workspace.add_row("one")
    workspace.write_config()
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "operations", "status", "--watch", "0.1"]
    process = subprocess.Popen(command, cwd=workspace.cwd, env=environment(), stdout=theirs, stderr=subprocess.PIPE)
    os.close(theirs)
    text = ""
    while text.count(CLEAR) < 3:
        text += os.read(ours, 1000).decode()
    process.send_signal(signal.SIGINT)
    process.communicate()
    os.close(ours)
    assert process.returncode == 128 + signal.SIGINT
    assert all(" s2 " in one for one in text.split(CLEAR)[1:-1])


def test_text_from_outside_stays_in_its_line(workspace: Workspace) -> None:
    workspace.add_parcels(squares(5))
    workspace.add_s2(status="extracted")
    workspace.add_row("evil\x1b[2J\nline")
    assert workspace.run("s2").code == 1
    text = workspace.operate("status").stdout
    assert "\x1b" not in text
    assert "\nline" not in text


def test_nobody_reads_on(workspace: Workspace) -> None:
    """As with `status --watch 1 | head -1`."""
    workspace.add_row("one")
    workspace.write_config()
    shell = workspace.start_python(
        "-c",
        "import subprocess, sys\n"
        "command = [sys.executable, '-m', 'operations', 'status', '--watch', '0.1']\n"
        "p = subprocess.Popen(command, stdout=subprocess.PIPE)\n"
        "p.stdout.readline(); p.stdout.close(); sys.exit(p.wait())",
    )
    outcome = shell.wait()
    assert (outcome.code, outcome.stderr) == (141, "")
