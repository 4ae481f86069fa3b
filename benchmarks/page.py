"""A page of a country's size: `python -m benchmarks.page [--parcels N] [--keep FILE]`.

Fills a database with a made-up season (one value per parcel, date and band; a scene's rows lie together, as workers
write them), makes the page with the real command, and prints the seconds that takes and the size of the page.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2.extensions

from benchmarks.stage import cluster
from demo import tables

DATABASE = "page"
ROOT = Path(__file__).parents[1]
# A square of parcels of some 90 m between 15 and 16 degrees east; four tiles that overlap in the middle.
PARCELS = """
INSERT INTO parcels (wkb_geometry)
SELECT ST_MakeEnvelope(15 + x / 1000.0, 46 + y / 1000.0, 15.0009 + x / 1000.0, 46.0009 + y / 1000.0, 4326)
FROM (SELECT n %% ceil(sqrt(%(parcels)s))::integer AS x, n / ceil(sqrt(%(parcels)s))::integer AS y
      FROM generate_series(0, %(parcels)s - 1) n) place"""
AREA = """
INSERT INTO aois
SELECT 'benchmark', ST_Difference(ST_Expand(box, .01), ST_Buffer(ST_PointN(ST_ExteriorRing(box), 3),
                                                                 .25 * (ST_XMax(box) - ST_XMin(box))))
FROM (SELECT ST_SetSRID(ST_Extent(wkb_geometry)::geometry, 4326) AS box FROM parcels) everything"""
SCENES = """
INSERT INTO dias_catalogue (obstime, reference, sensor, card, status, footprint)
SELECT obstime, reference, substr(reference, 2, 2), card,
       CASE WHEN obstime <= '2020-11-15' THEN 'extracted'
            ELSE (ARRAY['failed', 'ingested', 'no_parcels'])[number % 3 + 1] END,
       ST_Translate(ST_MakeEnvelope(14.9, 45.9, 15 + reach * .55, 46 + reach * .55, 4326),
                    tile % 2 * reach * .45, tile / 2 * reach * .45)
FROM (SELECT *, row_number() OVER (ORDER BY obstime) AS number,
             (SELECT max(ST_XMax(wkb_geometry)) - 15 FROM parcels) AS reach
      FROM (SELECT timestamp '2020-01-02 10:00:31' + day * interval '1 day' AS obstime, 's2' AS card, tile,
                   format('S2%s_MSIL2A_%s_N0214_R122_T33T%s_X', chr(65 + day / 5 % 2),
                          to_char(timestamp '2020-01-02 10:00:31' + day * interval '1 day', 'YYYYMMDD"T"HH24MISS'),
                          66 + tile) AS reference
            FROM generate_series(0, 360, 5) day, generate_series(0, 3) tile
            UNION ALL
            SELECT timestamp '2020-01-03 05:23:45' + day * interval '1 day' + tile * interval '25 seconds', card, tile,
                   format('S1A_%s_%s_%s', card, day, tile)
            FROM generate_series(0, 360, 12) day, generate_series(0, 3) tile,
                 (VALUES ('bs'), ('c6')) c (card)) scene) numbered"""
ROWS = """
INSERT INTO signatures (pid, obsid, band, count, mean, std, min, max, p25, p50, p75)
SELECT pid, obsid, band, 30 + pid %% 50, mean, spread, mean - 3 * spread, mean + 3 * spread,
       mean - spread, mean, mean + spread
FROM (SELECT pid, obsid, band, abs(spread * mean) AS spread,
             CASE WHEN cloudy AND band IN ('B4', 'B8') THEN 5500 + 900 * noise ELSE mean * (1 + .08 * noise) END AS mean
      FROM (SELECT p.ogc_fid AS pid, d.id AS obsid, b.band, b.spread, cloudy, noise,
                   CASE b.band WHEN 'B4' THEN 1400 - 1050 * green WHEN 'B8' THEN 2000 + 1900 * green
                               WHEN 'SC' THEN CASE WHEN cloudy THEN 9 WHEN green > .4 THEN 4 ELSE 5 END
                               WHEN 'VV' THEN CASE d.card WHEN 'bs' THEN .06 + .06 * green ELSE .7 - .45 * green END
                               WHEN 'VH' THEN CASE d.card WHEN 'bs' THEN .01 + .02 * green ELSE .6 - .4 * green END
                   END AS mean
            FROM dias_catalogue d
            JOIN parcels p ON p.wkb_geometry && d.footprint AND ST_Intersects(p.wkb_geometry, d.footprint)
            CROSS JOIN LATERAL (VALUES ('B4', .08, 's2'), ('B8', .06, 's2'), ('SC', 0, 's2'), ('VV', .3, 'bs'),
                                       ('VH', .3, 'bs'), ('VV', .15, 'c6'), ('VH', .15, 'c6')) b (band, spread, card)
            CROSS JOIN LATERAL (
                SELECT exp(-((extract(doy FROM d.obstime)::float8 - 140 - p.ogc_fid %% 7 * 12) ^ 2) / 5000) AS green,
                       hashint4(d.id * 31 + p.ogc_fid / 40) %% 100 > 20 AS cloudy,
                       hashint4(d.id * 7919 + p.ogc_fid) %% 1000 / 1000.0 AS noise) made
            WHERE d.status = 'extracted' AND b.card = d.card AND d.id BETWEEN %(first)s AND %(last)s) valued) spread"""
LOG = """
INSERT INTO extraction_log (obsid, reference, card, aoi, results, worker, started_at, finished_at, outcome, status,
                            detail, parcels_selected, rows_written, parcels_without_row, settings)
SELECT d.id, reference, card, 'benchmark', 'public.signatures', 'worker ' || d.id % 4, at,
       at + (20 + d.id % 30) * interval '1 second',
       CASE status WHEN 'failed' THEN 'error' ELSE status END, status,
       CASE status WHEN 'failed' THEN 'damaged: ' || reference || '/B04.jp2 has lost its end' END, 1000,
       CASE card WHEN 's2' THEN '{"B4": 1000, "B8": 1000, "SC": 990}' ELSE '{"VV": 1000, "VH": 1000}' END::jsonb,
       CASE card WHEN 's2' THEN '{"B4": {}, "B8": {}, "SC": {"no_valid_pixels": 10}}'
                 ELSE '{"VV": {}, "VH": {}}' END::jsonb, NULL
FROM dias_catalogue d,
     LATERAL (SELECT timestamptz '2021-01-05 08:00Z' + d.id * interval '7 minutes' AS at) moment
WHERE status <> 'ingested'"""
INDEXES = """
CREATE INDEX ON signatures (pid);
ANALYZE"""


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parcels", type=int, default=100_000)
    parser.add_argument("--keep", type=Path, help="where the page is left")
    options = parser.parse_args()
    with cluster() as (folder, postgis):
        postgis.create_database(DATABASE)
        with closing(postgis.connect(DATABASE)) as admin:
            config = folder / "db_config.json"
            config.touch(0o600)
            config.write_text(json.dumps(document(postgis.connection_config(DATABASE))))
            prepare(admin)
            command(folder, "setup")
            rows = fill(admin, options.parcels)
            command(folder, "index")
        page = options.keep or folder / "page.html"
        began = time.monotonic()
        command(folder, "report", "--out", str(page.resolve()))
        print(
            f"{options.parcels:,} parcels, {rows:,} rows: {time.monotonic() - began:.1f} s, "
            f"{page.stat().st_size / 1e6:.2f} MB"
        )
    return 0


def document(connection: dict[str, Any]) -> dict[str, Any]:
    """The configuration."""
    names = {"aoi_table": "aois", "parcel_table": "parcels", "results_table": "signatures"}
    args = {"aoi_field": "name", "name": "benchmark", "startdate": "2020-01-01", "enddate": "2021-01-01"}
    return {"database": {"connection": connection, "tables": names, "args": args}}


def prepare(admin: psycopg2.extensions.connection) -> None:
    """The tables of others, and an area with a bay."""
    tables.create_catalogue(admin)
    tables.create_aois(admin)
    tables.create_parcels(admin, "parcels", 4326)


def fill(admin: psycopg2.extensions.connection, parcels: int) -> int:
    """Parcels, area, scenes, rows and log; returns how many rows there are."""
    with admin, admin.cursor() as cursor:
        cursor.execute(PARCELS, {"parcels": parcels})
        cursor.execute(AREA)
        cursor.execute(SCENES)
        cursor.execute("SELECT max(id) FROM dias_catalogue")
        ((last,),) = cursor.fetchall()
        for first in range(1, last + 1, 10):
            cursor.execute(ROWS, {"first": first, "last": first + 9})
        cursor.execute(LOG)
        cursor.execute(INDEXES)
        cursor.execute("SELECT count(*) FROM signatures")
        ((rows,),) = cursor.fetchall()
    return int(rows)


def command(folder: Path, *arguments: str) -> None:
    """Run a verb; what it says of itself is of no interest here."""
    subprocess.run(
        [sys.executable, "-m", "operations", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        check=True,
    )


if __name__ == "__main__":
    sys.exit(main())
