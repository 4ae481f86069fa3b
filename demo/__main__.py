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
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from demo import plots, report
from demo.accounts import check_accounts
from demo.camera import write_products
from demo.landscape import make_landscape
from demo.products import upload
from demo.scenes import CENTRE, scenes_of_the_season
from demo.servers import Postgis, S3Server, ServerError
from demo.stage import BUCKET, CARDS, DATABASE, PARCEL_TABLE, fill_tables, results_table, write_configuration
from demo.workers import PROJECT_ROOT, DemoError, extract_all

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
        database = postgis.connect(DATABASE)
        ending.callback(database.close)
        fill_tables(database, landscape, scenes)
        for card in CARDS:
            write_configuration(folder / card, card, postgis, store)
        step(f"{objects} objects in bucket {BUCKET}, catalogue, parcels and AOI in the database")

        step(f"{len(CARDS)} workers side by side: " + ", ".join(f"extractors.{card} --all" for card in CARDS))
        extract_all(folder, database)
        remaining = report.not_extracted(database)
        if remaining:
            raise DemoError("not every scene was extracted:\n" + "\n".join(f"    {line}" for line in remaining))
        accounts, wrong = check_accounts(database)
        if wrong:
            raise DemoError("accounts that do not balance:\n" + "\n".join(f"    {line}" for line in wrong))
        step(f"all scenes extracted; selected = rows + reasons in all {accounts} accounts (scene x band x table)")

        print("\n" + report.as_text(report.summarise(database)) + "\n")
        pictures = plots.draw_all(database, OUTPUT)
        step("time series of a parcel of each crop are drawn:")
        for path in pictures:
            print(f"    {path}")
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
