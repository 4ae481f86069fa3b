"""What the database says of a table: its full name, its columns, and whether it was made here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from psycopg2 import sql

from extractors.config import TableName
from extractors.database.connection import scalar
from extractors.database.sql import statement

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as PgCursor  # noqa: N812

# The comment on a table that tells that nobody else writes into it.
MADE_HERE = "Made by parcel-extraction: every scene in it is in extraction_log"


@dataclass(frozen=True)
class Column:
    """A table's column: name, type (`int4`, `bpchar`, `geometry`, ...), and what matters for filling it."""

    name: str
    type: str
    required: bool
    longest_text: int | None
    srid: int | None


@dataclass(frozen=True)
class Table:
    """A table as the database knows it, or as it will be made.

    name: schema included. key: where the configuration names it, for messages. columns: by the name that this program
    uses, empty for a table that is still to be made; of the results tables, only those that are written. made_here:
    nobody else writes into it.
    """

    name: TableName
    key: str
    columns: Mapping[str, Column] = field(default_factory=dict)
    made_here: bool = False

    def __str__(self) -> str:
        return str(self.name)

    @property
    def identifier(self) -> sql.Identifier:
        """The quoted name, the only form in which it enters a statement."""
        return self.name.identifier

    @property
    def absent(self) -> bool:
        """Whether it is still to be made."""
        return not self.columns


def find(cursor: "PgCursor", wanted: TableName, key: str) -> Table:
    """A table and all its columns; one without columns, and where it would be made, if it is absent."""
    name = _full_name(cursor, wanted)
    if name is None:
        cursor.execute("SELECT current_schema()")
        return Table(wanted if wanted.schema else TableName(wanted.name, scalar(cursor)), key)
    values = {"table": name.identifier.as_string(cursor)}
    cursor.execute(statement("tables.columns"), values)
    columns = {row[0]: Column(*row) for row in cursor.fetchall()}
    cursor.execute(statement("tables.get_comment"), values)
    return Table(name, key, columns, scalar(cursor) == MADE_HERE)


def _full_name(cursor: "PgCursor", table: TableName) -> TableName | None:
    """The table as the database knows it, schema included; None if there is none.

    The exact name wins. Else the lower-case one: established configurations were used unquoted.
    """
    for candidate in (table, TableName(table.name.lower(), table.schema and table.schema.lower())):
        cursor.execute(statement("tables.find"), {"table": candidate.identifier.as_string(cursor)})
        row = cursor.fetchone()
        if row is not None:
            return TableName(row[1], row[0])
    return None
