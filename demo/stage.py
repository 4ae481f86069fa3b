"""What a newcomer has: parcels, and configuration files."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from pathlib import Path

from geopandas import GeoDataFrame
from psycopg2.extras import execute_batch

from demo import tables
from demo.commands import run
from demo.landscape import Landscape
from demo.scenes import GRID, YEAR
from demo.servers import Postgis, S3Server

DATABASE, BUCKET = "demo", "DIAS"
AOI, AOI_TABLE, PARCEL_TABLE = "demo", "aois", "parcels"
PARCEL_SRID = 3035  # ETRS89 / LAEA Europe: not the CRS of the scenes
CARDS = ("s2", "bs", "c6")
IMPORT = (
    "-nln", PARCEL_TABLE, "-nlt", "PROMOTE_TO_MULTI", "-lco", "FID=ogc_fid", "-lco", "GEOMETRY_NAME=wkb_geometry",
)  # fmt: skip


def results_table(card: str) -> str:
    """Name of the table with a CARD's signatures."""
    return f"{AOI}_{YEAR}_{card}_signatures"


def gaps_table(card: str) -> str:
    """Name of the table that says which parcels have no signature, and why."""
    return f"{AOI}_{YEAR}_{card}_gaps"


HISTS, CLEAR = f"{AOI}_{YEAR}_s2_hists", f"{AOI}_{YEAR}_s2_clear"
S2_TABLES = {"hists_table": HISTS, "clear_results_table": CLEAR}
NDVI = "NDV"  # label of the index


def import_parcels(folder: Path, landscape: Landscape, postgis: Postgis) -> str:
    """Bring the parcels, with a column `crop`, into the database, by ogr2ogr if it is there; returns how."""
    frame = GeoDataFrame({"crop": landscape.crops}, geometry=landscape.parcels, crs=GRID.epsg).to_crs(PARCEL_SRID)
    if shutil.which("ogr2ogr"):
        frame.to_file(folder / "parcels.gpkg", driver="GPKG")
        target = f"PG:host={postgis.host} port={postgis.port} dbname={DATABASE} user={postgis.user}"
        run(["ogr2ogr", "-f", "PostgreSQL", target, "parcels.gpkg", *IMPORT], folder, PGPASSWORD=postgis.password)
        return "ogr2ogr ... parcels.gpkg " + " ".join(IMPORT)
    with closing(postgis.connect(DATABASE)) as database:
        tables.create_parcels(database, PARCEL_TABLE, PARCEL_SRID)
        numbers = tables.add_parcels(database, PARCEL_TABLE, list(frame.geometry), PARCEL_SRID)
        with database, database.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {PARCEL_TABLE} ADD COLUMN crop text")
            crops = list(zip(landscape.crops, numbers, strict=True))
            execute_batch(cursor, f"UPDATE {PARCEL_TABLE} SET crop = %s WHERE ogc_fid = %s", crops)
    return f"parcels written into {PARCEL_TABLE} (there is no ogr2ogr)"


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
