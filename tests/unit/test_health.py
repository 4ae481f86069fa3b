"""The health file: what a worker writes, and what the check makes of it."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from extractors import health
from extractors.health import SLACK_SECONDS, report, verdict

NO_SUCH_FILE = os.strerror(errno.ENOENT)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "health"
    monkeypatch.setenv("HEALTH_FILE", str(file))
    return file


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def check(file: Path | None) -> tuple[int, str, str]:
    """The check's command: exit code, output, errors."""
    env = {name: value for name, value in os.environ.items() if name != "HEALTH_FILE"}
    done = subprocess.run(
        [sys.executable, "-m", "extractors.health"],
        env=env | ({"HEALTH_FILE": str(file)} if file else {}),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    now = health._now() + seconds
    monkeypatch.setattr(health, "_now", lambda: now)


def change(file: Path, **values: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_on_time(file: Path) -> None:
    report("working on scene 7", 100)
    assert check(file) == (0, "", "")
    assert [path.name for path in file.parent.iterdir()] == ["health"]


def test_overdue(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report("working on scene 7", 100)
    later(monkeypatch, 100 + SLACK_SECONDS - 1)
    assert verdict(str(file)) is None
    later(monkeypatch, 41)
    assert verdict(str(file)) == f"process {os.getpid()}, working on scene 7, is overdue by 40 s"


def test_overdue_as_a_command(file: Path) -> None:
    report("pausing")
    change(file, by=health._now() - 5)
    code, said, errors = check(file)
    assert (code, errors) == (1, "")
    assert said.startswith(f"process {os.getpid()}, pausing, is overdue by ")
    assert said.count("\n") == 1


def test_the_last_word_holds(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report("working on scene 7", 7200)
    report("pausing", 10)
    later(monkeypatch, 11 + SLACK_SECONDS)
    assert "pausing" in str(verdict(str(file)))


def test_a_process_that_is_gone(file: Path, other: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: other.pid)
    report("working on scene 7", 100)
    assert verdict(str(file)) is None
    other.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has asked how
    gone = f"process {other.pid} is gone, last seen working on scene 7"
    assert verdict(str(file)) == gone
    other.wait()
    assert verdict(str(file)) == gone


@pytest.mark.parametrize("part", [0, 1], ids=["before the machine was started anew", "before this one"])
def test_another_process_with_the_same_number(file: Path, part: int) -> None:
    """As in a container whose worker was started again: there, both have the number 1."""
    report("working on scene 7", 100)
    words = json.loads(file.read_text())["born"].split()
    words[part] = "0"
    change(file, born=" ".join(words))
    assert verdict(str(file)) == f"process {os.getpid()} is gone, last seen working on scene 7"


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "7", "no JSON", '{"pid": 1, "born": null}', "[" * 100_000, '{"pid": 1e999}', "\udcff"],
    ids=lambda text: text[:10].encode("ascii", "replace").decode(),
)
def test_a_file_of_somebody_else(text: str, file: Path) -> None:
    file.write_bytes(text.encode(errors="surrogateescape"))
    assert verdict(str(file)) == f"{file}: it was not written by a worker"


def test_a_number_that_no_process_has(file: Path) -> None:
    report("pausing")
    for pid in (-1, 0, 2**40):
        change(file, pid=pid, born=None)
        assert "is gone" in str(verdict(str(file)))


def test_no_file_yet(file: Path) -> None:
    code, said, _ = check(file)
    assert (code, said) == (1, f"{file}: no worker has written it ({NO_SUCH_FILE})\n")


def test_without_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for value in (None, ""):
        monkeypatch.delenv("HEALTH_FILE", raising=False)
        if value is not None:
            monkeypatch.setenv("HEALTH_FILE", value)
        report("pausing")
        assert list(tmp_path.iterdir()) == []
    assert check(None) == (1, "environment variable HEALTH_FILE is not set\n", "")


def test_a_file_that_cannot_be_written_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "nowhere" / "health"
    monkeypatch.setenv("HEALTH_FILE", str(file))
    for _ in range(3):
        report("pausing")
    assert caplog.messages == [f"{file}: cannot be written ({NO_SUCH_FILE}): nobody can see that this worker lives"]


def test_a_pipe_or_device_is_not_replaced(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As /dev/null would be, by a worker that runs as root."""
    os.mkfifo(file)
    report("working")
    assert stat.S_ISFIFO(file.stat().st_mode)
    assert list(file.parent.iterdir()) == [file]
    assert str(file) in caplog.text


def test_the_check_loads_nothing_heavy() -> None:
    code = (
        "import sys; before = set(sys.modules); import extractors.health\n"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert set(loaded) <= {"extractors", "json", "_json", "re", "enum", "functools", "collections", "copyreg"} | {
        *sys.stdlib_module_names
    } - {"logging", "pathlib", "subprocess", "asyncio", "ssl", "socket", "importlib.metadata"}
