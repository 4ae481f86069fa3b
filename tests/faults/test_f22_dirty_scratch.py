"""F22: a scratch directory in which there is something already.

Injected: sound files of another scene under the names that the worker uses, folders of killed workers, folders of other
people. Asserted: nothing found is ever used, what killed workers left is removed by
the next one, what belongs to others or to a living worker stays.
"""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

from tests.faults.acts import Gate, this_scene
from tests.faults.conftest import MakeSeason
from tests.faults.season import Season
from tests.support.running import NOTHING_LEFT


def plant(season: Season, scene: int, other: int) -> list[Path]:
    """The other scene's files, under all names and in all folders in which a worker might look for its own; those
    folders that no worker may remove."""
    data, product, wrong = season.workspace.data, season.products[scene], season.products[other]
    folders = [data, data / product.reference, data / str(scene), data / product.reference.removesuffix(".SAFE")]
    swept = data / f"{scene}_abcdefgh"  # as a killed worker leaves it
    for folder in [*folders, swept]:
        folder.mkdir(parents=True, exist_ok=True)
        for name, key in product.keys.items():
            body = season.workspace.read(wrong.keys[name])
            for file in (Path(key).name, f"{name}.jp2", name, f"{product.reference}.{name}"):
                (folder / file).write_bytes(body)
    (swept / "lock").touch()
    return folders


def test_f22_files_that_are_there_are_not_used(make_season: MakeSeason) -> None:
    """They have the right names and are sound, but hold another scene.

    Without: private_scratch
    """
    season = make_season(s2=2, bs=2, c6=2)
    kept = [folder for scene, other in season.scenes.values() for folder in plant(season, scene, other)]
    before = {path for folder in kept for path in folder.glob("*") if path.is_file()}
    season.finish()
    assert {path for path in season.workspace.files() if path.is_file()} == before
    for path in season.workspace.data.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    season.check(lost=0)


def test_f22_what_a_killed_worker_left_is_removed(make_season: MakeSeason) -> None:
    """By the next worker in that directory, even if it has nothing to do.

    Without: sweep
    """
    season = make_season(s2=1, c6=0)
    killed = season.start("s2", env={"EXTRACTION_FAILPOINT": "files_verified=kill"}).wait()
    assert killed.code == -signal.SIGKILL
    left = [path.suffix for path in season.workspace.files()]
    assert left.count(".jp2") == 3, "the killed worker left nothing: this is no test"
    idle = season.run("c6")
    assert (idle.code, NOTHING_LEFT in idle.stdout) == (0, True)
    assert season.workspace.files() == []
    season.finish()
    season.check(lost=1)


def test_f22_what_others_have_there_stays(make_season: MakeSeason) -> None:
    """Only folders that workers make are removed, and only if nobody holds their lock.

    Without: sweep
    """
    season = make_season(c6=1)
    data = season.workspace.data
    elsewhere = season.workspace.folder / "elsewhere"
    for folder in (data / "my notes", data / "17", data / "17_backup_of_may", elsewhere):
        folder.mkdir(parents=True)
        (folder / "lock").touch()
        (folder / "notes.txt").write_text("mine")
    link = data / "17_abcdefgh"
    link.symlink_to(elsewhere)
    abandoned = data / "18_abcdefgh"
    abandoned.mkdir()
    (abandoned / "lock").touch()
    before = season.workspace.files()
    season.finish()
    gone = {abandoned, abandoned / "lock"}
    assert season.workspace.files() == [path for path in before if path not in gone]
    assert (elsewhere / "notes.txt").read_text() == "mine"
    link.unlink()
    shutil.rmtree(data)
    data.mkdir()
    season.check(lost=0)


def test_f22_a_living_worker_keeps_its_files(make_season: MakeSeason) -> None:
    """Another one in the same directory does not take them for abandoned.

    Without: private_scratch
    """
    season = make_season(c6=2)
    first, _ = season.scenes["c6"]
    gate = Gate(season.workspace.folder, "files_verified")
    slow = season.start("c6", *this_scene(season, first), env=gate.env)
    gate.wait(slow)
    held = season.workspace.files()
    assert season.run("c6").code == 0
    assert season.workspace.files() == held
    gate.open()
    outcome = slow.wait()
    assert (outcome.code, outcome.errors) == (0, [])
    season.check(lost=0)
