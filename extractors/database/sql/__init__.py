"""The SQL statements, kept in `.sql` files beside this one as named blocks.

A block starts with the line `-- :name`; the comment after it says what it is for. Names in braces are
identifiers, put in quoted; `%(name)s` are values, always handed over as parameters.
"""

import re
from functools import cache
from importlib.resources import files

from psycopg2.sql import SQL, Composable, Composed

BLOCK = re.compile(r"^-- :(\w+)\n", re.MULTILINE)


@cache
def _blocks(package: str, file_name: str) -> dict[str, str]:
    parts = BLOCK.split((files(package) / f"{file_name}.sql").read_text(encoding="utf-8"))
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def statement(name: str, **identifiers: Composable) -> Composed:
    """The statement `file.block` with its identifiers filled in; raises KeyError if there is none."""
    return named(__name__, name, **identifiers)


def named(package: str, name: str, /, **identifiers: Composable) -> Composed:
    """The same of any package with such files."""
    file_name, block = name.split(".")
    return SQL(_blocks(package, file_name)[block]).format(**identifiers)
