"""What becomes of a scene whose attempt failed."""

import random

import psycopg2

from extractors.config import Extraction
from extractors.database.catalogue import GIVEN_BACK, Ending, Scene
from extractors.errors import (
    NO_ROOM,
    ClaimLostError,
    ConfigurationError,
    DiskFullError,
    ExtractionError,
    SceneError,
    WorldError,
    one_line,
)
from extractors.runtime.signals import Stopped

LONGEST_RETRY_PAUSE_SECONDS = 900.0


def cause_of(error: BaseException) -> BaseException:
    """What an error means for the scene: one of ours, or the reason why it failed in words."""
    if isinstance(error, ExtractionError | Stopped):
        return error
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return DiskFullError(f"no room for the scene's files ({error.strerror}); make some, or name another --data-dir")
    if isinstance(error, psycopg2.Error):
        return ConfigurationError(f"the database reports: {one_line(error)}")
    return SceneError(f"unexpected {type(error).__name__}: {one_line(error)}; -v shows where")


def ending_of(cause: BaseException, scene: Scene, extraction: Extraction) -> Ending:
    """What becomes of a scene whose attempt failed. Only what lies in the scene itself counts against it."""
    reason = one_line(cause)
    if isinstance(cause, WorldError | ConfigurationError | Stopped):
        return Ending("ingested", GIVEN_BACK, reason)
    if isinstance(cause, ClaimLostError):
        return Ending("ingested", "claim_lost", reason)
    status = getattr(cause, "status", SceneError.status)
    if not getattr(cause, "may_pass", True) or scene.attempt >= extraction.max_attempts:
        return Ending(status, status, reason)
    pause = min(extraction.retry_pause_seconds * 2 ** (scene.attempt - 1), LONGEST_RETRY_PAUSE_SECONDS)
    return Ending("ingested", "error", reason, pause * random.uniform(0.8, 1.2))  # noqa: S311 (no secret, only jitter)


def prospect_in_words(ending: Ending, scene: Scene, extraction: Extraction) -> str:
    """Which attempt that was, and when the next one may begin; as the end of a sentence."""
    most = extraction.max_attempts
    if ending.pause is not None:
        return f"; attempt {scene.attempt} of {most}, the next one after {ending.pause:.0f} s"
    return f"; attempt {scene.attempt} of {most}" if scene.attempt > 1 else ""
