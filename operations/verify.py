"""`python -m operations verify`: restores an archive into a database of its own on the same server, compares counts and
checksums with those beside the archive, and removes that database, whatever happens."""

import argparse
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from psycopg2 import sql

from extractors.config import DatabaseFile
from extractors.database.connection import Database, scalar
from extractors.errors import ConfigurationError, ExtractionError, OutageError, one_line
from extractors.text import say
from operations.archive import Contents, Sum, exists, read_contents, sums
from operations.session import Session, session
from operations.sql import statement
from operations.tools import Work, add_tools, find_tools, run_tool

log = logging.getLogger(__name__)

TOOL = "pg_restore"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    parser.add_argument("--file", metavar="FILE", type=Path, required=True, help="the archive, as `backup` wrote it")
    add_tools(parser)


def run(options: argparse.Namespace) -> int:
    """Say of each table whether it is the same."""
    contents = read_contents(options.file)
    try:
        archive: IO[bytes] = options.file.open("rb")
    except OSError as error:
        raise ConfigurationError(f"--file: {options.file} cannot be read ({one_line(error)})") from error
    with archive, session(options) as opened:
        server, number = _look(opened)
        tools = find_tools(options, TOOL, server)
        size = os.fstat(archive.fileno()).st_size / 1e6

        def amount() -> str:
            return f"{os.lseek(archive.fileno(), 0, os.SEEK_CUR) / 1e6:.0f} of {size:.0f} MB read"

        with _throw_away(opened, contents, f"parcel_extraction_verify_{number}") as config:
            arguments = ["--no-owner", "--no-privileges", "--exit-on-error"]
            run_tool(tools, config.connection, Work(TOOL, arguments, TOOL, amount, stdin=archive))
            restored = Database(config, opened.name)
            options.signals.cancel_with(restored.cancel)
            with restored, restored.transaction("reading what was restored") as cursor:
                cursor.execute(statement("archive.endure"))
                there = [one for one in contents.sums if exists(cursor, one.identifier.as_string(cursor))]
                found = sums(cursor, [(one.schema, one.name) for one in there])
    return int(not _same(contents, found))


def _look(opened: Session) -> tuple[int, int]:
    """The server's version and the database's number, if a database may be made."""
    with opened.database.transaction("looking at the server") as cursor:
        cursor.execute(statement("archive.about"))
        about: Any = cursor.fetchone()
        cursor.execute(statement("archive.may_create"))
        may, user = cursor.fetchone() or (False, "")
        if not may:
            raise ConfigurationError(
                f"{user} may not make a database to restore into: ALTER ROLE {user} CREATEDB, or name a configuration "
                "with another user by --db-config"
            )
        cursor.execute(statement("archive.alone"))
        if not scalar(cursor):
            raise OutageError("another `operations verify` of this database is at work; wait for it")
    return about[2], about[-1]


@contextmanager
def _throw_away(opened: Session, contents: Contents, name: str) -> Iterator[DatabaseFile]:
    """A database with what the archive needs, and the configuration that leads to it. What an earlier run that was
    killed has left is removed first."""
    connection = opened.config.connection.model_copy(update={"dbname": name})
    database = opened.config.database.model_copy(update={"connection": connection})
    config = opened.config.model_copy(update={"database": database})
    form = {"encoding": contents.encoding, "collate": contents.collation, "ctype": contents.characters}
    named = {"database": sql.Identifier(name)}
    try:
        with opened.database.alone("making a database to restore into") as cursor:
            cursor.execute(statement("archive.drop_database", **named))
            cursor.execute(statement("archive.create_database", **named), form)
        with Database(config, opened.name) as made, made.transaction("making what the archive needs") as cursor:
            for schema in {*contents.schemas, *contents.extensions.values()}:
                cursor.execute(statement("archive.create_schema", schema=sql.Identifier(schema)))
            for extension, schema in contents.extensions.items():
                names = {"extension": sql.Identifier(extension), "schema": sql.Identifier(schema)}
                cursor.execute(statement("archive.create_extension", **names))
        yield config
    finally:
        try:
            # A session of its own: the other one may be broken, or a signal may cancel what it does.
            with Database(opened.config, opened.name) as another, another.alone("removing a database") as cursor:
                cursor.execute(statement("archive.drop_database", **named))
        except ExtractionError as error:
            log.error("the database %s could not be removed (%s); DROP DATABASE it", name, error)


def _same(contents: Contents, restored: list[Sum]) -> bool:
    """Whether all tables are as they were, with a line for each."""
    found = {str(one): one for one in restored}
    is_same = True
    for one in contents.sums:
        other = found.get(str(one))
        if other == one:
            say(f"ok {one}: {one.rows} rows")
            continue
        is_same = False
        if other is None:
            say(f"DIFFERS {one}: not in the archive")
        elif other.rows != one.rows:
            say(f"DIFFERS {one}: {other.rows} rows, not {one.rows}")
        else:
            say(f"DIFFERS {one}: {one.rows} rows, but not with the same content")
    return is_same
