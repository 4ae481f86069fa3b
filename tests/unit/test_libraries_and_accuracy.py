"""What PROJ and GDAL are asked at the start."""

from __future__ import annotations

import pyproj
import pytest

from extractors.errors import ConfigurationError
from extractors.raster.libraries import check_driver, check_proj, transformation_used

LONDON = (530_000.0, 180_000.0)
"""In EPSG:27700, the British National Grid."""


def by_proj(srid: int, position: tuple[float, float]) -> tuple[float, float]:
    """Longitude and latitude, by the best transformation that can be had here: the wheel brings no grids."""
    longitude, latitude = pyproj.Transformer.from_crs(srid, 4326, always_xy=True).transform(*position)
    return longitude, latitude


def test_a_grid_that_is_not_installed() -> None:
    found = transformation_used(27700, LONDON, by_proj(27700, LONDON))
    assert found is not None
    used, better = found
    assert better is not None
    assert (used.accuracy, better.accuracy) == (2, 1)


def test_the_best_one_is_used() -> None:
    found = transformation_used(32633, (500_000, 5_100_000), by_proj(32633, (500_000, 5_100_000)))
    assert found is not None
    used, better = found
    assert better is None
    assert used.accuracy >= 0


def test_what_cannot_be_known() -> None:
    longitude, latitude = by_proj(27700, LONDON)
    assert transformation_used(27700, LONDON, (longitude + 0.00005, latitude)) is None  # 4 m off: by a grid, say
    assert transformation_used(900914, LONDON, (longitude, latitude)) is None


def test_proj_and_drivers() -> None:
    assert "32633" in check_proj()
    assert "JP2OpenJPEG" in check_driver("JP2OpenJPEG")
    with pytest.raises(ConfigurationError, match="no driver Nothing"):
        check_driver("Nothing")
