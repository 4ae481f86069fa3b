"""The workers' command line; each option also comes from the environment, and the command line wins."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from extractors.config import ENGINE_NAMES, Options
from extractors.logs import LOG_FORMATS


def read_options(card_code: str, arguments: Sequence[str] | None = None) -> Options:
    """Read the command line; each option also comes from the environment, and the command line wins."""

    def environment(name: str, default: str = "") -> str:
        return os.environ.get(name) or default

    parser = argparse.ArgumentParser(
        prog=f"python -m extractors.{card_code}",
        description=f"Extract parcel statistics from {card_code} scenes. Without options: one scene, then exit.",
        epilog="Each option but --check and --redo also from the environment: DB_CONFIG, S3_CONFIG, DATA_DIR, ALL, "
        "WATCH, SCENE, ENGINE, ADOPT_FOREIGN, ACCEPT_MIXED, VERBOSE, LOG_FORMAT.",
    )
    parser.add_argument("--db-config", metavar="FILE", default=environment("DB_CONFIG", "db_config.json"))
    parser.add_argument("--s3-config", metavar="FILE", default=environment("S3_CONFIG", "s3_config.json"))
    parser.add_argument(
        "--data-dir", metavar="DIR", default=environment("DATA_DIR", "data"), help="where scenes are kept meanwhile"
    )
    how_many = parser.add_mutually_exclusive_group()
    how_many.add_argument("--all", action="store_true", help="scene after scene until none is left")
    how_many.add_argument(
        "--watch", metavar="SECONDS", type=_seconds, help="as --all, then look again every SECONDS seconds"
    )
    how_many.add_argument(
        "--check", action="store_true", help="look whether all is ready, say what was seen, and extract nothing"
    )
    parser.add_argument(
        "--redo",
        action="store_true",
        help="what `operations redo` has listed, of scenes that are extracted and stay so; with --all: all of it",
    )
    parser.add_argument("--scene", metavar="REFERENCE", default=None, help="this scene only")
    parser.add_argument(
        "--engine", choices=ENGINE_NAMES, default=None, help="what computes the statistics (default: as configured)"
    )
    parser.add_argument(
        "--adopt-foreign", action="store_true", help="take scenes that another program has left 'inprogress'"
    )
    parser.add_argument(
        "--accept-mixed",
        action="store_true",
        help="write into a table that holds numbers of other settings (radiometry, order of bands, ...)",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="more log lines, and tracebacks")
    parser.add_argument("--log-format", choices=LOG_FORMATS, default=None, help="lines of text, or of JSON")
    given = parser.parse_args(arguments)
    if given.check and given.scene:
        parser.error("argument --scene: not allowed with argument --check")
    if given.redo and (given.check or given.scene or given.watch is not None):
        parser.error("argument --redo: not allowed with arguments --check, --scene and --watch")
    # What is in the environment of a service is not meant for these.
    special = given.check or given.redo
    watch = given.watch
    if watch is None and not given.all and not special and environment("WATCH"):
        try:
            watch = _seconds(environment("WATCH", ""))
        except ValueError:
            parser.error(f"environment variable WATCH: {environment('WATCH')!r} is not a number of seconds")
    engine = given.engine or environment("ENGINE") or None
    if engine not in (None, *ENGINE_NAMES):
        parser.error(f"environment variable ENGINE: there is no engine {engine!r}; write {' or '.join(ENGINE_NAMES)}")
    log_format = given.log_format or environment("LOG_FORMAT") or "text"
    if log_format not in LOG_FORMATS:
        parser.error(
            f"environment variable LOG_FORMAT: there is no format {log_format!r}; write {' or '.join(LOG_FORMATS)}"
        )
    everything = given.all or watch is not None or (not given.check and _is_true(environment("ALL", "")))
    return Options(
        db_config=Path(given.db_config),
        s3_config=Path(given.s3_config),
        data_dir=Path(given.data_dir),
        everything=everything,
        watch_seconds=watch,
        scene=None if special else given.scene or environment("SCENE") or None,
        engine=engine,
        adopt_foreign=given.adopt_foreign or _is_true(environment("ADOPT_FOREIGN", "")),
        verbose=given.verbose or _is_true(environment("VERBOSE", "")),
        log_format=log_format,
        check=given.check,
        accept_mixed=given.accept_mixed or _is_true(environment("ACCEPT_MIXED")),
        redo=given.redo,
    )


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < 1e7:
        raise ValueError(text)
    return seconds


def _is_true(text: str) -> bool:
    return text.strip().lower() not in {"", "0", "no", "false", "off"}
