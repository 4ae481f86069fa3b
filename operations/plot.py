"""`python -m operations plot`: the season of one parcel, as a page of HTML."""

import argparse
from pathlib import Path

from extractors.errors import ConfigurationError
from extractors.text import say
from operations.page.document import page, seasons
from operations.report import check_folder, read_parcels, usable, write
from operations.session import session


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    parser.add_argument("--parcel", metavar="N", type=int, required=True, help="the parcel")
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="the file that is written: .html")


def run(options: argparse.Namespace) -> int:
    """Draw it."""
    check_folder(options.out)
    with session(options) as opened:
        (season,) = read_parcels(opened, usable(opened), [options.parcel])
    if not season.charts:
        raise ConfigurationError(f"--parcel: there are no results of parcel {options.parcel} yet; extract scenes first")
    args = opened.config.args
    subtitle = f"Area {args.name}, {args.startdate:%Y-%m-%d} to {args.enddate:%Y-%m-%d} (not included)"
    content = page(f"Parcel {season.pid}", subtitle, [seasons([season], True)])
    say(f"made {options.out}: {write(options.out, content.encode()) / 1e6:.2f} MB")
    return 0
