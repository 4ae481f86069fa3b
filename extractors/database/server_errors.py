"""Whose fault is it? The one table of what PostgreSQL and psycopg2 report: configuration or outage, never a scene.

Whatever is wrong with tables and rights is so for every scene, and must not be charged to one. What nobody knows is an
outage: it may pass.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import psycopg2

from extractors.errors import ConfigurationError, DatabaseUnavailableError, OutageError, one_line


@dataclass(frozen=True)
class Meaning:
    """What a report means: which of our errors it becomes, and what is said (the fields are those in `translated`)."""

    kind: type[ConfigurationError] | type[OutageError]
    text: str


OUTAGE = Meaning(DatabaseUnavailableError, "the database could not go on while {doing} ({reason})")
BROKEN = Meaning(
    DatabaseUnavailableError, "the database connection broke while {doing} ({reason}); see the server's log"
)
DISK_FULL = Meaning(
    DatabaseUnavailableError, "the database server's disk is full while {doing} ({reason}); make room there"
)
READ_ONLY = Meaning(
    DatabaseUnavailableError, "the database takes no writes while {doing} ({reason}); see whether it is a standby"
)
RIGHT = Meaning(ConfigurationError, "the database user lacks a right while {doing} ({reason}); GRANT it")
LACKS = Meaning(ConfigurationError, "the database lacks something while {doing} ({reason})")
TEXT = Meaning(
    ConfigurationError,
    "text cannot be brought from the database's encoding ({encoding}) to UTF8 or back while {doing} ({reason}); fix "
    "that text, or load the tables into a database with encoding UTF8",
)
COLUMNS = Meaning(
    ConfigurationError, "the table does not take what it should while {doing} ({reason}); fix its columns"
)
LIMIT = Meaning(
    ConfigurationError,
    "a limit of the database server is too low while {doing} ({reason}); raise it, or fix its tables",
)
FILES = Meaning(
    ConfigurationError,
    "the database server lacks one of its own files while {doing} ({reason}); fix its installation, or, if that is of "
    "another version of PostGIS, ALTER EXTENSION postgis UPDATE",
)
DAMAGED = Meaning(
    ConfigurationError,
    "the database server reports damaged data while {doing} ({reason}); see its log, and REINDEX or restore that",
)
ODD = Meaning(ConfigurationError, "the database does not do what it should while {doing} ({reason}); fix its tables")

# By SQLSTATE, else by its class, which are the first two characters. What is not here is an outage: broken connections
# (08), rollbacks (40), lack of resources (53), what the administrator does (57), errors of its system (58), and others.
BY_STATE: Mapping[str, Meaning] = {
    **dict.fromkeys(("0L", "0P", "28", "42501"), RIGHT),
    **dict.fromkeys(("3D", "3F", "42P01", "42703", "42883"), LACKS),
    **dict.fromkeys(("22021", "22P05"), TEXT),
    **dict.fromkeys(("22", "23"), COLUMNS),
    "25006": READ_ONLY,
    **dict.fromkeys(("25P03", "25P04"), OUTAGE),  # sessions that the server ends
    "53100": DISK_FULL,
    **dict.fromkeys(("53400", "54"), LIMIT),
    "58P01": FILES,
    **dict.fromkeys(("XX001", "XX002"), DAMAGED),
    **dict.fromkeys(("HV000", "HV001", "HV00L", "HV00M", "HV00N"), OUTAGE),  # another server, by a foreign table
    **dict.fromkeys(
        (
            "0A", "20", "21", "24", "25", "27", "2B", "2D", "2F", "38", "39", "3B", "42", "44",
            "55000", "55P02", "55P04", "HV", "P0", "XX",
        ),
        ODD,
    ),
}  # fmt: skip
# What psycopg2 reports of itself, which has no SQLSTATE; also what no server has answered is an outage.
BY_CLASS: tuple[tuple[type[psycopg2.Error], Meaning], ...] = (
    (psycopg2.InterfaceError, BROKEN),
    (psycopg2.DataError, COLUMNS),
    (psycopg2.IntegrityError, COLUMNS),
    (psycopg2.ProgrammingError, ODD),
    (psycopg2.NotSupportedError, ODD),
    (psycopg2.InternalError, ODD),
)


def meaning_of(error: psycopg2.Error) -> Meaning:
    """What a report of the database, or of psycopg2, means."""
    state = error.pgcode
    if state is None:
        return next((meaning for kind, meaning in BY_CLASS if isinstance(error, kind)), OUTAGE)
    return BY_STATE.get(state) or BY_STATE.get(state[:2]) or OUTAGE


def translated(
    error: psycopg2.Error, doing: str, broken: bool = False, encoding: str | None = None
) -> ConfigurationError | OutageError:
    """Our error for a report. doing: what was tried, in words; broken: whether the session has ended with it; encoding:
    the database's."""
    meaning = BROKEN if broken else meaning_of(error)
    return meaning.kind(meaning.text.format(doing=doing, reason=one_line(error), encoding=encoding))
