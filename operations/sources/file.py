"""A file as a source, for products of which no other source tells: CSV with a heading, or lines of JSON."""

import csv
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from shapely import Polygon

from extractors.errors import ConfigurationError
from operations.sources import outlines
from operations.sources.products import CARDS, Batch, Changes, Found, Question, Refused, card_of, product

COLUMNS = ("name", "start", "footprint")
TOO_MANY = "has more columns than the first line (what has commas in it, as footprints, stands in quotes)"
LINES_AT_ONCE = 1000
LONGEST_LINE = 2_000_000


class FileSource:
    """A file of products: name, start (UTC, unless it has a zone), footprint (WKT, or GeoJSON in lines of JSON).
    path: raises ConfigurationError for what cannot be read."""

    cards = tuple(CARDS)

    def __init__(self, path: Path) -> None:
        self._path = path

    def batches(self, question: Question) -> Iterator[Batch]:
        """What the file holds of these CARDs, and what cannot be used, with its line."""
        codes = {card.code for card in question.cards}
        batch = Batch()
        total = max(1, self._path.stat().st_size) if self._path.is_file() else 1
        for line, size, record in self._records():
            found = _product(line, record)
            if found.card in codes or not found.card:
                batch.add(found)
            batch.share += size / total
            if len(batch.found) + len(batch.refused) >= LINES_AT_ONCE:
                yield batch
                batch = Batch()
        yield batch

    def changes(self, question: Question) -> Iterator[Changes]:
        """Nothing: a file only says what is there."""
        yield from ()

    def _records(self) -> Iterator[tuple[int, int, dict[str, Any] | str]]:
        """Number and size of each line, and what is in it, or why that cannot be read."""
        try:
            if not self._path.is_file():
                raise ConfigurationError(f"{self._path}: there is no such file; name another with --file")
            with self._path.open(encoding="utf-8-sig", newline="") as file:
                start = file.readline(LONGEST_LINE)
                while start.isspace():
                    start = file.readline(LONGEST_LINE)
                file.seek(0)
                yield from self._of_json(file) if start.lstrip().startswith("{") else self._of_csv(file)
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
            raise ConfigurationError(f"{self._path}: cannot be read ({reason}); name another with --file") from error

    def _of_json(self, file: Any) -> Iterator[tuple[int, int, dict[str, Any] | str]]:
        number = 0
        while text := file.readline(LONGEST_LINE):
            number += 1
            if not text.strip():
                continue
            try:
                record = json.loads(text)
            except (ValueError, RecursionError):
                record = "is no JSON"
            yield number, len(text), record if isinstance(record, dict | str) else "is no JSON object"

    def _of_csv(self, file: Any) -> Iterator[tuple[int, int, dict[str, Any] | str]]:
        csv.field_size_limit(LONGEST_LINE)
        reader = csv.DictReader(file, strict=True)
        try:
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                columns = f"column{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
                raise ConfigurationError(
                    f"{self._path}: its first line does not name the {columns}; write {','.join(COLUMNS)} there, with "
                    "commas between, or lines of JSON with these keys"
                )
            for record in reader:
                yield (
                    reader.line_num,
                    sum(len(value) + 1 for value in record.values() if isinstance(value, str)),
                    TOO_MANY if None in record else record,
                )
        except csv.Error as error:
            raise ConfigurationError(f"{self._path}: line {reader.line_num} is no CSV ({error}); fix it") from error


def _product(line: int, record: dict[str, Any] | str) -> Found | Refused:
    if isinstance(record, str):
        return Refused("", f"line {line}", record)
    name = record.get("name")
    if not isinstance(name, str) or not name.strip():
        return Refused("", f"line {line}", "has no name")
    card = card_of(name)
    if card is None:
        return Refused("", name, "its name is not that of a product of any card")
    return product(card, name, record.get("start"), partial(_outline, record.get("footprint")))


def _outline(value: object) -> Polygon:
    return outlines.of_geojson(value) if isinstance(value, dict) else outlines.of_wkt(value)
