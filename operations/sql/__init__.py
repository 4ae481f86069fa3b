"""The SQL statements of this package, in the form of those of `extractors.database.sql`."""

from psycopg2.sql import Composable, Composed

from extractors.database.sql import named


def statement(name: str, **identifiers: Composable) -> Composed:
    """The statement `file.block` with its identifiers filled in; raises KeyError if there is none."""
    return named(__name__, name, **identifiers)
