"""Whether GDAL and PROJ work here: asked once, before a scene is claimed."""

import os
from collections.abc import Mapping, Sequence

import rasterio
import rasterio.errors
from rasterio.crs import CRS

from extractors.errors import ConfigurationError, one_line
from extractors.model import ImageFormat

# A CRS that every PROJ database knows: UTM zone 33 north.
KNOWN_CODE = 32633
# What makes PROJ and GDAL look for their files elsewhere, or leave drivers out. Other programs (QGIS, conda, PostGIS)
# set some of these for themselves.
PROJ_VARIABLES = ("PROJ_LIB", "PROJ_DATA")
DRIVER_VARIABLES = ("GDAL_SKIP", "GDAL_DRIVER_PATH", "GDAL_DATA")


def check_environment(image_format: ImageFormat) -> None:
    """Prove that images of this format can be opened and their CRS be known. Raises ConfigurationError that names the
    variables of the environment that may stand in the way."""
    try:
        known = CRS.from_wkt(CRS.from_epsg(KNOWN_CODE).to_wkt()).to_epsg() == KNOWN_CODE
        reason = ""
    except rasterio.errors.CRSError as error:
        known, reason = False, f" ({one_line(error)})"
    if not known:
        raise ConfigurationError(f"PROJ does not know EPSG:{KNOWN_CODE}{reason}; {_remedy(PROJ_VARIABLES)}")
    with rasterio.Env() as environment:
        drivers = environment.drivers()
    if image_format.driver not in drivers:
        raise ConfigurationError(f"GDAL has no driver {image_format.driver}; {_remedy(DRIVER_VARIABLES)}")


def _remedy(names: Sequence[str], environment: Mapping[str, str] = os.environ) -> str:
    """What to do: unset what is set, and else it is the installation."""
    found = [f"{name} ({environment[name]!r})" for name in names if name in environment]
    return f"unset {' and '.join(found)}" if found else "install the package anew"
