"""`python -m operations plot`: the season of one parcel, as a page of HTML or as a picture."""

import argparse
from importlib.util import find_spec
from pathlib import Path

from extractors.errors import ConfigurationError
from extractors.text import say
from operations.doors import module
from operations.output import check_out, whole_file
from operations.page.document import page, seasons
from operations.report import read_parcels, usable
from operations.session import session

PAGES, PICTURES = (".html", ".htm"), (".png", ".svg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    parser.add_argument("--parcel", metavar="N", type=int, required=True, help="the parcel")
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        required=True,
        help="the file that is written: .html, or, with matplotlib, .png or .svg",
    )


def run(options: argparse.Namespace) -> int:
    """Draw it."""
    check_out(options.out)
    ending = options.out.suffix.lower()
    if ending not in {*PAGES, *PICTURES}:
        raise ConfigurationError(f"--out: {options.out} must end in {', '.join((*PAGES, *PICTURES))}")
    if ending in PICTURES and find_spec("matplotlib") is None:
        raise ConfigurationError(f"--out: a {ending} needs matplotlib; pip install matplotlib, or write a .html")
    with session(options) as opened:
        (season,) = read_parcels(opened, usable(opened), [options.parcel])
    if not season.charts:
        raise ConfigurationError(f"--parcel: there are no results of parcel {options.parcel} yet; extract scenes first")
    args = opened.config.args
    title, about = f"Parcel {season.pid}", f"area {args.name}, {args.startdate:%Y-%m-%d} to {args.enddate:%Y-%m-%d}"
    if ending in PICTURES:
        content: bytes = module("drawing").picture(season, f"{title}, {about}", ending[1:])
    else:
        content = page(title, f"{about} (not included)", [seasons([season], True)]).encode()
    with whole_file(options.out) as file:
        file.write(content)
    say(f"made {options.out}: {len(content) / 1e6:.2f} MB")
    return 0
