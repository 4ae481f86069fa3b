"""The S3 store: what it holds, and downloads of which nothing but the whole is ever seen."""

import hashlib
import logging
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import boto3
from boto3.s3.transfer import S3Transfer, TransferConfig, create_transfer_manager
from botocore import exceptions as boto
from botocore.config import Config

from extractors import failpoints
from extractors.backoff import Backoff
from extractors.config import Store
from extractors.errors import NO_ROOM, ConfigurationError, DeliveryError, DiskFullError, ObjectNotFoundError, one_line
from extractors.logs import progress
from extractors.model import StoredObject
from extractors.products.store_errors import STORE_ERRORS, translated
from extractors.products.transfer import BYTES_PER_REQUEST, Download, Turn

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)

Result = TypeVar("Result")

CONNECT_TIMEOUT_SECONDS = 10
READ_TIMEOUT_SECONDS = 60
# How often boto3 itself sends one of our requests; its pauses are short, so outages are waited out by `_retrying`.
ATTEMPTS_PER_REQUEST = 3
BYTES_PER_WRITE = 1024**2
PAUSES = Backoff(first=1.0, longest=60.0, least=0.0)
# Room that must stay on the disk beyond the files themselves.
SPARE_BYTES = 1_000_000
PLAIN_MD5 = re.compile(r"[0-9a-f]{32}")


class ObjectStore:
    """One bucket of an S3 store that need not be Amazon's.

    Errors: ObjectNotFoundError, ConfigurationError (wrong bucket or keys), StoreUnavailableError (after retrying for
    `retry_seconds`), DiskFullError, DeliveryError (content that does not match what the store announces).
    """

    def __init__(self, settings: Store, config_name: str = "s3_config.json") -> None:
        self._settings = settings
        self._config_name = config_name
        try:
            self._client = _client(settings)
        except (ValueError, boto.BotoCoreError) as error:
            raise ConfigurationError(
                f"{config_name}: no connection to an S3 store can be made from this ({one_line(error)}); fix host, "
                "region, or the AWS_... variables of the environment"
            ) from error

    def list_objects(self, prefix: str) -> list[StoredObject]:
        """All objects whose keys start with `prefix`, in the order of their keys; folder placeholders left out."""

        def request() -> list[StoredObject]:
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

        return self._retrying(f"listing {prefix}", request)

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
        _check_room({path.parent for path in objects}, total + SPARE_BYTES)
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
            transfer, shared = S3Transfer(manager=manager), Download(bar)
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

    def _download(self, transfer: S3Transfer, item: StoredObject, path: Path, shared: Download) -> None:
        partial = path.with_name(path.name + ".part")
        turn = Turn(shared)

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
                raise DeliveryError(f"{item.key}: {difference}, twice; see the object in the store")
            failpoints.reach("file_temp_written")
            partial.rename(path)
            failpoints.reach("file_renamed")
        except OSError as error:
            if error.errno in NO_ROOM:
                raise DiskFullError(f"no room in {path.parent} while downloading {item.key}; make some") from error
            raise
        finally:
            partial.unlink(missing_ok=True)

    def _is_encrypted(self, item: StoredObject, shared: Download) -> bool:
        """Whether the store encrypts the object with a managed key (KMS) or one of the customer's: its ETag looks like
        an MD5 then, but is not that of the content."""
        head = self._retrying(
            f"asking for {item.key}",
            lambda: self._client.head_object(Bucket=self._settings.bucket, Key=item.key),
            Turn(Download(stopping=shared.stopping)),  # without waiting for others
        )
        return "kms" in head.get("ServerSideEncryption", "") or "SSECustomerAlgorithm" in head

    def _retrying(self, doing: str, request: Callable[[], Result], turn: Turn | None = None) -> Result:
        """Send a request until it succeeds, fails for good, or `retry_seconds` are over. As part of a download, it is
        sent when it is its turn; the wait for that does not count."""
        turn = turn or Turn(Download())
        give_up = time.monotonic() + self._settings.retry_seconds
        failures = 0
        while True:
            asked = time.monotonic()
            with turn:
                give_up += time.monotonic() - asked
                try:
                    return request()
                except STORE_ERRORS as error:
                    failure, retryable = translated(error, doing, self._settings, self._config_name)
                    remaining = give_up - time.monotonic()
                    if not retryable or remaining <= 0 or turn.stopping.is_set():
                        raise failure from error
            log.warning("%s; trying again", failure)
            failures += 1
            turn.stopping.wait(min(PAUSES.pause(failures), remaining))


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


def _check_room(folders: set[Path], needed: int) -> None:
    for folder in folders:
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise DiskFullError(
                f"no room in {folder}: {free / 1e6:,.3f} MB are free, {needed / 1e6:,.3f} MB are needed; make room, or "
                "name another directory"
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
