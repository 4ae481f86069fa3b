"""Whether GDAL and PROJ work here: asked once, before a scene is claimed."""

import os
from collections.abc import Mapping

import rasterio
import rasterio.errors
from rasterio.crs import CRS

from extractors.errors import ConfigurationError, one_line
from extractors.model import ImageFormat

# A CRS that every PROJ database knows: UTM zone 33 north.
KNOWN_CODE = 32633


def check_environment(image_format: ImageFormat) -> None:
    """Prove that images of this format can be opened and their CRS be known. Raises ConfigurationError that names the
    variables of the environment that may stand in the way."""
    try:
        known = CRS.from_wkt(CRS.from_epsg(KNOWN_CODE).to_wkt()).to_epsg() == KNOWN_CODE
        reason = ""
    except rasterio.errors.CRSError as error:
        known, reason = False, f" ({one_line(error)})"
    if not known:
        raise ConfigurationError(f"PROJ does not know EPSG:{KNOWN_CODE}{reason}; {_remedy(_for_proj())}")
    with rasterio.Env() as gdal:
        drivers = gdal.drivers()
    if image_format.driver not in drivers:
        raise ConfigurationError(f"GDAL has no driver {image_format.driver}; {_remedy(_for_drivers())}")


def _for_proj() -> dict[str, str | None]:
    """What makes PROJ look for its files elsewhere; other programs (QGIS, conda, PostGIS) set it for themselves."""
    return {"PROJ_LIB": os.environ.get("PROJ_LIB"), "PROJ_DATA": os.environ.get("PROJ_DATA")}


def _for_drivers() -> dict[str, str | None]:
    """What makes GDAL leave drivers out, or look for their files elsewhere."""
    return {
        "GDAL_SKIP": os.environ.get("GDAL_SKIP"),
        "GDAL_DRIVER_PATH": os.environ.get("GDAL_DRIVER_PATH"),
        "GDAL_DATA": os.environ.get("GDAL_DATA"),
    }


def _remedy(variables: Mapping[str, str | None]) -> str:
    """What to do: unset what is set, and else it is the installation."""
    found = [f"{name} ({value!r})" for name, value in variables.items() if value is not None]
    return f"unset {' and '.join(found)}" if found else "install the package anew"
