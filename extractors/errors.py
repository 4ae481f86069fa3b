"""What can go wrong, in two branches: errors the user must fix, and outages that can be retried.

Every error carries one line for people: what happened, where, and what to do. It becomes a log line and an
exit code at the border of a command (`worker.main`, `download_with_boto3.main`); nothing inside ends the process.
"""

import errno

# What the system says when a disk is full.
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# What it says when a disk, or the way to it, is broken.
BROKEN_DISK = {errno.EIO, errno.EROFS, errno.ESTALE, errno.ENODEV, errno.ENOTCONN}
# The libraries that know nothing but networks: whatever is unknown of theirs is an outage.
NETWORK_LIBRARIES = frozenset({"boto3", "botocore", "s3transfer", "urllib3", "http", "ssl", "socket"})
NO_NETWORK = {errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH}


def one_line(error: BaseException) -> str:
    """An error's text without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def is_of_network(error: BaseException) -> bool:
    """Whether an error tells of a network and nothing else, so that it lies in no scene."""
    libraries = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return (
        isinstance(error, ConnectionError | TimeoutError)
        or (isinstance(error, OSError) and error.errno in NO_NETWORK)
        or not libraries.isdisjoint(NETWORK_LIBRARIES)
    )


class ExtractionError(Exception):
    """An extraction could not go on; the message says what, where and how to fix it."""

    exit_code = 1
    # Whether the store has answered so to a request for one object: others may be served all the same.
    answered = False
    # Seconds for which the store was still to be asked: the scene waits for them, and the worker does others.
    pause = 0.0


class UserError(ExtractionError):
    """Something the user must fix: configuration, tables or data."""


class ConfigurationError(UserError):
    """Configuration, arguments or tables cannot be used: fix what the message names and start again."""

    exit_code = 2


class SceneError(UserError):
    """One scene cannot be extracted as it is: see the reason in `extraction_log`, fix the product, and set
    the scene's status back to `ingested`."""

    status = "failed"
    # Whether another attempt can succeed: then the scene is tried again, up to `extraction.max_attempts`.
    retryable = True


class UnusableSceneError(SceneError):
    """What the catalogue says of a scene, or what the store holds of it, cannot be used: no further attempt will change
    that."""

    retryable = False


class DeliveryError(SceneError):
    """The store delivers something else than it lists: somebody may be changing it, and another attempt lists it
    anew."""


class AccountingError(SceneError):
    """A selected parcel has neither a row nor a reason, in some band, or both: an error of this program. Nothing was
    written."""


class TooSlowError(SceneError):
    """The database takes longer to write a scene's rows than a statement may: give the results table an index on
    `obsid`, or raise `statement_timeout`."""


class SceneNotFoundError(SceneError):
    """The store has no such product or lacks some of its objects: bring them there, and set the scene's
    status back to `ingested`."""

    status = "notfound"
    retryable = False


class ClaimLostError(SceneError):
    """Somebody else changed the scene's status while it was extracted: nothing was written, the status stays theirs."""


class EntryLostError(ClaimLostError):
    """What was to be done again of a scene is another entry's matter by now, or nobody's: nothing was written, and
    nothing is wrong."""

    exit_code = 0


class ObjectNotFoundError(SceneNotFoundError):
    """The store has no object under this key: see the key, and which bucket and endpoint are configured."""


class OutageError(ExtractionError):
    """Database, store or disk is missing for now: the scene goes back to `ingested` and can be taken again later."""

    exit_code = 75


class DatabaseUnavailableError(OutageError):
    """The database does not answer: see that it runs and can be reached from here."""


class NoDatabaseError(DatabaseUnavailableError):
    """No database has answered for as long as is configured."""


class ParcelsChangedError(OutageError):
    """Parcels were deleted while their scene was computed: it is computed again, with those that are there then."""


class LockedError(OutageError):
    """Sessions that are no workers hold the locks by which workers share their work: end these."""


class StoreUnavailableError(OutageError):
    """The S3 store does not answer, or refuses: see `host` and the keys in `s3_config.json`."""


class DiskError(OutageError):
    """The data directory cannot be written: see the disk, or name another with `--data-dir`."""


class DiskFullError(DiskError):
    """The data directory has no room for the scene: free some, or name another with `--data-dir`."""
