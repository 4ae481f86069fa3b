"""Reaching the database, and asking it what its tables look like."""

import logging
import random
import select
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import psycopg2
import psycopg2.extensions
from psycopg2 import errors as pg
from psycopg2 import sql

from extractors.config import Connection, TableName
from extractors.database.sql import statement
from extractors.errors import ConfigurationError, DatabaseUnavailableError, ExtractionError, NoDatabaseError, one_line
from extractors.health import report

if TYPE_CHECKING:
    from psycopg2.extensions import connection as PgConnection  # noqa: N812

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_SECONDS = 10
# So that both ends notice within two minutes that the other is gone, also while they wait for its answer, and so that
# no connection is idle long enough to be forgotten by what lies between. libpq's parameters, milliseconds in the last.
CLIENT_SETTINGS = {
    "connect_timeout": CONNECT_TIMEOUT_SECONDS,
    "keepalives": 1,
    "keepalives_idle": 60,
    "keepalives_interval": 10,
    "keepalives_count": 6,
    "tcp_user_timeout": 120_000,
}
# The same for the server's end of our session, and: nothing but us ends the session while it computes, and nothing
# holds a lock or a transaction for long.
SERVER_SETTINGS = {
    "TimeZone": "UTC",  # obstime without a zone is UTC; a table that has one with zone must read the same
    "tcp_keepalives_idle": "60",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "6",
    "tcp_user_timeout": "120000",
    "idle_session_timeout": "0",
    "idle_in_transaction_session_timeout": "5min",
    "lock_timeout": "30s",
    "statement_timeout": "30min",
    "client_connection_check_interval": "10s",
}
ANOTHER_SESSION_SECONDS = 5.0
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 10.0

# What a server says when it is there and will not let us in. Before a session exists libpq hands over no SQLSTATE,
# so the text has to do; in another language it counts as "not there yet" and ends after the configured wait.
REFUSALS = (
    "password authentication failed",
    "no password supplied",
    "does not exist",
    "no pg_hba.conf entry",
    "authentication failed",
    "is not permitted to log in",
    "permission denied for database",
    "invalid connection option",
    "invalid sslmode",
    "invalid port",
    "does not support SSL",
)


@dataclass(frozen=True)
class Column:
    """A table's column: name, type (`int4`, `bpchar`, `geometry`, ...), and what matters for filling it."""

    name: str
    type: str
    required: bool
    longest_text: int | None
    srid: int | None


def connect(
    parameters: Connection,
    wait_seconds: float,
    config_name: str,
    server_settings: Mapping[str, str | float] = MappingProxyType({}),
) -> "PgConnection":
    """Open a session in UTC; a server that is not there is tried again for `wait_seconds`.

    server_settings: beyond and in place of SERVER_SETTINGS. Raises ConfigurationError if the server refuses us or a
    setting, or if a proxy would give us another session for each transaction; NoDatabaseError if none answers in time.
    """
    where = f"{parameters.host}:{parameters.port}"
    report("waiting for the database", wait_seconds)
    give_up = time.monotonic() + wait_seconds
    pause = FIRST_PAUSE_SECONDS
    waiting = False
    keywords: dict[str, Any] = {"application_name": "parcel-extraction", **CLIENT_SETTINGS, **parameters.libpq()}
    while True:
        try:
            connection: PgConnection = psycopg2.connect(**keywords)
            break
        except psycopg2.OperationalError as error:
            reason = one_line(error)
            if any(refusal in reason for refusal in REFUSALS):
                raise ConfigurationError(
                    f"{config_name}: database.connection: the database server at {where} refuses the connection "
                    f"({reason}); mend dbname, dbuser, dbpasswd or the server's access rules"
                ) from error
            remaining = give_up - time.monotonic()
            if remaining <= 0:
                raise NoDatabaseError(
                    f"no database at {where} within {wait_seconds:g} s ({reason}); start it, or mend host and port in "
                    f"{config_name}"
                ) from error
            if not waiting:
                log.warning("waiting up to %g s for the database at %s", wait_seconds, where)
                waiting = True
            time.sleep(min(pause * random.uniform(0.5, 1.0), remaining))  # noqa: S311 (no secret, only jitter)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
    _configure(connection, server_settings, config_name)
    _refuse_pooling(connection, keywords, f"{config_name}: database.connection: what answers at {where}")
    return connection


def _configure(connection: "PgConnection", own: Mapping[str, str | float], config_name: str) -> None:
    """Set the session up; settings of ours that the server's version does not know are left out."""
    wanted = SERVER_SETTINGS | {name: str(value) for name, value in own.items()}
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement("session.configure"), {"names": list(wanted), "values": list(wanted.values())})
            unknown = own.keys() - {row[0] for row in cursor.fetchall()}
    except (psycopg2.ProgrammingError, psycopg2.DataError, pg.CantChangeRuntimeParam) as error:
        raise ConfigurationError(
            f"{config_name}: extraction.server_settings: the database does not take them ({one_line(error)}); mend them"
        ) from error
    except psycopg2.Error as error:
        raise _translated(error, connection, "opening a session") from error
    if unknown:
        raise ConfigurationError(
            f"{config_name}: extraction.server_settings: the database knows no setting {', '.join(sorted(unknown))}; "
            "mend its name"
        )


def _refuse_pooling(connection: "PgConnection", keywords: dict[str, Any], where: str) -> None:
    """Raise ConfigurationError if a proxy hands out another session for each transaction: our locks would be lost.

    Without a proxy, or behind one that only forwards, the server process is the one that greeted us. Else, one
    session's process must not change, nor turn up in another session. That one may get none while ours is open.
    """
    with database_errors(connection, "opening a session"):
        pids = {_backend(connection) for _ in range(3)}
    if pids == {connection.info.backend_pid}:
        return
    if len(pids) > 1 or _backend_of_another(keywords) in pids:
        raise ConfigurationError(
            f"{where} is a proxy that gives every transaction another session (transaction pooling), in which a "
            "worker's locks would be lost; write host and port of the database itself, or let the proxy pool sessions"
        )


def _backend_of_another(keywords: dict[str, Any]) -> int | None:
    """The server process of another session; None if none can be had within a few seconds."""
    give_up = time.monotonic() + ANOTHER_SESSION_SECONDS
    other = psycopg2.connect(**keywords, async_=True)
    try:
        cursor: Any = None
        while True:
            state = other.poll()
            if state == psycopg2.extensions.POLL_OK:
                if cursor is not None:
                    row = cursor.fetchone()
                    return int(row[0]) if row else None
                cursor = other.cursor()
                cursor.execute("SELECT pg_backend_pid()")
                continue
            reading = [other.fileno()] if state == psycopg2.extensions.POLL_READ else []
            writing = [other.fileno()] if state == psycopg2.extensions.POLL_WRITE else []
            if select.select(reading, writing, [], max(0.0, give_up - time.monotonic())) == ([], [], []):
                return None
    except psycopg2.Error:
        return None
    finally:
        other.close()


def _backend(connection: "PgConnection") -> int:
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        row = cursor.fetchone()
    return int(row[0]) if row else 0


@contextmanager
def database_errors(connection: "PgConnection", doing: str) -> Iterator[None]:
    """Turn what PostgreSQL reports while `doing` something into our errors.

    A broken session, a full disk or a cancelled statement is the world's; all else is a matter of tables and rights,
    the same for every scene, so that it must not fail one.
    """
    try:
        yield
    except psycopg2.Error as error:
        raise _translated(error, connection, doing) from error


def _translated(error: psycopg2.Error, connection: "PgConnection", doing: str) -> ExtractionError:
    reason = one_line(error)
    if connection.closed or isinstance(error, psycopg2.InterfaceError):
        return DatabaseUnavailableError(f"the database connection broke while {doing} ({reason}); see the server's log")
    if isinstance(error, pg.DiskFull):
        return DatabaseUnavailableError(f"the database server's disk is full while {doing} ({reason}); make room there")
    if isinstance(error, pg.ReadOnlySqlTransaction):
        return DatabaseUnavailableError(
            f"the database takes no writes while {doing} ({reason}); see whether it is a standby"
        )
    if isinstance(error, pg.InsufficientPrivilege):
        return ConfigurationError(f"the database user lacks a right while {doing} ({reason}); GRANT it")
    if isinstance(error, pg.UndefinedTable | pg.UndefinedColumn | pg.UndefinedFunction):
        return ConfigurationError(f"the database lacks something while {doing} ({reason})")
    if isinstance(error, psycopg2.DataError | psycopg2.IntegrityError):
        return ConfigurationError(f"the table does not take what it should while {doing} ({reason}); mend its columns")
    if isinstance(error, psycopg2.OperationalError):
        return DatabaseUnavailableError(f"the database could not go on while {doing} ({reason})")
    return ConfigurationError(f"the database does not do what it should while {doing} ({reason}); mend its tables")


def find_table(connection: "PgConnection", table: TableName) -> TableName | None:
    """The table as the database knows it, schema included; None if there is none.

    The exact name wins. Else the lower-case one: established configurations were used unquoted.
    """
    with connection.cursor() as cursor:
        for candidate in (table, TableName(table.name.lower(), table.schema and table.schema.lower())):
            cursor.execute(statement("tables.find"), {"table": candidate.identifier.as_string(cursor)})
            row = cursor.fetchone()
            if row is not None:
                return TableName(row[1], row[0])
    return None


def name_in_database(connection: "PgConnection", table: TableName) -> TableName:
    """The table's full name, whether it exists or is still to be made."""
    with database_errors(connection, f"looking for the table {table}"), connection:
        found = find_table(connection, table)
        if found is not None or table.schema:
            return found or table
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_schema()")
            row = cursor.fetchone()
    return TableName(table.name, row[0] if row else None)


def columns(connection: "PgConnection", table: TableName) -> dict[str, Column]:
    """The columns of an existing table, by name, in the table's order."""
    with connection.cursor() as cursor:
        cursor.execute(statement("tables.columns"), {"table": table.identifier.as_string(cursor)})
        return {row[0]: Column(*row) for row in cursor.fetchall()}


def table_comment(connection: "PgConnection", table: TableName) -> str | None:
    """The comment on an existing table."""
    with connection.cursor() as cursor:
        cursor.execute(statement("tables.get_comment"), {"table": table.identifier.as_string(cursor)})
        row = cursor.fetchone()
    return row[0] if row else None


def require_table(
    connection: "PgConnection", table: TableName, key: str, config_name: str, needed: dict[str, str]
) -> tuple[TableName, dict[str, Column]]:
    """Find a table that must exist and its columns; `needed` maps column names to what they are for.

    Raises ConfigurationError that names the configuration key, the table and the missing column.
    """
    found = find_table(connection, table)
    if found is None:
        raise ConfigurationError(
            f"{config_name}: database.tables.{key}: there is no table {table} in the database; create it or write the "
            "name of the right one"
        )
    present = columns(connection, found)
    for name, purpose in needed.items():
        if name not in present:
            raise ConfigurationError(
                f"{config_name}: database.tables.{key}: table {found} has no column {name} ({purpose}); add it or "
                "write the name of the right table"
            )
    return found, present


def srid_of(connection: "PgConnection", table: TableName, column: Column, key: str, config_name: str) -> int | None:
    """The SRID of a geometry column, from its type or else from its data; None for a table without geometries.

    Raises ConfigurationError if the geometries have none.
    """
    srid = column.srid
    if not srid:
        with connection.cursor() as cursor:
            cursor.execute(
                statement("tables.srid_of_data", table=table.identifier, geometry=sql.Identifier(column.name))
            )
            row = cursor.fetchone()
        if row is None:
            return None
        srid = int(row[0])
    if not srid:
        raise ConfigurationError(
            f"{config_name}: database.tables.{key}: the geometries of {table} have no SRID, so nobody knows where they "
            f"are; set it with SELECT UpdateGeometrySRID('{table.schema or 'public'}', '{table.name}', "
            f"'{column.name}', <EPSG code>)"
        )
    return srid
