"""The script that gives workers their rights says what the code needs: tables as the worker makes them, columns as it
writes them. (What it grants is tried in tests/acceptance/test_trust.py.)"""

from __future__ import annotations

import re

from psycopg2 import sql

from extractors.database.columns import CATALOGUE_COLUMNS
from extractors.database.outputs import OUTPUTS, RESULT_TYPES, statistic_columns
from extractors.database.rights import LOG_INSERTED, LOG_UPDATED
from extractors.database.schema import MADE_HERE
from extractors.database.sql import statement
from tests.support.environment import ROOT

SCRIPT = (ROOT / "operations" / "sql" / "worker_role.sql").read_text()


def granted(right: str, table: str) -> list[str]:
    """The columns to which there is a right."""
    (grant,) = re.findall(rf"^GRANT [^;]*? ON :{table} TO", SCRIPT, re.MULTILINE)
    (columns,) = re.findall(rf"{right} \((.*?)\)", grant, re.DOTALL)
    return [column.strip() for column in columns.split(",")]


def in_words(definition: str) -> list[str]:
    """A definition's columns, whatever its line breaks."""
    (inside,) = re.findall(r"\((.*)\)", definition, re.DOTALL)
    return [" ".join(column.split()) for column in inside.split(",")]


def made(table: str) -> list[str]:
    (definition,) = re.findall(rf"^CREATE TABLE :{table} (\(.*?\));", SCRIPT, re.MULTILINE | re.DOTALL)
    return in_words(definition)


def text(composed: sql.Composable) -> str:
    if isinstance(composed, sql.Composed):
        return "".join(map(text, composed.seq))
    return composed.string if isinstance(composed, sql.SQL) else " ".join(composed.strings)  # type: ignore[attr-defined]


def test_columns() -> None:
    assert sorted(granted("INSERT", "log")) == sorted(LOG_INSERTED)
    assert sorted(granted("UPDATE", "log")) == sorted(LOG_UPDATED)
    assert sorted(granted("SELECT", "catalogue")) == sorted(CATALOGUE_COLUMNS)
    assert granted("UPDATE", "catalogue") == ["status"]


def test_tables() -> None:
    names = {
        "table": sql.SQL("x"),
        "pid_type": sql.SQL(":pid"),
        "band_type": sql.SQL("varchar(3)"),
        "statistics": statistic_columns(RESULT_TYPES),
    }
    log = text(statement("tables.create_log", log=sql.SQL("x"))).partition("CREATE")[2]
    assert made("log") == in_words(log)
    for name, output in OUTPUTS.items():
        assert made(name) == in_words(text(statement(output.made_by, **names)).partition("CREATE")[2]), name
    assert re.findall(r"IS '(.*?)'", SCRIPT) == [MADE_HERE] * len(OUTPUTS)


def test_indexes() -> None:
    """All that a log gets which a worker makes."""
    names = ("index_pauses", "index_log", "index_open_attempts", "index_results", "index_redone", "index_tables")
    made = [text(statement(f"tables.{name}", log=sql.SQL(":log"))).partition("CREATE")[2] for name in names]
    wanted = [" ".join(index.replace(" IF NOT EXISTS", "").split()) for index in made]
    assert sorted(re.findall(r"^CREATE (INDEX .*? ON :log .*?);", SCRIPT, re.MULTILINE)) == sorted(wanted)
