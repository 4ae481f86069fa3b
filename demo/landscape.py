"""A made-up farming landscape: fields between roads, a village, a wood and a lake, always the same for the same seed.

It is cut out of the plane by straight lines, as land consolidation does it, and then bent a little, so that roads
and boundaries curve. All coordinates are metres in EPSG:32632.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import rasterio.features
import shapely
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry

from demo.products import Grid

Floats = npt.NDArray[np.float64]

CROPS = ("winter wheat", "rapeseed", "maize", "sugar beet", "permanent grassland")
OTHER_COVERS = ("verge", "wood", "village", "water")  # what lies between the parcels
COVERS = CROPS + OTHER_COVERS
SHARES = (0.32, 0.15, 0.22, 0.09, 0.22)  # of the parcels, by crop
SHARES_SMALL = (0.18, 0.05, 0.12, 0.05, 0.60)  # small fields are mostly grassland
SMALL_HECTARES = 2.0

SIDE = 10_050.0  # m, of the whole landscape
TURN = np.radians(8.0)  # of its main direction against the grid
BLOCK_HECTARES = (25.0, 70.0)  # between two roads
FIELD_HECTARES = (1.0, 15.0)
FIELD_MEDIAN_HECTARES, FIELD_SIGMA = 7.4, 0.6  # lognormal; the largest that is not split further
ROAD_HALF_WIDTHS = (3.0, 7.0)  # m
MARGIN = 1.5  # m, left uncultivated around a field
SMALLEST_HECTARES = 0.3
PONDS = 25  # parcels with a hole
SPLIT_JITTER_DEGREES = 4.0


@dataclass(frozen=True)
class Landscape:
    """Parcels and what lies between them.

    `covers`, `delays` and `vigours` have one entry per label: parcel i has label i + 1; label 0 is the verge, and
    wood, village and water come after the last parcel.
    """

    parcels: list[Polygon]
    others: list[Polygon]  # wood, village, water, in this order
    covers: npt.NDArray[np.intp]  # index into COVERS
    delays: Floats  # days by which everything happens later than on average
    vigours: Floats  # factor on green cover
    mowings: Floats  # (labels, 4) day of year of each cut, NaN: none

    @property
    def crops(self) -> list[str]:
        """The crop of each parcel."""
        return [COVERS[cover] for cover in self.covers[1 : len(self.parcels) + 1]]

    def labels(self, grid: Grid, shape: tuple[int, int]) -> npt.NDArray[np.uint16]:
        """The label of each pixel, by its centre."""
        geometries = [*self.parcels, *self.others]
        labels: npt.NDArray[np.uint16] = rasterio.features.rasterize(
            zip(geometries, range(1, len(geometries) + 1), strict=True),
            out_shape=shape,
            transform=grid.transform,
            dtype="uint16",
        )
        return labels


def make_landscape(seed: int, centre: tuple[float, float]) -> Landscape:
    """About 2,000 parcels of 0.3-15 ha around `centre` (easting, northing)."""
    rng = np.random.default_rng([seed, 1])
    wood, village, water = (
        _blob(rng, centre, offset, radius)
        for offset, radius in (((-2300, 1500), 1000), ((1200, -900), 620), ((2900, 2700), 380))
    )
    taken = shapely.union_all([wood, village, water]).buffer(12)
    shapely.prepare(taken)
    fields = [field for field in _fields(rng, centre) if _hectares(field) > SMALLEST_HECTARES]
    parcels = [_largest(field.difference(taken)) if field.intersects(taken) else field for field in fields]
    parcels = [parcel for parcel in parcels if _hectares(parcel) > SMALLEST_HECTARES]
    for index in rng.choice(len(parcels), PONDS, replace=False):
        parcels[index] = _with_pond(rng, parcels[index])
    return _with_seasons(rng, parcels, [wood, village, water])


def _with_seasons(rng: np.random.Generator, parcels: list[Polygon], others: list[Polygon]) -> Landscape:
    small = shapely.area(parcels) < SMALL_HECTARES * 1e4
    crops = np.where(
        small,
        rng.choice(len(CROPS), len(parcels), p=SHARES_SMALL),
        rng.choice(len(CROPS), len(parcels), p=SHARES),
    )
    verge, *rest = (COVERS.index(cover) for cover in OTHER_COVERS)
    covers = np.concatenate([[verge], crops, rest])
    delays = np.clip(rng.normal(0, 5, len(covers)), -11, 11)
    mowings = np.array([137.0, 181.0, 226.0, 268.0]) + delays[:, None] + rng.normal(0, 4, (len(covers), 4))
    mowings[rng.random(mowings.shape) < 0.15] = np.nan  # not every farmer cuts four times
    mowings[covers != CROPS.index("permanent grassland")] = np.nan
    vigours = np.clip(rng.normal(1, 0.05, len(covers)), 0.85, 1.1)
    return Landscape(parcels, others, covers, delays, vigours, mowings)


def _fields(rng: np.random.Generator, centre: tuple[float, float]) -> list[Polygon]:
    """The landscape split into blocks, and these into fields, in map coordinates."""
    corners = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]) * SIDE / 2
    fields: list[Polygon] = []
    for outline in _split(rng, corners, lambda: rng.uniform(*BLOCK_HECTARES)):
        block = Polygon(outline).buffer(-rng.uniform(*ROAD_HALF_WIDTHS), join_style="mitre")
        grain = FIELD_MEDIAN_HECTARES * rng.lognormal(0, 0.3)  # neighbours have fields of similar size
        pieces = _split(rng, shapely.get_coordinates(block)[:-1], partial(_field_hectares, rng, grain))
        fields += [Polygon(piece).buffer(-MARGIN, join_style="mitre") for piece in pieces]
    return [_on_the_map(field, centre) for field in fields if not field.is_empty]


def _field_hectares(rng: np.random.Generator, grain: float) -> float:
    return float(np.clip(grain * rng.lognormal(0, FIELD_SIGMA), *FIELD_HECTARES))


def _split(rng: np.random.Generator, outline: Floats, largest: Callable[[], float]) -> list[Floats]:
    """Halve a convex outline across its longest side until each piece is smaller than a freshly drawn area (ha)."""
    todo, done = [outline], []
    while todo:
        piece = todo.pop()
        if _hectares(Polygon(piece)) < largest():
            done.append(piece)
            continue
        sides = np.roll(piece, -1, axis=0) - piece
        along = sides[np.argmax(np.hypot(*sides.T))]
        angle = np.arctan2(along[1], along[0]) + np.radians(rng.normal(0, SPLIT_JITTER_DEGREES))
        normal = np.array([np.cos(angle), np.sin(angle)])
        reach = piece @ normal
        cut = reach.min() + rng.uniform(0.36, 0.64) * np.ptp(reach)
        todo += [_half(piece, normal, cut), _half(piece, -normal, -cut)]
    return done


def _half(outline: Floats, normal: Floats, cut: float) -> Floats:
    """The part of a convex outline on which `point @ normal` is at most `cut`."""
    reach = outline @ normal - cut
    kept: list[Floats] = []
    for here, there, start, end in zip(reach, np.roll(reach, -1), outline, np.roll(outline, -1, axis=0), strict=True):
        if here <= 0:
            kept.append(start)
        if here * there < 0:
            kept.append(start + (end - start) * here / (here - there))
    return np.array(kept)


def _on_the_map(field: Polygon, centre: tuple[float, float]) -> Polygon:
    """Bend (roads are seldom straight), turn, and move to `centre`."""

    def bend(points: Floats) -> Floats:
        x, y = points.T
        u = x + 60 * np.sin(y / 620 + 1) + 25 * np.sin((x + y) / 330)
        v = y + 60 * np.sin(x / 700 + 2) + 25 * np.sin((x - y) / 290)
        cos, sin = np.cos(TURN), np.sin(TURN)
        return np.column_stack([centre[0] + cos * u - sin * v, centre[1] + sin * u + cos * v])

    return shapely.transform(shapely.segmentize(field, 60.0), bend)


def _blob(rng: np.random.Generator, centre: tuple[float, float], offset: tuple[float, float], radius: float) -> Polygon:
    """A round thing with a wavy edge, `offset` from `centre`; all in metres."""
    angles = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    waves = sum(rng.normal(0, 0.22 / n) * np.sin(n * angles + rng.uniform(0, 6)) for n in range(2, 8))
    radii = radius * (1 + waves)
    x = centre[0] + offset[0] + 1.2 * radii * np.cos(angles)
    y = centre[1] + offset[1] + radii * np.sin(angles)
    return Polygon(np.column_stack([x, y]))


def _with_pond(rng: np.random.Generator, parcel: Polygon) -> Polygon:
    """The parcel with a hole of 15-35 m across, where it fits."""
    spot = parcel.representative_point().buffer(rng.uniform(8, 18))
    return _largest(parcel.difference(spot)) if parcel.buffer(-10).contains(spot) else parcel


def _largest(geometry: BaseGeometry) -> Polygon:
    parts = [part for part in shapely.get_parts(geometry) if isinstance(part, Polygon)]
    return max(parts, key=_hectares, default=Polygon())


def _hectares(geometry: BaseGeometry) -> float:
    return float(geometry.area) / 1e4
