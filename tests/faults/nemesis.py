"""Workers that are killed at random, and replaced, until all is done."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from dataclasses import dataclass

from tests.faults.season import Season
from tests.support.running import Outcome, Running

ENDED_BY_FAULTS = {-signal.SIGKILL, 75}
"""Exit codes of workers to which something was done: killed, or which met an outage."""
POLL_SECONDS = 0.02


@dataclass
class Worker:
    """A worker and what it is for."""

    card: str
    running: Running
    _claimed: bool = False

    @property
    def pid(self) -> int:
        return self.running.process.pid

    @property
    def ended(self) -> bool:
        return self.running.process.poll() is not None

    @property
    def at_work(self) -> bool:
        """It has claimed a scene at some time."""
        self._claimed = self._claimed or "claimed for" in self.running.stderr
        return self._claimed


class Fleet:
    """So many workers, each replaced when it has ended by a fault; those that found nothing more to do rest."""

    def __init__(self, season: Season, cards: list[str], *options: str) -> None:
        self.season = season
        self.options = options
        self.workers = [Worker(card, self._start(card)) for card in cards]
        self.codes: Counter[int] = Counter()
        """Exit codes of all that have ended."""
        self.unexpected: list[Outcome] = []

    def _start(self, card: str) -> Running:
        return self.season.start(card, *self.options)

    def tend(self) -> bool:
        """Replace those that came to grief; False when all have ended by themselves."""
        alive = []
        for worker in self.workers:
            if not worker.ended:
                alive.append(worker)
                continue
            outcome = worker.running.wait()
            self.codes[outcome.code] += 1
            if outcome.code in ENDED_BY_FAULTS:
                alive.append(Worker(worker.card, self._start(worker.card)))
            elif outcome.code != 0:
                self.unexpected.append(outcome)
        self.workers = alive
        return bool(alive)

    def kill_one(self, chance: random.Random, spared: int = 0) -> bool:
        """kill -9 of one that is at work, but for the first ones; False if there is none."""
        victims = [worker for worker in self.workers[spared:] if not worker.ended and worker.at_work]
        if not victims:
            return False
        chance.choice(victims).running.send(signal.SIGKILL)
        return True

    def wait(self, seconds: float) -> bool:
        """Tend until all have ended by themselves; False if they have not by then."""
        end = time.monotonic() + seconds
        while self.tend():
            if time.monotonic() > end:
                return False
            time.sleep(POLL_SECONDS)
        return True
