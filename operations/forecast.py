"""`python -m operations forecast`: what a burst will take, and, once scenes are done, what it has taken.

The forecast comes from the catalogue, the parcels themselves, and measured figures (benchmarks/README.md); what
happened comes from the log.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from psycopg2 import sql

from extractors.database import aoi
from extractors.database.schema import Table
from extractors.errors import ConfigurationError
from extractors.labels import BANDS, SIDES, resolution
from extractors.text import say
from operations.options import add_card
from operations.progress import conditions_of, names_of
from operations.session import Session, session
from operations.sql import statement

# Bytes of a row: in a table of 100 million, and in its index on the parcels.
BYTES_PER_ROW = 76.5 + 8
# A table with fewer rows is no measure of that.
MANY_ROWS = 100_000
# Bytes of a scene that are downloaded: a full land tile of Sentinel-2 has some 100 MB in each band at 10 m.
BYTES_PER_PIXEL = 100e6 / SIDES["10m"] ** 2
BYTES_OF_A_FRAME: Mapping[str, float] = {"bs": 5.2e9, "c6": 0.75e9, "c1": 0.75e9}
# Seconds of a worker with two cores, beside the download: for a scene, and for each of its parcels.
SECONDS_PER_SCENE, SECONDS_PER_PARCEL = 3.0, 60e-6
# What the public store lets one connection have, in MB/s.
RATE = 20.0
# Scenes that are looked at.
SAMPLE = 10
WORKERS = 8


@dataclass(frozen=True)
class Estimate:
    """What one scene takes and gives, on average; bytes of results with the index on the parcels. None: unknown."""

    parcels: float
    rows: float
    results_bytes: float
    download_bytes: float | None
    seconds: float


@dataclass(frozen=True)
class Forecast:
    """The scenes of one CARD: to be done and done; what one is expected to take, and what one has taken so far."""

    card: str
    left: int
    done: int
    expected: Estimate
    measured: Estimate | None

    @property
    def scenes(self) -> int:
        """All of them."""
        return self.left + self.done

    @property
    def best(self) -> Estimate:
        """What is known best of a scene to come."""
        return self.measured or self.expected

    def hours(self, workers: int) -> float:
        """Until all are done, if so many workers are at it."""
        return self.left * self.best.seconds / 3600 / workers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    add_card(parser, "this CARD only")
    parser.add_argument(
        "--workers", metavar="NUMBER", type=int, default=WORKERS, help=f"how many workers there will be ({WORKERS})"
    )
    parser.add_argument(
        "--rate", metavar="MB/S", type=float, default=RATE, help=f"what each of them gets from the store ({RATE:g})"
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON in place of text")


def run(options: argparse.Namespace) -> int:
    """Say what is to be expected."""
    if options.workers < 1 or not options.rate > 0:
        raise ConfigurationError("--workers and --rate: write numbers above 0")
    with session(options) as opened:
        reader = opened.reader()
        reader.need_parcels()
        reader.need_area()
        codes = list(BANDS) if options.card is None else [options.card]
        found = [read_forecast(opened, code, options.rate) for code in codes]
    shown = [one for one in found if one.scenes or options.card]
    if options.json:
        say(json.dumps({one.card: as_json(one, options.workers) for one in shown}))
        return 0
    for one in shown:
        for line in as_text(one, options.workers):
            say(line)
    if not shown:
        say("the catalogue has no scene of these dates that meets the area")
    return 0


def read_forecast(opened: Session, card: str, rate: float = RATE) -> Forecast:
    """What is to be expected of a CARD's scenes. rate: MB/s of one worker's downloads."""
    reader = opened.reader(card)
    tables = reader.all()
    names = names_of(tables, True) | {
        "footprint": aoi.footprint(tables),
        "in_parcels_srid": aoi.in_srid_by_parts(sql.Identifier("within"), "parcel_srid"),
        **tables.parcel_columns,
    }
    values = conditions_of(opened, tables, card) | {"card": card, "parcel_srid": tables.parcel_srid, "most": SAMPLE}
    with opened.database.transaction("looking at scenes and parcels") as cursor:
        cursor.execute(statement("progress.begin"))
        cursor.execute(statement("forecast.scenes", **names), values)
        left, done = cursor.fetchone() or (0, 0)
        cursor.execute(statement("forecast.parcels", **names), values)
        (parcels,) = cursor.fetchone() or (None,)
        measured = None
        if not tables.log.absent:
            cursor.execute(statement("forecast.measured", **names), values | {"results": str(tables.results)})
            measured = cursor.fetchone()
    bytes_per_row = _bytes_per_row(opened, tables.results)
    # Of the polarisations that radar scenes can have, each has two.
    rows = (parcels or 0.0) * (len(reader.labels) if card == "s2" else min(len(reader.labels), 2))
    downloaded = download_bytes(opened, card)
    seconds = SECONDS_PER_SCENE + (parcels or 0.0) * SECONDS_PER_PARCEL + downloaded / (rate * 1e6)
    expected = Estimate(parcels or 0.0, rows, rows * BYTES_PER_ROW, downloaded, seconds)
    happened = None
    if measured is not None and measured[0]:
        _, parcels, rows, seconds = measured
        happened = Estimate(parcels or 0.0, rows or 0.0, (rows or 0.0) * bytes_per_row, None, seconds)
    return Forecast(card, left, done, expected, happened)


def download_bytes(opened: Session, card: str) -> float:
    """How much of a scene is downloaded."""
    if card in BYTES_OF_A_FRAME:
        return BYTES_OF_A_FRAME[card]
    layers = opened.config.for_card(card).extraction.layers(card)
    sides = {band: SIDES[resolution(band)] for band, _ in layers}
    # A class for each pixel takes next to nothing.
    return sum(BYTES_PER_PIXEL * side**2 for band, side in sides.items() if not band.startswith("SCL"))


def _bytes_per_row(opened: Session, table: Table) -> float:
    if table.absent:
        return BYTES_PER_ROW
    with opened.database.transaction(f"looking at the size of {table}") as cursor:
        cursor.execute(statement("forecast.size"), {"table": table.identifier.as_string(cursor)})
        size, rows = cursor.fetchone() or (0.0, 0.0)
    return float(size / rows) if rows >= MANY_ROWS else BYTES_PER_ROW


def as_json(forecast: Forecast, workers: int) -> dict[str, Any]:
    """The same as JSON takes it."""
    return {
        "left": forecast.left,
        "done": forecast.done,
        "expected_per_scene": asdict(forecast.expected),
        "measured_per_scene": forecast.measured and asdict(forecast.measured),
        "workers": workers,
        "hours_left": round(forecast.hours(workers), 3),
    }


def as_text(forecast: Forecast, workers: int) -> list[str]:
    """The same for people: of one scene as expected and as it has been so far, and of all scenes."""
    best, measured = forecast.best, forecast.measured
    download = forecast.expected.download_bytes or 0.0
    names = ("parcels", "rows", "results, MB", "download, MB", "seconds of a worker")
    columns = [["", "expected", "so far", f"all {forecast.scenes} scenes"]]
    for name, expected, happened, known in zip(
        names, _numbers(forecast.expected), _numbers(measured), _numbers(best), strict=True
    ):
        total = (known if known is not None else expected or 0.0) * forecast.scenes
        columns.append([name, *(_number(value) for value in (expected, happened, total))])
    widths = [max(len(row[place]) for row in columns) for place in range(4)]
    lines = [f"{forecast.card}: {forecast.left} scenes to be done, {forecast.done} done; for one scene on average:"]
    lines += ["  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in columns]
    lines.append(
        f"  {workers} workers: {forecast.hours(workers):.1f} hours for those to be done, and "
        f"{workers * download / 1e9:.1f} GB of disk meanwhile"
    )
    return lines


def _numbers(estimate: Estimate | None) -> list[float | None]:
    if estimate is None:
        return [None] * 5
    downloaded = None if estimate.download_bytes is None else estimate.download_bytes / 1e6
    return [estimate.parcels, estimate.rows, estimate.results_bytes / 1e6, downloaded, estimate.seconds]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.1f}" if abs(value) < 100 else f"{value:,.0f}"
