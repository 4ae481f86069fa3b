"""Whose fault is it, of what the database, GDAL and the network report: tables for the base classes and for all classes
of SQLSTATE, and that no library raises what nobody knows. (Of the store: test_store_errors.py.)"""

from __future__ import annotations

import errno
import http.client
import importlib
import inspect
import pkgutil
import socket
import ssl
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.errorcodes
import psycopg2.errors
import psycopg2.extensions
import psycopg2.extras
import psycopg2.pool
import pytest
import rasterio
import rasterio._err
import rasterio.errors
import urllib3.exceptions

from extractors.attempt import cause_of
from extractors.database.server_errors import BY_STATE, meaning_of, translated
from extractors.errors import (
    ConfigurationError,
    DatabaseUnavailableError,
    DiskError,
    DiskFullError,
    ExtractionError,
    OutageError,
    SceneError,
    is_of_network,
)
from extractors.raster.images import ImageFile
from tests.support.environment import ROOT, environment
from tests.unit.test_store_errors import LEAVES as OF_STORE

Kind = type[ExtractionError]
CATCH_ALL = "unexpected "
OUTAGE, CONFIGURATION = DatabaseUnavailableError, ConfigurationError


def report(state: str | None, kind: type[psycopg2.Error] = psycopg2.DatabaseError) -> psycopg2.Error:
    """What psycopg2 raises for a report with this SQLSTATE; None: for what it has seen itself."""
    error = kind("two\nlines")
    if state is not None:
        setstate: Any = error.__setstate__
        setstate({"pgcode": state})
        assert error.pgcode == state
    return error


# The database

BASE_CLASSES: dict[type[psycopg2.Error], Kind] = {
    psycopg2.Error: OUTAGE,
    psycopg2.DatabaseError: OUTAGE,  # such as `SSL error: ...` and `no message from the libpq`
    psycopg2.OperationalError: OUTAGE,
    psycopg2.extensions.QueryCanceledError: OUTAGE,
    psycopg2.extensions.TransactionRollbackError: OUTAGE,
    psycopg2.InterfaceError: OUTAGE,
    psycopg2.InternalError: CONFIGURATION,
    psycopg2.DataError: CONFIGURATION,
    psycopg2.IntegrityError: CONFIGURATION,
    psycopg2.ProgrammingError: CONFIGURATION,
    psycopg2.NotSupportedError: CONFIGURATION,
}

CLASSES: dict[str, Kind] = {
    # No errors at all, and what nobody has seen: unknown.
    **dict.fromkeys(("00", "01", "02", "03", "09", "0B", "0F", "0Z", "10", "26", "34", "72", "F0"), OUTAGE),
    # Connections, rollbacks, resources, objects in use, the administrator, the server's system.
    **dict.fromkeys(("08", "40", "53", "55", "57", "58"), OUTAGE),
    # Rights and roles, data and columns, what is not there, what is not allowed, what functions report.
    **dict.fromkeys(("0L", "0P", "28", "22", "23", "3D", "3F", "42", "44", "54"), CONFIGURATION),
    **dict.fromkeys(("0A", "20", "21", "24", "25", "27", "2B", "2D", "2F", "38", "39", "3B", "P0"), CONFIGURATION),
    **dict.fromkeys(("HV", "XX"), CONFIGURATION),
}

STATES: list[tuple[str, Kind, str]] = [
    ("08006", OUTAGE, "could not go on"),
    ("25006", OUTAGE, "standby"),
    ("25P03", OUTAGE, "could not go on"),
    ("40001", OUTAGE, "could not go on"),
    ("40P01", OUTAGE, "could not go on"),
    ("53100", OUTAGE, "disk is full"),
    ("53200", OUTAGE, "could not go on"),
    ("53300", OUTAGE, "could not go on"),
    ("55006", OUTAGE, "could not go on"),
    ("55P03", OUTAGE, "could not go on"),
    ("57014", OUTAGE, "could not go on"),
    ("57P01", OUTAGE, "could not go on"),
    ("57P03", OUTAGE, "could not go on"),
    ("58030", OUTAGE, "could not go on"),
    ("72000", OUTAGE, "could not go on"),
    ("HV00N", OUTAGE, "could not go on"),
    ("42501", CONFIGURATION, "GRANT it"),
    ("28000", CONFIGURATION, "GRANT it"),
    ("42P01", CONFIGURATION, "lacks something"),
    ("42703", CONFIGURATION, "lacks something"),
    ("42883", CONFIGURATION, "lacks something"),
    ("3F000", CONFIGURATION, "lacks something"),
    ("22021", CONFIGURATION, "encoding (LATIN1)"),
    ("22P05", CONFIGURATION, "encoding (LATIN1)"),
    ("22003", CONFIGURATION, "fix its columns"),
    ("23514", CONFIGURATION, "fix its columns"),
    # Once more would be in vain, for ever.
    ("53400", CONFIGURATION, "limit"),  # temp_file_limit
    ("54000", CONFIGURATION, "limit"),  # too large for an index
    ("54001", CONFIGURATION, "limit"),  # stack depth
    ("55000", CONFIGURATION, "fix its tables"),  # a publication without a replica identity
    ("58P01", CONFIGURATION, "one of its own files"),  # PostGIS' library is not there
    ("XX001", CONFIGURATION, "damaged"),
    ("XX002", CONFIGURATION, "damaged"),
    ("XX000", CONFIGURATION, "fix its tables"),  # PostGIS and GEOS
    ("P0001", CONFIGURATION, "fix its tables"),  # RAISE EXCEPTION in a trigger
    ("HV00R", CONFIGURATION, "fix its tables"),
]


@pytest.mark.parametrize("kind", BASE_CLASSES, ids=lambda kind: kind.__name__)
def test_base_classes_of_psycopg2(kind: type[psycopg2.Error]) -> None:
    """Without a SQLSTATE: what psycopg2 or libpq have found out themselves."""
    assert meaning_of(report(None, kind)).kind is BASE_CLASSES[kind]
    assert type(cause_of(report(None, kind))) is BASE_CLASSES[kind]


def test_every_class_of_sqlstate_is_in_the_table() -> None:
    of_psycopg2 = {value for name, value in vars(psycopg2.errorcodes).items() if name.startswith("CLASS_")}
    assert of_psycopg2 - CLASSES.keys() == set()


@pytest.mark.parametrize("state", CLASSES)
def test_classes_of_sqlstate(state: str) -> None:
    """By a state of the class that nobody knows, such as a later version of the server may have."""
    assert meaning_of(report(f"{state}ZZZ")).kind is CLASSES[state]


@pytest.mark.parametrize(("state", "kind", "words"), STATES, ids=[state for state, *_ in STATES])
def test_what_a_state_means(state: str, kind: Kind, words: str) -> None:
    ours = translated(report(state), "testing", encoding="LATIN1")
    assert type(ours) is kind
    assert words in str(ours)
    assert "while testing (two lines)" in str(ours)
    # The same where no room has translated it.
    assert type(cause_of(report(state))) is kind


def test_a_session_that_has_ended_is_an_outage_whatever_the_report() -> None:
    for state in ("42501", "57P01", "XX000", None):
        assert type(translated(report(state), "testing", broken=True)) is OUTAGE


def test_the_table_names_states_that_there_are() -> None:
    known = {value for value in vars(psycopg2.errorcodes).values() if isinstance(value, str)}
    # Of PostgreSQL 17.
    assert {state for state in BY_STATE if state not in known} <= {"25P04"}


# GDAL


@pytest.fixture
def image(tmp_path: Path) -> ImageFile:
    path = tmp_path / "a.tif"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", width=1, height=1, count=1, dtype="uint8"):
            pass
    return ImageFile(path, "GTiff")


def raised_with(image: ImageFile, error: Exception) -> BaseException:
    """What comes out if this is raised while a dataset is in use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        try:
            with image.borrow():
                raise error
        except Exception as caught:
            return caught
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (rasterio.errors.RasterioIOError("cut\nshort"), SceneError, "a.tif cannot be read as GTiff (cut short)"),
        (rasterio.errors.CRSError("no such"), SceneError, "a.tif cannot be read as GTiff (no such)"),
        (rasterio.errors.RasterBlockError("x"), SceneError, "a.tif"),
        (rasterio._err.CPLE_AppDefinedError(3, 1, "odd"), SceneError, "a.tif"),
        (rasterio._err.CPLE_OutOfMemoryError(3, 2, "no room"), SceneError, "memory was short"),
        (rasterio.errors.DriverRegistrationError("none"), ConfigurationError, "GDAL cannot be used (none)"),
        (rasterio.errors.EnvError("x"), ConfigurationError, "GDAL cannot be used"),
        (rasterio.errors.GDALVersionError("x"), ConfigurationError, "GDAL cannot be used"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_gdal_reports(error: Exception, kind: Kind, words: str, image: ImageFile) -> None:
    cause = cause_of(raised_with(image, error))
    assert type(cause) is kind
    assert words in str(cause)


@pytest.mark.parametrize("error", [ZeroDivisionError(), SceneError("x"), OSError(errno.ENOSPC, "full")])
def test_other_errors_stay_what_they_are(error: Exception, image: ImageFile) -> None:
    assert raised_with(image, error) is error


# The network, outside of the room that talks to the store


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(104, "x"),
        BrokenPipeError(32, "x"),
        TimeoutError("x"),
        OSError(errno.EHOSTUNREACH, "No route to host"),
        OSError(errno.ENETUNREACH, "Network is unreachable"),
        socket.gaierror(-3, "Temporary failure in name resolution"),
        ssl.SSLError(1, "bad record mac"),
        http.client.IncompleteRead(b""),
        urllib3.exceptions.HTTPError("x"),
    ],
    ids=lambda error: f"{type(error).__name__} {error.args[0]}",
)
def test_networks(error: Exception) -> None:
    cause = cause_of(error)
    assert type(cause) is OutageError
    assert type(error).__name__ in str(cause)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "x"), DiskFullError),
        (OSError(errno.EIO, "x"), DiskError),
        (MemoryError("x"), SceneError),
    ],
)
def test_the_machine(error: Exception, kind: Kind) -> None:
    cause = cause_of(error)
    assert type(cause) is kind
    assert not str(cause).startswith(CATCH_ALL)


RAISING = """
import sys
import psycopg2
from extractors import s2, worker

def opened(*_):
    raise eval(sys.argv[1])

worker.Resources.open = opened
sys.exit(worker.main(s2.CARD, []))
"""


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        ("psycopg2.OperationalError('gone')", 75),
        ("ConnectionResetError(104, 'gone')", 75),
        ("OSError(28, 'gone')", 75),
        ("psycopg2.ProgrammingError('gone')", 2),
        ("ZeroDivisionError('gone')", 1),
    ],
)
def test_what_nobody_has_caught_ends_the_worker_by_the_same_table(raised: str, code: int) -> None:
    command = [sys.executable, "-c", RAISING, raised]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment())
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (code, "", 1)
    assert "gone" in done.stderr


# All that the libraries define


def defined_in(package: str) -> Iterator[Any]:
    """What the modules of a package define, as far as they can be loaded."""
    top = importlib.import_module(package)
    names = [found.name for found in pkgutil.walk_packages(top.__path__, f"{package}.")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in (package, *names):
            try:
                yield from vars(importlib.import_module(name)).values()
            except ImportError:
                continue


def leaves(package: str) -> list[type[Exception]]:
    """Its classes of exceptions, without those from which others are derived."""
    found = {
        value
        for value in defined_in(package)
        if inspect.isclass(value)
        and issubclass(value, Exception)
        and not issubclass(value, Warning | psycopg2.Warning | psycopg2.extras.StopReplication)
        and value.__module__.partition(".")[0] == package
    }
    kept = {one for one in found if not any(other is not one and issubclass(other, one) for other in found)}
    return sorted(kept, key=lambda one: (one.__module__, one.__qualname__))


OF_DATABASE, OF_GDAL = leaves("psycopg2"), leaves("rasterio")
STATE_OF = {}
for _name, _state in vars(psycopg2.errorcodes).items():
    if _name.isupper() and not _name.startswith("CLASS_"):
        try:
            STATE_OF[psycopg2.errors.lookup(_state)] = _state
        except KeyError:  # a warning
            continue


def full_name(kind: type[Exception]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def test_the_enumeration_finds_what_it_should() -> None:
    assert {
        psycopg2.InterfaceError, psycopg2.errors.DiskFull, psycopg2.errors.SerializationFailure,
        psycopg2.errors.QueryCanceled, rasterio.errors.RasterioIOError, rasterio.errors.CRSError,
        rasterio._err.CPLE_OutOfMemoryError,
    } <= {*OF_DATABASE, *OF_GDAL}  # fmt: skip
    assert len(OF_DATABASE) > 200
    assert len(OF_GDAL) > 40
    # All but what psycopg2 reports of itself have a SQLSTATE.
    assert {kind for kind in OF_DATABASE if kind not in STATE_OF} == {psycopg2.InterfaceError, psycopg2.pool.PoolError}


@pytest.mark.parametrize("kind", OF_DATABASE, ids=full_name)
def test_nothing_that_psycopg2_raises_counts_against_a_scene(kind: type[psycopg2.Error]) -> None:
    cause = cause_of(report(STATE_OF.get(kind), kind))
    assert type(cause) in {OUTAGE, CONFIGURATION}
    # As a class alone, if a SQLSTATE should be lacking.
    assert type(cause_of(report(None, kind))) in {OUTAGE, CONFIGURATION}


@pytest.mark.parametrize("kind", OF_GDAL, ids=full_name)
def test_nothing_that_rasterio_raises_is_unexpected(kind: type[Exception], image: ImageFile) -> None:
    of_gdal = issubclass(kind, rasterio._err.CPLE_BaseError)
    cause = cause_of(raised_with(image, kind(3, 1, "x") if of_gdal else kind("x")))
    assert isinstance(cause, SceneError | ConfigurationError)
    assert not str(cause).startswith(CATCH_ALL)


@pytest.mark.parametrize("kind", OF_STORE, ids=full_name)
def test_nothing_of_stores_and_networks_counts_against_a_scene_wherever_it_is_raised(kind: type[Exception]) -> None:
    assert is_of_network(kind.__new__(kind))
