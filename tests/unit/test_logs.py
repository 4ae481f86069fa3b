"""Log lines: each names its scene, whatever the catalogue calls it, and nothing but lines goes to stderr."""

from __future__ import annotations

import datetime as dt
import json
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from extractors.logs import PACKAGE_LOGGERS, about, configure, progress
from extractors.model import Scene

REFERENCE = "S2A_MSIL2A_20201001T103031_N0214_R108_T32UNF_20201001T135108.SAFE"


def scene(reference: str = REFERENCE) -> Scene:
    return Scene(7, reference, dt.datetime(2020, 10, 1), 1)


@pytest.fixture
def _logging_as_it_was() -> Iterator[None]:
    """`configure` changes the process's loggers."""
    loggers = [logging.getLogger(), *map(logging.getLogger, PACKAGE_LOGGERS)]
    loggers.append(logging.getLogger("py.warnings"))
    before = [(logger, logger.handlers[:], logger.level) for logger in loggers]
    raising = logging.raiseExceptions
    yield
    logging.captureWarnings(False)
    logging.raiseExceptions = raising
    for logger, handlers, level in before:
        logger.handlers[:] = handlers
        logger.setLevel(level)


def messages(captured: str) -> list[str]:
    """The lines without their time."""
    return [line.split(maxsplit=1)[1] for line in captured.splitlines()]


@pytest.mark.usefixtures("_logging_as_it_was")
def test_a_line_starts_with_the_scene(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    log = logging.getLogger("extractors.worker")
    with about(scene()):
        log.info("downloaded %d files in %.1f s", 3, 1.25)
        threading.Thread(target=logging.getLogger("download_with_boto3").warning, args=("trying again",)).start()
    with about(None):
        log.info("nothing to do")
    assert messages(capsys.readouterr().err) == [
        f"INFO [scene 7 {REFERENCE}] downloaded 3 files in 1.2 s",
        f"WARNING [scene 7 {REFERENCE}] trying again",
        "INFO nothing to do",
    ]


@pytest.mark.usefixtures("_logging_as_it_was")
def test_after_an_error_lines_are_about_no_scene(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    with suppress(ValueError), about(scene()):
        raise ValueError
    logging.getLogger("extractors.worker").info("next")
    assert messages(capsys.readouterr().err) == ["INFO next"]


@pytest.mark.usefixtures("_logging_as_it_was")
@pytest.mark.parametrize("reference", ["100%", "%s", "%(name)s", "%d%d"])
def test_a_percent_sign_in_a_reference_stays_what_it_is(reference: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    log = logging.getLogger("extractors.worker")
    with about(scene(reference)):
        log.warning("given back")
        log.warning("given back after %d s", 5)
    assert messages(capsys.readouterr().err) == [
        f"WARNING [scene 7 {reference}] given back",
        f"WARNING [scene 7 {reference}] given back after 5 s",
    ]


@pytest.mark.usefixtures("_logging_as_it_was")
@pytest.mark.parametrize(
    ("reference", "shown"),
    [
        ("a\nb", r"a\nb"),
        ("a\r\x1b[31mb", r"a\r\x1b[31mb"),
        ("a\u202eb", r"a\u202eb"),
        ("x" * 200, "x" * 120),
        ("\n" * 200, r"\n" * 60),
    ],
    ids=["line break", "escape sequence", "right to left", "endless", "endless line breaks"],
)
def test_a_reference_cannot_spoil_the_log(reference: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    with about(scene(reference)):
        logging.getLogger("extractors.worker").warning("%s", "gone")
    (message,) = messages(capsys.readouterr().err)
    assert message.isprintable()
    assert message.startswith(f"WARNING [scene 7 {shown[:100]}")
    assert len(message) < 160


@pytest.mark.usefixtures("_logging_as_it_was")
def test_lines_go_to_stderr_with_time_and_level(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    logging.getLogger("extractors.worker").error("gone")
    logging.getLogger("download_with_boto3").info("here")
    logging.getLogger("extractors.worker").debug("not shown")
    logging.getLogger("botocore").error("not shown")
    logging.getLogger("rasterio").warning("not shown")
    captured = capsys.readouterr()
    assert captured.out == ""
    first, second = captured.err.splitlines()
    assert first.endswith("Z ERROR gone")
    assert second.endswith("Z INFO here")
    assert len(first.split()[0]) == len("2020-01-01T00:00:00Z")


@pytest.mark.usefixtures("_logging_as_it_was")
def test_verbose_shows_other_packages_and_each_line_once(capsys: pytest.CaptureFixture[str]) -> None:
    configure(verbose=True)
    configure(verbose=True)
    logging.getLogger("extractors.worker").debug("details")
    logging.getLogger("rasterio").warning("odd")
    assert [line.split(maxsplit=1)[1] for line in capsys.readouterr().err.splitlines()] == [
        "DEBUG details",
        "WARNING odd",
    ]


@pytest.mark.usefixtures("_logging_as_it_was")
def test_a_reader_that_has_gone_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        def write(self, text: str) -> int:
            raise BrokenPipeError

        def flush(self) -> None:
            raise BrokenPipeError

    configure()
    monkeypatch.setattr("sys.stderr", Gone())
    logging.getLogger("extractors.worker").error("gone")


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.usefixtures("_logging_as_it_was")
def test_lines_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure(log_format="json", worker="here:1", card="s2")
    log = logging.getLogger("extractors.worker")
    log.info("%d scenes", 3)
    with about(scene()):
        log.warning("given back after %d s: 100%%", 5)
        log.error("100%")
    first, second, third = objects(capsys.readouterr().err)
    moment = dt.datetime.fromisoformat(first.pop("time"))
    assert moment.utcoffset() == dt.timedelta()
    assert abs(dt.datetime.now(dt.UTC) - moment) < dt.timedelta(minutes=1)
    always = {"worker": "here:1", "card": "s2"}
    assert first == {"level": "INFO", "message": "3 scenes"} | always
    about_it = always | {"scene": 7, "reference": REFERENCE}
    del second["time"], third["time"]
    assert second == {"level": "WARNING", "message": "given back after 5 s: 100%"} | about_it
    assert third == {"level": "ERROR", "message": "100%"} | about_it


@pytest.mark.usefixtures("_logging_as_it_was")
def test_what_is_logged_while_a_scene_is_in_hand_is_about_it(capsys: pytest.CaptureFixture[str]) -> None:
    configure(log_format="json")
    log = logging.getLogger("download_with_boto3")
    with about(scene()):
        log.warning("trying again")
        log.warning("another one's", extra={"scene": 8})
    log.warning("done")
    during, other, after = objects(capsys.readouterr().err)
    assert (during["scene"], during["reference"]) == (7, REFERENCE)
    assert (other["scene"], "reference" in other) == (8, False)
    assert "scene" not in after


@pytest.mark.usefixtures("_logging_as_it_was")
@pytest.mark.parametrize("text", ["a\nb", 'a "quote"', "\x1b[31m", "\u2028", "\udcff"])
def test_a_line_of_json_stays_one_line(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure(log_format="json")
    with about(scene(text + 200 * "x")):
        logging.getLogger("extractors.worker").warning(text)
    written = capsys.readouterr().err
    assert written.isascii()
    assert written.count("\n") == 1
    (line,) = objects(written)
    assert line["message"] == text
    assert line["reference"] == (text + 200 * "x")[:120]


@pytest.mark.usefixtures("_logging_as_it_was")
def test_a_traceback_is_a_field(capsys: pytest.CaptureFixture[str]) -> None:
    configure(verbose=True, log_format="json")
    try:
        raise RuntimeError("odd")
    except RuntimeError as error:
        logging.getLogger("extractors.worker").error("%s", error, exc_info=True)
    (line,) = objects(capsys.readouterr().err)
    assert line["message"] == "odd"
    assert line["traceback"].startswith("Traceback")
    assert line["traceback"].endswith("RuntimeError: odd")


@pytest.mark.usefixtures("_logging_as_it_was")
@pytest.mark.filterwarnings("always")
def test_nothing_but_lines_of_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    configure(verbose=True, log_format="json")
    warnings.warn("deprecated", stacklevel=1)
    with progress(10, "parcel", "scene 7") as bar:
        bar.update(5)
    (line,) = objects(capsys.readouterr().err)
    assert "deprecated" in line["message"]


def test_no_progress_bar_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(10, "parcel", "scene 7") as bar:
        bar.update(5)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
