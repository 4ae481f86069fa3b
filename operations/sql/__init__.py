"""The SQL statements of this package, in the form of those of `extractors.database.sql`; and the GRANTs of
workers, which stand in a script for psql."""

import re
from collections.abc import Mapping
from importlib.resources import files

from psycopg2.sql import SQL, Composable, Composed

from extractors.database.sql import named

GRANTS = "worker_role.sql"
GRANT = re.compile(r"^GRANT (.*?);", re.MULTILINE | re.DOTALL)
# Of psql: `:name` or `:"name"`.
VARIABLE = re.compile(r':"?(\w+)"?')


def statement(name: str, **identifiers: Composable) -> Composed:
    """The statement `file.block` with its identifiers filled in; raises KeyError if there is none."""
    return named(__name__, name, **identifiers)


def grants_of_workers(names: Mapping[str, Composable]) -> list[Composed]:
    """What stands behind GRANT in the script, with psql's variables filled in; without those on tables that have no
    name here."""
    found = []
    for grant in GRANT.findall((files(__name__) / GRANTS).read_text(encoding="utf-8")):
        # Text and variables take turns.
        parts = VARIABLE.split(" ".join(grant.split()))
        if names.keys() >= set(parts[1::2]):
            found.append(Composed([names[part] if place % 2 else SQL(part) for place, part in enumerate(parts)]))
    return found
