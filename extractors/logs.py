"""Log lines: to stderr, one per step, each with the scene that it is about, for people or as JSON; progress on
terminals only."""

import datetime as dt
import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

import tqdm

LOG_FORMATS = ("text", "json")
LONGEST_REFERENCE = 120
# The fields of a line of JSON that say which scene it is about; also what a log call's `extra` may hold.
SCENE = ("scene", "reference")
PACKAGE_LOGGERS = ("extractors", "download_with_boto3", "__main__")


# The scene that this process is at, if any.
_in_hand: dict[str, Any] = {}


class LogLines(logging.Handler):
    """Writes log lines to stderr, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            tqdm.tqdm.write(self.format(record), file=sys.stderr)
        except Exception:  # a reader that has gone away, a full disk: no reason to fail a scene
            self.handleError(record)


class JsonLines(logging.Formatter):
    """Each record as one line of JSON; what it says is what a line of text says, in parts."""

    def __init__(self, always: Mapping[str, str]) -> None:
        super().__init__()
        self._always = always

    def format(self, record: logging.LogRecord) -> str:
        """One object: time, level, message, what all lines have, the scene if it is about one, a traceback if shown."""
        time_of = dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds")
        fields: dict[str, Any] = {
            "time": time_of.replace("+00:00", "Z"),
            "level": record.levelname,
            "message": getattr(record, "bare_message", None) or record.getMessage(),
            **self._always,
        }
        # What is logged of a download or a chunk does not say which scene it is for.
        fields |= {name: getattr(record, name) for name in SCENE if hasattr(record, name)} or _in_hand
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


class SceneLines(logging.LoggerAdapter[logging.Logger]):
    """Log lines about one scene: each starts with its id and reference."""

    def __init__(self, logger: logging.Logger, scene_id: int, reference: str) -> None:
        super().__init__(logger)
        self._about = dict(zip(SCENE, (scene_id, reference[:LONGEST_REFERENCE]), strict=True))
        # The reference comes from a table that others fill: no line breaks, no escape sequences, no endless text.
        shown = reference if reference.isprintable() else ascii(reference)
        self._prefix = f"[scene {scene_id} {shown[:LONGEST_REFERENCE]}] "

    @contextmanager
    def in_hand(self) -> Iterator[None]:
        """A block in which this process is at no other scene."""
        _in_hand.update(self._about)
        try:
            yield
        finally:
            _in_hand.clear()

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Put the prefix before a message, and what it says in parts beside it."""
        kwargs["extra"] = self._about | {"bare_message": str(msg)}
        return self._prefix + str(msg), kwargs

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log a message; a `%` in the reference stays what it is."""
        if args:
            msg, args = str(msg) % args, ()
        super().log(level, msg, **kwargs)


def configure(verbose: bool = False, log_format: str = "text", **always: str) -> None:
    """Send this package's log to stderr. Other packages' logs are shown with `verbose` only: what matters in them
    reaches the user through our own messages. always: what every line of JSON says."""
    logging.raiseExceptions = False
    handler = LogLines()
    handler.setFormatter(JsonLines(always) if log_format == "json" else _text_lines())
    # Warnings of Python's own would come as text between lines of JSON.
    logging.captureWarnings(log_format == "json")
    root = logging.getLogger()
    root.handlers[:] = [handler if verbose else logging.NullHandler()]
    for name in PACKAGE_LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers[:] = [] if verbose else [handler]
        logger.setLevel(logging.DEBUG if verbose else logging.INFO)


def _text_lines() -> logging.Formatter:
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    return formatter


def progress(total: int, unit: str, description: str) -> "tqdm.tqdm[Any]":
    """A progress bar on stderr if that is a terminal and the log is for people, else nothing."""
    return tqdm.tqdm(
        total=total,
        unit=unit,
        desc=description,
        unit_scale=unit == "B",
        disable=_for_machines() or None,
        leave=False,
        file=sys.stderr,
    )


def _for_machines() -> bool:
    handlers = [*logging.getLogger().handlers, *logging.getLogger(PACKAGE_LOGGERS[0]).handlers]
    return any(isinstance(handler.formatter, JsonLines) for handler in handlers)
