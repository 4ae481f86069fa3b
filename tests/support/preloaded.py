"""Commands that find the libraries loaded. Loading pandas, rasterio and boto3 takes most of a small command's time, and
a run of all tests starts thousands. They are forked from a process that has done it once; the package itself each of
them loads anew, in an environment, a directory and with signals of its own."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver, get_context
from pathlib import Path
from subprocess import TimeoutExpired
from unittest import mock

LIBRARIES = ["boto3", "geopandas", "psycopg2", "pydantic", "rasterio", "rasterstats", "tqdm"]
_FORKS = get_context("forkserver")
_FORKS.set_forkserver_preload(LIBRARIES)


class Preloaded:
    """`python -m MODULE ARGUMENTS`, started. What there is of it is as in subprocess.Popen."""

    def __init__(self, command: Sequence[str], cwd: Path, env: Mapping[str, str], output: tuple[Path, Path]) -> None:
        # As workers have it; a process that has threads is better not forked.
        with mock.patch.dict(os.environ, {"OPENBLAS_NUM_THREADS": "1"}):
            forkserver.ensure_running()
        self._process = _FORKS.Process(target=_run, args=(command, cwd, env, output))
        self._process.start()

    @property
    def pid(self) -> int:
        number = self._process.pid
        assert number is not None
        return number

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise TimeoutExpired("a command", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()


def _run(command: Sequence[str], cwd: Path, env: Mapping[str, str], output: tuple[Path, Path]) -> None:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for path, number in zip((Path(os.devnull), *output), (0, 1, 2), strict=True):
        opened = os.open(path, os.O_RDWR)
        os.dup2(opened, number)
        os.close(opened)
    sys.path.insert(0, str(cwd))
    sys.argv = list(command)
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)
