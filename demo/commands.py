"""The project's own commands, as a person would run them: verbs of operations, and a worker for each CARD."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parent.parent
POLL_SECONDS = 0.2
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


def operate(folder: Path, *arguments: str) -> str:
    """Run `python -m operations` in a folder with configuration files; returns what it says. DemoError if it fails."""
    return run([sys.executable, "-m", "operations", *arguments], folder)


def run(command: list[str], folder: Path, **environment: str) -> str:
    """Run a command in a folder; returns what it writes to standard output. Raises DemoError if it fails."""
    done = subprocess.run(
        command, cwd=folder, env=_environment() | environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False, start_new_session=True,
    )  # fmt: skip
    if done.returncode:
        raise DemoError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def extract_all(folder: Path, cards: Sequence[str]) -> None:
    """Run a worker per CARD, in `folder`/<card>, until no scene is left; raises DemoError if one of them fails."""
    with _started(folder, cards) as workers:
        running = list(workers)
        while running:
            time.sleep(POLL_SECONDS)
            for worker in list(running):
                code = worker.process.poll()
                if code is not None:
                    running.remove(worker)
                if code:
                    raise DemoError(worker.complaint())


@contextmanager
def _started(folder: Path, cards: Sequence[str]) -> Iterator[list[Worker]]:
    """Start a worker per CARD; end those that still run afterwards, so that they give their scene back."""
    workers: list[Worker] = []
    try:
        for card in cards:
            log = folder / card / "worker.log"
            with log.open("wb") as sink:
                process = subprocess.Popen(
                    [sys.executable, "-m", f"extractors.{card}", "--all"],
                    cwd=folder / card, env=_environment(), stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
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


def _environment() -> dict[str, str]:
    paths = [str(PROJECT_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    # Database and store are on loopback.
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
