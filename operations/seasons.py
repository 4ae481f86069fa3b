"""The season of a parcel, as charts: NDVI, backscatter, coherence."""

import datetime as dt
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from extractors.products.metadata import FIRST_OF_OTHERS, FIRST_WITH_OFFSET, OFFSET
from operations.overview import Results
from operations.sql import statement

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as PgCursor  # noqa: N812

# Formulas of indices that are the NDVI, as `extraction.indices` writes them.
NDVI = {"nd(B08, B04)", "nd(B8A, B04)"}
RADAR = {"bs": "Backscatter", "c6": "Coherence, 6 days", "c1": "Coherence, 12 days"}
UNITS = {"bs": "gamma0, dB", "c6": "coherence", "c1": "coherence"}
# Where values usually lie; those of NDVI over water are lower.
RANGES = {"NDVI": (-0.2, 1.0), "coherence": (0.0, 1.0)}
# No axis goes further: of dark pixels, an NDVI can be any number.
LEAST = -1.0
Value = float | None
# Band label -> mean, p25, p50, p75.
Rows = Mapping[str, tuple[Value, Value, Value, Value]]


@dataclass(frozen=True)
class Observation:
    """A parcel in one scene. clear: without clouds; None: nobody knows."""

    card: str
    moment: dt.datetime
    reference: str
    cloud_share: Value
    clear: bool | None
    rows: dict[str, tuple[Value, Value, Value, Value]]


@dataclass(frozen=True)
class Line:
    """Values of a chart, one for each of its dates: the median, or what there is in place of it, and p25 and p75, if
    they are known."""

    name: str
    middle: list[Value]
    low: list[Value] | None = None
    high: list[Value] | None = None


@dataclass(frozen=True)
class Chart:
    """Lines over the same dates; cloudy: which dates are."""

    title: str
    unit: str
    note: str
    observations: Sequence[Observation]
    lines: list[Line]

    @property
    def cloudy(self) -> list[bool]:
        """Which of the dates are cloudy."""
        return [one.clear is False for one in self.observations]

    @property
    def range(self) -> tuple[float, float] | None:
        """From and up to what the axis goes, so that charts of several parcels can be compared, and water is not beyond
        it; None: as the values are."""
        if self.unit not in RANGES:
            return None
        least, most = RANGES[self.unit]
        values = [
            one for line in self.lines for part in (line.low, line.middle) for one in part or [] if one is not None
        ]
        return max(LEAST, min([least, *(math.floor(value * 5) / 5 for value in values)])), most


@dataclass(frozen=True)
class Season:
    """All charts of a parcel."""

    pid: int
    charts: list[Chart] = field(default_factory=list)


def read_seasons(
    cursor: "PgCursor", results: Sequence[Results], pids: Sequence[int], dates: Mapping[str, Any]
) -> list[Season]:
    """The seasons of these parcels. dates: `start` and `end`."""
    seasons = {pid: Season(pid) for pid in pids}
    for one in results:
        values = {**dates, "pids": list(pids), "cards": one.cards}
        cursor.execute(statement("report.season", **one.names()), values)
        found: dict[int, dict[tuple[str, dt.datetime, str], Observation]] = {pid: {} for pid in pids}
        for pid, card, moment, reference, cloud_share, clear, label, mean, p25, p50, p75 in cursor:
            blank = Observation(card, moment, reference, cloud_share, clear, {})
            found[pid].setdefault((card, moment, reference), blank).rows[label] = (
                _finite(mean),
                _finite(p25),
                _finite(p50),
                _finite(p75),
            )
        for pid, observed in found.items():
            for card in one.cards:
                of_card = [observation for observation in observed.values() if observation.card == card]
                chart = _optical(of_card, one.settings[card]) if card == "s2" else _radar(of_card, one.settings[card])
                if chart is not None:
                    seasons[pid].charts.append(chart)
    return list(seasons.values())


def _optical(observed: Sequence[Observation], settings: Mapping[str, Any]) -> Chart | None:
    """The NDVI, from an index if there is one, else of the means of two bands."""
    sources: Mapping[str, str] = settings["sources"]
    written = {label for one in observed for label in one.rows}
    unknown = observed and all(one.clear is None for one in observed)
    clouds = "It is not known which dates are cloudy." if unknown else "Circles without a line: cloudy dates."
    for label, formula in sources.items():
        if formula in NDVI and label in written:
            note = f"Index {label} of each pixel: median, and p25 to p75. {clouds}"
            return Chart("NDVI", "NDVI", note, observed, [_spread(label, observed)])
    red, infrared = (_label(sources, band, written) for band in ("B04", "B08"))
    if red is None or infrared is None:
        return None
    is_raw = settings.get("radiometry", "raw") == "raw"
    values = [
        _ndvi(one.rows.get(red), one.rows.get(infrared), _offset(one.reference) if is_raw else 0) for one in observed
    ]
    note = f"Of the means of {infrared} and {red}, so without a spread. {clouds}"
    if is_raw and any(_offset(one.reference) for one in observed):
        note += " The offset of 1000 since baseline 04.00 is taken off, as the products' names tell."
    return Chart("NDVI", "NDVI", note, observed, [Line("NDVI", values)])


def _radar(observed: Sequence[Observation], settings: Mapping[str, Any]) -> Chart | None:
    """All polarisations of a CARD."""
    if not observed:
        return None
    card = observed[0].card
    written = {label for one in observed for label in one.rows}
    labels = [
        label for label, band in settings["sources"].items() if band in {"VV", "VH", "HH", "HV"} and label in written
    ]
    convert = _decibel if card == "bs" and settings.get("backscatter_unit", "linear") == "linear" else _same
    if not labels:
        return None
    lines = [_spread(label, observed, convert) for label in labels]
    return Chart(RADAR[card], UNITS[card], "Median, and p25 to p75.", observed, lines)


def _label(sources: Mapping[str, str], band: str, written: set[str]) -> str | None:
    """The label of a band, at whatever resolution."""
    return next((label for label, one in sources.items() if one.partition("_")[0] == band and label in written), None)


def _offset(reference: str) -> float:
    """By how much the numbers of a product are higher than reflectance x 10000."""
    found = re.search(r"^S2[A-Z]_MSIL2A_\w+?_N(\d{4})_", reference)
    return -OFFSET if found and FIRST_WITH_OFFSET <= int(found[1]) < FIRST_OF_OTHERS else 0.0


def _ndvi(red: Sequence[Value] | None, infrared: Sequence[Value] | None, offset: float) -> Value:
    if red is None or infrared is None or red[0] is None or infrared[0] is None:
        return None
    one, two = red[0] - offset, infrared[0] - offset
    return (two - one) / (two + one) if one + two > 0 else None


def _spread(label: str, observed: Sequence[Observation], convert: Callable[[Value], Value] | None = None) -> Line:
    nothing = (None,) * 4
    rows = [one.rows.get(label, nothing) for one in observed]
    _, low, middle, high = ([(convert or _same)(row[place]) for row in rows] for place in range(4))
    return Line(label, middle, low, high)


def _same(value: Value) -> Value:
    return value


def _decibel(value: Value) -> Value:
    return 10 * math.log10(value) if value is not None and value > 0 else None


def _finite(value: Value) -> Value:
    return value if value is not None and math.isfinite(value) else None
