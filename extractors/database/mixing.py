"""Whether numbers of two meanings would come into one table of results: asked before the first claim.

What numbers depend on is in the log, as `settings`: of scenes that were extracted, and of those that workers are at. So
are the tables that their rows went into, beside the results table proper. Only scenes count of which the table still
holds rows: it may have been emptied, or be another one of the same name.
"""

import json
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from psycopg2 import errors as pg
from psycopg2 import sql

from extractors.config import OF_CLEAR_ROWS, PARCEL_RULES, SOURCES
from extractors.database.connection import Database, scalar
from extractors.database.outputs import CLEAR_RESULTS, GAPS, HISTS, OUTPUTS, RESULTS
from extractors.database.schema import Table, find
from extractors.database.sql import statement
from extractors.database.tables import SETTINGS, TableReader
from extractors.errors import ConfigurationError, ExtractionError
from extractors.labels import DEFAULT, PRESETS, layers
from extractors.model import Check

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as PgCursor  # noqa: N812

log = logging.getLogger(__name__)

LONGEST_LOOK_SECONDS = 5
# What numbers mean of which the log says nothing: those of established tables, and of versions before. Of settings that
# are not named here they may have any value.
UNSAID: dict[str, Any] = {
    "radiometry": "raw",
    "pixel_rule": "centre",
    "backscatter_unit": "linear",
    "pixels": "all",
    "inward_buffer_m": 0,
    "min_area_m2": 0,
    "min_pixels": 0,
    SOURCES: {label: band for code in DEFAULT for preset in PRESETS for band, label in layers(code, preset)},
}
# In the place of a log that is still to be made.
NO_LOG = sql.SQL("(SELECT NULL::integer AS obsid, NULL::text AS results, NULL::text AS outcome WHERE false)")
REMEDY = "write another {}, or start with --accept-mixed if both may stand in one table"


class Mixing:
    """The check for one CARD. meaning: what this worker's numbers depend on. accepted: differences are only said."""

    # Which of OUTPUTS is looked at, the table, what its numbers depend on, and the log. As they are now: what was
    # absent at the start may have been filled by others.
    _name: str
    _results: Table
    _ours: dict[str, Any]
    _log: Table

    def __init__(
        self, database: Database, reader: TableReader, card: str, meaning: Mapping[str, Any], accepted: bool
    ) -> None:
        self._database = database
        self._reader = reader
        self._card = card
        self._meaning = dict(meaning)
        self._accepted = accepted

    def checks(self) -> list[Check]:
        """It, in the form of checks."""
        return [Check("meaning of numbers", self.look, ("catalogue", "extraction log", "results table"))]

    def look(self) -> str:
        """That no table of results holds numbers of another meaning."""
        accepted = []
        for name, table in self._reader.of_results.items():
            self._name, self._ours = name, self._meaning_in(name)
            with self._database.transaction(f"looking at the table {table}") as cursor:
                self._results = find(cursor, table.name, table.key)
                self._log = find(cursor, self._reader.log.name, self._reader.log.key)
            problem = None if self._results.absent else self._difference()
            if problem is None:
                continue
            where = f"{self._results.key}: {self._results}"
            if not self._accepted:
                raise ConfigurationError(f"{where} {problem}; {REMEDY.format(OUTPUTS[name].key)}")
            log.warning("%s %s: accepted", where, problem)
            accepted.append(f"{self._results} {problem}: accepted")
        own = _in_words({name: value for name, value in self._meaning.items() if name != SOURCES})
        return "; ".join(accepted) or own or "no setting changes them"

    def _meaning_in(self, name: str) -> dict[str, Any]:
        """What rows depend on in one of OUTPUTS."""
        if name == GAPS:
            return {"results_table": str(self._reader.results)}
        if name == HISTS:
            return {key: value for key, value in self._meaning.items() if key in PARCEL_RULES}
        if name == CLEAR_RESULTS:
            return self._meaning | {"pixels": "clear"}
        return {key: value for key, value in self._meaning.items() if key not in OF_CLEAR_ROWS} | {"pixels": "all"}

    def _difference(self) -> str | None:
        """What is in the table that does not go with this worker's numbers, in words; None for nothing."""
        for said, extracted, under_way in self._said():
            different = self._differing(said)
            if different and under_way:
                return f"is being given scene {under_way[0]} by another worker with {different}"
            held = self._held(self._some_of(extracted)) if different else None
            if held is not None:
                others = f" (and perhaps {len(extracted) - 1} more)" if len(extracted) > 1 else ""
                return f"holds scene {held or extracted[0]}{others} with {different}"
        different = self._differing({})
        if different and not self._results.made_here:
            held = self._held(lambda at: at.execute(statement("checks.held_unknown", **self._names), self._values))
            if held is not None:
                return f"may hold {f'scene {held}' if held else 'scenes'} of another program, with {different}"
        return None

    def _differing(self, said: dict[str, Any]) -> str:
        """Their values that are not ours, and ours, in words; "" for none."""
        ours, theirs = _flat(self._ours), _flat(UNSAID | said)
        names = [name for name, value in ours.items() if theirs.get(name, value) != value]
        if not names:
            return ""
        shown = [_in_words({name: values[name] for name in names}) for values in (theirs, ours)]
        return f"{shown[0]}, and this worker is set to {shown[1]}"

    def _said(self) -> list[tuple[dict[str, Any], list[int], list[int]]]:
        """The meanings that the log knows of the table, each with the scenes that were extracted last with it, and
        those that workers are at."""
        if self._log.absent:
            return []
        with self._database.transaction("reading the log") as cursor:
            cursor.execute(statement("checks.meanings", **self._names), self._values)
            return [
                (
                    {name: value for name, value in zip(self._ours, values, strict=True) if value is not None},
                    extracted or [],
                    under_way or [],
                )
                for values, extracted, under_way in cursor.fetchall()
            ]

    def _some_of(self, scenes: list[int]) -> "Callable[[PgCursor], object]":
        return lambda at: at.execute(statement("checks.held", **self._names), {"scenes": scenes})

    def _held(self, ask: "Callable[[PgCursor], object]") -> int | None:
        """One of these scenes of which the table holds rows; None if there is none, 0 if that takes too long to find
        out."""
        try:
            with self._database.transaction("looking for rows of scenes") as cursor:
                cursor.execute(statement("connection.limit_time"), {"milliseconds": str(LONGEST_LOOK_SECONDS * 1000)})
                cursor.execute(statement("results.use_indexes"))
                ask(cursor)
                found: int | None = scalar(cursor)
                return found
        except ExtractionError as error:
            if isinstance(error.__cause__, pg.QueryCanceled):
                return 0
            raise

    @property
    def _names(self) -> dict[str, sql.Composable]:
        return {
            "log": NO_LOG if self._log.absent else self._log.identifier,
            "settings": sql.Identifier(SETTINGS) if SETTINGS in self._log.columns else sql.SQL("NULL::jsonb"),
            "results": self._results.identifier,
            "catalogue": self._reader.catalogue.identifier,
        }

    @property
    def _values(self) -> dict[str, Any]:
        table = str(self._results)
        other = json.dumps({CLEAR_RESULTS if self._name == RESULTS else self._name: table}, ensure_ascii=False)
        return {"results": table, "other": other, "card": self._card, "keys": list(self._ours)}


def _flat(meaning: Mapping[str, Any]) -> dict[str, Any]:
    """The same with each label as a setting of its own: which band it is from."""
    rest = {name: value for name, value in meaning.items() if name != SOURCES}
    return rest | {f"{label} from": band for label, band in meaning.get(SOURCES, {}).items()}


def _in_words(meaning: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in meaning.items())
