"""Zonal statistics: the engines, how they are checked, and why a parcel has no statistics.

A parcel's pixels are those whose centre lies inside it; pixels equal to nodata and NaN are left out. The numbers are
by definition those of `rasterstats.zonal_stats`. An engine makes zones of polygons on a grid, once for all bands on
that grid; zones take the pixels of a band and return its table of statistics.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import shapely
from numpy.typing import NDArray

from extractors.model import StatisticsRequest
from extractors.signatures import COUNT, HIGHEST, LOWEST, STATISTICS, Statistic
from extractors.statistics.grid import Array, Floats, Integers, PolygonsOnGrid
from extractors.statistics.pixels import Marked, Pixels
from extractors.statistics.rasterstats import RasterstatsZones
from extractors.statistics.scanline import ScanlineZones

log = logging.getLogger(__name__)

# Why a parcel has no statistics.
OUTSIDE = "outside"
NO_PIXEL = "no_pixel"
NODATA = "nodata"
NOT_FINITE = "not_finite"
TOO_LARGE = "too_large"
NOT_CLEAR = "not_clear"

# How far statistics that are not exact may be from rasterstats', relative to the parcel's largest value. rasterstats
# sums float32 pixels in float32, so there its own rounding limits the comparison.
TOLERANCE = 1e-9
TOLERANCE_FLOAT32 = 1e-5

# What rasterstats is asked about: it takes up to a hundred bytes for each pixel of a parcel's box, and a thousand for
# each vertex.
LARGEST_JUDGED_PIXELS = 4_000_000
MOST_JUDGED_VERTICES = 200_000


class Zones(Protocol):
    """The parcels of a chunk on one grid, ready for the bands that have this grid."""

    @property
    def pixels(self) -> Integers:
        """How many pixel centres of the grid lie in each parcel, valid or not."""

    def statistics(self, values: Pixels | Array, nodata: float = 0) -> Floats:
        """Parcels x the statistics wanted, for pixels, or an array of the grid's shape and its nodata; count 0 and NaN
        elsewhere without a valid pixel."""

    def histograms(self, values: Pixels | Array, nodata: float = 0) -> list[dict[str, int]]:
        """Pixels per value for each parcel, for classes; {} without a valid pixel."""

    def marked(self, marks: Pixels) -> Integers:
        """How many pixels of each parcel have a mark."""

    def some(self, chosen: Integers) -> "Zones":
        """Some of the parcels, by position."""


class Engine(Protocol):
    """What makes zones: of polygons, and for some statistics."""

    def __call__(self, polygons: PolygonsOnGrid, wanted: Sequence[Statistic] = STATISTICS, /) -> Zones:
        """The zones of these polygons."""


REFERENCE = "rasterstats"
ENGINES: Mapping[str, Engine] = {"scanline": ScanlineZones, REFERENCE: RasterstatsZones}


def reasons(
    polygons: PolygonsOnGrid, zones: Zones | None, counts: Array, infinite: Array | None = None
) -> dict[str, Integers]:
    """Why each parcel without a valid pixel (counts == 0) has none; their positions, by reason: `outside` if it does
    not overlap the grid, `no_pixel` if it holds no pixel centre (zones None: none of them does), `not_finite` if any of
    its pixels is infinite (infinite: how many are), else `nodata`."""
    without = np.flatnonzero(counts == 0)
    if not without.size:
        return {}
    west, south, east, north = polygons.grid.bounds
    left, bottom, right, top = polygons.polygons.bounds[without].T
    why = np.full(len(without), NODATA, dtype=object)
    if infinite is not None:
        why[infinite[without] > 0] = NOT_FINITE
    why[(np.zeros(len(polygons)) if zones is None else zones.pixels)[without] == 0] = NO_PIXEL
    why[(left >= east) | (right <= west) | (bottom >= north) | (top <= south)] = OUTSIDE
    return {reason: without[why == reason] for reason in dict.fromkeys(why)}


@dataclass(frozen=True)
class Question:
    """What is asked of polygons on a grid: statistics of each of these pixels, and of those of them where there are
    marks (of `marked`, by position); histograms of classes."""

    pixels: Sequence[Pixels]
    marks: Pixels | None = None
    marked: Sequence[int] = ()
    classes: Pixels | None = None

    @property
    def all_pixels(self) -> list[Pixels]:
        """Those of which there are statistics: all, then those with marks."""
        if self.marks is None:
            return list(self.pixels)
        return [*self.pixels, *(Marked(self.pixels[place], self.marks) for place in self.marked)]


@dataclass(frozen=True)
class Answer:
    """To a question: zones, tables of statistics (as `Question.all_pixels`), a histogram for each polygon. recomputed:
    rasterstats had to."""

    zones: Zones
    tables: list[Floats]
    histograms: list[dict[str, int]]
    recomputed: bool = False


def answer(zones: Zones, question: Question) -> Answer:
    """What zones say to a question."""
    tables = [zones.statistics(pixels) for pixels in question.pixels]
    if question.marks is not None:
        number = zones.marked(question.marks)
        # Where all is marked, or nothing, what is marked is known.
        mixed = np.flatnonzero((number > 0) & (number < zones.pixels))
        some = zones.some(mixed) if mixed.size else None
        for place, pixels in zip(question.marked, question.all_pixels[len(question.pixels) :], strict=True):
            table = tables[place].copy()
            table[number == 0] = np.nan
            table[number == 0, COUNT] = 0
            if some is not None:
                table[mixed] = some.statistics(pixels)
            tables.append(table)
    return Answer(zones, tables, [] if question.classes is None else zones.histograms(question.classes))


def verified(request: StatisticsRequest, polygons: PolygonsOnGrid, question: Question) -> Answer:
    """What the engine of a request says to a question, checked against rasterstats.

    Some parcels (the request says how many), spread over those given that are not too much for rasterstats, are
    computed by it as well: the histogram of each, and each in one of the tables, or more if there are fewer parcels. On
    any difference everything given here is recomputed with rasterstats.
    """
    engine, sample, wanted = request.engine, request.verified_parcels, request.statistics
    found = answer(ENGINES[engine](polygons, wanted), question)
    if engine == REFERENCE or sample == 0 or not len(polygons):
        return found
    modest = (polygons.boxes.areas <= LARGEST_JUDGED_PIXELS) & (polygons.polygons.vertices <= MOST_JUDGED_VERTICES)
    judged = np.flatnonzero(modest)
    if not judged.size:
        return found
    chosen = judged[np.unique(np.linspace(0, len(judged) - 1, min(sample, len(judged))).astype(int))]
    difference = _difference(found, polygons, question, (chosen, wanted))
    if difference is None:
        return found
    log.warning(
        "engine %s: %s where rasterstats has %s; recomputing these %d parcels with rasterstats",
        *(engine, *difference, len(polygons)),
    )
    return replace(answer(ENGINES[REFERENCE](polygons, wanted), question), recomputed=True)


def _difference(
    found: Answer, polygons: PolygonsOnGrid, question: Question, what: tuple[Integers, Sequence[Statistic]]
) -> tuple[str, object] | None:
    """What an engine has and what rasterstats has instead, of the first of the chosen parcels where that differs; what:
    which parcels, and statistics."""
    chosen, wanted = what

    def of(index: int) -> str:
        return f"for a parcel of {shapely.get_num_coordinates(polygons.polygons.geometries[index])} vertices"

    number = len(found.tables)
    for turn, (pixels, table) in enumerate(zip(question.all_pixels, found.tables, strict=True)):
        # Each parcel in one of the bands, in turn: they share their pixels, and rasterstats is slow.
        checked = chosen[turn::number] if turn < len(chosen) else chosen[[turn % len(chosen)]]
        expected = ENGINES[REFERENCE](polygons[checked], wanted).statistics(pixels)
        wrong = np.flatnonzero(~agree(table[checked], expected, pixels.dtype, wanted))
        if wrong.size:
            index = checked[wrong[0]]
            return f"{table[index].tolist()} {of(index)}", expected[wrong[0]].tolist()
    if question.classes is not None:
        histograms = ENGINES[REFERENCE](polygons[chosen], wanted).histograms(question.classes)
        for index, histogram in zip(chosen, histograms, strict=True):
            if found.histograms[index] != histogram:
                return f"the classes {found.histograms[index]} {of(index)}", histogram
    return None


def agree(
    table: Floats, expected: Floats, dtype: np.dtype[Any], wanted: Sequence[Statistic] = STATISTICS
) -> NDArray[np.bool_]:
    """Which rows of statistics are the same: exact statistics equal, the others but for rounding."""
    exact, adds_up = (np.array(marks) for marks in zip(*((each.exact, each.adds_up) for each in wanted), strict=True))
    same = (table == expected) | (np.isnan(table) & np.isnan(expected))
    tolerance = TOLERANCE_FLOAT32 if dtype == np.float32 else TOLERANCE
    scale = np.fmax(np.abs(expected[:, LOWEST]), np.abs(expected[:, HIGHEST]))[:, None]
    scale = np.where(adds_up, scale * expected[:, COUNT, None], scale)
    close = np.abs(table - expected) <= tolerance * scale
    empty = (expected[:, COUNT] == 0)[:, None]
    result: NDArray[np.bool_] = np.where(exact, same, close | empty).all(axis=1)
    return result
