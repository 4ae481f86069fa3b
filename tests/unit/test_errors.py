"""The errors: which exit code and which status they lead to, and that each explains itself."""

from __future__ import annotations

import errno

import psycopg2
import pytest

from extractors import errors
from extractors.attempt import cause_of
from extractors.errors import (
    AccountingError,
    ClaimLostError,
    ConfigurationError,
    DatabaseUnavailableError,
    DeliveryError,
    DiskError,
    DiskFullError,
    EntryLostError,
    ExtractionError,
    LockedError,
    NoDatabaseError,
    ObjectNotFoundError,
    OutageError,
    ParcelsChangedError,
    SceneError,
    SceneNotFoundError,
    StoreUnavailableError,
    TooSlowError,
    UnusableSceneError,
    UserError,
)
from extractors.runtime.signals import Stopped

EXIT_CODES: dict[type[ExtractionError], int] = {
    ExtractionError: 1,
    UserError: 1,
    ConfigurationError: 2,
    SceneError: 1,
    UnusableSceneError: 1,
    AccountingError: 1,
    DeliveryError: 1,
    SceneNotFoundError: 1,
    ClaimLostError: 1,
    EntryLostError: 0,
    TooSlowError: 1,
    ObjectNotFoundError: 1,
    OutageError: 75,
    DatabaseUnavailableError: 75,
    NoDatabaseError: 75,
    ParcelsChangedError: 75,
    LockedError: 75,
    StoreUnavailableError: 75,
    DiskError: 75,
    DiskFullError: 75,
}
STATUSES = {
    SceneError: "failed",
    UnusableSceneError: "failed",
    AccountingError: "failed",
    DeliveryError: "failed",
    ClaimLostError: "failed",
    EntryLostError: "failed",
    TooSlowError: "failed",
    SceneNotFoundError: "notfound",
    ObjectNotFoundError: "notfound",
}


def every_error() -> list[type[ExtractionError]]:
    found = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, ExtractionError)]
    assert found
    return found


def test_exit_codes() -> None:
    assert {error: error.exit_code for error in every_error()} == EXIT_CODES


def test_statuses() -> None:
    assert {error: error.status for error in every_error() if issubclass(error, SceneError)} == STATUSES
    # The narrowest published catalogue has varchar(12).
    assert all(len(status) <= 12 for status in STATUSES.values())


@pytest.mark.parametrize("error", every_error(), ids=lambda error: error.__name__)
def test_every_error_explains_itself_and_belongs_to_one_branch(error: type[ExtractionError]) -> None:
    # Its own docstring, not one that it inherits.
    assert len((error.__dict__.get("__doc__") or "").split()) > 5
    if error is not ExtractionError:
        assert issubclass(error, UserError) != issubclass(error, OutageError)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), DiskFullError, "No space left on device"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), DiskFullError, "Disk quota exceeded"),
        (OSError(errno.EFBIG, "File too large"), DiskFullError, "File too large"),
        (OSError(errno.EIO, "Input/output error"), DiskError, "[Errno 5] Input/output error"),
        (OSError(errno.EROFS, "Read-only file system"), DiskError, "Read-only file system"),
        (OSError(errno.ESTALE, "Stale file handle"), DiskError, "Stale file handle"),
        (OSError(errno.EACCES, "Permission denied"), SceneError, "unexpected PermissionError: [Errno 13]"),
        (psycopg2.ProgrammingError("syntax\nerror"), ConfigurationError, "while working on the scene (syntax error)"),
        (psycopg2.OperationalError("gone"), DatabaseUnavailableError, "while working on the scene (gone)"),
        (ZeroDivisionError("division by zero"), SceneError, "unexpected ZeroDivisionError: division by zero"),
        (ValueError("two\nlines"), SceneError, "unexpected ValueError: two lines"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_other_errors_mean_for_the_scene(error: Exception, kind: type[ExtractionError], words: str) -> None:
    cause = cause_of(error)
    assert type(cause) is kind
    assert words in str(cause)
    assert "\n" not in str(cause)


def test_our_own_errors_stay_what_they_are() -> None:
    for error in (SceneError("x"), StoreUnavailableError("x"), Stopped(15)):
        assert cause_of(error) is error
