"""Outlines from files, by GDAL's readers of vector data."""

from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import shapely
from shapely.geometry.base import BaseGeometry

from extractors.errors import ConfigurationError, one_line

LONGITUDE_LATITUDE = 4326
# Edges of an outline are cut into pieces before it is transformed: so many along its widest side.
PIECES = 200


def read_outline(path: Path) -> BaseGeometry:
    """All polygons of a file (GeoPackage, GeoJSON, Shapefile, ...) as one valid geometry in longitude and latitude.

    Raises ConfigurationError if the file cannot be read, says no CRS, or holds no polygon.
    """
    if not path.exists():
        raise ConfigurationError(f"{path}: no such file; name one with the outline of the area, or write `parcels`")
    try:
        layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind]
        frame = geopandas.read_file(path, layer=layers[0] if layers else None)
    except (OSError, ValueError, RuntimeError) as error:  # pyogrio's errors are of these kinds
        raise ConfigurationError(
            f"{path}: cannot be read as vector data ({one_line(error)}); a GeoPackage, GeoJSON or Shapefile is expected"
        ) from error
    if len(layers) > 1:
        raise ConfigurationError(
            f"{path}: it holds {len(layers)} layers ({', '.join(layers[:5])}); make a file of the one that is meant"
        )
    geometries = frame.geometry.array if isinstance(frame, geopandas.GeoDataFrame) else []
    polygons = _polygons(np.asarray(geometries, dtype=object))
    if not len(polygons):
        raise ConfigurationError(f"{path}: there is no polygon in it; name a file with the outline of the area")
    if frame.crs is None:
        raise ConfigurationError(
            f"{path}: it does not say its coordinate reference system; give it one (a Shapefile: the .prj beside it)"
        )
    west, south, east, north = shapely.total_bounds(polygons)
    pieces = shapely.segmentize(polygons, max(east - west, north - south) / PIECES)
    moved = geopandas.GeoSeries(pieces, crs=frame.crs).to_crs(LONGITUDE_LATITUDE)
    outline = shapely.union_all(_polygons(moved.to_numpy()))
    if outline.is_empty or not np.isfinite(shapely.total_bounds(outline)).all():
        raise ConfigurationError(f"{path}: its polygons cannot be brought to longitude and latitude; see its CRS")
    return outline


def as_ewkb(outline: BaseGeometry) -> str:
    """The form in which PostGIS takes it."""
    return str(shapely.to_wkb(shapely.set_srid(outline, LONGITUDE_LATITUDE), hex=True, include_srid=True))


def _polygons(geometries: "np.typing.NDArray[np.object_]") -> "np.typing.NDArray[np.object_]":
    """What of these is polygons, valid and in two dimensions."""
    valid = shapely.force_2d(geometries[~shapely.is_missing(geometries)])
    wrong = ~shapely.is_valid(valid)
    # By lines, edges that cross would take minutes where there are many of them.
    valid[wrong] = shapely.make_valid(valid[wrong], method="structure", keep_collapsed=False)
    parts = shapely.get_parts(shapely.get_parts(valid))
    return parts[shapely.area(parts) > 0]
