"""What the columns of others' tables must be: catalogue, areas and parcels."""

from extractors.database.schema import GEOGRAPHY

INTEGERS = {"int2", "int4", "int8"}
FLOATS = {"float4", "float8", "numeric"}
TEXTS = {"bpchar", "varchar", "text"}
GEOMETRIES = {"geometry", GEOGRAPHY}
TIMES = {"timestamp", "timestamptz", "date"}
# Columns that tables of others must have: what they are for, and the types that serve (empty: any).
CATALOGUE_COLUMNS: dict[str, tuple[str, set[str]]] = {
    "id": ("number of the scene", INTEGERS),
    "obstime": ("observation time, UTC", TIMES),
    "reference": ("product name", set()),
    "card": ("s2, bs or c6", set()),
    "status": ("state of processing", set()),
    "footprint": ("outline of the scene", GEOMETRIES),
}
AOI_COLUMNS = {"wkb_geometry": ("outline of the area", GEOMETRIES)}
PARCEL_ID = ("unique number of the parcel; tables.parcel_id names another column", INTEGERS)
PARCEL_GEOMETRY = ("its boundary; tables.parcel_geometry names another column", GEOMETRIES)
