"""Log lines for people: to stderr, one per step, each with the scene that it is about; progress on terminals only."""

import logging
import sys
import time
from collections.abc import MutableMapping
from typing import Any

import tqdm

LONGEST_REFERENCE = 120
PACKAGE_LOGGERS = ("extractors", "download_with_boto3", "__main__")


class LogLines(logging.Handler):
    """Writes log lines to stderr, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            tqdm.tqdm.write(self.format(record), file=sys.stderr)
        except Exception:  # a reader that has gone away, a full disk: no reason to fail a scene
            self.handleError(record)


class SceneLines(logging.LoggerAdapter[logging.Logger]):
    """Log lines about one scene: each starts with its id and reference."""

    def __init__(self, logger: logging.Logger, scene_id: int, reference: str) -> None:
        super().__init__(logger, {"scene_id": scene_id, "reference": reference})
        # The reference comes from a table that others fill: no line breaks, no escape sequences, no endless text.
        shown = reference if reference.isprintable() else ascii(reference)
        self._prefix = f"[scene {scene_id} {shown[:LONGEST_REFERENCE]}] "

    def prefixed(self, text: str) -> str:
        """The text as a line about this scene."""
        return self._prefix + text

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Put the prefix before a message."""
        return self._prefix + str(msg), kwargs

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log a message; a `%` in the reference stays what it is."""
        if args:
            msg, args = str(msg) % args, ()
        super().log(level, msg, **kwargs)


def configure(verbose: bool = False) -> None:
    """Send this package's log to stderr. Other packages' logs are shown with `verbose` only: what matters in them
    reaches the user through our own messages."""
    logging.raiseExceptions = False
    handler = LogLines()
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler if verbose else logging.NullHandler()]
    for name in PACKAGE_LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers[:] = [] if verbose else [handler]
        logger.setLevel(logging.DEBUG if verbose else logging.INFO)


def progress(total: int, unit: str, description: str) -> "tqdm.tqdm[Any]":
    """A progress bar on stderr if that is a terminal, else nothing."""
    return tqdm.tqdm(
        total=total, unit=unit, desc=description, unit_scale=unit == "B", disable=None, leave=False, file=sys.stderr
    )
