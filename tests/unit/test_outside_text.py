"""Text from outside: whatever a catalogue, a store or an error says, a log line stays one line, and no terminal obeys
it. Escaped in one place, `extractors.text`."""

from __future__ import annotations

import ast
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import download_with_boto3
from extractors import health, worker
from extractors.errors import ConfigurationError
from extractors.logs import about, configure, progress
from extractors.model import Outcome, StoredObject
from extractors.text import printable, say
from tests.support.environment import ROOT
from tests.unit.test_logs import _logging_as_it_was, messages, scene

__all__ = ["_logging_as_it_was"]

FORGED = "x\n2026-01-01T00:00:00Z ERROR forged"
HOSTILE = [
    FORGED,
    "\x1b[2J\x1b]0;owned\x07",
    "a\rb",
    "a\x85b",
    "a\u2028b",
    "a\u202eb",
    "a\x9b31mb",
    "a\0b",
    "\udc9b",
    "\x7f",
]
log = logging.getLogger("extractors.worker")


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_escaped(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert shown.encode().decode() == shown
    assert printable(shown) == shown


@pytest.mark.parametrize("text", ["", "plain", "Übersicht, 100 %", r"C:\new", "Forlì «x»", "地块"])
def test_what_is_not(text: str) -> None:
    assert printable(text) == text


@pytest.mark.usefixtures("_logging_as_it_was")
@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("verbose", [False, True])
def test_a_log_line_stays_one_line(text: str, verbose: bool, capsys: pytest.CaptureFixture[str]) -> None:
    configure(verbose)
    log.error("no object %s", text)
    log.error(text)
    with about(scene(text)):
        log.warning("taken", extra={"scene": 8, "reference": text})
        log.warning("given back")
    written = capsys.readouterr().err
    assert written.count("\n") == 4
    assert written.replace("\n", "").isprintable()


@pytest.mark.usefixtures("_logging_as_it_was")
@pytest.mark.parametrize("text", HOSTILE)
def test_a_traceback_forges_no_line(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its lines begin with a mark."""
    configure(verbose=True)
    try:
        raise RuntimeError(text)
    except RuntimeError:
        log.exception("odd", stack_info=True)
    first, *others = capsys.readouterr().err.split("\n")[:-1]
    assert first.endswith(" ERROR odd")
    assert all(line.startswith("  | ") and line.isprintable() for line in others)


@pytest.mark.usefixtures("_logging_as_it_was")
@pytest.mark.filterwarnings("always")
def test_warnings_of_libraries_are_log_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Python's own way would write them to the terminal as they are, file names in them included."""
    configure()
    warnings.warn(f"no georeference: {FORGED}\x1b[31m", stacklevel=1)
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("_logging_as_it_was")
def test_the_name_on_a_progress_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    configure()
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress(10, "B", "file\x1b]0;owned\x07\n") as bar:
        bar.update(5)
    shown = capsys.readouterr().err
    assert r"file\x1b]0;owned\x07\n" in shown
    assert "\x07" not in shown


# What commands print


class Latin:
    """A terminal that does not speak UTF-8."""

    encoding = "latin-1"
    text = ""

    def write(self, text: str) -> int:
        self.text += text.encode(self.encoding).decode(self.encoding)
        return len(text)

    def flush(self) -> None: ...


@pytest.mark.parametrize("text", [*HOSTILE, "地块"])
def test_output(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Latin()
    monkeypatch.setattr(sys, "stdout", terminal)
    say(text)
    assert terminal.text.endswith("\n")
    assert terminal.text[:-1].isprintable()


class Store:
    def __init__(self, key: str) -> None:
        self._objects = [StoredObject(key, 3, "")]

    def list_objects(self, prefix: str) -> Iterator[StoredObject]:
        return iter(self._objects)


@pytest.fixture
def store_config(tmp_path: Path) -> Path:
    path = tmp_path / "s3_config.json"
    path.write_text(json.dumps({"s3": {"host": "http://store", "bucket": "b"}}))
    return path


@pytest.mark.usefixtures("_logging_as_it_was")
@pytest.mark.parametrize("key", HOSTILE)
def test_a_listing(
    key: str, store_config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(download_with_boto3, "open_source", lambda *_: Store(key))
    assert download_with_boto3.main(["--s3-config", str(store_config), "list", ""]) == 0
    (line,) = capsys.readouterr().out.split("\n")[:-1]
    assert line.isprintable()


@pytest.mark.usefixtures("_logging_as_it_was")
@pytest.mark.parametrize("key", HOSTILE)
def test_an_error_that_nobody_thought_of(
    key: str, store_config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> Any:
        raise RuntimeError(key)

    monkeypatch.setattr(download_with_boto3, "open_source", broken)
    assert download_with_boto3.main(["--s3-config", str(store_config), "list", ""]) == 1
    (line,) = messages(capsys.readouterr().err)
    assert line.isprintable()
    assert "unexpected RuntimeError" in line


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_check_has_seen(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    results = worker.CheckResults()
    results.passed("store", text)
    results.failed("area", ConfigurationError(text))
    lines = capsys.readouterr().out.split("\n")[:-1]
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("text", HOSTILE)
def test_what_the_health_check_says(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    beat = {"pid": 1, "born": "long ago", "doing": text, "by": 0}
    (tmp_path / "health").write_text(json.dumps(beat))
    monkeypatch.setenv(health.VARIABLE, str(tmp_path / "health"))
    assert health.main() == 1
    (line,) = capsys.readouterr().out.split("\n")[:-1]
    assert line.isprintable()


def test_nothing_is_printed_in_another_way() -> None:
    """One function for all commands; what goes to stderr is a log line, but for argparse's own."""
    for source in [*(ROOT / "extractors").rglob("*.py"), ROOT / "download_with_boto3.py"]:
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {
                "print",
                "sys.stdout.write",
                "sys.stderr.write",
            }:
                assert source.name == "text.py", f"{source}:{node.lineno}"


# What the log table holds


@pytest.mark.parametrize("text", HOSTILE)
def test_the_reason_of_an_outcome(text: str) -> None:
    """It becomes `extraction_log.detail`, which people read with psql."""
    assert Outcome("failed", "failed", f"no object {text}").reason.isprintable()
