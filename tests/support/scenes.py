"""Scenes as tests make them, and the numbers that they must give: those of rasterstats."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import pytest
import rasterstats
from affine import Affine
from shapely.geometry.base import BaseGeometry

from demo.products import Grid
from tests.support.ground import GRID, Array

LABELS = {"B04": "B4", "B08": "B8", "SCL": "SC"}
PERCENTILES = ["percentile_25", "percentile_50", "percentile_75"]
COLUMNS = ("count", "mean", "std", "min", "max", "p25", "p50", "p75")

Signatures = dict[tuple[int, str], tuple[float, ...]]
"""(pid, band label without padding) -> count, mean, std, min, max, p25, p50, p75"""


@dataclass(frozen=True)
class Scene:
    """A scene as the test made it. `keys`: band or file name -> key in the bucket."""

    id: int
    reference: str
    card: str
    bands: Mapping[str, Array] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    grid: Grid = GRID

    def expected(self, parcels: Mapping[int, BaseGeometry]) -> Signatures:
        """What rasterstats says about these parcels (in the CRS of the scene's grid), in classic labels."""
        result: Signatures = {}
        for name, array in self.bands.items():
            pixel = 2 * self.grid.pixel if name == "SCL" else self.grid.pixel
            transform = Affine(pixel, 0, self.grid.left, 0, -pixel, self.grid.top)
            result |= zonal(parcels, LABELS.get(name, name), array, transform)
        return result


def zonal(
    parcels: Mapping[int, BaseGeometry], band: str, array: Array, transform: Affine, nodata: float = 0
) -> dict[tuple[int, str], tuple[float, ...]]:
    """Direct rasterstats: one tuple per parcel that has a valid pixel."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)  # rasterstats and the affine package
        stats = rasterstats.zonal_stats(
            list(parcels.values()),
            array,
            affine=transform,
            nodata=nodata,
            stats=["count", "mean", "std", "min", "max", *PERCENTILES],
        )
    names = ("count", "mean", "std", "min", "max", *PERCENTILES)
    return {
        (pid, band): tuple(float(one[name]) for name in names)
        for pid, one in zip(parcels, stats, strict=True)
        if one["count"]
    }


def assert_same(found: Signatures, wanted: Signatures) -> None:
    """Count, min, max and percentiles equal as float32; mean and std to 1e-6 relative."""
    assert found.keys() == wanted.keys()
    for key, numbers in wanted.items():
        for name, one, other in zip(COLUMNS, found[key], numbers, strict=True):
            if name in {"mean", "std"}:
                assert one == pytest.approx(other, rel=1e-6, abs=1e-12), (key, name)
            else:
                assert np.float32(one) == np.float32(other), (key, name)


def s2_reference(moment: datetime, *, safe: bool = True) -> str:
    """A reference as the catalogues have them."""
    name = f"S2A_MSIL2A_{moment:%Y%m%dT%H%M%S}_N0214_R122_T33TWM_{moment:%Y%m%d}T135108"
    return f"{name}.SAFE" if safe else name
