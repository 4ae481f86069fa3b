"""The S3 store: list it and download from it, as functions for the workers and as a command for people.

    python download_with_boto3.py list Sentinel-2/MSI/L2A/2018/06/01/
    python download_with_boto3.py get Sentinel-2/MSI/L2A/2018/06/01/.../T32UPC_20180601T102021_B04_10m.jp2

Reads `s3_config.json`. A file appears under its final name only when it is whole.
"""

import argparse
import hashlib
import logging
import os
import random
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import boto3
import boto3.exceptions
from boto3.s3.transfer import S3Transfer, TransferConfig, create_transfer_manager
from botocore import exceptions as boto
from botocore.config import Config

from extractors import failpoints
from extractors.config import Store, read_store_config
from extractors.errors import (
    NO_ROOM,
    ConfigurationError,
    DiskFullError,
    ExtractionError,
    ObjectNotFoundError,
    SceneError,
    StoreUnavailableError,
    one_line,
)
from extractors.logs import configure, progress
from extractors.runtime.signals import Stopped, Stopping

if TYPE_CHECKING:
    import tqdm
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)

Result = TypeVar("Result")

CONNECT_TIMEOUT_SECONDS = 10
READ_TIMEOUT_SECONDS = 60
# Attempts of boto3 itself within one of ours; its pauses are short, so outages are waited out by `_retrying`.
ATTEMPTS_PER_REQUEST = 3
# Some stores count requests; but the first part of every file comes alone, so parts should not be large.
BYTES_PER_REQUEST = 16 * 1024**2
BYTES_PER_WRITE = 1024**2
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
# Room that must stay on the disk beyond the files themselves.
SPARE_BYTES = 1_000_000
LONGEST_REASON = 200
PLAIN_MD5 = re.compile(r"[0-9a-f]{32}")

MISSING_KEY = {"NoSuchKey", "404", "NotFound"}
WRONG_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken"}
WRONG_REGION = {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect"}
MAY_PASS = {"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "Throttling", "TooManyRequests"}


@dataclass(frozen=True)
class StoredObject:
    """An object as the store lists it: key, size in bytes, ETag (the content's MD5 if it is 32 hexadecimal digits)."""

    key: str
    size: int
    etag: str

    @property
    def file_name(self) -> str:
        """The last part of the key."""
        return self.key.rsplit("/", 1)[-1]


class _Download:
    """What the threads of one download share. stopping: set when it has failed or is to end."""

    def __init__(self, bar: "tqdm.tqdm[None] | None" = None, stopping: threading.Event | None = None) -> None:
        self.bar = bar
        self.turn = threading.Lock()
        self.stopping = stopping or threading.Event()


class _Turn:
    """One file's turn to be fetched. It lasts until all of the file's parts are asked for: those of the next file come
    after these. So the first file is there early, to be worked on while others come, and all connections are used."""

    def __init__(self, shared: _Download) -> None:
        self.stopping = shared.stopping
        self._shared = shared
        self._bytes = 0
        self._is_ours = False
        self._lock = threading.Lock()  # bytes are counted by several threads

    def __enter__(self) -> Self:
        self._shared.turn.acquire()
        self._is_ours = True
        self._bytes = 0
        try:
            self.count(0)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def count(self, transferred: int) -> None:
        """So many more bytes are here; raises InterruptedError if the download is to end."""
        if self.stopping.is_set():
            raise InterruptedError("another transfer failed")
        if self._shared.bar is not None:
            self._shared.bar.update(transferred)
        with self._lock:
            self._bytes += transferred
            parts_asked_for = self._bytes > BYTES_PER_REQUEST
        if parts_asked_for:
            self._end()

    def _end(self) -> None:
        with self._lock:
            was_ours, self._is_ours = self._is_ours, False
        if was_ours:
            self._shared.turn.release()


class ObjectStore:
    """One bucket of an S3 store that need not be Amazon's.

    Errors: ObjectNotFoundError, ConfigurationError (wrong bucket or keys), StoreUnavailableError (after retrying for
    `retry_seconds`), DiskFullError, SceneError (content that does not match what the store announces).
    """

    def __init__(self, settings: Store, config_name: str = "s3_config.json") -> None:
        self._settings = settings
        self._config_name = config_name
        try:
            self._client = _client(settings)
        except (ValueError, boto.BotoCoreError) as error:
            raise ConfigurationError(
                f"{config_name}: no connection to an S3 store can be made from this ({one_line(error)}); mend host, "
                "region, or the AWS_... variables of the environment"
            ) from error

    def list_objects(self, prefix: str) -> list[StoredObject]:
        """All objects whose keys start with `prefix`, in the order of their keys; folder placeholders left out."""

        def attempt() -> list[StoredObject]:
            found = []
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._settings.bucket, Prefix=prefix)
            for page in pages:
                # Whatever answers with "200" to everything must not make a product look missing.
                if not {"Name", "KeyCount", "IsTruncated"} & page.keys():
                    raise ConfigurationError(
                        f"{self._config_name}: s3.host: what answers at {self._settings.host} is no S3 store; write "
                        "the store's endpoint"
                    )
                found += [
                    StoredObject(item["Key"], item["Size"], item.get("ETag", "").strip('"'))
                    for item in page.get("Contents", [])
                    if not item["Key"].endswith("/")
                ]
            return found

        return self._retrying(f"listing {prefix}", attempt)

    def find_all(self, keys: Sequence[str], prefix: str) -> tuple[StoredObject, ...]:
        """The objects with these keys, all of which start with `prefix`; ObjectNotFoundError names those missing."""
        listed = {item.key: item for item in self.list_objects(prefix)}
        missing = [key for key in keys if key not in listed]
        if missing:
            names = ", ".join(key.removeprefix(prefix) or key for key in missing)
            raise ObjectNotFoundError(
                f"bucket {self._settings.bucket} has no {names} under {prefix}"
                if listed
                else f"bucket {self._settings.bucket} has nothing under {prefix}"
            )
        return tuple(listed[key] for key in keys)

    def download(
        self,
        objects: Mapping[Path, StoredObject],
        description: str = "download",
        arrived: Callable[[Path], object] = lambda _: None,
    ) -> None:
        """Download objects, small ones first, each to its path.

        A path exists afterwards only if its content has the size, and, where the ETag is one, the MD5 that the store
        announces. arrived: called for each path that is whole, while others are still on their way; what it raises ends
        the download.
        """
        total = sum(item.size for item in objects.values())
        for folder in {path.parent for path in objects}:
            free = shutil.disk_usage(folder).free
            needed = total + SPARE_BYTES
            if free < needed:
                raise DiskFullError(
                    f"no room in {folder}: {free / 1e6:,.3f} MB are free, {needed / 1e6:,.3f} MB are needed; make "
                    "room, or name another directory"
                )
        # One manager for all files, so that together they use no more connections than configured.
        limits = TransferConfig(
            max_concurrency=self._settings.connections,
            num_download_attempts=3,
            multipart_chunksize=BYTES_PER_REQUEST,
            io_chunksize=BYTES_PER_WRITE,
        )
        manager = create_transfer_manager(self._client, limits)
        executor = ThreadPoolExecutor(max_workers=max(1, len(objects)))
        with progress(total, "B", description) as bar:
            transfer, shared = S3Transfer(manager=manager), _Download(bar)
            try:
                running = {
                    executor.submit(self._download, transfer, item, path, shared): path
                    for path, item in sorted(objects.items(), key=lambda pair: pair[1].size)
                }
                for done in as_completed(running):
                    done.result()
                    arrived(running[done])
            except BaseException as error:
                shared.stopping.set()
                # Asked to stop: a transfer that hangs in the network must not hold that up.
                wait = isinstance(error, Exception)
                executor.shutdown(wait=wait, cancel_futures=True)
                if wait:
                    manager.shutdown()
                raise
        executor.shutdown()
        manager.shutdown()

    def _download(self, transfer: S3Transfer, item: StoredObject, path: Path, shared: "_Download") -> None:
        partial = path.with_name(path.name + ".part")
        turn = _Turn(shared)

        def fetch() -> str | None:
            self._retrying(
                f"downloading {item.key}",
                lambda: transfer.download_file(self._settings.bucket, item.key, str(partial), callback=turn.count),
                turn,
            )
            return _difference(partial, item)

        failpoints.reach("file_started")
        try:
            difference = fetch()
            if difference is not None:
                log.warning("%s: %s: downloading it once more", item.key, difference)
                difference = fetch()
            same_size = partial.stat().st_size == item.size
            if difference is not None and not (same_size and self._is_encrypted(item, shared)):
                raise SceneError(f"{item.key}: {difference}, twice; see the object in the store")
            failpoints.reach("file_temp_written")
            partial.rename(path)
            failpoints.reach("file_renamed")
        except OSError as error:
            if error.errno in NO_ROOM:
                raise DiskFullError(f"no room in {path.parent} while downloading {item.key}; make some") from error
            raise
        finally:
            partial.unlink(missing_ok=True)

    def _is_encrypted(self, item: StoredObject, shared: _Download) -> bool:
        """Whether the store encrypts the object with a key of its own kind: its ETag looks like an MD5 then, but is
        not that of the content. (Its size has been compared while it came.)"""
        head = self._retrying(
            f"asking for {item.key}",
            lambda: self._client.head_object(Bucket=self._settings.bucket, Key=item.key),
            _Turn(_Download(stopping=shared.stopping)),  # without waiting for others
        )
        return "kms" in head.get("ServerSideEncryption", "") or "SSECustomerAlgorithm" in head

    def _retrying(self, doing: str, attempt: Callable[[], Result], turn: _Turn | None = None) -> Result:
        """Call `attempt` until it succeeds, fails for good, or `retry_seconds` are over (full jitter, doubling); if it
        is part of a download, when it is its turn, the wait for which does not count."""
        turn = turn or _Turn(_Download())
        give_up = time.monotonic() + self._settings.retry_seconds
        pause = FIRST_PAUSE_SECONDS
        while True:
            asked = time.monotonic()
            with turn:
                give_up += time.monotonic() - asked
                try:
                    return attempt()
                # RecursionError: what botocore makes of a server that redirects for ever.
                except (boto.BotoCoreError, boto.ClientError, boto3.exceptions.Boto3Error, RecursionError) as error:
                    failure, may_pass = self._translated(error, doing)
                    remaining = give_up - time.monotonic()
                    if not may_pass or remaining <= 0 or turn.stopping.is_set():
                        raise failure from error
            log.warning("%s; trying again", failure)
            turn.stopping.wait(min(random.uniform(0, pause), remaining))  # noqa: S311 (no secret, only jitter)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _translated(self, error: Exception, doing: str) -> tuple[ExtractionError, bool]:
        """Our error for one of boto3's, and whether trying again may help."""
        store = f"the S3 store at {self._settings.host}"
        if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
            return ConfigurationError(
                f"{self._config_name}: s3.access_key is missing, and boto3 finds no keys elsewhere; write access_key "
                "and secret_key"
            ), False
        if isinstance(error, RecursionError | boto.ParamValidationError | boto.SSLError | boto.ProfileNotFound):
            return ConfigurationError(
                f"{self._config_name}: s3.host, s3.bucket, s3.region: {store} cannot be used with them while {doing} "
                f"({one_line(error)[:LONGEST_REASON]}); mend them"
            ), False
        if not isinstance(error, boto.ClientError):
            return StoreUnavailableError(f"{store} does not answer while {doing} ({one_line(error)})"), True
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        if code in WRONG_REGION:
            return ConfigurationError(
                f"{self._config_name}: s3.region: {store} wants another region than {self._settings.region} ({code}); "
                "write the right one"
            ), False
        if code == "NoSuchBucket" or (status == 404 and doing.startswith("listing")):
            return ConfigurationError(
                f"{self._config_name}: s3.bucket: {store} has no bucket {self._settings.bucket}; write the right name"
            ), False
        if code in WRONG_KEYS:
            return ConfigurationError(
                f"{self._config_name}: s3.access_key, s3.secret_key: {store} does not accept them ({code}); write "
                "valid ones"
            ), False
        if code in MISSING_KEY:
            return ObjectNotFoundError(f"the object is not in bucket {self._settings.bucket} (while {doing})"), False
        if status in {401, 403}:
            return StoreUnavailableError(
                f"{store} refuses access while {doing} ({code}); see whether access_key and secret_key in "
                f"{self._config_name} are right, valid and allowed to read the bucket"
            ), False
        may_pass = status >= 500 or status in {408, 429} or code in MAY_PASS
        return StoreUnavailableError(f"{store} reports {code or status} while {doing}"), may_pass


def _client(settings: Store) -> "S3Client":
    """A client for stores that are not Amazon's: path-style addresses, and none of the checksum headers that newer
    versions of boto3 add and other stores reject. Content is checked by ourselves."""
    return boto3.session.Session().client(
        "s3",
        endpoint_url=settings.host,
        region_name=settings.region,
        aws_access_key_id=settings.access_key,
        aws_secret_access_key=settings.secret_key.get_secret_value() if settings.secret_key else None,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS_PER_REQUEST},
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            read_timeout=READ_TIMEOUT_SECONDS,
            tcp_keepalive=True,
            max_pool_connections=settings.connections,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def _difference(path: Path, item: StoredObject) -> str | None:
    """How a downloaded file differs from what the store announced; None if it does not."""
    size = path.stat().st_size
    if size != item.size:
        return f"{size:,} bytes arrived of {item.size:,}"
    if PLAIN_MD5.fullmatch(item.etag):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if digest != item.etag:
            return f"the content's MD5 is {digest}, the store announces {item.etag}"
    return None


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
    configure(options.verbose)
    try:
        store = ObjectStore(read_store_config(options.s3_config).s3, str(options.s3_config))
        if options.command == "list":
            _print(store.list_objects(options.prefix))
        else:
            (item,) = store.find_all([options.key], options.key)
            path = options.file or Path(item.file_name)
            if path.is_dir():
                path /= item.file_name
            if not path.parent.is_dir():
                raise ConfigurationError(f"{path.parent}: no such directory; make it, or write another FILE")
            _get(store, item, path)
            log.info("%s: %s bytes, size and checksum as the store announces", path, f"{item.size:,}")
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
    return 0


def _get(store: ObjectStore, item: StoredObject, path: Path) -> None:
    """Download through a folder beside the target, so that nothing is left when interrupted."""
    stopping = Stopping()
    with tempfile.TemporaryDirectory(prefix=".download_", dir=path.parent) as folder:
        whole = Path(folder) / "whole"
        with stopping.interruptible():
            store.download({whole: item}, item.file_name)
        whole.replace(path)


def _print(objects: Iterable[StoredObject]) -> None:
    try:
        for item in objects:
            print(f"{item.size:>13}  {item.key}")
    except BrokenPipeError:  # the reader (`| head`) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
