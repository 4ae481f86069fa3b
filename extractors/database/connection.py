"""The worker's one session with the database, and what PostgreSQL's errors mean to us."""

import errno
import logging
import os
import re
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

import psycopg2
import psycopg2.extensions
from psycopg2 import errors as pg

from extractors import failpoints
from extractors.backoff import Backoff
from extractors.config import DatabaseFile
from extractors.database.server_errors import translated
from extractors.database.sql import statement
from extractors.errors import ConfigurationError, DatabaseUnavailableError, ExtractionError, NoDatabaseError, one_line
from extractors.health import report

if TYPE_CHECKING:
    from psycopg2.extensions import connection as PgConnection  # noqa: N812
    from psycopg2.extensions import cursor as PgCursor  # noqa: N812

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
    "gssencmode": "disable",  # Kerberos is for those who ask for it
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
    "default_transaction_isolation": "read committed",  # after waiting for a lock, what others have done is seen
    "row_security": "off",  # policies that hide rows are an error, and no scene without parcels
    "jit": "off",  # compiling takes longer than any query of ours
}
ANOTHER_SESSION_SECONDS = 5.0
# What the system says when nobody acknowledges what was sent.
TIMED_OUT = os.strerror(errno.ETIMEDOUT)
# Ours, whatever the database's is: the server converts.
ENCODING = "UTF8"
RECONNECTING = Backoff(first=0.5, longest=10.0)

# What is refused and not just absent. Before a session exists libpq hands over no SQLSTATE, so the text has to do.
REFUSALS = (
    # libpq itself, before or while it speaks TLS: files, parameters, certificates. Its text is English everywhere.
    r"certificate|private key|\binvalid |does not exist|does not support|not supported|no password supplied"
    r"|SSL error: .*\balert\b|could not (read|load|open|set)\b|is required|was required|channel binding"
    r"|expected authentication request|definition of service|SASL|SCRAM"
    # The server. In another language it counts as "not there yet", and ends after the configured wait.
    r"|authentication failed|pg_hba\.conf|is not permitted to log in|permission denied (for|to)\b|unrecognized"
    r"|authentication method|not currently accepting connections|GSSAPI"
)


class Database:
    """The session of one worker: it claims, holds the claim's lock, and publishes.

    Opened by the constructor, which waits for a server that is not there yet. Raises ConfigurationError if the server
    refuses us or a setting, or if a proxy would give us another session for each transaction; NoDatabaseError if no
    server answers within `extraction.database_wait_seconds`.
    """

    def __init__(self, config: DatabaseFile, config_name: str) -> None:
        self._config = config
        self._config_name = config_name
        ours: dict[str, Any] = {"application_name": "parcel-extraction", **CLIENT_SETTINGS}
        self._keywords = {**ours, **config.connection.libpq(), "client_encoding": ENCODING}
        self._connection = self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Whether the session has ended, as far as this end has noticed."""
        return bool(self._connection.closed)

    def reopen(self) -> None:
        """Open another session in place of one that broke; its locks are gone. Raises as the constructor does."""
        self.close()
        self._connection = self._open()

    def close(self) -> None:
        """End the session, and with it its transaction and its locks."""
        self._connection.close()

    def storable(self, text: str) -> str:
        """A text with escapes in place of characters that the database's encoding does not have."""
        server = self._connection.info.parameter_status("server_encoding") or ENCODING
        encoding = psycopg2.extensions.encodings.get(server, "utf-8") if server != "SQL_ASCII" else "utf-8"
        return text.encode(encoding, "backslashreplace").decode(encoding)

    def cancel(self) -> None:
        """Cancel the running query, if there is one; for another thread than the one that waits for it."""
        self._connection.cancel()

    def roll_back(self) -> None:
        """Undo what an interrupted transaction may have left open."""
        try:
            self._connection.rollback()
        except psycopg2.Error as error:
            raise _translated(error, self._connection, "rolling back") from error

    @contextmanager
    def transaction(self, doing: str) -> "Iterator[PgCursor]":
        """One transaction, committed at the end of the block, rolled back if that raises anything.

        doing: what for, as a part of error messages. PostgreSQL's errors become ours: a broken session, a full disk or
        a cancelled statement is an outage; all else is a matter of tables and rights, the same for every scene, so that
        it must not fail one.
        """
        try:
            with _transaction(self._connection, doing) as cursor:
                yield cursor
        except DatabaseUnavailableError as error:
            if TIMED_OUT in str(error) and self._answers():
                raise DatabaseUnavailableError(
                    f"{error}; yet a new session opens at once: if that happens again, small packets pass and large "
                    "ones do not, so see the MTU of the networks in between"
                ) from error.__cause__
            raise

    @contextmanager
    def alone(self, doing: str) -> "Iterator[PgCursor]":
        """A cursor for statements that cannot be part of a transaction; each is committed by itself, and may take as
        long as it takes. Errors as in `transaction`."""
        with self.transaction(doing) as cursor:
            cursor.execute(statement("connection.limits"))
            limits = cursor.fetchone()
        self._connection.autocommit = True
        try:
            with self.transaction(doing) as cursor:
                cursor.execute(statement("connection.set_limits"), {"limits": ["0", "0"]})
                yield cursor
                cursor.execute(statement("connection.set_limits"), {"limits": list(limits or ())})
        finally:
            if not self._connection.closed:
                self._connection.autocommit = False

    def _answers(self) -> bool:
        """Whether another session can be had just now."""
        try:
            psycopg2.connect(**self._keywords).close()
        except psycopg2.OperationalError:
            return False
        return True

    def _open(self) -> "PgConnection":
        parameters, keywords, name = self._config.connection, self._keywords, self._config_name
        where = f"{parameters.host}:{parameters.port}"
        connection = _connect(keywords, where, self._config.extraction.database_wait_seconds, name)
        try:
            if connection.encoding != ENCODING:  # by `options`
                connection.set_client_encoding(ENCODING)
            _configure(connection, self._config.extraction.server_settings, name)
            _refuse_pooling(connection, keywords, f"{name}: database.connection: what answers at {where}")
        except BaseException as error:
            connection.close()
            if isinstance(error, psycopg2.Error):
                raise translated(error, "opening a session", broken=True) from error
            raise
        failpoints.reach("connected")
        return connection


def scalar(cursor: "PgCursor") -> Any:
    """The first value of a query's first row; None if there is no row."""
    row = cursor.fetchone()
    return row[0] if row else None


def _connect(keywords: dict[str, Any], where: str, wait_seconds: float, config_name: str) -> "PgConnection":
    """Open a session; a server that is not there is tried again for `wait_seconds`."""
    report("waiting for the database", wait_seconds)
    give_up = time.monotonic() + wait_seconds
    failures = 0
    while True:
        try:
            connection: PgConnection = psycopg2.connect(**keywords)
        except psycopg2.OperationalError as error:
            reason = one_line(error)
            if re.search(REFUSALS, reason):
                raise ConfigurationError(
                    f"{config_name}: database.connection: no connection to the database server at {where} can be made "
                    f"({reason}); fix what that names: dbname, dbuser, dbpasswd, TLS settings, or the server's access "
                    "rules"
                ) from error
            remaining = give_up - time.monotonic()
            if remaining <= 0:
                raise NoDatabaseError(
                    f"no database at {where} within {wait_seconds:g} s ({reason}); start it, or fix host and port in "
                    f"{config_name}"
                ) from error
            if not failures:
                log.warning("waiting up to %g s for the database at %s", wait_seconds, where)
            failures += 1
            time.sleep(min(RECONNECTING.pause(failures), remaining))
        else:
            return connection


def _configure(connection: "PgConnection", own: dict[str, str | int | float | bool], config_name: str) -> None:
    """Set the session up; settings of ours that the server's version does not know are left out.

    own: the user's, beyond and in place of SERVER_SETTINGS. Raises ConfigurationError for one that the server refuses.
    """
    wanted = SERVER_SETTINGS | {name: str(value) for name, value in own.items()}
    where = f"{config_name}: extraction.server_settings: the database"
    try:
        with _transaction(connection, "opening a session") as cursor:
            cursor.execute(statement("connection.configure"), {"names": list(wanted), "values": list(wanted.values())})
            unknown = own.keys() - {row[0] for row in cursor.fetchall()}
            cursor.execute(statement("connection.trusted_schemas"))
            left_out = cursor.fetchone()
            cursor.execute(statement("connection.pin_search_path"))
    except ExtractionError as error:
        cause = error.__cause__
        if isinstance(cause, psycopg2.ProgrammingError | psycopg2.DataError | pg.CantChangeRuntimeParam):
            raise ConfigurationError(f"{where} does not take them ({one_line(cause)}); fix them") from error
        raise
    if left_out and left_out[0]:
        log.warning(
            "the schema %s is not looked into, because it belongs to %s; name tables with their schemas", *left_out[:2]
        )
    if unknown:
        raise ConfigurationError(f"{where} knows no setting {', '.join(sorted(unknown))}; fix its name")


def _refuse_pooling(connection: "PgConnection", keywords: dict[str, Any], where: str) -> None:
    """Raise ConfigurationError if a proxy hands out another session for each transaction: our locks would be lost.

    Without a proxy, or behind one that only forwards, the server process is the one that greeted us. Else, one
    session's process must not change, nor turn up in another session. That one may get none while ours is open.
    """
    pids = {_backend(connection) for _ in range(3)}
    if pids == {connection.info.backend_pid}:
        return
    if len(pids) > 1 or _backend_of_another(keywords) in pids:
        raise ConfigurationError(
            f"{where} is a proxy that gives every transaction another session (transaction pooling), in which a "
            "worker's locks would be lost; write host and port of the database itself, or let the proxy pool sessions"
        )


def _backend(connection: "PgConnection") -> int:
    with _transaction(connection, "opening a session") as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(scalar(cursor))


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


@contextmanager
def _transaction(connection: "PgConnection", doing: str) -> "Iterator[PgCursor]":
    try:
        with connection.cursor() as cursor:
            yield cursor
        connection.commit()
    except BaseException as error:
        # A session that has ended cannot be rolled back, which says less than the reason why it has ended.
        with suppress(psycopg2.Error):
            connection.rollback()
        if isinstance(error, psycopg2.Error):
            raise _translated(error, connection, doing) from error
        raise


def _translated(error: psycopg2.Error, connection: "PgConnection", doing: str) -> ExtractionError:
    if connection.closed:
        return translated(error, doing, broken=True)
    return translated(error, doing, encoding=connection.info.parameter_status("server_encoding"))
