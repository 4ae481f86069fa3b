"""Hours of faults: many workers, and at random kill -9, ended database sessions, database restarts and crashes.

    python -m tests.faults.soak --minutes 20 --seed 1

When all scenes are extracted, everything is checked, they are set back to `ingested`, and it begins anew until the time
is up. One worker of each card is never killed itself: its memory and open files tell of leaks. Prints one table; the
exit code is 1 if anything is not as it should be.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from demo.servers import Postgis, S3Server
from tests.faults.acts import APPLICATION
from tests.faults.nemesis import Fleet, Worker
from tests.faults.own_postgis import kill_backend
from tests.faults.season import CARDS, SCENES_OF_A_CARD, Products, Season, make_oracle

PAUSE_SECONDS = (0.3, 2.0)
"""Between two faults."""
FAULTS = {"worker killed": 12, "session ended": 5, "database restarted": 1, "database crashed": 1}
"""Kind -> how often among all."""
ROUND_SECONDS = 600.0
"""Without faults, a round that takes longer is stuck."""
LEAK = 1.1
"""How much more memory a worker may have at the end than after the first round."""
FEW_ARENAS = {"MALLOC_ARENA_MAX": "2"}
"""What threads have freed is kept in arenas, which fill over hundreds of scenes: with few, a leak can be told from that
(DESIGN.md, Memory)."""
STOPPED = 128 + signal.SIGTERM
BACKENDS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s"


@dataclass(frozen=True)
class Holdings:
    """What is held at a moment when nothing is to be done. Memory in MB and open files of the spared workers."""

    memory: dict[int, float]
    files: dict[int, int]
    connections: int
    scratch: int


@dataclass
class Soak:
    """One run; `times`: how often all scenes have been extracted."""

    season: Season
    fleet: Fleet
    chance: random.Random
    faults: Counter[str] = field(default_factory=Counter)
    times: int = 0

    def run(self, seconds: float) -> tuple[Holdings, Holdings]:
        """Faults until the time is up; what was held after the first round and at the end."""
        end = time.monotonic() + seconds
        self._round(end)
        first = self._holdings()
        while time.monotonic() < end:
            self._query("UPDATE dias_catalogue SET status = 'ingested' WHERE id = ANY (%s)", self.season.all)
            self._round(end)
        last = self._holdings()
        return first, last

    def stop(self) -> None:
        """End all workers politely; check that nothing at all is left."""
        for worker in self.fleet.workers:
            worker.running.send(signal.SIGTERM)
        codes = [worker.running.wait(60).code for worker in self.fleet.workers]
        assert set(codes) == {STOPPED}, codes
        self.season.check(times=self.times)

    def _round(self, end: float) -> None:
        """Until all scenes are extracted. Faults until then, or until the time is up."""
        limit = max(time.monotonic(), end) + ROUND_SECONDS
        next_fault = 0.0
        while not self._done():
            assert time.monotonic() < limit, f"stuck: {Counter(self.season.statuses().values())}"
            self.fleet.tend()
            assert self.fleet.unexpected == [], self.fleet.unexpected[0].stderr[-5000:]
            if next_fault < time.monotonic() < end:
                self._fault()
                next_fault = time.monotonic() + self.chance.uniform(*PAUSE_SECONDS)
            time.sleep(0.1)
        self.times += 1
        self.season.check(times=self.times, quiet=False)
        print(f"round {self.times}: {sum(self.faults.values())} faults so far", flush=True)

    def _done(self) -> bool:
        return set(self.season.statuses().values()) == {"extracted"}

    def _fault(self) -> None:
        kind = self.chance.choices(list(FAULTS), list(FAULTS.values()))[0]
        act: dict[str, Callable[[], bool]] = {
            "worker killed": lambda: self.fleet.kill_one(self.chance, spared=len(CARDS)),
            "session ended": self._end_session,
            "database restarted": self._restart,
            "database crashed": self._crash,
        }
        self.faults[kind] += act[kind]()

    def _end_session(self) -> bool:
        pids = [pid for (pid,) in self.season.workspace.query(BACKENDS, APPLICATION)]
        return bool(pids) and bool(
            self.season.workspace.one("SELECT pg_terminate_backend(%s)", self.chance.choice(pids))
        )

    def _restart(self) -> bool:
        self.season.workspace.postgis.restart()
        self.season.workspace.reconnect()
        return True

    def _crash(self) -> bool:
        """kill -9 of one server process: the server ends all others and recovers."""
        pids = [pid for (pid,) in self.season.workspace.query(BACKENDS, APPLICATION)]
        if not pids:
            return False
        kill_backend(self.season.workspace.postgis, self.chance.choice(pids))
        self.season.workspace.reconnect()
        return True

    def _query(self, statement: str, *values: object) -> None:
        self.season.workspace.query(statement, *values)

    def _holdings(self) -> Holdings:
        """Once every worker has seen that nothing is left to do."""
        time.sleep(3)
        spared = self.fleet.workers[: len(CARDS)]
        return Holdings(
            {worker.pid: memory(worker) for worker in spared},
            {worker.pid: len(list(Path(f"/proc/{worker.pid}/fd").iterdir())) for worker in spared},
            len(self.season.workspace.query(BACKENDS, APPLICATION)),
            len(self.season.workspace.files()),
        )


def memory(worker: Worker) -> float:
    """What a worker holds that nothing else shares, in MB."""
    lines = Path(f"/proc/{worker.pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Private", "SwapPss"))) / 1024


def leaks(first: Holdings, last: Holdings) -> list[str]:
    """What grew, in words. A worker that ended meanwhile, and its successor, cannot be compared."""
    grown = [
        f"memory of worker {pid}: {first.memory[pid]:.0f} MB to {last.memory[pid]:.0f} MB"
        for pid in first.memory.keys() & last.memory.keys()
        if last.memory[pid] > LEAK * first.memory[pid]
    ]
    grown += [
        f"open files of worker {pid}: {first.files[pid]} to {last.files[pid]}"
        for pid in first.files.keys() & last.files.keys()
        if last.files[pid] > first.files[pid]
    ]
    if last.connections > first.connections:
        grown.append(f"connections: {first.connections} to {last.connections}")
    if last.scratch:
        grown.append(f"scratch: {last.scratch} files")
    return grown


def table(soak: Soak, first: Holdings, last: Holdings) -> str:
    """One line per number: name, at the start (or in all), at the end."""
    log = soak.season.attempts()
    outcomes = Counter(attempt["outcome"] for attempt in log)
    rows = soak.season.workspace.rows()
    lines = [(kind, str(soak.faults[kind]), "") for kind in FAULTS]
    lines += [
        ("scenes", str(len(soak.season.all)), ""),
        ("extractions", str(outcomes["extracted"]), f"in {soak.times} rounds"),
        ("rows checked", str(rows * soak.times), f"{rows} in every round"),
        ("attempts lost", str(outcomes["lost"]), ""),
        ("attempts given back", str(outcomes["given_back"]), ""),
        ("attempts failed", str(outcomes["error"] + outcomes["failed"]), ""),
        *((f"workers ended with {code}", str(number), "") for code, number in sorted(soak.fleet.codes.items())),
        ("memory of spared workers (MB)", _numbers(first.memory), _numbers(last.memory)),
        ("their open files", _numbers(first.files), _numbers(last.files)),
        ("database connections", str(first.connections), str(last.connections)),
        ("files in scratch", str(first.scratch), str(last.scratch)),
    ]
    wide = max(len(name) for name, _, _ in lines)
    return "\n".join(f"{name:{wide}}  {one:>15}  {other}".rstrip() for name, one, other in lines)


def _numbers(values: dict[int, float] | dict[int, int]) -> str:
    return " ".join(f"{value:.0f}" for value in values.values())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--workers", type=int, default=8)
    given = parser.parse_args()
    # A SIGTERM ends the servers as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    folder.chmod(0o755)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        postgis = stack.enter_context(Postgis(folder / "cluster"))
        store = stack.enter_context(S3Server(log=folder / "s3.log"))
        made = Products(folder / "products")
        make_oracle(made, postgis, store, folder / "oracle")
        season = Season(made, postgis, store, folder / "season", dict.fromkeys(CARDS, SCENES_OF_A_CARD))
        stack.callback(season.close)
        for number, card in enumerate(CARDS):
            share = (given.scenes + number) // len(CARDS)
            season.add_again(card, max(0, share - SCENES_OF_A_CARD))
        season.short(max_attempts=1000, outages_in_a_row=20)
        cards = [CARDS[number % len(CARDS)] for number in range(given.workers)]
        os.environ |= FEW_ARENAS
        soak = Soak(season, Fleet(season, cards, "--watch", "1"), random.Random(given.seed))
        first, last = soak.run(60 * given.minutes)
        soak.stop()
        print(table(soak, first, last))
        wrong = leaks(first, last)
    for line in wrong:
        print(f"grown: {line}")
    print("everything holds" if not wrong else "something grew")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
