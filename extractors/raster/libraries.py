"""What PROJ and GDAL need of their surroundings: their databases and drivers, as far as they can be asked."""

import os
import warnings
from dataclasses import dataclass
from typing import Any

import pyproj
import pyproj.exceptions
import rasterio
from pyproj.aoi import AreaOfInterest
from pyproj.transformer import TransformerGroup
from rasterio.crs import CRS
from rasterio.errors import RasterioError

from extractors.errors import ConfigurationError, one_line

# Any that is in every edition of PROJ's database.
KNOWN_EPSG_CODE = 32633
# Results of the same transformation agree to this, in metres.
SAME_METRES = 0.001


def check_proj() -> str:
    """That PROJ finds EPSG codes; raises ConfigurationError."""
    try:
        with rasterio.Env():  # what GDAL says besides goes to the log
            found = CRS.from_epsg(KNOWN_EPSG_CODE)
            if CRS.from_wkt(found.to_wkt()).to_epsg() != KNOWN_EPSG_CODE:
                raise ConfigurationError(_lost("it does not recognise its own definitions"))
        pyproj.CRS.from_epsg(KNOWN_EPSG_CODE)
    except (RasterioError, ValueError, pyproj.exceptions.ProjError) as error:
        raise ConfigurationError(_lost(one_line(error))) from error
    return f"EPSG:{KNOWN_EPSG_CODE} is known; PROJ {rasterio.__proj_version__}"


def check_driver(name: str) -> str:
    """That GDAL has the driver of this name; raises ConfigurationError."""
    with rasterio.Env() as gdal:
        if name not in gdal.drivers():
            variables = {
                "GDAL_SKIP": os.environ.get("GDAL_SKIP"),
                "GDAL_DRIVER_PATH": os.environ.get("GDAL_DRIVER_PATH"),
            }
            settings = _in_words(variables)
            raise ConfigurationError(
                f"GDAL {rasterio.__gdal_version__} has no driver {name}, which the scenes' files need; "
                + (f"unset {settings}" if settings else "install the package rasterio as its wheel brings it")
            )
    return f"{name}, GDAL {rasterio.__gdal_version__}"


@dataclass(frozen=True)
class Transformation:
    """A transformation between two CRS: its name, and its accuracy in metres."""

    name: str
    accuracy: float

    def __str__(self) -> str:
        return f"{self.name} ({self.accuracy:g} m)"


def transformation_used(
    srid: int, position: tuple[float, float], result: tuple[float, float]
) -> tuple[Transformation, Transformation | None] | None:
    """By which transformation somebody has brought a position from EPSG:`srid` to WGS 84, and a better one that they
    would have used if its grid were installed. None if that cannot be known.

    position: in EPSG:`srid`; result: its longitude and latitude.
    """
    around: Any = AreaOfInterest(result[0], result[1], result[0], result[1])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that a grid is missing here
            group = TransformerGroup(srid, 4326, always_xy=True, area_of_interest=around)
    except (pyproj.exceptions.ProjError, ValueError):
        return None
    earth = pyproj.Geod(ellps="WGS84")
    for transformer in group.transformers:
        longitude, latitude = transformer.transform(*position)
        if abs(latitude) <= 90 and earth.inv(longitude, latitude, *result)[2] < SAME_METRES:
            used = Transformation(transformer.description, transformer.accuracy)
            others = [Transformation(operation.name, operation.accuracy) for operation in group.unavailable_operations]
            better = [other for other in others if 0 <= other.accuracy < used.accuracy]
            return used, min(better, key=lambda other: other.accuracy, default=None)
    return None


def _lost(reason: str) -> str:
    # What leads PROJ to the database of another installation (QGIS, conda, PostGIS).
    settings = _in_words({"PROJ_LIB": os.environ.get("PROJ_LIB"), "PROJ_DATA": os.environ.get("PROJ_DATA")})
    return f"PROJ cannot look up EPSG codes ({reason}); " + (
        f"unset {settings}, which points to another installation" if settings else "install the package rasterio anew"
    )


def _in_words(variables: dict[str, str | None]) -> str:
    return " and ".join(f"{name}={value!r}" for name, value in variables.items() if value is not None)
