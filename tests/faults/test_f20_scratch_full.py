"""F20: the disk of the scratch directory is full.

Injected: a file system of 2 MB that is full before the download or fills before the rows are spooled; and strace,
which makes every write or every rename of the process fail with ENOSPC, its log lines included. Asserted: the scene's
folder is removed, the scene is given back uncounted, the exit code is 75, 0 rows, workers with another disk are not
concerned, and with room everything is extracted.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.acts import Gate
from tests.faults.conftest import MakeSeason
from tests.faults.season import Season
from tests.faults.spoilt_store import SpoiltStore
from tests.support.environment import skip_unless
from tests.support.running import Running, wait_until
from tests.support.small_disk import SmallDisk


def assert_given_back(season: Season, scene: int) -> None:
    """Uncounted, and with a reason that tells it; nothing else has happened."""
    (attempt,) = season.attempts(scene)
    assert (attempt["outcome"], attempt["attempt"], attempt["status"]) == ("given_back", 1, "ingested")
    assert attempt["retry_after"] is None
    assert "room" in attempt["detail"]
    season.check(extracted=set())


def test_f20_no_room_for_the_download(
    make_season: MakeSeason, disk: SmallDisk, spoilt: SpoiltStore, tmp_path: Path
) -> None:
    """Said before a byte is downloaded. A worker with another disk, at a scene meanwhile, then does all of them.

    Without: free_space
    """
    season = make_season(bs=3)
    season.short(max_attempts=1)
    spoilt.serve(season.workspace)
    first, *_ = season.scenes["bs"]
    disk.fill()
    outcome = season.run("bs", "--data-dir", str(disk.folder))
    assert (outcome.code, len(outcome.errors)) == (75, 1)
    assert str(disk.folder) in outcome.errors[0]
    assert spoilt.asked_for("Gamma0_.*(img|hdr)$") == 0
    assert disk.files == []
    assert_given_back(season, first)

    gate = Gate(tmp_path, "claim_committed")
    other = season.start("bs", "--all", env=gate.env)
    gate.wait(other)
    full = season.run("bs", "--all", "--data-dir", str(disk.folder))
    assert (full.code, len(full.errors)) == (75, 1)
    assert disk.files == []
    gate.open()
    outcome = other.wait()
    assert (outcome.code, outcome.errors) == (0, [])
    season.check()


@pytest.mark.parametrize("point", ["files_verified", "chunk_computed"])
def test_f20_no_room_for_the_rows(make_season: MakeSeason, disk: SmallDisk, tmp_path: Path, point: str) -> None:
    """The disk fills after the download. Rows go to a file there (`spool_megabytes` 0).

    Without: failure_classes
    """
    season = make_season(s2=2)
    season.short(max_attempts=1, spool_megabytes=0)
    first, _ = season.scenes["s2"]
    gate = Gate(tmp_path, point)
    worker = season.start("s2", "--data-dir", str(disk.folder), env=gate.env)
    gate.wait(worker)
    disk.fill()
    gate.open()
    outcome = worker.wait()
    assert (outcome.code, len(outcome.errors)) == (75, 1), outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert disk.files == []
    assert_given_back(season, first)

    disk.free()
    assert season.run("s2", "--all", "--data-dir", str(disk.folder)).code == 0
    assert disk.files == []
    season.check()


def test_f20_rows_in_a_file(make_season: MakeSeason) -> None:
    """The control to that: with room, rows that go through a file are those that stay in memory.

    Without: none
    """
    season = make_season(s2=1, bs=1, c6=1)
    season.short(spool_megabytes=0)
    season.finish()
    season.check()


@contextlib.contextmanager
def failing(worker: Running, calls: str, notes: Path) -> Iterator[None]:
    """From now on these system calls of the process, in all of its threads, fail with ENOSPC."""
    pid = worker.process.pid
    with notes.open("wb") as sink:
        tracer = subprocess.Popen(
            ["strace", "-f", "-qq", "-p", str(pid), "-e", f"trace={calls}", "-e", f"inject={calls}:error=ENOSPC"],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
        )
    try:
        wait_until(lambda: tracer.poll() is not None or _is_traced(pid), "strace to attach", 20)
        skip_unless(f"strace cannot attach here: {notes.read_text().strip()}" if tracer.poll() is not None else "")
        yield
    finally:
        if tracer.poll() is None:
            tracer.send_signal(signal.SIGINT)  # it lets go of the process
        tracer.wait(20)


def _is_traced(pid: int) -> bool:
    """Whether every thread of the process has a tracer."""
    threads = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status")]
    return bool(threads) and all("TracerPid:\t0\n" not in text for text in threads)


@pytest.mark.parametrize(
    ("card", "point", "calls"),
    [
        ("s2", "s3_listed", "write"),
        ("bs", "s3_listed", "rename,renameat,renameat2"),
        ("s2", "publish_begin", "write"),
    ],
    ids=["the first byte", "the final name", "the rows, while they are published"],
)
def test_f20_system_calls_that_fail(make_season: MakeSeason, tmp_path: Path, card: str, point: str, calls: str) -> None:
    """ENOSPC from the first byte that is to be written, even to the log; when a file gets its name; and when the last
    rows go to their file, within the transaction that publishes them.

    Without: failure_classes
    """
    skip_unless("" if shutil.which("strace") else "not installed: strace")
    season = make_season(**{card: 2})
    season.short(max_attempts=1, spool_megabytes=0)
    first, _ = season.scenes[card]
    gate = Gate(tmp_path, point)
    worker = season.start(card, env=gate.env)
    gate.wait(worker)
    with failing(worker, calls, tmp_path / "strace"):
        gate.open()
        outcome = worker.wait()
    assert "ENOSPC" in (tmp_path / "strace").read_text()
    assert outcome.code == 75, outcome.stderr
    assert_given_back(season, first)

    assert season.run(card, "--all").code == 0
    season.check()
