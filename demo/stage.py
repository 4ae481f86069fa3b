"""What the workers find when they start: tables, products in the store, configuration files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import shapely
from psycopg2.extras import execute_values
from rasterio.crs import CRS
from rasterio.warp import transform

from demo import tables
from demo.landscape import Landscape
from demo.scenes import GRID, SHAPE, YEAR, Scene
from demo.servers import Postgis, S3Server

if TYPE_CHECKING:
    from psycopg2.extensions import connection

Points = npt.NDArray[np.float64]

DATABASE, BUCKET = "demo", "DIAS"
AOI, AOI_TABLE, PARCEL_TABLE = "demo", "aois", "parcels"
PARCEL_SRID = 3035  # ETRS89 / LAEA Europe: not the CRS of the scenes
CARDS = ("s2", "bs", "c6")


def results_table(card: str) -> str:
    """Name of the table with a CARD's signatures."""
    return f"{AOI}_{YEAR}_{card}_signatures"


def gaps_table(card: str) -> str:
    """Name of the table that says which parcels have no signature, and why."""
    return f"{AOI}_{YEAR}_{card}_gaps"


HISTS, CLEAR = f"{AOI}_{YEAR}_s2_hists", f"{AOI}_{YEAR}_s2_clear"
S2_TABLES = {"hists_table": HISTS, "clear_results_table": CLEAR}
NDVI = "NDV"  # label of the index


def fill_tables(database: connection, landscape: Landscape, scenes: Sequence[Scene]) -> None:
    """Make and fill catalogue, areas of interest and parcels (with a column `crop`)."""
    tables.create_catalogue(database)
    tables.create_aois(database, AOI_TABLE)
    tables.create_parcels(database, PARCEL_TABLE, PARCEL_SRID)
    footprint = GRID.footprint(SHAPE)
    tables.add_aoi(database, AOI, footprint, table=AOI_TABLE)
    for scene in scenes:
        tables.add_scene(database, scene.reference, scene.obstime, scene.card, footprint)
    source, target = CRS.from_epsg(GRID.epsg), CRS.from_epsg(PARCEL_SRID)

    def reproject(points: Points) -> Points:
        return np.column_stack(transform(source, target, points[:, 0], points[:, 1])[:2])

    numbers = tables.add_parcels(
        database, PARCEL_TABLE, list(shapely.transform(landscape.parcels, reproject)), PARCEL_SRID
    )
    with database, database.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {PARCEL_TABLE} ADD COLUMN crop text")
        execute_values(
            cursor,
            f"UPDATE {PARCEL_TABLE} p SET crop = v.crop FROM (VALUES %s) AS v (ogc_fid, crop)"
            " WHERE p.ogc_fid = v.ogc_fid",
            list(zip(numbers, landscape.crops, strict=True)),
            page_size=len(numbers),
        )
        cursor.execute(f"ANALYZE {PARCEL_TABLE}")


def write_configuration(folder: Path, card: str, postgis: Postgis, store: S3Server) -> None:
    """Write db_config.json and s3_config.json for a CARD's worker into its working folder."""
    database = {
        "connection": postgis.connection_config(DATABASE),
        "tables": {
            "aoi_table": AOI_TABLE,
            "parcel_table": PARCEL_TABLE,
            "results_table": results_table(card),
            "gaps_table": gaps_table(card),
            **(S2_TABLES if card == "s2" else {}),
        },
        "args": {"aoi_field": "name", "name": AOI, "startdate": f"{YEAR}-03-01", "enddate": f"{YEAR}-11-01"},
    }
    s3 = {
        "access_key": store.access_key,
        "secret_key": store.secret_key,
        "host": store.endpoint,
        "bucket": BUCKET,
    }
    folder.mkdir(parents=True)
    extraction = {"radiometry": "harmonised", "indices": {NDVI: "ndvi"}} if card == "s2" else {}
    for name, content in (
        ("db_config.json", {"database": database, "extraction": extraction}),
        ("s3_config.json", {"s3": s3}),
    ):
        (folder / name).touch(0o600)
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")
