"""The S3 store over real HTTP: listing, and downloads of which nothing but the whole is ever seen."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

import download_with_boto3
from demo.servers import S3Server, free_port
from download_with_boto3 import main
from extractors.errors import (
    ConfigurationError,
    DiskError,
    DiskFullError,
    ExtractionError,
    ObjectNotFoundError,
    SceneError,
    StoreUnavailableError,
)
from extractors.logs import PACKAGE_LOGGERS
from extractors.model import StoredObject
from extractors.products.parts import BYTES_PER_PART, Part, Queue
from extractors.products.store import ObjectStore
from extractors.runtime.signals import SIGNALS
from tests.faulty_s3 import FaultyS3
from tests.integration.counting_proxy import CountingProxy
from tests.integration.stores import MEGABYTE, SECRET, Bucket, left_in, noise
from tests.support.environment import ROOT, environment

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

# Listing


def test_a_listing_of_more_than_one_page(store: S3Server, s3_client: S3Client) -> None:
    # A page holds 1,000 keys. The bucket stays until the server ends: emptying it would take longer than the test.
    many = Bucket(store, s3_client, f"i{uuid.uuid4().hex[:12]}")
    s3_client.create_bucket(Bucket=many.name)
    keys = [f"scene/{number:04}.jp2" for number in range(1_001)]
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda key: many.put(key, b""), keys))
    many.put("scenery/9999.jp2")
    assert [item.key for item in many.store().list_objects("scene/")] == keys


def test_a_listing_in_the_order_of_the_keys_without_folders(bucket: Bucket) -> None:
    for key in ("p/b.img", "p/", "p/B.img", "p/a/", "p/a/c.img", "q/d.img"):
        bucket.put(key, b"" if key.endswith("/") else b"12345")
    md5 = hashlib.md5(b"12345", usedforsecurity=False).hexdigest()
    assert bucket.store().list_objects("p/") == [
        StoredObject("p/B.img", 5, md5), StoredObject("p/a/c.img", 5, md5), StoredObject("p/b.img", 5, md5),
    ]  # fmt: skip
    assert bucket.store().list_objects("p/a/c.img")[0].file_name == "c.img"
    assert bucket.store().list_objects("nothing") == []


ODD_KEYS = ["a b+c.img", "100%25.img", "ü/ß.img", "a&b=c?d#e.img", "quote'\".img", "x" * 200]


def test_odd_keys(bucket: Bucket, folder: Path) -> None:
    for key in ODD_KEYS:
        bucket.put(key, key.encode())
    store = bucket.store()
    assert sorted(item.key for item in store.list_objects("")) == sorted(ODD_KEYS)
    items = store.find_all(ODD_KEYS, "")
    assert [item.key for item in items] == ODD_KEYS
    store.download({folder / str(number): item for number, item in enumerate(items)})
    assert [(folder / str(number)).read_bytes().decode() for number in range(len(items))] == ODD_KEYS


def test_what_is_missing_is_named(bucket: Bucket) -> None:
    for key in ("p/a.img", "p/b.img.aux.xml"):
        bucket.put(key)
    store = bucket.store()
    with pytest.raises(ObjectNotFoundError) as caught:
        store.find_all(["p/a.img", "p/a.hdr", "p/b.img"], "p/")
    assert str(caught.value) == f"bucket {bucket.name} has no a.hdr, b.img under p/"
    with pytest.raises(ObjectNotFoundError, match=f"^bucket {bucket.name} has nothing under q/$"):
        store.find_all(["q/a.img"], "q/")


# Downloads


@pytest.mark.parametrize("size", [0, 1, MEGABYTE, 20 * MEGABYTE], ids=["empty", "a byte", "1 MB", "20 MB, in parts"])
def test_a_download_is_the_object(size: int, bucket: Bucket, folder: Path) -> None:
    body = bucket.put("p/a.img", noise(size))
    bucket.store().download({folder / "a.img": bucket.item("p/a.img")})
    assert (folder / "a.img").read_bytes() == body
    assert left_in(folder) == ["a.img"]


def test_several_downloads_each_to_its_path(bucket: Bucket, folder: Path) -> None:
    bodies = {f"{name}.img": bucket.put(f"p/{name}.img", noise(1000 + number)) for number, name in enumerate("abcde")}
    store = bucket.store()
    store.download({folder / item.file_name: item for item in store.list_objects("p/")})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == bodies


def test_what_has_arrived_can_be_used_while_the_rest_is_on_its_way(
    bucket: Bucket, folder: Path, proxy: FaultyS3
) -> None:
    for name, size in (("large.img", MEGABYTE), ("small.img", 10), ("middle.img", 1000)):
        bucket.put(name, noise(size))
    proxy.spoil("large.img", "stall", times=1)
    seen: list[tuple[str, list[str]]] = []
    two = threading.Barrier(2, timeout=30)

    def arrived(path: Path) -> None:
        seen.append((path.name, left_in(folder)))
        if len(seen) == 2:
            two.wait()

    store = bucket.store(host=proxy.endpoint)
    items = {folder / item.file_name: item for item in bucket.store().list_objects("")}
    with ThreadPoolExecutor(1) as thread:
        download = thread.submit(store.download, items, "download", arrived)
        two.wait()
        assert proxy.stalled.wait(30)
        assert not download.done()
        assert not (folder / "large.img").exists()
        proxy.go_on.set()
        download.result(30)
    # The small ones come first.
    assert {name for name, _ in seen[:2]} == {"small.img", "middle.img"}
    assert seen[2] == ("large.img", ["large.img", "middle.img", "small.img"])
    for name, there in seen:
        assert name in there


def test_what_is_made_of_an_arrival_may_end_the_download(bucket: Bucket, folder: Path, proxy: FaultyS3) -> None:
    for name, size in (("large.img", MEGABYTE), ("small.img", 10)):
        bucket.put(name, noise(size))

    def arrived(path: Path) -> None:
        proxy.go_on.set()
        raise SceneError(f"{path.name} is of no use")

    proxy.spoil("large.img", "stall", times=1)
    store = bucket.store(host=proxy.endpoint)
    with pytest.raises(SceneError, match=r"^small\.img is of no use$"):
        store.download({folder / item.file_name: item for item in bucket.store().list_objects("")}, "download", arrived)
    assert left_in(folder) == ["small.img"]


def test_no_objects(bucket: Bucket) -> None:
    bucket.store().download({})


def test_a_download_replaces_what_was_there(bucket: Bucket, folder: Path) -> None:
    body = bucket.put("a.img", noise(100))
    for name in ("a.img", "a.img.part"):
        (folder / name).write_bytes(b"left over from last time, and longer than the object is" * 10)
    bucket.store().download({folder / "a.img": bucket.item("a.img")})
    assert (folder / "a.img").read_bytes() == body
    assert left_in(folder) == ["a.img"]


def test_the_final_name_appears_only_when_the_file_is_whole(bucket: Bucket, folder: Path, proxy: FaultyS3) -> None:
    body = bucket.put("a.img", noise(MEGABYTE))
    item = bucket.item("a.img")
    proxy.spoil("a.img", "stall", times=1)
    store = bucket.store(host=proxy.endpoint)
    with ThreadPoolExecutor(1) as thread:
        download = thread.submit(store.download, {folder / "a.img": item})
        assert proxy.stalled.wait(30)
        # Half of it has been sent.
        assert not (folder / "a.img").exists()
        proxy.go_on.set()
        download.result(30)
    assert (folder / "a.img").read_bytes() == body
    assert left_in(folder) == ["a.img"]


def test_nothing_is_left_if_it_cannot_get_its_final_name(
    bucket: Bucket, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("a.img")
    item = bucket.item("a.img")

    def no_rename(self: Path, target: Path) -> Path:
        raise OSError(errno.EIO, "Input/output error", str(target))

    monkeypatch.setattr(Path, "rename", no_rename)
    monkeypatch.setattr(Path, "replace", no_rename)
    with pytest.raises(DiskError, match=f"^{folder} cannot be written while downloading a.img .*Input/output error"):
        bucket.store().download({folder / "a.img": item})
    assert left_in(folder) == []


@pytest.mark.parametrize("size", [4, 6])
def test_another_size_than_announced(size: int, bucket: Bucket, folder: Path) -> None:
    bucket.put("a.img", b"12345")
    item = replace(bucket.item("a.img"), size=size)
    with pytest.raises(SceneError) as caught:
        bucket.store().download({folder / "a.img": item})
    assert str(caught.value) == f"a.img: 5 bytes arrived of {size}, twice; it is not what was listed any more"
    assert caught.value.retryable
    assert left_in(folder) == []


def test_another_content_than_announced(bucket: Bucket, folder: Path) -> None:
    bucket.put("a.img", b"12345")
    item = replace(bucket.item("a.img"), etag="0" * 32)
    with pytest.raises(SceneError) as caught:
        bucket.store().download({folder / "a.img": item})
    assert str(caught.value) == (
        f"a.img: the content's MD5 is 827ccb0eea8a706c4c34a16891f84e7b, the store announces {'0' * 32}, twice; it is "
        "not what was listed any more"
    )
    assert caught.value.retryable
    assert left_in(folder) == []


@pytest.mark.parametrize("fault", ["wrong", "short"])
def test_what_arrives_spoilt_once_is_downloaded_once_more(
    fault: Any, bucket: Bucket, folder: Path, proxy: FaultyS3, caplog: pytest.LogCaptureFixture
) -> None:
    body = bucket.put("a.img", noise(MEGABYTE))
    item = bucket.item("a.img")
    proxy.spoil("a.img", fault, times=1)
    bucket.store(host=proxy.endpoint).download({folder / "a.img": item})
    assert (folder / "a.img").read_bytes() == body
    assert any(message.endswith("downloading it once more") for message in caplog.messages)


@pytest.mark.parametrize(
    ("fault", "remedy", "retryable"),
    [
        (
            "wrong",
            "replace the object, or, if the ETags of this store are no MD5s, set s3.etag_is_md5 to false in "
            "s3_config.json",
            False,
        ),
        ("short", "see the object in the store", True),
    ],
)
def test_what_always_arrives_spoilt_is_refused(
    fault: Any, remedy: str, retryable: bool, bucket: Bucket, folder: Path, proxy: FaultyS3
) -> None:
    bucket.put("a.img", noise(MEGABYTE))
    item = bucket.item("a.img")
    proxy.spoil("a.img", fault)
    with pytest.raises(SceneError, match=rf"^a\.img: .*, twice; {re.escape(remedy)}$") as caught:
        bucket.store(host=proxy.endpoint).download({folder / "a.img": item})
    assert caught.value.retryable == retryable
    assert proxy.asked_for("/a.img") == 2
    assert left_in(folder) == []


@pytest.mark.parametrize("fault", ["cut", "reset", "503"])
def test_interruptions_are_waited_out(fault: Any, bucket: Bucket, folder: Path, proxy: FaultyS3) -> None:
    body = bucket.put("a.img", noise(MEGABYTE))
    item = bucket.item("a.img")
    proxy.spoil("a.img", fault, times=2)
    bucket.store(host=proxy.endpoint, retry_seconds=30).download({folder / "a.img": item})
    assert (folder / "a.img").read_bytes() == body


@pytest.mark.parametrize(
    ("fault", "words"), [("cut", "does not answer"), ("reset", "does not answer"), ("503", "SlowDown")]
)
def test_interruptions_without_end(fault: Any, words: str, bucket: Bucket, folder: Path, proxy: FaultyS3) -> None:
    bucket.put("a.img", noise(1000))
    item = bucket.item("a.img")
    proxy.spoil("a.img", fault)
    with pytest.raises(StoreUnavailableError) as caught:
        bucket.store(host=proxy.endpoint).download({folder / "a.img": item})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert left_in(folder) == []


def test_an_object_that_was_uploaded_in_parts_has_no_md5_and_is_judged_by_its_size(
    bucket: Bucket, folder: Path
) -> None:
    body = bucket.put_in_parts("a.img", noise(5 * 1024 * 1024), b"the rest")
    item = bucket.item("a.img")
    assert item.etag.endswith("-2")
    bucket.store().download({folder / "a.img": item})
    assert (folder / "a.img").read_bytes() == body
    with pytest.raises(SceneError, match="bytes arrived of"):
        bucket.store().download({folder / "b.img": replace(item, size=item.size + 1)})
    assert left_in(folder) == ["a.img"]


def test_an_object_that_the_store_encrypts_has_another_etag_and_is_judged_by_its_size(
    bucket: Bucket, folder: Path
) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key="a.img", Body=b"12345", ServerSideEncryption="aws:kms")
    item = replace(bucket.item("a.img"), etag="0" * 32)
    bucket.store().download({folder / "a.img": item})
    assert (folder / "a.img").read_bytes() == b"12345"
    with pytest.raises(SceneError, match="5 bytes arrived of 6"):
        bucket.store().download({folder / "b.img": replace(item, size=6)})
    assert left_in(folder) == ["a.img"]


def test_one_that_fails_takes_the_others_with_it(bucket: Bucket, folder: Path) -> None:
    bucket.put("a.img", noise(1000))
    good = bucket.item("a.img")
    gone = StoredObject("gone.img", 5, "")
    with pytest.raises(
        ObjectNotFoundError, match=rf"the object is not in bucket {bucket.name} \(while downloading gone"
    ):
        bucket.store().download({folder / "gone.img": gone, folder / "a.img": good})
    assert "gone.img" not in left_in(folder)
    assert not [name for name in left_in(folder) if name.endswith(".part")]


def test_a_store_goes_on_after_a_failure(bucket: Bucket, folder: Path) -> None:
    body = bucket.put("a.img", noise(1000))
    store = bucket.store()
    with pytest.raises(ObjectNotFoundError):
        store.download({folder / "gone.img": StoredObject("gone.img", 5, "")})
    store.download({folder / "a.img": bucket.item("a.img")})
    assert (folder / "a.img").read_bytes() == body


def test_after_a_failure_an_outage_is_waited_out_as_ever(bucket: Bucket, folder: Path, proxy: FaultyS3) -> None:
    bucket.put("a.img")
    store = bucket.store(host=proxy.endpoint, retry_seconds=60)

    def useless(_: Path) -> None:
        raise SceneError("of no use")

    with pytest.raises(SceneError, match="of no use"):
        store.download({folder / "a.img": bucket.item("a.img")}, "download", useless)
    # More than boto3 tries by itself.
    proxy.spoil("", "503", times=4)
    assert [item.key for item in store.list_objects("")] == ["a.img"]


def test_a_file_that_waits_for_its_turn_loses_no_time(
    bucket: Bucket, folder: Path, proxy: FaultyS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in (("large.img", MEGABYTE), ("small.img", 10)):
        bucket.put(name, noise(size))
    items = {folder / item.file_name: item for item in bucket.store().list_objects("")}
    later = 0.0
    monkeypatch.setattr(time, "monotonic", lambda now=time.monotonic: now() + later)
    # The small one stalls half-way; meanwhile, more time goes by than anybody would try again for.
    proxy.spoil("small.img", "stall", times=1)
    proxy.spoil("large.img", "503", times=4)
    store = bucket.store(host=proxy.endpoint, connections=1, retry_seconds=60, least_bytes_per_second=0)
    with ThreadPoolExecutor(1) as thread:
        download = thread.submit(store.download, items)
        assert proxy.stalled.wait(30)
        later = 1000.0
        proxy.go_on.set()
        download.result(60)
    assert left_in(folder) == ["large.img", "small.img"]


def test_the_next_file_is_asked_for_when_all_parts_of_the_one_before_are(
    bucket: Bucket, folder: Path, proxy: FaultyS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With two connections, what is asked for at the same moment may reach the server in any order: so this is seen
    where parts are taken from the queue."""
    sizes = {"first.img": 3 * BYTES_PER_PART, "second.img": 3 * BYTES_PER_PART + 1}
    for name, size in sizes.items():
        bucket.put(name, bytes(size))
    taken: list[tuple[str, set[str]]] = []

    class Watched(Queue):
        def __init__(self, fetch: Callable[[Part, threading.Event], object], threads: int) -> None:
            def watched(part: Part, stopping: threading.Event) -> None:
                taken.append((part.file.path.name, {other.file.path.name for other in self._parts.copy()}))
                fetch(part, stopping)

            super().__init__(watched, threads)

    monkeypatch.setattr("extractors.products.store.Queue", Watched)
    bucket.store(host=proxy.endpoint, connections=2).download(bucket.items(folder))
    assert Counter(name for name, _ in taken) == {"first.img": 3, "second.img": 4}
    assert all("first.img" not in waiting for name, waiting in taken if name == "second.img")
    assert (proxy.asked_for("/first.img"), proxy.asked_for("/second.img")) == (3, 4)
    assert left_in(folder) == ["first.img", "second.img"]


def test_a_download_that_ends_lets_nobody_wait_for_a_turn(bucket: Bucket, folder: Path, proxy: FaultyS3) -> None:
    for number in range(4):
        bucket.put(f"{number}.img", noise(1000 + number))
    proxy.spoil("0.img", "403")
    with ThreadPoolExecutor(1) as thread:
        items = {folder / item.file_name: item for item in bucket.store().list_objects("")}
        download = thread.submit(bucket.store(host=proxy.endpoint).download, items)
        with pytest.raises(ConfigurationError):
            download.result(30)
    assert not [name for name in left_in(folder) if name.endswith(".part")]


def test_failed_downloads_leave_no_threads(bucket: Bucket, folder: Path) -> None:
    store = bucket.store()
    before = threading.active_count()
    for _ in range(5):
        with pytest.raises(ObjectNotFoundError):
            store.download({folder / "gone.img": StoredObject("gone.img", 5, "")})
    assert threading.active_count() == before


# Room on the disk


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_no_room(bucket: Bucket, folder: Path, proxy: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        bucket.put(f"{name}.img", bytes(3 * MEGABYTE))
    items = {folder / item.file_name: item for item in bucket.store().list_objects("")}
    free = 7 * MEGABYTE - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(100 * MEGABYTE, 0, free))
    with pytest.raises(DiskFullError) as caught:
        bucket.store(host=proxy.endpoint).download(items)
    assert str(caught.value) == (
        f"no room in {folder}: 7.000 MB are free, 7.000 MB are needed; make room, or name another directory"
    )
    assert proxy.requests == []
    assert left_in(folder) == []
    free += 1
    bucket.store(host=proxy.endpoint).download(items)
    assert left_in(folder) == ["a.img", "b.img"]


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
from download_with_boto3 import main
sys.exit(main(sys.argv[1:]))
"""


def test_the_disk_fills_up_meanwhile(bucket: Bucket, folder: Path) -> None:
    # A limit on the size of files stands in for the disk: the system call fails half-way all the same.
    bucket.put("a.img", noise(MEGABYTE))
    config = folder.parent / "s3_config.json"
    config.write_text(json.dumps({"s3": bucket.settings()}))
    config.chmod(0o600)
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, "--s3-config", str(config), "get", "a.img"],
        cwd=folder, env=environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 75, ended.stderr
    (line,) = ended.stderr.splitlines()
    assert re.search(r" ERROR no room in \S+ while downloading a\.img; make some$", line)
    assert left_in(folder) == []


# Connections


@pytest.mark.parametrize("connections", [1, 2, 4])
def test_never_more_requests_at_a_time_than_connections_are_allowed(
    connections: int, bucket: Bucket, folder: Path
) -> None:
    # Nine small objects, and one that comes in three parts: far more than connections.
    for number in range(9):
        bucket.put(f"{number}.img", noise(1000))
    bucket.put("large.img", noise(20 * MEGABYTE))
    with CountingProxy(bucket.server.endpoint) as proxy:
        store = bucket.store(host=proxy.endpoint, connections=connections)
        store.download({folder / item.file_name: item for item in store.list_objects("")})
        assert len(left_in(folder)) == 10
        assert proxy.requests.total > 10
        assert proxy.requests.most <= connections
        assert proxy.connections.most <= connections


# What the store says


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        (
            {"bucket": "no-such-bucket"},
            ConfigurationError,
            "s3_config.json: s3.bucket: the S3 store at {host} has no bucket no-such-bucket; write the right name",
        ),
        (
            {"host": "http://127.0.0.1:1"},
            StoreUnavailableError,
            "the S3 store at http://127.0.0.1:1 does not answer while listing p/ (",
        ),
        (
            {"region": "no such region!"},
            ConfigurationError,
            "s3_config.json: no connection to an S3 store can be made from this (",
        ),
        (
            {"bucket": "not a bucket"},
            ConfigurationError,
            "s3_config.json: s3.host, s3.bucket, s3.region: the S3 store at {host} cannot be used with them while "
            "listing p/ (",
        ),
    ],
    ids=["wrong bucket", "nobody there", "odd region", "odd bucket"],
)
def test_a_store_that_cannot_be_used(
    changes: dict[str, str], kind: type[ExtractionError], message: str, bucket: Bucket
) -> None:
    with pytest.raises(kind) as caught:
        bucket.store(**changes).list_objects("p/")
    assert str(caught.value).startswith(message.format(host=bucket.server.endpoint))
    assert "\n" not in str(caught.value)
    assert SECRET not in str(caught.value)


def test_what_answers_is_no_s3_store(bucket: Bucket) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<html><body>It works!</body></html>"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class names it so)
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        host = f"http://127.0.0.1:{server.server_address[1]}"
        with pytest.raises(ConfigurationError) as caught:
            bucket.store(host=host).list_objects("p/")
        server.shutdown()
    assert str(caught.value) == (
        f"s3_config.json: s3.host: what answers at {host} is no S3 store; write the store's endpoint"
    )


def test_wrong_keys(bucket: Bucket, proxy: FaultyS3) -> None:
    proxy.spoil("", "403")
    with pytest.raises(ConfigurationError) as caught:
        bucket.store(host=proxy.endpoint, retry_seconds=30).list_objects("p/")
    assert str(caught.value) == (
        f"s3_config.json: s3.access_key, s3.secret_key: the S3 store at {proxy.endpoint} does not accept them "
        "(InvalidAccessKeyId); write valid ones"
    )
    assert proxy.asked_for("") == 1


def test_keys_from_nowhere(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    with pytest.raises(
        ConfigurationError, match=r"^s3_config\.json: s3\.access_key is missing, and boto3 finds no keys"
    ):
        bucket.store(access_key=None, secret_key=None).list_objects("p/")


def test_an_outage_is_waited_out(bucket: Bucket, proxy: FaultyS3, caplog: pytest.LogCaptureFixture) -> None:
    bucket.put("p/a.img")
    proxy.spoil("", "503", times=4)
    (item,) = bucket.store(host=proxy.endpoint, retry_seconds=60).list_objects("p/")
    assert item.key == "p/a.img"
    assert any(message.endswith("trying again") for message in caplog.messages)


def test_a_store_that_starts_late(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put("p/a.img")
    proxy = FaultyS3(bucket.server.endpoint)
    proxy.refuse()
    store = bucket.store(host=proxy.endpoint, retry_seconds=60)
    wait = threading.Event.wait

    def start_meanwhile(self: threading.Event, timeout: float | None = None) -> bool:
        if proxy._server is None:
            proxy.listen()
        return wait(self, timeout)

    monkeypatch.setattr(threading.Event, "wait", start_meanwhile)
    try:
        assert [item.key for item in store.list_objects("p/")] == ["p/a.img"]
    finally:
        proxy.close()


# The command


def test_scripts_find_the_store_where_they_always_did() -> None:
    assert download_with_boto3.ObjectStore is ObjectStore
    assert download_with_boto3.StoredObject is StoredObject


@pytest.fixture
def command(
    bucket: Bucket, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Run the command in an empty folder: exit code, stdout, stderr."""
    loggers = [logging.getLogger(), *map(logging.getLogger, PACKAGE_LOGGERS)]
    before = [(logger, logger.handlers[:], logger.level) for logger in loggers]
    monkeypatch.chdir(folder)
    config = folder.parent / "s3_config.json"
    config.write_text(json.dumps({"s3": bucket.settings()}))
    config.chmod(0o600)
    monkeypatch.setenv("S3_CONFIG", str(config))

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        captured = capsys.readouterr()
        assert SECRET not in captured.out + captured.err
        return code, captured.out, captured.err

    signals = {number: signal.getsignal(number) for number in SIGNALS}
    raising = logging.raiseExceptions
    yield run
    logging.raiseExceptions = raising
    for number, handler in signals.items():
        signal.signal(number, handler)
    for logger, handlers, level in before:
        logger.handlers[:] = handlers
        logger.setLevel(level)


Command = Callable[..., tuple[int, str, str]]


def test_list(bucket: Bucket, command: Command) -> None:
    bucket.put("p/a.img", b"12345")
    bucket.put("p/b.img", bytes(1_234_567))
    bucket.put("q/c.img")
    assert command("list", "p/") == (0, "            5  p/a.img\n      1234567  p/b.img\n", "")
    assert command("list", "nothing") == (0, "", "")


def test_get(bucket: Bucket, command: Command, folder: Path) -> None:
    body = bucket.put("p/a.img", noise(1000))
    (folder / "sub").mkdir()
    for arguments, path in (((), "a.img"), (("b.img",), "b.img"), (("sub",), "sub/a.img"), (("sub/c",), "sub/c")):
        code, out, err = command("get", "p/a.img", *arguments)
        assert (code, out) == (0, "")
        assert err.endswith(f" INFO {path}: 1,000 bytes, size and checksum as the store announces\n")
        assert (folder / path).read_bytes() == body


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("get", "p/b.img"), 1, "has nothing under p/b.img"),
        (("get", "p/a"), 1, "has no p/a under p/a"),
        (("get", "p/a.img", "nowhere/a.img"), 2, "nowhere: no such directory; make it, or write another FILE"),
        (("get", "p/a.img", "x" * 300), 2, "x" * 300),
        (("--s3-config", "nothing.json", "list", "p/"), 2, "nothing.json: no such file"),
    ],
    ids=["no such key", "part of a key", "no such folder", "a name too long", "no config"],
)
def test_what_goes_wrong_is_one_line(
    arguments: tuple[str, ...], code: int, words: str, bucket: Bucket, command: Command, folder: Path
) -> None:
    bucket.put("p/a.img")
    ended, out, err = command(*arguments)
    assert (ended, out) == (code, "")
    (line,) = err.splitlines()
    assert " ERROR " in line
    assert words in line
    assert left_in(folder) == []


def test_an_unreachable_store_ends_the_command_with_75(
    bucket: Bucket, command: Command, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    config = folder.parent / "s3_config.json"
    config.write_text(json.dumps({"s3": bucket.settings(host=f"http://127.0.0.1:{free_port()}")}))
    config.chmod(0o600)
    code, out, err = command("list", "p/")
    assert (code, out) == (75, "")
    assert len(err.splitlines()) == 1


def test_a_reader_that_has_seen_enough(bucket: Bucket, folder: Path) -> None:
    bucket.put("p/a.img")
    config = folder.parent / "s3_config.json"
    config.write_text(json.dumps({"s3": bucket.settings()}))
    config.chmod(0o600)
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [sys.executable, str(ROOT / "download_with_boto3.py"), "--s3-config", str(config), "list", "p/"],
        cwd=folder, env=environment(PYTHONUNBUFFERED="1"), stdout=writing, stderr=subprocess.PIPE, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, "")
