"""Names of tables and dates, as configurations give them."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from psycopg2 import sql

from extractors.config import (
    TableName,
    parse_moment,
    parse_table_name,
)
from tests.support.configuration import SMALLEST_DATABASE, ReadDatabase, changed, refused

# Table names


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("sigs", TableName("sigs")),
        ("nl.sigs", TableName("sigs", "nl")),
        ("Sigs 2020", TableName("Sigs 2020")),
        ("sigs; DROP TABLE x", TableName("sigs; DROP TABLE x")),
        ("Übersicht", TableName("Übersicht")),
        ("x" * 63, TableName("x" * 63)),
    ],
)
def test_table_names(text: str, table: TableName) -> None:
    assert parse_table_name(text) == table
    assert str(table) == text
    assert table.identifier == sql.Identifier(*text.split("."))
    assert repr(table.identifier) == f"Identifier({', '.join(map(repr, text.split('.')))})"


@pytest.mark.parametrize(
    "text", ["", " ", ".", "a.", ".a", "a.b.c", "a. ", "x" * 64, "ü" * 32, "a.\0b", "100%", 5, None, ["a"], True]
)
def test_what_is_not_a_table_name(text: Any) -> None:
    with pytest.raises(ValueError, match="not a table name"):
        parse_table_name(text)


# Dates


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2020-02-29", dt.datetime(2020, 2, 29)),
        (" 2020-02-29 ", dt.datetime(2020, 2, 29)),
        ("2020-02-29T10:30:31", dt.datetime(2020, 2, 29, 10, 30, 31)),
        ("2020-02-29 10:30", dt.datetime(2020, 2, 29, 10, 30)),
        ("2020-02-29T10:30:31Z", dt.datetime(2020, 2, 29, 10, 30, 31)),
        ("2020-03-01T00:30:00+02:00", dt.datetime(2020, 2, 29, 22, 30)),
        ("9999-12-31", dt.datetime(9999, 12, 31)),
    ],
)
def test_dates_are_utc(text: str, moment: dt.datetime) -> None:
    assert parse_moment(text) == moment
    assert parse_moment(text).tzinfo is None


@pytest.mark.parametrize("text", ["", "2020", "2021-02-29", "29.02.2020", "2020-2-9", "yesterday", 20200229, None, 1.5])
def test_what_is_not_a_date(text: Any) -> None:
    with pytest.raises(ValueError):
        parse_moment(text)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+05:00", "9999-12-31T23:00:00-05:00"])
def test_a_date_that_leaves_the_calendar_in_utc(text: str, database: ReadDatabase, tmp_path: Path) -> None:
    message = refused(database, changed(SMALLEST_DATABASE, "database.args.startdate", text), tmp_path)
    assert message.startswith("db_config.json: database.args.startdate: ")
