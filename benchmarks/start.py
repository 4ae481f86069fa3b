"""What comes before the first claim: `python -m benchmarks.start [--runs N] [--parcels N] [--against CHECKOUT]`.

For several kinds of parcel tables: wall seconds of `--check`, of a worker that finds nothing to do, and of a worker
from its start until it has claimed a scene; with `--against`, beside those of another checkout, in turn.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.idle import idle
from benchmarks.stage import BUCKET, PARCEL_SRID, ROOT, Stage, command_environment, stage
from extractors.s2 import CARD

# Kinds of tables, each made from the one before.
TABLES = {
    "as imported": "SELECT 1",
    "no statistics": "DELETE FROM pg_statistic WHERE starelid = 'parcels'::regclass;"
    "UPDATE pg_class SET reltuples = -1 WHERE oid = 'parcels'::regclass",
    "column without SRID": "ALTER TABLE parcels ALTER wkb_geometry TYPE geometry",
    "no index either": "DROP INDEX parcels_wkb_geometry_idx",
    "nor a key": "ALTER TABLE parcels DROP CONSTRAINT parcels_pkey",
    "first half without geometry": "UPDATE parcels SET wkb_geometry = NULL WHERE ogc_fid <= "
    "(SELECT max(ogc_fid) / 2 FROM parcels)",
    "far away": f"UPDATE parcels SET wkb_geometry = ST_SetSRID(ST_Translate(wkb_geometry, 3e6, 0), {PARCEL_SRID})",
}


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--parcels", type=int, default=1_000_000)
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="compare with the worker of another checkout")
    options = parser.parse_args()
    checkouts = [ROOT] if options.against is None else [ROOT, options.against.resolve()]
    with tempfile.TemporaryDirectory() as empty, stage("s2", Path(empty)) as scene:
        # Something of the CARD, so that it is not the wrong bucket; the scene itself is not there.
        scene.store_client().put_object(Bucket=BUCKET, Key=f"{CARD.first_folder}placeholder", Body=b"")
        scene.put_parcels(options.parcels)
        scene.put_aoi()
        scene.write_config({})
        for kind, statement in TABLES.items():
            with scene.connection, scene.connection.cursor() as cursor:
                cursor.execute(statement)
            for checkout in checkouts:
                say(kind, checkout, scene, options.runs)
    return 0


def say(kind: str, checkout: Path, scene: Stage, runs: int) -> None:
    """Measure one checkout's worker on the parcels as they are now, and print a line."""
    near = kind != "far away"
    taken = {
        "--check": [idle(scene.folder, checkout, check=True)[0] for _ in range(runs)],
        "nothing to do": [idle(scene.folder, checkout)[0] for _ in range(runs)],
        "to the claim" if near else "to the refusal": [first_claim(scene, checkout, near) for _ in range(runs)],
    }
    figures = (f"{what} {statistics.median(walls):.2f} s (to {max(walls):.2f})" for what, walls in taken.items())
    print(f"{checkout.name}, {kind}: {', '.join(figures)}", flush=True)


def first_claim(scene: Stage, checkout: Path, near: bool) -> float:
    """Wall seconds from a worker's start until it has claimed the scene, or refuses to."""
    set_status(scene, "ingested")
    started = time.perf_counter()
    worker = subprocess.Popen(
        [sys.executable, "-m", "extractors.s2"],
        cwd=scene.folder,
        env=command_environment(checkout),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with worker:  # which then finds no product
        said = []
        wall = 0.0
        for line in worker.stderr or []:
            said.append(line)
            if ("claimed for" if near else "no parcel") in line:
                wall = time.perf_counter() - started
    set_status(scene, "extracted")
    if not wall:
        raise RuntimeError("".join(said))
    return wall


def set_status(scene: Stage, status: str) -> None:
    """Set the scene's status, and forget its attempts."""
    with scene.connection, scene.connection.cursor() as cursor:
        cursor.execute("UPDATE dias_catalogue SET status = %s", (status,))
        cursor.execute("SELECT to_regclass('extraction_log') IS NOT NULL")
        if cursor.fetchone() == (True,):
            cursor.execute("TRUNCATE extraction_log")


if __name__ == "__main__":
    sys.exit(main())
