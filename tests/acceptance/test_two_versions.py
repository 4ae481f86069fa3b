"""During an upgrade, workers of the version before and of this one share a database, and each other's scenes.

The version before is the last commit in which the package was one folder of modules; it comes from the history.
"""

from __future__ import annotations

import io
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo.servers import Postgis, S3Server
from tests.faults.acts import Gate, claimed
from tests.faults.season import Products, Season
from tests.faults.spoilt_store import SpoiltStore
from tests.support.environment import ROOT, skip_unless
from tests.support.running import NOTHING_LEFT, Outcome, Running

COMMIT_BEFORE = "99a8d46"
BEFORE, NOW = "the version before", "this version"
BOTH_WAYS = pytest.mark.parametrize(("one", "other"), [(BEFORE, NOW), (NOW, BEFORE)], ids=["before first", "now first"])


@pytest.fixture(scope="module")
def version_before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as it was."""
    skip_unless("" if shutil.which("git") else "not installed: git")
    done = subprocess.run(
        ["git", "-C", ROOT, "archive", COMMIT_BEFORE, "extractors", "download_with_boto3.py"],
        capture_output=True,
        check=False,
    )
    why = done.stderr.decode(errors="replace").strip()
    skip_unless(
        f"commit {COMMIT_BEFORE} is not in the history here (a shallow clone?): {why}" if done.returncode else ""
    )
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


@dataclass(frozen=True)
class Versions:
    """A season, and workers of both versions for it."""

    season: Season
    before: Path

    def start(self, version: str, card: str, *options: str, env: Mapping[str, str] | None = None) -> Running:
        return self.season.start(card, *options, env=self._path(version) | dict(env or {}))

    def run(self, version: str, card: str, *options: str) -> Outcome:
        return self.season.run(card, *options, env=self._path(version))

    def where(self, version: str) -> str:
        """The folder from which a worker of this version is loaded."""
        code = "import extractors.worker; print(extractors.__path__[0])"
        return self.season.workspace.start_python("-c", code, env=self._path(version)).wait().stdout.strip()

    def _path(self, version: str) -> dict[str, str]:
        return {"PYTHONPATH": str(self.before)} if version == BEFORE else {}


@pytest.fixture
def versions(
    season_products: Products, postgis: Postgis, store: S3Server, version_before: Path, tmp_path: Path
) -> Iterator[Versions]:
    """Two bs scenes."""
    season = Season(season_products, postgis, store, tmp_path / "season", {"bs": 2})
    season.short()
    yield Versions(season, version_before)
    season.close()


def test_there_are_two_versions(versions: Versions) -> None:
    assert versions.where(BEFORE) == str(versions.before / "extractors")
    assert versions.where(NOW) == str(ROOT / "extractors")
    assert (versions.before / "extractors" / "catalogue.py").exists()
    assert not (ROOT / "extractors" / "catalogue.py").exists()


def test_side_by_side(versions: Versions, store: S3Server) -> None:
    """Two workers of each, all at a scene of their own to begin with: every scene is extracted once, with the rows that
    one worker alone writes. And the limit of downloads at the same time holds for all of them together."""
    season = versions.season
    season.add_again("bs", 8)
    season.workspace.s3.update({"connections": 1, "fleet_downloads": 1})
    gates = [Gate(season.workspace.folder, "claim_committed", name=f"gate{number}") for number in range(4)]
    with SpoiltStore(store) as way_to_store:
        way_to_store.hold_seconds = 0.05
        way_to_store.serve(season.workspace)
        workers = [
            versions.start(version, "bs", "--all", env=gate.env)
            for version, gate in zip((BEFORE, NOW, BEFORE, NOW), gates, strict=True)
        ]
        for gate, worker in zip(gates, workers, strict=True):
            gate.wait(worker)
        for gate in gates:
            gate.open()
        for worker in workers:
            outcome = worker.wait()
            assert (outcome.code, outcome.errors) == (0, []), outcome.stderr
            assert outcome.stdout.splitlines() == [NOTHING_LEFT]
        assert way_to_store.downloads.most == 1
    assert season.outcomes() == ["extracted"] * 10
    pids = {int(attempt["worker"].rpartition(":")[2]) for attempt in season.attempts()}
    assert pids == {worker.process.pid for worker in workers}
    season.check(lost=0)


@BOTH_WAYS
@pytest.mark.parametrize("point", ["claim_committed", "chunk_spooled", "before_commit"])
def test_a_dead_worker_s_scene_is_finished_by_the_other_version(
    versions: Versions, one: str, other: str, point: str
) -> None:
    season = versions.season
    killed = versions.start(one, "bs", env={"EXTRACTION_FAILPOINT": f"{point}=kill"}).wait()
    assert killed.code == -signal.SIGKILL, killed.stderr
    scene = claimed(season)
    assert season.outcomes(scene) == [None]

    finished = versions.run(other, "bs", "--all")

    assert (finished.code, finished.errors) == (0, []), finished.stderr
    assert season.outcomes(scene) == ["lost", "extracted"]
    season.check(lost=1)


@BOTH_WAYS
def test_a_living_worker_keeps_its_scene(versions: Versions, one: str, other: str) -> None:
    season = versions.season
    gate = Gate(season.workspace.folder, "publish_begin")
    living = versions.start(one, "bs", env=gate.env)
    gate.wait(living)
    scene = claimed(season)
    assert versions.run(other, "bs").code == 0
    last = versions.run(other, "bs")
    assert (last.code, last.stdout.splitlines()) == (0, [NOTHING_LEFT])
    assert season.outcomes(scene) == [None]
    gate.open()
    outcome = living.wait()
    assert (outcome.code, outcome.errors) == (0, []), outcome.stderr
    assert season.outcomes() == ["extracted"] * 2
    season.check(lost=0)


@BOTH_WAYS
def test_rows_of_the_other_version_are_replaced(versions: Versions, one: str, other: str) -> None:
    season = versions.season
    assert versions.run(one, "bs", "--all").code == 0
    for scene in season.all:
        season.workspace.ingest(scene)
    assert versions.run(other, "bs", "--all").code == 0
    season.check(lost=0, times=2)
