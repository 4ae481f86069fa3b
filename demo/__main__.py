"""The demonstration: from nothing to signatures of a season, on servers that live as long as it does.

python -m demo [--keep]
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path
from types import FrameType

from demo import plots
from demo.accounts import check_accounts
from demo.camera import write_products
from demo.commands import PROJECT_ROOT, DemoError, extract_all, operate
from demo.landscape import make_landscape
from demo.products import upload
from demo.scenes import CENTRE, scenes_of_the_season
from demo.servers import Postgis, S3Server, ServerError
from demo.stage import BUCKET, CARDS, DATABASE, PARCEL_TABLE, import_parcels, results_table, write_configuration

SEED = 2021
OUTPUT = PROJECT_ROOT / "demo_output"


STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """A signal asked the demonstration to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number


def main() -> int:
    """Run the demonstration; returns the exit code."""
    parser = argparse.ArgumentParser(prog="demo", description="Extract a made-up season, and show it.")
    parser.add_argument("--keep", action="store_true", help="leave the servers up, and print how to connect")
    keep = parser.parse_args().keep
    for number in STOP_SIGNALS:
        signal.signal(number, _stop)
    try:
        run(keep)
    except (DemoError, ServerError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except Stopped as stopped:
        print(f"demo: {stopped}; everything that was started has been ended", file=sys.stderr)
        return stopped.exit_code
    return 0


def _stop(number: int, _: FrameType | None) -> None:
    for each in STOP_SIGNALS:
        signal.signal(each, signal.SIG_IGN)  # one is enough: the ending is not to be cut short
    raise Stopped(number)


def run(keep: bool) -> None:
    """The demonstration from beginning to end; raises DemoError if a scene is not extracted."""
    step = _Steps()
    with ExitStack() as ending:
        folder = Path(tempfile.mkdtemp(prefix="demo-"))
        remove_folder = ending.enter_context(ExitStack())
        remove_folder.callback(shutil.rmtree, folder, ignore_errors=True)
        postgis = ending.enter_context(Postgis(folder / "postgis"))
        store = ending.enter_context(S3Server(log=folder / "s3.log"))
        postgis.create_database(DATABASE)
        step(f"PostGIS on {postgis.host}:{postgis.port} and an S3 store on {store.endpoint} are up")

        landscape = make_landscape(SEED, CENTRE)
        scenes = scenes_of_the_season()
        numbers = ", ".join(f"{sum(scene.card == card for scene in scenes)} of {card}" for card in CARDS)
        step(f"{len(landscape.parcels):,} parcels made; making {len(scenes)} scenes ({numbers}) ...")
        write_products(landscape, scenes, folder / "products", SEED)
        objects = upload(folder / "products", store.client(), BUCKET)
        shutil.rmtree(folder / "products")
        for card in CARDS:
            write_configuration(folder / card, card, postgis, store)
        step(f"{objects} objects are in bucket {BUCKET}, the database is empty. From here on, only real commands:")

        here = folder / CARDS[0]
        step.command("setup", here)
        step(import_parcels(folder, landscape, postgis))
        step.command("setup --aoi parcels", here)
        step.command("ingest --from store", here)
        step(", ".join(f"extractors.{card} --all" for card in CARDS) + ", side by side")
        extract_all(folder, CARDS)
        step.command(f"status --fail-if extracted!={len(scenes)}", here)

        OUTPUT.mkdir(exist_ok=True)
        page, picture = OUTPUT / "season.html", OUTPUT / "s2.png"
        with closing(postgis.connect(DATABASE)) as database:
            accounts, wrong = check_accounts(database)
            if wrong:
                raise DemoError("accounts that do not balance:\n" + "\n".join(f"    {line}" for line in wrong))
            step(f"selected = rows + reasons, in all {accounts} accounts (scene x band x table)")
            parcels = plots.typical_parcels(database)
            plots.draw(database, parcels, picture)
        numbers = " ".join(str(parcel.number) for parcel in parcels)
        step.command(f"report --out {shlex.quote(str(page))} --parcel {numbers}", here)
        step(f"done. The season, to be opened in a browser, and a picture of it:\n    {page}\n    {picture}")
        if keep:
            postgis.leave()
            store.leave()
            remove_folder.pop_all()
            print(_how_to_connect(postgis, store, folder))


class _Steps:
    """Prints lines with the seconds since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def __call__(self, line: str) -> None:
        print(f"[{time.monotonic() - self._start:5.1f} s] {line}", flush=True)

    def command(self, line: str, folder: Path) -> None:
        """Run a verb of operations, and show what it says."""
        self(f"operations {line}")
        for said in operate(folder, *shlex.split(line)).splitlines():
            print(f"    {said}", flush=True)


def _how_to_connect(postgis: Postgis, store: S3Server, folder: Path) -> str:
    config = shlex.quote(str(folder / "s2" / "s3_config.json"))
    rooms = " ".join(shlex.quote(str(path)) for path in (folder, postgis.room))
    downloader = shlex.quote(str(PROJECT_ROOT / "download_with_boto3.py"))
    return f"""
The servers stay up.

psql    PGPASSWORD={postgis.password} psql -h {postgis.host} -p {postgis.port} -U {postgis.user} {DATABASE}
QGIS    PostgreSQL connection: host {postgis.host}, port {postgis.port}, database {DATABASE},
        user {postgis.user}, password {postgis.password}
        layers: {PARCEL_TABLE}, dias_catalogue, aois; signatures: {", ".join(map(results_table, CARDS))}
S3      endpoint {store.endpoint}, bucket {BUCKET}, access key {store.access_key}, secret key {store.secret_key}
        {shlex.quote(sys.executable)} {downloader} --s3-config {config} list Sentinel-2/
        AWS_ACCESS_KEY_ID={store.access_key} AWS_SECRET_ACCESS_KEY={store.secret_key} \\
            aws --endpoint-url {store.endpoint} s3 ls --recursive s3://{BUCKET}/
worker  configuration files and logs: {shlex.quote(str(folder))}/{{{",".join(CARDS)}}}
end     kill -INT {postgis.pid}; kill {store.pid}; rm -rf {rooms}"""


if __name__ == "__main__":
    sys.exit(main())
