"""A worker that comes to grief at every fail point in turn, each time with a scene of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.faults.season import CHUNKS, Season
from tests.support.running import Outcome, Running

AT_ONCE = 3
"""Workers side by side: a little more than there are cores, because they also wait."""

BEFORE_CLAIM = ("start", "connected", "claim_updated", "claim_locked")
CLAIMED = (
    "claim_committed",
    "s3_listed",
    "file_started",
    "file_started:3",
    "file_temp_written",
    "file_renamed",
    "file_renamed:3",
    "files_verified",
    "parcels_selected",
    "chunk_computed",
    f"chunk_computed:{CHUNKS}",
    "chunk_spooled",
    f"chunk_spooled:{CHUNKS}",
    "publish_begin",
    "copied",
    "copied:2",
    "status_updated",
    "journal_updated",
    "before_commit",
)
PUBLISHED = ("committed", "files_removed", "unlocked")
OF_DUPLICATES = ("claim_superseded", "siblings_locked", "siblings_replaced")
"""Reached only by workers that keep the newest of duplicates: `test_f25_duplicates.py`."""
RELEASED = "released"
"""Reached only by an attempt that fails."""
FAILS = "parcels_selected=raise"
PLACES = (*BEFORE_CLAIM, *CLAIMED, *PUBLISHED, RELEASED)
"""Every fail point in the order in which a worker reaches them; :n where it is not the first time."""


@dataclass(frozen=True)
class Aftermath:
    """What a worker left behind. `files`: what was in its data folder when it had ended, if it was its own."""

    scene: int
    outcome: Outcome
    status: str
    files: list[str]


def make_scenes(season: Season) -> dict[str, int]:
    """A scene for every place, in a season that holds one s2 scene."""
    season.workspace.tables["hists_table"] = "hists"  # so that there are two COPY blocks
    scenes = [*season.scenes["s2"], *season.add_again("s2", len(PLACES) - len(season.scenes["s2"]))]
    return dict(zip(PLACES, scenes, strict=True))


def come_to_grief(
    season: Season, scenes: dict[str, int], action: str, *options: str, own_folders: bool = False
) -> dict[str, Aftermath]:
    """Let a worker reach every place with this action; some side by side, in one data folder unless `own_folders`."""
    aftermaths: dict[str, Aftermath] = {}
    for place, worker in _in_turns(season, scenes, action, options, own_folders):
        scene, folder = scenes[place], season.workspace.cwd / _folder(place)
        outcome = worker.wait(60)
        files = [path.name for path in folder.rglob("*")] if folder.exists() else []
        aftermaths[place] = Aftermath(scene, outcome, season.statuses()[scene], files)
    return aftermaths


def _in_turns(
    season: Season, scenes: dict[str, int], action: str, options: Iterable[str], own_folders: bool
) -> Iterator[tuple[str, Running]]:
    running: list[tuple[str, Running]] = []
    for place, scene in scenes.items():
        failpoint = f"{place}={action}" if place != RELEASED else f"{FAILS},{place}={action}"
        folder = ("--data-dir", _folder(place)) if own_folders else ()
        worker = season.start(
            "s2", "--scene", season.products[scene].reference, *folder, *options,
            env={"EXTRACTION_FAILPOINT": failpoint},
        )  # fmt: skip
        running.append((place, worker))
        if len(running) == AT_ONCE:
            yield running.pop(0)
    yield from running


def _folder(place: str) -> str:
    return f"data of {place}"
