"""Configurations as small as they may be, changed for a test; and what is said of those that cannot be used."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from extractors.config import (
    DatabaseFile,
    StoreFile,
)
from extractors.errors import ConfigurationError

CANARY = "canary-7f3a"
"""A secret that no message may show."""

SMALLEST_DATABASE: dict[str, Any] = {
    "database": {
        "connection": {"host": "db.example", "dbname": "cbm", "dbuser": "jo", "dbpasswd": CANARY, "port": 5433},
        "tables": {"aoi_table": "aois", "parcel_table": "parcels_2020", "results_table": "sigs"},
        "args": {"aoi_field": "name", "name": "nl", "startdate": "2020-01-01", "enddate": "2021-01-01"},
    }
}
SMALLEST_STORE: dict[str, Any] = {
    "s3": {"access_key": CANARY, "secret_key": CANARY, "host": "http://data.cloudferro.com", "bucket": "DIAS"}
}
ABSENT = object()


def changed(document: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy with the value at `section.section.key` set, or taken out (ABSENT)."""
    result = copy.deepcopy(document)
    *sections, last = key.split(".")
    section = result
    for name in sections:
        section = section.setdefault(name, {})
    if value is ABSENT:
        del section[last]
    else:
        section[last] = value
    return result


ReadDatabase = Callable[[Any], DatabaseFile]
ReadStore = Callable[[Any], StoreFile]


def refused(read: Callable[[Any], Any], document: Any, folder: Path) -> str:
    """The message, without the file that it must begin with; one line, and no secret in it."""
    with pytest.raises(ConfigurationError) as caught:
        read(document)
    message = str(caught.value)
    assert caught.value.exit_code == 2
    assert "\n" not in message
    assert CANARY not in message
    assert message.startswith(f"{folder}/")
    return message.removeprefix(f"{folder}/")


def without_others_words(message: str) -> str:
    """With (...) for a reason in the words of a library, which differ from version to version."""
    return re.sub(r"cannot be used \((?!not a table name\)).+?\); write", "cannot be used (...); write", message)
