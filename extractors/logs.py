"""Log lines: to stderr, one per step, each with the scene that it is about, for people or as JSON; progress on
terminals only. Whatever the texts in a line say, it stays one line, and no terminal obeys it."""

import datetime as dt
import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import tqdm

from extractors.model import Scene
from extractors.text import printable

LOG_FORMATS = ("text", "json")
LONGEST_REFERENCE = 120
# The fields of a line of JSON that say which scene it is about; also what a log call's `extra` may hold.
SCENE = ("scene", "reference")
PACKAGE_LOGGERS = ("extractors", "operations", "download_with_boto3", "__main__")


class SceneContext(logging.Filter):
    """What tells of a log line which scene it is about: the one that this process is at, whichever thread or library
    writes the line. A line about another scene says so itself, with `extra={"scene": ..., "reference": ...}`."""

    def __init__(self) -> None:
        super().__init__()
        self._about: dict[str, Any] = {}
        self._prefix = ""

    @contextmanager
    def about(self, scene: Scene | None) -> Iterator[None]:
        """A block in which this process is at this scene, and at no other (None: at none)."""
        if scene is None:
            yield
            return
        reference = scene.reference
        # It comes from a table that others fill: no endless text.
        shown = printable(reference)[:LONGEST_REFERENCE]
        self._about = dict(zip(SCENE, (scene.id, reference[:LONGEST_REFERENCE]), strict=True))
        self._prefix = f"[scene {scene.id} {shown}] "
        try:
            yield
        finally:
            self._about, self._prefix = {}, ""

    def filter(self, record: logging.LogRecord) -> bool:
        """Put the scene's fields and prefix on a record; never drops one."""
        others = hasattr(record, SCENE[0])
        record.prefix = "" if others else self._prefix
        if not others:
            record.__dict__.update(self._about)
        return True


# A process is at one scene at a time.
_context = SceneContext()
about = _context.about


class LogLines(logging.Handler):
    """Writes log lines to stderr, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            tqdm.tqdm.write(self.format(record), file=sys.stderr)
        except Exception:  # a reader that has gone away, a full disk: no reason to fail a scene
            self.handleError(record)


class TextLines(logging.Formatter):
    """Each record as one line of text; a traceback comes below it, marked, so that nothing in it can pass for one."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(prefix)s%(message)s", datefmt="%Y-%m-%dT%H:%M:%SZ")
        self.converter = time.gmtime

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """The line itself."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """The traceback of an error."""
        return _marked(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802
        """Where a line comes from."""
        return _marked(stack_info)


def _marked(text: str) -> str:
    return "\n".join(f"  | {printable(line)}" for line in text.split("\n"))


class JsonLines(logging.Formatter):
    """Each record as one line of JSON, whose own escapes keep it one; what it says is what a line of text says, in
    parts."""

    def __init__(self, always: Mapping[str, str]) -> None:
        super().__init__()
        self._always = always

    def format(self, record: logging.LogRecord) -> str:
        """One object: time, level, message, what all lines have, the scene if it is about one, a traceback if shown."""
        time_of = dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds")
        fields: dict[str, Any] = {
            "time": time_of.replace("+00:00", "Z"),
            "level": record.levelname,
            "message": record.getMessage(),
            **self._always,
            **{name: getattr(record, name) for name in SCENE if hasattr(record, name)},
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


def configure(verbose: bool = False, log_format: str = "text", **always: str) -> None:
    """Send this package's log to stderr. Other packages' logs are shown with `verbose` only: what matters in them
    reaches the user through our own messages. always: what every line of JSON says."""
    logging.raiseExceptions = False
    handler = LogLines()
    handler.addFilter(_context)
    handler.setFormatter(JsonLines(always) if log_format == "json" else TextLines())
    # Warnings of Python's own would come between the lines as they are, whatever is in them.
    logging.captureWarnings(True)
    root = logging.getLogger()
    root.handlers[:] = [handler if verbose else logging.NullHandler()]
    for name in PACKAGE_LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers[:] = [] if verbose else [handler]
        logger.setLevel(logging.DEBUG if verbose else logging.INFO)


def progress(total: int, unit: str, description: str) -> "tqdm.tqdm[Any]":
    """A progress bar on stderr if that is a terminal and the log is for people, else nothing."""
    return tqdm.tqdm(
        total=total,
        unit=unit,
        desc=printable(description),
        unit_scale=unit == "B",
        disable=_for_machines() or None,
        leave=False,
        file=sys.stderr,
    )


def _for_machines() -> bool:
    handlers = [*logging.getLogger().handlers, *logging.getLogger(PACKAGE_LOGGERS[0]).handlers]
    return any(isinstance(handler.formatter, JsonLines) for handler in handlers)
