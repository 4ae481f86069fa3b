"""`python -m operations report`: one file of HTML that says how far everything is, and what came of it.

It needs no server and no network. Nothing is made in the database, and all of it is of one moment, but for the
forecast, which is made just before.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from extractors.errors import ConfigurationError
from extractors.labels import BANDS
from extractors.text import say
from operations.forecast import read_forecasts
from operations.output import check_out, whole_file
from operations.overview import Overview, Reading
from operations.page.document import overview, page, seasons
from operations.progress import conditions_of
from operations.seasons import Season, read_seasons
from operations.session import EarlyReader, Session, session
from operations.sql import statement

# Parcels that are shown if nobody chooses any, and the most that anybody may choose.
FEW, MOST = 4, 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="the file that is written (.html)")
    parser.add_argument(
        "--parcel",
        metavar="N",
        type=int,
        nargs="+",
        action="extend",
        default=[],
        help=f"parcels whose seasons are shown (default: {FEW} at random)",
    )


def run(options: argparse.Namespace) -> int:
    """Write it."""
    check_out(options.out)
    chosen = list(dict.fromkeys(options.parcel))
    if len(chosen) > MOST:
        raise ConfigurationError(f"--parcel: {len(chosen)} parcels are too many for one page; write up to {MOST}")
    with session(options) as opened:
        reader = usable(opened)
        forecasts = read_forecasts(opened, list(BANDS))
        found, shown = _read(opened, reader, chosen)
    args = opened.config.args
    subtitle = (
        f"Area {args.name}, {args.startdate:%Y-%m-%d} to {args.enddate:%Y-%m-%d} (not included); state of "
        f"{found.moment:%Y-%m-%d %H:%M} UTC"
    )
    parts = overview(found, [one for one in forecasts if one.scenes], [season.pid for season in shown])
    content = page(f"Parcel extraction: {args.name}", subtitle, [*parts, seasons(shown, bool(chosen))])
    encoded = content.encode()
    with whole_file(options.out) as file:
        file.write(encoded)
    pids = ", ".join(str(one.pid) for one in shown) or "none"
    say(f"made {options.out}: {len(encoded) / 1e6:.2f} MB; parcels shown: {pids}")
    return 0


def usable(opened: Session) -> EarlyReader:
    """A reader of tables that are there as far as a page needs them."""
    reader = opened.reader()
    reader.need_parcels()
    reader.need_area()
    return reader


def read_parcels(opened: Session, reader: EarlyReader, pids: Sequence[int]) -> list[Season]:
    """The seasons of these parcels alone."""
    tables = reader.all()
    with opened.database.transaction("reading results") as cursor:
        cursor.execute(statement("progress.begin"))
        reading = Reading(cursor, opened, reader, tables)
        _check_known(reading, opened, pids)
        return read_seasons(cursor, reading.results(), pids, conditions_of(opened, tables, None))


def _read(opened: Session, reader: EarlyReader, chosen: Sequence[int]) -> tuple[Overview, list[Season]]:
    tables = reader.all()
    with opened.database.transaction("reading what is there") as cursor:
        cursor.execute(statement("progress.begin"))
        reading = Reading(cursor, opened, reader, tables)
        _check_known(reading, opened, chosen)
        found = reading.overview(chosen)
        pids = list(chosen) or _few(found)
        return found, read_seasons(cursor, found.results, pids, conditions_of(opened, tables, None))


def _check_known(reading: Reading, opened: Session, pids: Sequence[int]) -> None:
    """Raise ConfigurationError for a parcel that there is not."""
    if missing := [pid for pid in pids if pid not in reading.known(pids)]:
        tables = opened.config.tables
        raise ConfigurationError(
            f"--parcel: {tables.parcel_table} has no parcel with {tables.parcel_id} = {missing[0]}; write another"
        )


def _few(found: Overview) -> list[int]:
    """Some parcels of the sample, if possible such as have been observed."""
    observed = {seen.pid for seen in found.seen}
    return ([pid for pid in found.sample if pid in observed] or found.sample)[:FEW]
