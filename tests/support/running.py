"""Commands that were started: how they end, and waiting for what they do."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.preloaded import Preloaded

NOTHING_LEFT = "No image with status 'ingested' found"


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def errors(self) -> list[str]:
        return [line for line in self.stderr.splitlines() if " ERROR " in line]

    @property
    def warnings(self) -> list[str]:
        """But for the one that the tests' own user is a superuser."""
        return warnings(self.stderr)

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


def warnings(stderr: str) -> list[str]:
    """The lines that are warnings, but for the one that the tests' own user is a superuser."""
    return [line for line in stderr.splitlines() if " WARNING " in line and "superuser" not in line]


class Running:
    """A command that was started and not yet waited for."""

    def __init__(
        self, arguments: Sequence[str], cwd: Path, env: Mapping[str, str], notes: Path, *, preloaded: bool = False
    ) -> None:
        """`preloaded`: a module of Python, started as tests/support/preloaded.py does it."""
        notes.mkdir(parents=True, exist_ok=True)
        self._out, self._err = notes / "stdout", notes / "stderr"
        self.process: subprocess.Popen[bytes] | Preloaded
        with self._out.open("wb") as out, self._err.open("wb") as err:
            if preloaded and arguments[1] == "-m":
                self.process = Preloaded(arguments[2:], cwd, env, (self._out, self._err))
                return
            self.process = subprocess.Popen(
                arguments, cwd=cwd, env=env, stdout=out, stderr=err, stdin=subprocess.DEVNULL
            )

    @property
    def stdout(self) -> str:
        return self._out.read_text()

    @property
    def stderr(self) -> str:
        return self._err.read_text()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = 120) -> Outcome:
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"did not end in {seconds} s:\n{self.stdout}\n{self.stderr}")
        return Outcome(code, self.stdout, self.stderr)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def wait_until(true: Callable[[], bool], what: str, seconds: float = 60, every: float = 0.05) -> None:
    """Look `every` so many seconds until `true()`; a test that waits in vain fails with `what`."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            pytest.fail(f"waited {seconds} s in vain: {what}")
        time.sleep(every)
