"""The S3 store: what it holds, and downloads of which nothing but the whole is ever seen."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import boto3
from botocore import exceptions as boto

from extractors import failpoints
from extractors.config import Directory, Store
from extractors.errors import (
    ConfigurationError,
    DeliveryError,
    ExtractionError,
    ObjectNotFoundError,
    StoreUnavailableError,
    UnusableSceneError,
    one_line,
)
from extractors.logs import progress
from extractors.model import StoredObject
from extractors.products.body import receive
from extractors.products.client import check_ca_file, open_client
from extractors.products.content import check_answer, difference, has_md5
from extractors.products.directory import DirectoryStore
from extractors.products.disk import check_room, disk_errors
from extractors.products.parts import Difference, DifferenceError, File, Part, Queue
from extractors.products.source import MOST_OBJECTS_OF_A_PRODUCT, Source, too_many
from extractors.products.store_errors import meaning_of, translated

if TYPE_CHECKING:
    import tqdm
    from mypy_boto3_s3 import S3Client
    from urllib3 import HTTPResponse

log = logging.getLogger(__name__)

# How often boto3 itself sends one of our requests; its pauses are short, so outages are waited out by `_retrying`.
ATTEMPTS_PER_REQUEST = 3


def open_source(settings: Store | Directory, config_name: str = "s3_config.json") -> Source:
    """The store that a configuration names."""
    if isinstance(settings, Directory):
        return DirectoryStore(settings, config_name)
    return ObjectStore(settings, config_name)


class ObjectStore(Source):
    """One bucket of an S3 store that need not be Amazon's."""

    def __init__(self, settings: Store, config_name: str = "s3_config.json") -> None:
        super().__init__(f"bucket {settings.bucket}", f"{config_name}: s3.bucket", settings.retry_seconds)
        self._settings = settings
        self._config_name = config_name
        self._payer: dict[str, Any] = {"RequestPayer": "requester"} if settings.requester_pays else {}
        if settings.access_key and not settings.session_token and os.environ.get("AWS_SESSION_TOKEN"):
            log.warning(
                "the environment's AWS_SESSION_TOKEN is not used with the keys of %s; if it belongs to them, write it "
                "there as s3.session_token",
                config_name,
            )
        check_ca_file(settings.ca_file, config_name)
        # What was brought here last.
        self._given: StoredObject | None = None
        self._making = threading.Lock()
        try:
            # What it has loaded serves all clients: the first one takes a tenth of a second.
            self._session = boto3.session.Session()
            self._client = open_client(self._session, settings, ATTEMPTS_PER_REQUEST)
        except (ValueError, boto.BotoCoreError) as error:
            raise ConfigurationError(
                f"{config_name}: no connection to an S3 store can be made from this ({one_line(error)}); fix host, "
                "region, or the AWS_... variables of the environment"
            ) from error

    def list_objects(self, prefix: str, most: int | None = None) -> list[StoredObject]:
        """All objects whose keys start with `prefix`, in the order of their keys; folder placeholders left out.
        UnusableSceneError if there are more than `most`."""
        found: list[StoredObject] = []
        for objects in self._pages(prefix, most):
            found += objects
        return found

    def holds(self, prefix: str) -> bool:
        """Whether there is any object whose key starts with `prefix`."""
        return any(self._pages(prefix, MOST_OBJECTS_OF_A_PRODUCT))

    def list_folders(self, prefix: str) -> list[str]:
        """Names of the folders right below `prefix`, in their order."""
        found: dict[str, None] = {}
        more: dict[str, Any] | None = {"Delimiter": "/"}
        while more is not None:
            page = self._page(prefix, more)
            for folder in page.get("CommonPrefixes", []):
                found[folder["Prefix"].removeprefix(prefix).strip("/")] = None
            more = {"Delimiter": "/", **_next(page)} if page.get("IsTruncated") else None
        return sorted(found)

    def read(self, item: StoredObject, start: int, length: int) -> bytes:
        """A piece of an object, which is shorter where the object ends."""
        last = min(start + length, item.size) - 1
        if last < start:
            return b""

        def piece() -> bytes:
            ranged = f"bytes={start}-{last}"
            answer = self._client.get_object(Bucket=self._settings.bucket, Key=item.key, Range=ranged, **self._payer)
            with answer["Body"] as body:
                content: bytes = body.read(last - start + 1)
            if len(content) != last - start + 1:
                raise boto.ResponseStreamingError(error=f"{len(content):,} bytes of {item.key}, not those of {ranged}")
            return content

        return self._ask(f"reading {item.key}", piece)

    def _pages(self, prefix: str, most: int | None) -> Iterator[list[StoredObject]]:
        more: dict[str, Any] | None = {}
        keys = 0
        while more is not None:
            page = self._page(prefix, more)
            # Placeholders count as well, and a page without any key as one with one: a listing must end.
            keys += max(1, len(page.get("Contents", [])))
            if most is not None and keys > most:
                raise too_many(prefix, most)
            yield _objects(page)
            more = _next(page) if page.get("IsTruncated") else None

    def _page(self, prefix: str, more: Mapping[str, Any]) -> Any:
        def request() -> Any:
            page = self._client.list_objects_v2(Bucket=self._settings.bucket, Prefix=prefix, **self._payer, **more)
            # Whatever answers with "200" to everything must not make a product look missing.
            if not {"Name", "KeyCount", "IsTruncated"} & page.keys():
                raise ConfigurationError(
                    f"{self._config_name}: s3.host: what answers at {self._settings.host} is no S3 store; write "
                    "the store's endpoint"
                )
            if page.get("IsTruncated") and page.get("NextContinuationToken") in {None, more.get("ContinuationToken")}:
                raise boto.PaginationError(message="the listing does not go on")
            return page

        return self._ask(f"listing {prefix}", request)

    def download(
        self,
        objects: Mapping[Path, StoredObject],
        description: str = "download",
        arrived: Callable[[Path], object] = lambda _: None,
        seconds: float | None = None,
    ) -> None:
        """Download objects, small ones first, each to its path.

        A path exists afterwards only if its content has the size, and, where the ETag is one, the MD5 that the store
        announces. arrived: called for each path that is whole, while others are still on their way; what it raises ends
        the download. seconds: waiting longer than that for the store is an outage.
        """
        files = [File(item, path) for path, item in sorted(objects.items(), key=lambda pair: pair[1].size)]
        total = sum(file.item.size for file in files)
        check_room({path.parent for path in objects}, total)
        threads = min(self._settings.connections, sum(len(file.parts()) for file in files))
        missing, left = len(files), seconds
        with progress(total, "B", description) as bar, _partial_files(files):
            queue = Queue(lambda part, stopping: self._fetch(part, stopping, bar), threads)
            with queue.running():
                queue.add(files)
                while missing:
                    asked = time.monotonic()
                    file = queue.next(left)
                    if file is None:
                        store = f"the S3 store at {self._settings.host}"
                        raise StoreUnavailableError(f"{store} has not delivered {description} within {seconds:g} s")
                    if left is not None:
                        left -= time.monotonic() - asked
                    found = difference(file, self._settings.etag_is_md5)
                    if found is not None:
                        queue.add([self._again(file, found)], first=True)
                        continue
                    failpoints.reach("file_temp_written")
                    with disk_errors(file.path, f" while downloading {file.item.key}"):
                        file.partial.rename(file.path)
                    failpoints.reach("file_renamed")
                    missing -= 1
                    arrived(file.path)
        self._given = files[0].item if files else self._given

    def _fetch(self, part: Part, stopping: threading.Event, bar: "tqdm.tqdm[Any]") -> None:
        """Bring a part, unless its file will not be used anyway."""
        if part.file.difference is None:
            try:
                self._retrying(f"downloading {part.file.item.key}", lambda: self._read(part, stopping, bar), stopping)
            except DifferenceError as error:
                part.file.difference = Difference(str(error))

    def _read(self, part: Part, stopping: threading.Event, bar: "tqdm.tqdm[Any]") -> None:
        ranged: dict[str, Any] = {} if part.range is None else {"Range": part.range}
        answer = self._client.get_object(Bucket=self._settings.bucket, Key=part.file.item.key, **ranged, **self._payer)
        # What a streaming body wraps can be read as it comes.
        with answer["Body"] as body:
            if ranged and "ContentRange" not in answer:
                error = ConfigurationError(
                    f"{self._config_name}: s3.host: what answers at {self._settings.host} sends whole objects where "
                    "parts are asked for; write the endpoint of a store"
                )
                error.answered = True
                raise error
            check_answer(answer, part)
            receive(cast("HTTPResponse", body), part, self._settings.least_bytes_per_second, stopping, bar)

    def _again(self, file: File, found: Difference) -> File:
        """A file that is to be fetched once more because its content differs; raises what it means if it did before."""
        key = file.item.key
        if file.before is None:
            log.warning("%s: %s: downloading it once more", key, found.text)
            return _begun(File(file.item, file.path, before=found))
        # Its own key comes first among those that start with it.
        listed = _objects(self._page(key, {"MaxKeys": 1}))
        if file.item not in listed:
            raise DeliveryError(f"{key}: {found.text}, twice; it is not what was listed any more")
        if not found.by_checksum:
            raise DeliveryError(f"{key}: {found.text}, twice; see the object in the store")
        if found != file.before:
            raise StoreUnavailableError(
                f"{key}: {found.text}, and something else the time before; see what damages it on its way"
            )
        raise UnusableSceneError(
            f"{key}: {found.text}, twice; replace the object, or, if the ETags of this store are no MD5s, set "
            f"s3.etag_is_md5 to false in {self._config_name}"
        )

    def is_exact(self, item: StoredObject) -> bool:
        """Whether what was downloaded is for certain what lies there: an MD5 says so, or TLS."""
        return (self._settings.etag_is_md5 and has_md5(item)) or self._settings.host.startswith("https://")

    def confirm(self, objects: Sequence[StoredObject]) -> None:
        """Nothing: what was downloaded does not depend on the store any more."""

    def serves_others(self, folder: str) -> bool:
        """Ask for a byte of the object that was brought here last; before the first one, and if that is no longer
        there, of three others. Each is asked for once."""
        try:
            client = self._one_more_client()
            if self._given is not None:
                found = self._gives(client, self._given)
                if found is not None:
                    return found
            page = client.list_objects_v2(Bucket=self._settings.bucket, Prefix=folder, **self._payer)
        except Exception as error:
            if meaning_of(error) is None:
                raise
            return False
        objects = [item for item in _objects(page) if item.size]
        some = {item.key: item for item in (*objects[:1], *objects[len(objects) // 2 :][:1], *objects[-1:])}
        return any(self._gives(client, item) for item in some.values())

    def _one_more_client(self) -> "S3Client":
        """A client with connections of its own, that repeats nothing."""
        with self._making:
            return open_client(self._session, self._settings, attempts=1)

    def _gives(self, client: "S3Client", item: StoredObject) -> bool | None:
        """Whether the store gives this object; None if it has gone."""
        try:
            answer = client.get_object(Bucket=self._settings.bucket, Key=item.key, Range="bytes=0-0", **self._payer)
            with answer["Body"] as body:
                body.read()
        except Exception as error:
            meaning = meaning_of(error)
            if meaning is None:
                raise
            return None if meaning.kind is ObjectNotFoundError else False
        return True

    def _failure(self, error: Exception, doing: str) -> tuple[ExtractionError, bool] | None:
        meaning = meaning_of(error)
        if meaning is None:
            return None
        return translated(error, meaning, doing, self._settings, self._config_name), meaning.retryable


def _objects(page: Mapping[str, Any]) -> list[StoredObject]:
    """What a page of a listing holds, without placeholders of folders."""
    return [
        StoredObject(item["Key"], item["Size"], item.get("ETag", "").strip('"'))
        for item in page.get("Contents", [])
        if not item["Key"].endswith("/")
    ]


def _next(page: Mapping[str, Any]) -> dict[str, Any]:
    """What asks for the page after this one."""
    return {"ContinuationToken": page["NextContinuationToken"]}


def _begun(file: File) -> File:
    """A file that its parts can be written to."""
    with disk_errors(file.path, f" while downloading {file.item.key}"):
        file.partial.write_bytes(b"")
    return file


@contextmanager
def _partial_files(files: Sequence[File]) -> Iterator[None]:
    """A block before which the files are begun, and after which nothing is left of those that are not whole."""
    try:
        for file in files:
            failpoints.reach("file_started")
            _begun(file)
        yield
    finally:
        for file in files:
            file.partial.unlink(missing_ok=True)
