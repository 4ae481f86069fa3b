"""`python -m operations forecast`: what a burst will take, and, once scenes are done, what it has taken.

The forecast comes from the catalogue, the parcels themselves, and measured figures (benchmarks/README.md); what
happened comes from the log.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from psycopg2 import sql

from extractors.config import parse_table_name
from extractors.database import aoi
from extractors.database.connection import scalar
from extractors.database.outputs import CLEAR_RESULTS, labels_of
from extractors.database.schema import Table, find
from extractors.errors import ConfigurationError
from extractors.labels import BANDS, SIDES, resolution
from extractors.text import say
from operations.options import add_card
from operations.progress import conditions_of, names_of, tables_by_card
from operations.session import Session, session
from operations.sql import statement

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as PgCursor  # noqa: N812

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
# What is less would be 0.0 hours.
LEAST_HOURS = 0.05


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
    """The scenes of one CARD: to be done and done; what one is expected to take, and what one has taken so far. redone:
    how many have been done again, which is no part of that."""

    card: str
    left: int
    done: int
    expected: Estimate
    measured: Estimate | None
    redone: int = 0

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
        if options.card is not None:
            _need_bands(opened, options.card)
        reader = opened.reader()
        reader.need_parcels()
        reader.need_area()
        found = read_forecasts(opened, list(BANDS) if options.card is None else [options.card], options.rate)
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


def _need_bands(opened: Session, card: str) -> None:
    """Raise ConfigurationError unless workers of this CARD could take the bands and indices that are configured."""
    extraction = opened.config.for_card(card).extraction
    try:
        extraction.layers(card)
    except ValueError as error:
        raise ConfigurationError(f"{opened.name}: extraction.bands: {error}") from error
    try:
        extraction.formulas(card)
    except ValueError as error:
        raise ConfigurationError(f"{opened.name}: extraction.indices: {error}") from error


def read_forecasts(opened: Session, cards: Sequence[str], rate: float = RATE) -> list[Forecast]:
    """What is to be expected of these CARDs' scenes, of those CARDs that the configuration has bands of. rate: MB/s of
    one worker's downloads."""
    cards = [card for card in cards if opened.labels(card)]
    tables = opened.reader().all()
    names = names_of(tables, True) | {
        "footprint": aoi.footprint(tables),
        "in_parcels_srid": aoi.in_srid_by_parts(sql.Identifier("within"), "parcel_srid"),
        **tables.parcel_columns,
    }
    values = conditions_of(opened, tables, None) | {"parcel_srid": tables.parcel_srid, "most": SAMPLE}
    found = []
    with opened.database.transaction("looking at scenes and parcels") as cursor:
        cursor.execute(statement("progress.begin"))
        # Each footprint is judged once, for all CARDs.
        cursor.execute(statement("forecast.scenes", **names), values | {"cards": cards})
        scenes = {card: numbers for card, *numbers in cursor.fetchall()}
        into = tables_by_card(cursor, tables, values)
        for card in cards:
            left, done, sample = scenes.get(card, (0, 0, None))
            cursor.execute(statement("forecast.parcels", **names), values | {"sample": sample or []})
            expected = _expected(opened, card, scalar(cursor) or 0.0, rate)
            measured, redone = None, 0
            if not tables.log.absent:
                measured, redone = _measured(cursor, tables.log, into[card], values | {"card": card})
            found.append(Forecast(card, left, done, expected, measured, redone))
    return found


def _expected(opened: Session, card: str, parcels: float, rate: float) -> Estimate:
    rows = parcels * rows_per_parcel(opened, card)
    downloaded = download_bytes(opened, card)
    seconds = SECONDS_PER_SCENE + parcels * SECONDS_PER_PARCEL + downloaded / (rate * 1e6)
    return Estimate(parcels, rows, rows * BYTES_PER_ROW, downloaded, seconds)


def _measured(cursor: "PgCursor", log: Table, results: str, values: Mapping[str, Any]) -> tuple[Estimate | None, int]:
    """What the log knows of the scenes that went into a table, and how many of them have been done again; rows of clear
    pixels, which lie in another, are taken for as large as its own."""
    cursor.execute(statement("forecast.redone", log=log.identifier), {**values, "results": results})
    redone = scalar(cursor)
    cursor.execute(statement("forecast.measured", log=log.identifier), {**values, "results": results})
    scenes, parcels, rows, seconds = cursor.fetchone() or (0, 0.0, 0.0, 0.0)
    if not scenes:
        return None, redone
    rows = rows or 0.0
    return Estimate(parcels or 0.0, rows, rows * _bytes_per_row(cursor, results), None, seconds), redone


def rows_per_parcel(opened: Session, card: str) -> int:
    """Rows that a parcel has of a scene, if there are pixels for all of them; those of clear pixels as well."""
    extraction, labels = opened.config.for_card(card).extraction, opened.labels(card)
    if card != "s2":
        # Of the polarisations that radar scenes can have, each has two.
        return len(labels) - max(len(extraction.layers(card)) - 2, 0)
    has_clear = opened.config.tables.clear_results_table is not None
    return len(labels) + has_clear * len(labels_of(CLEAR_RESULTS, labels, extraction))


def download_bytes(opened: Session, card: str) -> float:
    """How much of a scene is downloaded."""
    if card in BYTES_OF_A_FRAME:
        return BYTES_OF_A_FRAME[card]
    bands = opened.config.for_card(card).extraction.bands_needed(card)
    sides = {band: SIDES[resolution(band)] for band in bands}
    # A class for each pixel takes next to nothing.
    return sum(BYTES_PER_PIXEL * side**2 for band, side in sides.items() if not band.startswith("SCL"))


def _bytes_per_row(cursor: "PgCursor", results: str) -> float:
    table = find(cursor, parse_table_name(results), "")
    if table.absent:
        return BYTES_PER_ROW
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
        "redone": forecast.redone,
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
        f"  {workers} workers: {_duration(forecast.hours(workers))} for those to be done, and "
        f"{workers * download / 1e9:.1f} GB of disk meanwhile"
    )
    if forecast.redone:
        lines.append(f"  {forecast.redone} scenes have been done again (redo): that is no part of these figures")
    return lines


def _duration(hours: float) -> str:
    if not hours:
        return "no time"
    if hours * 60 < 1:
        return "under a minute"
    return f"{hours:.1f} hours" if hours >= LEAST_HOURS else f"{hours * 60:.1f} minutes"


def _numbers(estimate: Estimate | None) -> list[float | None]:
    if estimate is None:
        return [None] * 5
    downloaded = None if estimate.download_bytes is None else estimate.download_bytes / 1e6
    return [estimate.parcels, estimate.rows, estimate.results_bytes / 1e6, downloaded, estimate.seconds]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.1f}" if abs(value) < 100 else f"{value:,.0f}"
