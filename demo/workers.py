"""The three workers at work: one process per CARD, side by side, each in its own working folder."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from demo.stage import CARDS

if TYPE_CHECKING:
    from psycopg2.extensions import connection

PROJECT_ROOT = Path(__file__).resolve().parent.parent
POLL_SECONDS = 0.5
LINE_SECONDS = 15.0  # between two lines of progress where there is no terminal
STOP_SECONDS = 20.0
LOG_LINES = 20  # shown of a worker that fails


class DemoError(Exception):
    """The demonstration did not come out as it should; the message says why."""


@dataclass(frozen=True)
class Worker:
    """A running worker and where its output goes."""

    card: str
    process: subprocess.Popen[bytes]
    log: Path

    def complaint(self) -> str:
        """Exit code and last log lines, for a person."""
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        said = "\n".join(f"    {line}" for line in lines)
        return f"the {self.card} worker ended with {self.process.returncode}; its last lines were:\n{said}"


def extract_all(folder: Path, database: connection) -> None:
    """Run the workers in `folder`/<card> until no scene is left; raises DemoError if one of them fails."""
    with _started(folder) as workers, _progress(database) as show:
        running = list(workers)
        while running:
            time.sleep(POLL_SECONDS)
            show()
            for worker in list(running):
                code = worker.process.poll()
                if code is not None:
                    running.remove(worker)
                if code:
                    raise DemoError(worker.complaint())


@contextmanager
def _started(folder: Path) -> Iterator[list[Worker]]:
    """Start a worker per CARD; end those that still run afterwards, so that they give their scene back."""
    paths = [str(PROJECT_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "NO_PROXY": "127.0.0.1",  # database and store are on loopback
        "no_proxy": "127.0.0.1",
    }
    workers: list[Worker] = []
    try:
        for card in CARDS:
            log = folder / card / "worker.log"
            with log.open("wb") as sink:
                process = subprocess.Popen(
                    [sys.executable, "-m", f"extractors.{card}", "--all"],
                    cwd=folder / card, env=environment, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
                    start_new_session=True,  # Ctrl-C is ours to answer
                )  # fmt: skip
            workers.append(Worker(card, process, log))
        yield workers
    finally:
        for worker in workers:
            worker.process.terminate()  # does nothing to one that has ended
        for worker in workers:
            try:
                worker.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()


@contextmanager
def _progress(database: connection) -> Iterator[_Show]:
    """Something to call now and then: a live bar on a terminal, a line every quarter of a minute elsewhere."""
    counts = _counts(database)
    total = sum(scenes for _, scenes in counts.values())
    with tqdm(total=total, unit="scene", disable=None, leave=False, file=sys.stderr) as bar:
        yield _Show(database, bar, time.monotonic())


class _Show:
    def __init__(self, database: connection, bar: tqdm[Any], start: float) -> None:
        self._database, self._bar, self._last_line = database, bar, start

    def __call__(self) -> None:
        counts = _counts(self._database)
        text = ", ".join(f"{card} {done}/{scenes}" for card, (done, scenes) in counts.items())
        self._bar.set_description_str(text, refresh=False)
        self._bar.n = sum(done for done, _ in counts.values())
        self._bar.refresh()
        if self._bar.disable and time.monotonic() - self._last_line >= LINE_SECONDS:
            self._last_line = time.monotonic()
            print(f"    scenes done: {text}", flush=True)


def _counts(database: connection) -> dict[str, tuple[int, int]]:
    """Scenes done and scenes in all, by CARD."""
    with database, database.cursor() as cursor:
        cursor.execute(
            """SELECT card, count(*) FILTER (WHERE status NOT IN ('ingested', 'inprogress')), count(*)
               FROM dias_catalogue GROUP BY card"""
        )
        found = {card: (done, scenes) for card, done, scenes in cursor}
    return {card: found[card] for card in CARDS}
