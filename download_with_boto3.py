"""The S3 store for people: list it, and download from it.

    python download_with_boto3.py list Sentinel-2/MSI/L2A/2018/06/01/
    python download_with_boto3.py get Sentinel-2/MSI/L2A/2018/06/01/.../T32UPC_20180601T102021_B04_10m.jp2

Reads `s3_config.json`. A file appears under its final name only when it is whole. Scripts may import the store itself:
`ObjectStore` and `StoredObject`.
"""

import argparse
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from extractors.config import read_store_config
from extractors.errors import ConfigurationError, ExtractionError, one_line
from extractors.logs import configure
from extractors.model import StoredObject
from extractors.products.source import Source
from extractors.products.store import ObjectStore, open_source
from extractors.runtime.process import leave_no_core
from extractors.runtime.signals import Signals, Stopped
from extractors.text import say

__all__ = ["ObjectStore", "StoredObject", "main"]

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(description="List the S3 store of s3_config.json, or download from it.")
    parser.add_argument(
        "--s3-config",
        type=Path,
        default=Path(os.environ.get("S3_CONFIG", "s3_config.json")),
        metavar="FILE",
        help="the store's configuration (default: s3_config.json; environment: S3_CONFIG)",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="show what other packages log, and tracebacks")
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="print size and key of every object below a prefix")
    listing.add_argument("prefix", metavar="PREFIX")
    getting = commands.add_parser("get", help="download one object")
    getting.add_argument("key", metavar="KEY")
    getting.add_argument("file", nargs="?", type=Path, metavar="FILE", help="where to (default: the key's last part)")
    options = parser.parse_args(arguments)
    leave_no_core()
    configure(options.verbose)
    try:
        _run(options)
    except ExtractionError as error:
        log.error("%s", error, exc_info=options.verbose)
        return error.exit_code
    except OSError as error:
        log.error("%s; write another FILE", one_line(error), exc_info=options.verbose)
        return ConfigurationError.exit_code
    except Stopped as stopped:
        log.warning("%s", stopped)
        logging.shutdown()
        os._exit(stopped.exit_code)  # without waiting for a transfer that hangs in the network
    except Exception as error:
        log.error("unexpected %s: %s; -v shows where", type(error).__name__, one_line(error), exc_info=options.verbose)
        return 1
    return 0


def _run(options: argparse.Namespace) -> None:
    store = open_source(read_store_config(options.s3_config).s3, str(options.s3_config))
    if options.command == "list":
        _print(store.list_objects(options.prefix))
        return
    (item,) = store.find_all([options.key], options.key)
    path = options.file or Path(item.file_name)
    if path.is_dir():
        path /= item.file_name
    if not path.parent.is_dir():
        raise ConfigurationError(f"{path.parent}: no such directory; make it, or write another FILE")
    if path.exists() and not path.is_file():
        raise ConfigurationError(f"{path}: it is no regular file; write another FILE")
    _get(store, item, path)
    log.info("%s: %s bytes, size and checksum as the store announces", path, f"{item.size:,}")


def _get(store: Source, item: StoredObject, path: Path) -> None:
    """Download through a folder beside the target, so that nothing is left when interrupted."""
    signals = Signals()
    signals.install()
    with tempfile.TemporaryDirectory(prefix=".download_", dir=path.parent) as folder:
        whole = Path(folder) / "whole"
        with signals.interruptible():
            store.download({whole: item}, item.file_name)
        if whole.is_symlink():  # into a directory that is the store
            whole = Path(shutil.copy(whole, whole.with_name("copy")))
        whole.replace(path)


def _print(objects: Iterable[StoredObject]) -> None:
    try:
        for item in objects:
            say(f"{item.size:>13}  {item.key}")
    except BrokenPipeError:  # the reader (`| head`) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
