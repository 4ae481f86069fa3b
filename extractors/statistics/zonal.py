"""Zonal statistics: the engines, how they are checked, and why a parcel has no statistics.

A parcel's pixels are those whose centre lies inside it, unless another rule is asked for; pixels equal to nodata and
NaN are left out. The numbers are by definition those of `rasterstats.zonal_stats`. An engine makes zones of polygons on
a grid, once for all bands on that grid; zones take the pixels of a band and return its table of statistics.
"""

import logging
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any, Protocol

import numpy as np
import shapely
from numpy.typing import NDArray

from extractors.errors import ConfigurationError, one_line
from extractors.model import StatisticsRequest
from extractors.signatures import COUNT, FRACTION, HIGHEST, LOWEST, STATISTICS, Statistic
from extractors.statistics.grid import Array, Floats, Integers, PolygonsOnGrid
from extractors.statistics.rasterstats import RasterstatsZones
from extractors.statistics.scanline import ScanlineZones

try:
    from extractors.statistics.fraction import FractionZones
except ImportError as missing:
    FractionZones, MISSING = None, one_line(missing)  # type: ignore[assignment, misc]
else:
    MISSING = ""

log = logging.getLogger(__name__)

# Why a parcel has no statistics.
OUTSIDE = "outside"
NO_PIXEL = "no_pixel"
NODATA = "nodata"
NOT_FINITE = "not_finite"
TOO_LARGE = "too_large"

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
    def pixels(self) -> Array:
        """How many pixels of the grid are each parcel's, valid or not; the sum of their shares, if these count."""

    def statistics(self, array: Array, nodata: float) -> Floats:
        """Parcels x the statistics wanted, for an array of the grid's shape; count 0 and NaN elsewhere without a valid
        pixel."""

    def histograms(self, array: Array, nodata: float) -> list[dict[str, int]]:
        """Pixels per value for each parcel, for an array of classes; {} without a valid pixel."""


class Engine(Protocol):
    """What makes zones: of polygons, and for some statistics."""

    def __call__(self, polygons: PolygonsOnGrid, wanted: Sequence[Statistic] = STATISTICS, /) -> Zones:
        """The zones of these polygons."""


REFERENCE = "rasterstats"
ENGINES: Mapping[str, Engine] = {"scanline": ScanlineZones, REFERENCE: RasterstatsZones}


def check_fractions() -> str:
    """That the library for shares of pixels is there; raises ConfigurationError."""
    if FractionZones is None:
        raise ConfigurationError(
            f"extraction.pixel_rule: fraction needs the library exactextract, which cannot be loaded "
            f'({MISSING}); install "parcel-extraction[fraction]", or write another pixel_rule'
        )
    return f"exactextract {metadata.version('exactextract')}"


def zones_of(engine: str, polygons: PolygonsOnGrid, wanted: Sequence[Statistic] = STATISTICS) -> Zones:
    """Zones by an engine, or by shares if that is the polygons' rule."""
    if polygons.rule == FRACTION:
        return FractionZones(polygons, wanted)
    return ENGINES[engine](polygons, wanted)


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


def verified(
    request: StatisticsRequest, polygons: PolygonsOnGrid, arrays: Sequence[Array], nodata: float
) -> tuple[Zones, list[Floats], bool]:
    """Zones and the statistics of each array by the engine of a request, checked against rasterstats.

    Some parcels (the request says how many), spread over those given that are not too much for rasterstats, are
    computed by it as well, each in one of the arrays. On any difference everything given here is recomputed with
    rasterstats, and the last value returned is True. Shares of pixels have no judge.
    """
    engine, sample, wanted = request.engine, request.verified_parcels, request.statistics
    zones = zones_of(engine, polygons, wanted)
    tables = [zones.statistics(array, nodata) for array in arrays]
    if engine == REFERENCE or polygons.rule == FRACTION or sample == 0 or not len(polygons):
        return zones, tables, False
    modest = (polygons.boxes.areas <= LARGEST_JUDGED_PIXELS) & (polygons.polygons.vertices <= MOST_JUDGED_VERTICES)
    judged = np.flatnonzero(modest)
    if not judged.size:
        return zones, tables, False
    chosen = judged[np.unique(np.linspace(0, len(judged) - 1, min(sample, len(judged))).astype(int))]
    for turn, (array, table) in enumerate(zip(arrays, tables, strict=True)):
        # Each parcel in one of the bands, in turn: they share their pixels, and rasterstats is slow.
        checked = chosen[turn :: len(arrays)]
        if not checked.size:
            continue
        expected = ENGINES[REFERENCE](polygons[checked], wanted).statistics(array, nodata)
        wrong = np.flatnonzero(~agree(table[checked], expected, array.dtype, wanted))
        if wrong.size:
            log.warning(
                "engine %s: %s for a parcel of %d vertices where rasterstats has %s; recomputing these %d parcels "
                "with rasterstats",
                engine,
                table[checked][wrong[0]].tolist(),
                shapely.get_num_coordinates(polygons.polygons.geometries[checked[wrong[0]]]),
                expected[wrong[0]].tolist(),
                len(polygons),
            )
            zones = ENGINES[REFERENCE](polygons, wanted)
            return zones, [zones.statistics(array, nodata) for array in arrays], True
    return zones, tables, False


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
