"""What the database says of a table: its full name, its kind and columns, and whether it was made here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from psycopg2 import sql

from extractors.config import TableName
from extractors.database.connection import scalar
from extractors.database.sql import statement

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as PgCursor  # noqa: N812

# The comment on a table that tells that nobody else writes into it.
MADE_HERE = "Made by parcel-extraction: every scene in it is in extraction_log"
GEOGRAPHY = "geography"
# Kind of an index -> those that do the same.
SERVING = {"btree": {"btree"}, "gist": {"gist", "spgist"}, "brin": {"brin", "btree"}, "gin": {"gin"}}


@dataclass(frozen=True)
class Column:
    """A table's column: name, type (`int4`, `bpchar`, `geometry`, ...; that beneath a domain), and what matters for
    filling it. generated: the database computes it from others."""

    name: str
    type: str
    required: bool
    longest_text: int | None
    srid: int | None
    generated: bool = False

    def of(self, *table: str) -> sql.Composable:
        """The column in a statement in which its table has this name; a geography as the geometry that it is."""
        column = sql.Identifier(*table, self.name)
        return sql.SQL("{}::geometry").format(column) if self.type == GEOGRAPHY else column


@dataclass(frozen=True)
class Table:
    """A table as the database knows it, or as it will be made.

    name: schema included. key: where the configuration names it, for messages. kind: r (table), p (partitioned), v
    (view), m (materialised view) or f (foreign). columns: by the name that this program uses, empty for a table that is
    still to be made; of the parcel and results tables, only those that are read or written. made_here: nobody else
    writes into it.
    """

    name: TableName
    key: str
    kind: str = "r"
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


class Index(NamedTuple):
    """An index: kind (`btree`, `brin`, `gist`, ...), columns, whether it is unique, for which part of the rows only, if
    so, schema and name, and whether it can be used: one whose making was interrupted cannot."""

    kind: str
    columns: list[str | None]
    unique: bool
    predicate: str | None
    schema: str
    name: str
    valid: bool

    @property
    def partial(self) -> bool:
        """Whether it is for a part of the rows only."""
        return self.predicate is not None


@dataclass(frozen=True)
class WantedIndex:
    """An index that helps, on these columns, or on an expression. kind: of PostgreSQL. where: for these rows only;
    mark: what the condition of such an index holds, and of no other."""

    table: Table
    columns: tuple[str, ...]
    kind: str = "btree"
    where: sql.SQL | None = None
    mark: str = ""
    expression: sql.SQL | None = None

    def __str__(self) -> str:
        using = "" if self.kind == "btree" else f"USING {self.kind} "
        where = f" WHERE {self.where.string}" if self.where else ""
        return f"{self.table} {using}({self.expression.string if self.expression else ', '.join(self.columns)}){where}"

    @property
    def definition(self) -> sql.Composed:
        """What comes after the table's name in the statement that makes it."""
        columns = self.expression or sql.SQL(", ").join(map(sql.Identifier, self.columns))
        made = sql.SQL("USING {} ({})").format(sql.Identifier(self.kind), columns)
        return made + sql.SQL(" WHERE ") + self.where if self.where else made

    def like(self, index: Index) -> bool:
        """Whether an index does what this one is wanted for, once it is valid."""
        return (
            index.kind in SERVING[self.kind]
            and tuple(index.columns[: len(self.columns)]) == self.columns
            and (self.expression is None or index.columns[:1] == [None])
            and (
                (self.mark in index.predicate)
                if self.where and index.predicate
                else not (self.where or index.predicate)
            )
        )


def all_indexes(cursor: "PgCursor", table: Table) -> list[Index]:
    """The indexes of a table, those included that cannot be used."""
    cursor.execute(statement("tables.indexes"), {"table": table.identifier.as_string(cursor)})
    return [Index(*row) for row in cursor.fetchall()]


def indexes(cursor: "PgCursor", table: Table) -> list[Index]:
    """The indexes of a table that can be used."""
    return [index for index in all_indexes(cursor, table) if index.valid]


def is_indexed(cursor: "PgCursor", table: Table, columns: Sequence[str | None]) -> bool:
    """Whether a table has an index that begins with these columns (None: with an expression)."""
    return any(index.columns[: len(columns)] == columns for index in indexes(cursor, table))


def find(cursor: "PgCursor", wanted: TableName, key: str) -> Table:
    """A table and all its columns; one without columns, and where it would be made, if it is absent.

    The exact name wins. Else the lower-case one: established configurations were used unquoted.
    """
    for candidate in (wanted, TableName(wanted.name.lower(), wanted.schema and wanted.schema.lower())):
        cursor.execute(statement("tables.find"), {"schema": candidate.schema, "name": candidate.name})
        row = cursor.fetchone()
        if row is not None:
            schema, name, kind, comment = row
            found = TableName(name, schema)
            cursor.execute(statement("tables.columns"), {"table": found.identifier.as_string(cursor)})
            columns = {row[0]: Column(*row) for row in cursor.fetchall()}
            return Table(found, key, kind, columns, comment == MADE_HERE)
    cursor.execute(statement("tables.current_schema"))
    return Table(wanted if wanted.schema else TableName(wanted.name, scalar(cursor)), key)
