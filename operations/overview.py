"""What a page says of all scenes and parcels: read in one transaction, so that all of it is of one moment."""

import datetime as dt
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from psycopg2 import sql

from extractors.config import SOURCES, parse_table_name
from extractors.database.aoi import in_srid_by_parts
from extractors.database.connection import scalar
from extractors.database.outputs import HISTS
from extractors.database.schema import Table, find
from extractors.database.tables import Tables
from operations.progress import Again, conditions_of, names_of, read_again, tables_by_card
from operations.session import EarlyReader, Session
from operations.sql import statement
from operations.views import NULL, Wide, observations, settings_of

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as PgCursor  # noqa: N812

# Parcels that are looked at one by one; and how many of a large table come into question for that.
SAMPLE, CANDIDATES = 500, 50_000
# Cells along the longer side of the map.
CELLS = 32
# Rows of a table that are read from one end to the other, if no index finds those of a parcel.
MOST_UNINDEXED = 5_000_000
# The same of a table in partitions: those that more scenes may come into have no such index until they are closed, and
# the last one of a season stays so. One of a large country has 12 million.
MOST_OPEN = 15_000_000
# Reasons that are shown.
REASONS = 30
DAY = dt.timedelta(days=1)
# Up to which span of time scenes are counted by what.
UNITS = ((4 * DAY, "hour"), (120 * DAY, "day"), (dt.timedelta.max, "week"))
NEEDED = {"pid", "obsid", "band", "count", "mean", "p25", "p50", "p75"}


class Failure(NamedTuple):
    """Why scenes failed: how many, and one of them."""

    card: str
    status: str
    reason: str
    scenes: int
    example: str


class Pace(NamedTuple):
    """What was done in an hour, a day or a week; seconds: of a scene, the median."""

    card: str
    moment: dt.datetime
    scenes: int
    rows: int
    seconds: float
    workers: int


@dataclass(frozen=True)
class Map:
    """A grid on the area: its corner in the south west, size of a cell, and numbers of columns and rows; in_degrees:
    whether that is longitude and latitude. cells: those on the area; days: on how many days each was observed, by
    CARD."""

    west: float
    south: float
    width: float
    height: float
    columns: int
    rows: int
    in_degrees: bool
    outline: Mapping[str, Any]
    cells: Sequence[tuple[int, int]]
    days: Mapping[str, Mapping[tuple[int, int], int]]


class Seen(NamedTuple):
    """Observations of a parcel in a month; clear: those without clouds; known: whether that is known of all."""

    card: str
    month: dt.date
    pid: int
    observations: int
    clear: int
    known: bool


@dataclass(frozen=True)
class Results:
    """A table with the results of some CARDs, and the settings that each one's numbers depend on."""

    of: Wide
    settings: Mapping[str, Mapping[str, Any]]

    @property
    def cards(self) -> list[str]:
        """The CARDs."""
        return list(self.settings)

    def is_clear(self) -> sql.Composed:
        """Whether an observation is without clouds."""
        labels = [label for label, band in self.of.sources.get("s2", {}).items() if band.startswith("SCL")]
        column = sql.Identifier(self.of.column(labels[0])) if labels else NULL
        return statement("report.is_clear", classes=column)

    def names(self) -> dict[str, sql.Composable]:
        """What statements about observations of some parcels are filled in with."""
        chosen = observations(self.of, statement("report.of_parcels"))
        return {"observations": chosen, "is_clear": self.is_clear(), "results": self.of.results.identifier}


@dataclass(frozen=True)
class Overview:
    """All of it. months: by CARD and month, scenes by status. unit: what `pace` counts by. sample: parcels that were
    looked at one by one. notes: what is left out, and why. again: what is listed to be done again."""

    moment: dt.datetime
    months: Mapping[tuple[str, dt.date], Mapping[str, int]]
    failures: list[Failure]
    outcomes: Mapping[str, Mapping[str, int]]
    unit: str
    pace: list[Pace]
    map: Map | None
    results: list[Results]
    sample: list[int]
    seen: list[Seen]
    notes: list[str] = field(default_factory=list)
    again: Mapping[str, Again] = field(default_factory=dict)


class Reading:
    """Reads it with one cursor, in whose transaction nothing changes."""

    def __init__(self, cursor: "PgCursor", opened: Session, reader: EarlyReader, tables: Tables) -> None:
        self._cursor, self._opened, self._reader, self._tables = cursor, opened, reader, tables
        self._names = names_of(tables, True)
        self._values = conditions_of(opened, tables, None)
        self.notes: list[str] = []

    def overview(self, chosen: Sequence[int]) -> Overview:
        """All; `chosen`: parcels that are looked at in any case."""
        cursor, names, values = self._cursor, self._names, self._values
        cursor.execute(statement("report.memory"))
        cursor.execute(statement("progress.now"))
        now: dt.datetime = scalar(cursor)
        months: dict[tuple[str, dt.date], Counter[str]] = {}
        cursor.execute(statement("report.months", **names), values)
        for card, month, status, scenes in cursor.fetchall():
            months.setdefault((card, month), Counter())[status] += scenes
        results = self.results()
        sample = self._sample()
        pids = list(dict.fromkeys([*chosen, *sample]))
        seen = [seen for one in results for seen in self._seen(one, pids)]
        unit, pace = self._pace()
        return Overview(
            now,
            months,
            self._failures(),
            self._outcomes(),
            unit,
            pace,
            self._map(),
            results,
            sample,
            seen,
            self.notes,
            read_again(cursor, self._opened, self._tables),
        )

    def results(self) -> list[Results]:
        """The tables with results, each with the CARDs that are read from it. What cannot be read is in the notes."""
        cursor, tables = self._cursor, self._tables
        names = tables_by_card(cursor, tables, self._values)
        found = []
        for name in dict.fromkeys(names.values()):
            table = find(cursor, parse_table_name(name), "")
            if table.absent or not table.columns.keys() >= NEEDED:
                self.notes.append(f"There is no table {name} with results; it is left out.")
                continue
            if not self._is_quick(table, "its parcels are left out"):
                continue
            settings = settings_of(cursor, self._opened, tables.log, table)
            of_cards = {card: settings[card] for card in settings if names.get(card) == name}
            sources = {card: one[SOURCES] for card, one in of_cards.items()}
            found.append(Results(Wide(table, self._hists(table, of_cards), tables.catalogue, sources), of_cards))
        return found

    def _hists(self, results: Table, settings: Mapping[str, Mapping[str, Any]]) -> Table | None:
        """The histograms of such a table: where the log says that they are, else, of the configured one, where the
        configuration does. None: there are none, or they cannot be read."""
        if "s2" not in settings:
            return None
        logged, configured = settings["s2"].get("tables", {}).get(HISTS), self._reader.of_results.get(HISTS)
        names = [parse_table_name(logged)] if logged else []
        if configured is not None and results.name == self._tables.results.name:
            names.append(configured.name)
        for table in (find(self._cursor, name, "") for name in names):
            if not table.absent:
                return table if self._is_quick(table, "cloudy dates are told by the mean scene class") else None
        return None

    def known(self, pids: Sequence[int]) -> set[int]:
        """Which of these parcels there are."""
        self._cursor.execute(statement("report.known", **self._tables.parcel_columns), {"pids": list(pids)})
        return {pid for (pid,) in self._cursor.fetchall()}

    def _is_quick(self, table: Table, otherwise: str) -> bool:
        """Whether a parcel's rows can be read without reading a large table from one end to the other."""
        most = MOST_OPEN if table.kind == "p" else MOST_UNINDEXED
        if table.kind not in "rmp" or self._rows(table, without_index_on="pid") < most:
            return True
        which = "those of its partitions that are complete" if table.kind == "p" else "it"
        self.notes.append(
            f"The table {table} has no index on pid for all its rows: {otherwise}. `python -m operations index` gives "
            f"one to {which}."
        )
        return False

    def _rows(self, table: Table, without_index_on: str | None = None) -> int:
        values = {"table": table.identifier.as_string(self._cursor), "column": without_index_on}
        self._cursor.execute(statement("report.rows"), values)
        return int(scalar(self._cursor))

    def _sample(self) -> list[int]:
        """Of a large table, from a part of its pages; where these hold too few parcels of the area, from the
        surroundings of that."""
        parcels, srid, columns = self._tables.parcels, self._tables.parcel_srid, self._tables.parcel_columns
        rows = self._rows(parcels) if parcels.kind in "rmp" else 0
        everything, nothing = sql.SQL("true"), sql.SQL("")
        if rows <= CANDIDATES or srid is None:
            return self._drawn(nothing, everything)
        found = self._drawn(statement("report.sampled", percent=sql.Literal(100 * CANDIDATES / rows)), everything)
        if len(found) == SAMPLE:
            return found
        area = in_srid_by_parts(sql.Identifier("geometry"), "parcel_srid")
        return self._drawn(nothing, statement("report.near", area=area, **columns))

    def _drawn(self, sampled: sql.Composable, near: sql.Composable) -> list[int]:
        names = self._names | self._tables.parcel_columns | {"sampled": sampled, "near": near}
        values = self._values | {"most": SAMPLE, "parcel_srid": self._tables.parcel_srid}
        self._cursor.execute(statement("report.sample", **names), values)
        return [pid for (pid,) in self._cursor.fetchall()]

    def _seen(self, results: Results, pids: Sequence[int]) -> list[Seen]:
        values = self._values | {"pids": list(pids), "cards": results.cards}
        self._cursor.execute(statement("report.completeness", **results.names()), values)
        return [Seen(*row) for row in self._cursor.fetchall()]

    def _failures(self) -> list[Failure]:
        if self._tables.log.absent:
            return []
        self._cursor.execute(statement("report.failures", **self._names), self._values)
        found = [Failure(*row) for row in self._cursor.fetchall()]
        if len(found) > REASONS:
            rest = sum(one.scenes for one in found[REASONS:])
            self.notes.append(f"Of {len(found)} reasons for failures, {REASONS} are shown; {rest} scenes have others.")
        return found[:REASONS]

    def _outcomes(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        if not self._tables.log.absent:
            self._cursor.execute(statement("report.outcomes", **self._names), self._values)
            for card, outcome, attempts in self._cursor.fetchall():
                found.setdefault(card, {})[outcome or "running"] = attempts
        return found

    def _pace(self) -> tuple[str, list[Pace]]:
        if self._tables.log.absent:
            return "day", []
        cursor, names, values = self._cursor, self._names, self._values
        cursor.execute(statement("report.span", **names), values)
        first, last = cursor.fetchone() or (None, None)
        span = last - first if first is not None else dt.timedelta()
        unit = next(unit for most, unit in UNITS if span <= most)
        cursor.execute(statement("report.throughput", **names), values | {"unit": unit})
        return unit, [Pace(*row) for row in cursor.fetchall()]

    def _map(self) -> Map | None:
        """The longer side has CELLS cells, which are about square on the ground."""
        cursor, names, values = self._cursor, self._names, self._values
        cursor.execute(statement("report.extent", **names), values)
        west, south, east, north = cursor.fetchone() or (None,) * 4
        if west is None or not (east > west and north > south):
            return None
        in_degrees = self._tables.in_degrees
        shrunk = max(math.cos(math.radians((south + north) / 2)), 0.05) if in_degrees else 1.0
        side = max((east - west) * shrunk, north - south) / CELLS
        columns = max(1, round((east - west) * shrunk / side))
        rows = max(1, round((north - south) / side))
        width, height = (east - west) / columns, (north - south) / rows
        grid = {"west": west, "south": south, "width": width, "height": height, "columns": columns, "rows": rows}
        cursor.execute(statement("report.outline", **names), values | {"detail": side / 20})
        outline = json.loads(scalar(cursor) or "{}")
        raw = self._tables.catalogue.columns["footprint"].of("d")
        cells: dict[tuple[int, int], None] = {}
        days: dict[str, dict[tuple[int, int], int]] = {}
        cursor.execute(statement("report.cells", footprint=raw, **names), values | grid)
        for x, y, card, number in cursor:
            cells[x, y] = None
            if card is not None:
                days.setdefault(card, {})[x, y] = number
        return Map(**grid, in_degrees=in_degrees, outline=outline, cells=list(cells), days=days)
