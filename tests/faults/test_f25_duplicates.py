"""F25: several products of one observation, of which only the newest is to stay.

Injected: kill -9 at each step between the rows of one and those of the other, in both orders of arrival; two workers at
siblings at once, each in turn a moment earlier; many workers, and newer products that turn up meanwhile; a lost answer
to the COMMIT of one that gives way. Asserted, besides the rows at the end: a reader that looks all the time sees the
whole rows of one of them, never both, and never none once there were some.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest

from tests.faults import checker
from tests.faults.acts import APPLICATION, Gate, has_ended
from tests.faults.conftest import MakeSeason
from tests.faults.network import TcpProxy
from tests.faults.season import PARCELS, ROWS, Season
from tests.support.running import Running, wait_until

# Where a worker dies that publishes the newer one, and one that finds the older one out of date.
PUBLISHING = (
    "publish_begin",
    "siblings_locked",
    "copied",
    "copied:2",
    "siblings_replaced",
    "status_updated",
    "journal_updated",
    "before_commit",
)
PUBLISHED = ("committed", "unlocked")
CLAIMING = ("claim_updated", "claim_superseded")
WORKERS = 5
PAIRS = 12


@dataclass(frozen=True)
class Pair:
    """Two siblings."""

    old: int
    new: int


@pytest.fixture
def season(make_season: MakeSeason) -> Season:
    made = make_season(s2=1)
    made.short(duplicates="newest")
    made.workspace.tables["hists_table"] = "hists"
    return made


def add_newer(season: Season, scene: int) -> int:
    """A newer product of the same pixels; its id."""
    old = season.products[scene]
    reference = old.reference.replace("_N0214_", "_N0500_")
    bare, renamed = old.reference.removesuffix(".SAFE"), reference.removesuffix(".SAFE")
    new = replace(old, reference=reference, keys={name: key.replace(bare, renamed) for name, key in old.keys.items()})
    for name, key in new.keys.items():
        season.workspace.write(key, season.workspace.read(old.keys[name]))
    number = season.add(new, season.oracle[scene])
    season.remember()
    return number


def run_scene(season: Season, scene: int, **env: str) -> Running:
    return season.start("s2", "--scene", season.products[scene].reference, env=env)


@contextmanager
def reader(season: Season, pairs: list[Pair]) -> Iterator[None]:
    """Look at both tables all the time, each time in one statement."""
    workspace, seen, wrong, end = season.workspace, dict.fromkeys(pairs, False), set(), threading.Event()
    connection = workspace.connect()
    connection.autocommit = True
    looks = 0

    def look() -> None:
        nonlocal looks
        with connection.cursor() as cursor:
            while not end.is_set():
                cursor.execute(
                    "SELECT obsid, count(*) FILTER (WHERE band IS NOT NULL), count(*) FILTER (WHERE band IS NULL)"
                    " FROM (SELECT obsid, band FROM signatures UNION ALL SELECT obsid, NULL FROM hists) r"
                    " GROUP BY obsid"
                )
                rows = {obsid: (signatures, hists) for obsid, signatures, hists in cursor.fetchall()}
                looks += 1
                for pair in pairs:
                    there = {rows[scene] for scene in (pair.old, pair.new) if scene in rows}
                    if pair.old in rows and pair.new in rows:
                        wrong.add(f"both {pair}")
                    if not there <= {(ROWS["s2"], PARCELS)}:
                        wrong.add(f"a part {pair} {there}")
                    if seen[pair] and not there:
                        wrong.add(f"none {pair}")
                    seen[pair] |= bool(there)
                time.sleep(0.002)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()
        connection.close()
    assert looks > 1
    assert wrong == set()


def check(season: Season, pairs: list[Pair]) -> None:
    """Of each pair the newer one is there, and all is as it should be."""
    workspace, new = season.workspace, [pair.new for pair in pairs]
    assert {season.statuses()[pair.old] for pair in pairs} == {"superseded"}
    checker.check_rows(workspace, season.oracle, new)
    checker.check_catalogue(workspace, season.oracle, season._before, new)
    checker.check_rest(workspace)
    checker.check_scratch(workspace)
    checker.check_secrets(workspace)
    assert [attempt for attempt in season.attempts() if attempt["finished_at"] is None] == []
    assert sorted(workspace.query("SELECT obsid, count(*) FROM hists GROUP BY obsid")) == [
        (n, PARCELS) for n in sorted(new)
    ]
    for pair in pairs:
        assert season.outcomes(pair.new).count("extracted") == 1
        last = season.attempts(pair.old)[-1]
        assert last["outcome"] == "superseded"
        assert f"scene {pair.new} " in last["detail"]


def test_f25_killed_while_it_replaces(season: Season) -> None:
    """The newer one comes later.

    Without: one_transaction
    Without: duplicates
    """
    places = (*PUBLISHING, *PUBLISHED)
    old = [*season.scenes["s2"], *season.add_again("s2", len(places) - 1)]
    season.finish()
    pairs = [Pair(scene, add_newer(season, scene)) for scene in old]
    with reader(season, pairs):
        for place, pair in zip(places, pairs, strict=True):
            outcome = run_scene(season, pair.new, EXTRACTION_FAILPOINT=f"{place}=kill").wait()
            assert outcome.code == -signal.SIGKILL, outcome.stderr
            statuses = season.statuses()
            after = ("superseded", "extracted") if place in PUBLISHED else ("extracted", "inprogress")
            assert (statuses[pair.old], statuses[pair.new]) == after, place
        season.finish()
    check(season, pairs)


def test_f25_killed_while_it_gives_way(season: Season) -> None:
    """The older one comes late.

    Without: duplicates
    """
    old = [*season.scenes["s2"], *season.add_again("s2", len(CLAIMING) - 1)]
    pairs = [Pair(scene, add_newer(season, scene)) for scene in old]
    season.workspace.query("UPDATE dias_catalogue SET status = 'of the test' WHERE id = ANY (%s)", old)
    season.finish()
    season.workspace.query("UPDATE dias_catalogue SET status = 'ingested' WHERE id = ANY (%s)", old)
    with reader(season, pairs):
        for place, pair in zip(CLAIMING, pairs, strict=True):
            outcome = run_scene(season, pair.old, EXTRACTION_FAILPOINT=f"{place}=kill").wait()
            assert outcome.code == -signal.SIGKILL, outcome.stderr
            assert season.statuses()[pair.old] == "ingested"
        season.finish()
    check(season, pairs)


@pytest.mark.parametrize("earlier", ["old", "new"])
def test_f25_two_workers_publish_siblings_at_once(season: Season, earlier: str) -> None:
    """The older one was taken before the newer one came.

    Without: siblings_lock
    """
    folder, (old,) = season.workspace.folder, season.scenes["s2"]
    gates = {"old": Gate(folder, "publish_begin", *(["before_commit"] if earlier == "old" else []), name="old")}
    gates["new"] = Gate(folder, "before_commit" if earlier == "new" else "publish_begin", name="new")
    workers = {"old": run_scene(season, old, **gates["old"].env)}
    gates["old"].wait(workers["old"])
    pair = Pair(old, add_newer(season, old))
    workers["new"] = run_scene(season, pair.new, **gates["new"].env)
    gates["new"].wait(workers["new"])
    later = {"old": "new", "new": "old"}[earlier]
    if earlier == "old":
        gates["old"].open()
        gates["old"].wait(workers["old"])
    with reader(season, [pair]):
        gates[later].open()
        wait_until(lambda: waits_for_a_lock(season) or has_ended(workers[later]), "the later one at the lock")
        gates[earlier].open()
        outcomes = {name: worker.wait() for name, worker in workers.items()}
    for outcome in outcomes.values():
        assert (outcome.code, outcome.errors) == (0, []), outcome.stderr
    check(season, [pair])
    assert ("superseded: scene" in outcomes["old"].stderr) == (earlier == "new")
    assert season.outcomes(old) == (["superseded"] if earlier == "new" else ["extracted", "superseded"])


def test_f25_answer_lost_when_it_gives_way(season: Season, way: TcpProxy) -> None:
    """The COMMIT that says the older one is superseded arrives, and the answer is lost: the worker does not say that
    there are rows of it.

    Without: journal_lookup
    """
    (old,) = season.scenes["s2"]
    gate = Gate(season.workspace.folder, "publish_begin", "before_commit")
    worker = run_scene(season, old, **gate.env)
    gate.wait(worker)
    pair = Pair(old, add_newer(season, old))
    assert run_scene(season, pair.new).wait().code == 0
    gate.open()
    gate.wait(worker)
    loss = way.lose_commit("after")
    gate.open()
    outcome = worker.wait()
    assert loss.happened.is_set(), "the worker sent no COMMIT"
    assert (outcome.code, outcome.errors) == (0, []), outcome.stderr
    assert f"superseded: scene {pair.new} " in outcome.stderr
    assert "rows are written" not in outcome.stderr
    check(season, [pair])


def waits_for_a_lock(season: Season) -> bool:
    waiting = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = %s AND wait_event_type = 'Lock')"
    return bool(season.workspace.one(waiting, APPLICATION))


def test_f25_many_workers(season: Season) -> None:
    """Newer products turn up while workers are at the older ones.

    Without: duplicates
    """
    season.workspace.extraction["server_settings"]["lock_timeout"] = "30s"
    old = [*season.scenes["s2"], *season.add_again("s2", PAIRS - 1)]
    order = random.Random(25)
    pairs = [Pair(scene, add_newer(season, scene)) for scene in old]
    late = order.sample([pair.new for pair in pairs], PAIRS // 2) + order.sample([pair.old for pair in pairs], 3)
    season.workspace.query("UPDATE dias_catalogue SET status = 'of the test' WHERE id = ANY (%s)", late)
    workers = [season.start("s2", "--all") for _ in range(WORKERS)]
    wait_until(lambda: season.workspace.rows() > 0, "the first rows")
    with reader(season, pairs):
        for scene in late:
            season.workspace.ingest(scene)
            time.sleep(order.uniform(0, 0.5))
        for worker in workers:
            outcome = worker.wait()
            assert (outcome.code, outcome.errors) == (0, []), outcome.stderr
        season.finish()
    check(season, pairs)
