"""What a backup holds, and what is written beside it: counts and checksums of tables, of the same moment."""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from psycopg2 import sql

from extractors.config import TableName, parse_table_name
from extractors.database.connection import scalar
from extractors.database.places import PLACES_TABLE
from extractors.database.redo import LIST_TABLE
from extractors.database.schema import Table
from extractors.errors import ConfigurationError, one_line
from operations.session import EarlyReader
from operations.sql import statement

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as PgCursor  # noqa: N812

log = logging.getLogger(__name__)


class Relation(NamedTuple):
    """A table, view or sequence of the archive, its kind as PostgreSQL has it, and its size in bytes."""

    schema: str
    name: str
    kind: str
    readable: bool
    size: int

    @property
    def identifier(self) -> sql.Identifier:
        """The quoted name."""
        return sql.Identifier(self.schema, self.name)

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def pattern(self) -> str:
        """This table and no other, as pg_dump takes it."""
        return ".".join('"' + part.replace('"', '""') + '"' for part in (self.schema, self.name))


@dataclass(frozen=True)
class Sum:
    """How many rows a table holds, and the sum of their hashes."""

    schema: str
    name: str
    rows: int
    checksum: str

    @property
    def identifier(self) -> sql.Identifier:
        """The table's quoted name."""
        return sql.Identifier(self.schema, self.name)

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class Contents:
    """What the file beside an archive says. collation, characters: of the database. extensions: name -> schema.
    schemas: of all that is in it."""

    made: str
    database: str
    server: str
    encoding: str
    collation: str
    characters: str
    extensions: Mapping[str, str]
    schemas: Sequence[str]
    sums: Sequence[Sum]

    @property
    def rows(self) -> int:
        """Of all tables."""
        return sum(one.rows for one in self.sums)

    def text(self) -> str:
        """As the file has it."""
        return json.dumps(asdict(self), indent=1) + "\n"


def beside(archive: Path) -> Path:
    """The file with counts and checksums."""
    return archive.with_name(f"{archive.name}.json")


def read_contents(archive: Path) -> Contents:
    """What stands beside an archive. Raises ConfigurationError."""
    file = beside(archive)
    try:
        found: dict[str, Any] = json.loads(file.read_text())
        return Contents(**(found | {"sums": [Sum(**one) for one in found["sums"]]}))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigurationError(
            f"--file: {file} cannot be read ({one_line(error)}); `operations backup` writes it beside the archive"
        ) from error


def tables_of(reader: EarlyReader) -> list[Table]:
    """The tables of the configuration, checked, each in a transaction of its own."""
    return [reader.catalogue, reader.aois, reader.parcels, reader.log, *reader.of_results.values()]


def relations(cursor: "PgCursor", tables: Sequence[Table], reader: EarlyReader) -> list[Relation]:
    """What must stay together: all that there is of it. Raises ConfigurationError for what cannot be in an archive."""
    names = {table.name for table in tables if not table.absent}
    names |= {TableName(name, reader.catalogue.name.schema) for name in (PLACES_TABLE, LIST_TABLE)}
    if not reader.log.absent:
        cursor.execute(statement("archive.of_log", log=reader.log.identifier))
        names |= {parse_table_name(row[0]) for row in cursor.fetchall()}
    texts = [name.identifier.as_string(cursor) for name in names]
    there = [text for text in texts if exists(cursor, text)]
    cursor.execute(statement("archive.relations"), {"tables": there})
    found = [Relation(*row) for row in cursor.fetchall()]
    for one in found:
        if one.kind == "f":
            raise ConfigurationError(f"{one} is a foreign table, whose rows no archive holds; save it where it is")
        if not one.readable:
            raise ConfigurationError(
                f"the database user may not read all of {one}: GRANT SELECT on it, or name a configuration with "
                "another user by --db-config"
            )
    return found


def extensions(cursor: "PgCursor", found: Sequence[Relation]) -> dict[str, str]:
    """What has to be there before the archive is restored. Raises ConfigurationError for what cannot be in one."""
    cursor.execute(statement("archive.needs"), {"tables": [one.identifier.as_string(cursor) for one in found]})
    schemas: dict[str, str | None] = dict(cursor.fetchall())
    if lacking := [name for name, schema in schemas.items() if schema is None]:
        raise ConfigurationError(
            f"these tables need {', '.join(lacking)}, which no archive of tables holds, so that it could not be "
            "restored; save the whole database with pg_dump, or do without"
        )
    return {name: schema for name, schema in schemas.items() if schema is not None}


def hold(cursor: "PgCursor", found: Sequence[Relation]) -> None:
    """Until the transaction ends, the tables stay what they are but for rows that are added, changed or deleted."""
    tables = sql.SQL(", ").join(sql.SQL("ONLY {}").format(one.identifier) for one in found if one.kind in "rp")
    cursor.execute(statement("archive.lock", tables=tables))


def sums(cursor: "PgCursor", tables: Sequence[tuple[str, str]]) -> list[Sum]:
    """Count the rows of tables, and sum their hashes."""
    cursor.execute(statement("archive.form"))
    found = []
    for schema, name in tables:
        start = time.monotonic()
        cursor.execute(statement("archive.sum", table=sql.Identifier(schema, name)))
        rows, checksum = cursor.fetchone() or (0, "0")
        found.append(Sum(schema, name, rows, checksum))
        log.info("read %s: %d rows in %.0f s", found[-1], rows, time.monotonic() - start)
    return found


def exists(cursor: "PgCursor", name: str) -> bool:
    """Whether there is a table with this name, quoted as it must be."""
    cursor.execute(statement("archive.exists"), {"table": name})
    return bool(scalar(cursor))
