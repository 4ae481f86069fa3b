"""The command line of `python -m operations`: what all verbs have in common. As with the workers, most of that also
comes from the environment, and the command line wins."""

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from extractors.labels import BANDS
from extractors.logs import LOG_FORMATS
from operations.doors import module

# Verb -> what it does. Each is a module of this package.
VERBS: Mapping[str, str] = {
    "setup": "make what workers need: extension, catalogue, areas, results and log, a role; or look what is lacking",
    "ingest": "fill the catalogue from the store, a service (STAC, OData) or a file",
    "status": "say how far the scenes are, what workers do, and what has failed",
    "retry": "set scenes back to 'ingested'",
    "redo": "list what is to be computed again of scenes that are extracted, for workers with --redo",
    "index": "add the indexes that help to tables that are there, and close partitions",
    "forecast": "estimate what a burst will take, and compare it with what it took",
    "report": "write a page of HTML: progress, a map, completeness, failures, throughput, seasons of parcels",
    "plot": "draw the season of one parcel",
    "backup": "save all that must stay together, of one moment, while workers go on",
    "verify": "restore a backup into a database of its own, compare it, and remove that",
}


def read_options(arguments: Sequence[str]) -> argparse.Namespace:
    """Read a command line: `verb`, the options that all verbs have, and its own."""
    parser = argparse.ArgumentParser(
        prog="python -m operations",
        description="What comes before and after the workers. `python -m operations VERB --help` tells more.",
        epilog="Of every verb, also from the environment: DB_CONFIG, S3_CONFIG, LOG_FORMAT, VERBOSE.",
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb, what in VERBS.items():
        own = verbs.add_parser(verb, help=what, description=f"{what[0].upper()}{what[1:]}.")
        if verb in arguments[:1]:
            _add_common(own)
            module(verb).add_arguments(own)
    options = parser.parse_args(arguments)
    if options.log_format not in LOG_FORMATS:
        parser.error(f"environment variable LOG_FORMAT: there is no format {options.log_format!r}")
    return options


def add_card(parser: argparse.ArgumentParser, what: str) -> None:
    """The option `--card`: one CARD's code, None without. what: what it limits."""
    parser.add_argument("--card", choices=tuple(BANDS), default=None, help=what)


def add_dry_run(parser: argparse.ArgumentParser) -> None:
    """The option `--dry-run`, of verbs that write something."""
    parser.add_argument("--dry-run", action="store_true", help="change nothing, say what would be done")


def seconds(text: str) -> float:
    """A number of seconds, as an option's value."""
    number = float(text)
    if not 0 < number < 1e7:
        raise ValueError(text)
    return number


def _add_common(parser: argparse.ArgumentParser) -> None:
    def environment(name: str, default: str = "") -> str:
        return os.environ.get(name) or default

    parser.add_argument(
        "--db-config",
        metavar="FILE",
        type=Path,
        default=environment("DB_CONFIG", "db_config.json"),
        help="configuration of the database (db_config.json)",
    )
    parser.add_argument(
        "--s3-config",
        metavar="FILE",
        type=Path,
        default=environment("S3_CONFIG", "s3_config.json"),
        help="configuration of the store (s3_config.json), for verbs that ask it",
    )
    parser.add_argument(
        "--log-format",
        choices=LOG_FORMATS,
        default=environment("LOG_FORMAT", "text"),
        help="form of the log lines, on standard error (text)",
    )
    is_verbose = environment("VERBOSE").strip().lower() not in {"", "0", "no", "false", "off"}
    parser.add_argument(
        "-v", "--verbose", action="store_true", default=is_verbose, help="more log lines, and tracebacks"
    )
