"""Downloads: in which order parts are asked for, what is never accepted, and where they end."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from extractors.errors import (
    ConfigurationError,
    DeliveryError,
    ObjectNotFoundError,
    StoreUnavailableError,
    UnusableSceneError,
)
from extractors.model import StoredObject
from extractors.products.parts import Queue
from tests.faulty_s3 import FaultyS3
from tests.integration.stores import MEGABYTE, Bucket, left_in, noise

PART = 100_000
FALSE_MD5 = "0" * 32


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extractors.products.parts.BYTES_PER_PART", PART)


def asked(proxy: FaultyS3) -> str:
    """The objects that were asked for, by the first letters of their names, once for each request."""
    targets = [request.target for request in proxy.requests]
    return "".join(target.rsplit("/", 1)[1][0] for target in targets if ".img" in target)


# Order


def test_one_files_parts_are_asked_for_before_those_of_the_next(bucket: Bucket, folder: Path, proxy: FaultyS3) -> None:
    bodies = {f"{name}.img": bucket.put(f"{name}.img", noise(size)) for name, size in SIZES.items()}
    bucket.store(host=proxy.endpoint, connections=1).download(bucket.items(folder))
    assert asked(proxy) == "abbccccddddd"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == bodies


SIZES = {"d": 5 * PART, "a": PART - 1, "c": 3 * PART + 1, "b": PART + 1}


@pytest.mark.parametrize("connections", [1, 2, 4, 64])
def test_more_connections_than_parts_and_fewer(connections: int, bucket: Bucket, folder: Path) -> None:
    bodies = {f"{name}.img": bucket.put(f"{name}.img", noise(size)) for name, size in SIZES.items()}
    before = threading.active_count()
    bucket.store(connections=connections).download(bucket.items(folder))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == bodies
    assert threading.active_count() == before


@pytest.mark.parametrize("fault", ["cut", "reset", "503"])
def test_a_part_that_is_tried_again_keeps_its_place(fault: Any, bucket: Bucket, folder: Path, proxy: FaultyS3) -> None:
    """And no other part comes twice because of it. (A refusal is tried again by boto3 itself, three times.)"""
    for name, size in SIZES.items():
        bucket.put(f"{name}.img", noise(size))
    proxy.spoil("b.img", fault, times=1)
    bucket.store(host=proxy.endpoint, connections=1, retry_seconds=60).download(bucket.items(folder))
    assert asked(proxy) == "abbbccccddddd"


def test_a_file_that_is_fetched_again_goes_before_all_that_wait(
    bucket: Bucket, folder: Path, proxy: FaultyS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in SIZES.items():
        bucket.put(f"{name}.img", noise(size))
    proxy.spoil("a.img", "wrong", times=1)
    proxy.spoil("b.img", "stall", times=1)
    queued = threading.Event()
    add = Queue.add

    def added(self: Queue, files: Any, *, first: bool = False) -> None:
        add(self, files, first=first)
        if first:
            queued.set()

    monkeypatch.setattr(Queue, "add", added)
    store = bucket.store(host=proxy.endpoint, connections=1)
    with ThreadPoolExecutor(1) as thread:
        download = thread.submit(store.download, bucket.items(folder))
        assert proxy.stalled.wait(30)
        assert queued.wait(30)
        proxy.go_on.set()
        download.result(60)
    assert asked(proxy) == "ababccccddddd"
    assert left_in(folder) == ["a.img", "b.img", "c.img", "d.img"]


# What is never accepted


def test_an_etag_that_is_no_md5(bucket: Bucket, folder: Path, proxy: FaultyS3) -> None:
    """Two downloads that agree prove nothing; the error says what to set, and is final."""
    bucket.put("a.img", noise(1000))
    proxy.etag = FALSE_MD5
    store = bucket.store(host=proxy.endpoint)
    (item,) = store.list_objects("")
    with pytest.raises(UnusableSceneError, match=r"^a\.img: .* s3\.etag_is_md5 to false in s3_config\.json$"):
        store.download({folder / "a.img": item})
    assert proxy.asked_for("/a.img") == 2
    assert left_in(folder) == []


@pytest.mark.parametrize("size", [0, 1000, 3 * PART])
def test_where_etags_are_no_md5s_the_size_decides(size: int, bucket: Bucket, folder: Path, proxy: FaultyS3) -> None:
    body = bucket.put("a.img", noise(size))
    proxy.etag = FALSE_MD5
    store = bucket.store(host=proxy.endpoint, etag_is_md5=False)
    (item,) = store.list_objects("")
    assert not store.is_exact(item)
    store.download({folder / "a.img": item})
    assert (folder / "a.img").read_bytes() == body
    if size:
        proxy.spoil("b.img", "short")
        bucket.put("b.img", noise(size))
        with pytest.raises(DeliveryError, match="bytes arrived of"):
            store.download({folder / "b.img": store.list_objects("b.img")[0]})
    assert left_in(folder) == ["a.img"]


def test_what_arrives_differently_each_time_is_damaged_on_its_way(
    bucket: Bucket, folder: Path, proxy: FaultyS3
) -> None:
    bucket.put("a.img", noise(1000))
    proxy.spoil("a.img", "noisy")
    with pytest.raises(StoreUnavailableError, match="something else the time before"):
        bucket.store(host=proxy.endpoint).download(bucket.items(folder))
    assert proxy.asked_for("/a.img") == 2
    assert left_in(folder) == []


@pytest.mark.parametrize("size", [1000, 3 * PART], ids=["at once", "in parts"])
def test_more_than_was_listed_is_cut_off(size: int, bucket: Bucket, folder: Path, proxy: FaultyS3) -> None:
    """A body without a length, and without an end."""
    bucket.put("a.img", noise(size))
    proxy.spoil("a.img", "longer")
    with pytest.raises(DeliveryError, match=r"^a\.img: more than \S+ bytes arrived, twice"):
        bucket.store(host=proxy.endpoint, connections=1).download(bucket.items(folder))
    # What buffers in between hold.
    assert proxy.sent < 20 * MEGABYTE
    assert left_in(folder) == []


def test_a_longer_object_than_was_listed(bucket: Bucket, folder: Path, proxy: FaultyS3) -> None:
    """Nothing of it is read: what the answer says of itself is enough."""
    bucket.put("a.img", noise(1000))
    items = bucket.items(folder)
    bucket.put("a.img", noise(5 * MEGABYTE))
    with pytest.raises(DeliveryError, match="5,000,000 bytes arrived of 1,000, twice; it is not what was listed any"):
        bucket.store(host=proxy.endpoint).download(items)
    assert left_in(folder) == []


def test_a_shorter_object_than_was_listed(bucket: Bucket, folder: Path) -> None:
    bucket.put("a.img", noise(3 * PART))
    items = bucket.items(folder)
    bucket.put("a.img", noise(PART // 2))
    with pytest.raises(DeliveryError):
        bucket.store().download(items)
    assert left_in(folder) == []


def test_an_object_that_is_replaced_while_it_is_downloaded(bucket: Bucket, folder: Path, proxy: FaultyS3) -> None:
    """Never parts of two of them; the next attempt lists it anew."""
    bucket.put("a.img", noise(2 * PART))
    items = bucket.items(folder)
    proxy.spoil("a.img", "stall", times=1)
    store = bucket.store(host=proxy.endpoint, connections=1)
    with ThreadPoolExecutor(1) as thread:
        download = thread.submit(store.download, items)
        assert proxy.stalled.wait(30)
        body = bucket.put("a.img", noise(2 * PART))
        proxy.go_on.set()
        with pytest.raises(DeliveryError, match="it is not what was listed any more"):
            download.result(60)
    assert left_in(folder) == []
    store.download(bucket.items(folder))
    assert (folder / "a.img").read_bytes() == body


@pytest.mark.parametrize("etag_is_md5", [True, False])
def test_parts_of_two_objects_are_never_put_together(
    etag_is_md5: bool, bucket: Bucket, folder: Path, proxy: FaultyS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both were uploaded in parts and have the same size, so neither MD5 nor size would tell."""
    monkeypatch.setattr("extractors.products.parts.BYTES_PER_PART", 5 * 1024**2)
    five = 5 * 1024**2
    bucket.put_in_parts("a.img", bytes(five), b"end")
    items = bucket.items(folder)
    proxy.spoil("a.img", "stall", times=1)
    store = bucket.store(host=proxy.endpoint, connections=1, etag_is_md5=etag_is_md5)
    with ThreadPoolExecutor(1) as thread:
        download = thread.submit(store.download, items)
        assert proxy.stalled.wait(30)
        body = bucket.put_in_parts("a.img", noise(five), b"END")
        proxy.go_on.set()
        download.result(60)
    assert hashlib.sha1((folder / "a.img").read_bytes()).digest() == hashlib.sha1(body).digest()


def test_a_store_that_knows_no_ranges(bucket: Bucket, folder: Path, proxy: FaultyS3) -> None:
    bucket.put("a.img", noise(2 * PART))
    proxy.spoil("a.img", "whole")
    with pytest.raises(ConfigurationError, match=r"^s3_config\.json: s3\.host: .* whole objects where parts are asked"):
        bucket.store(host=proxy.endpoint).download(bucket.items(folder))
    assert left_in(folder) == []


# Where downloads end


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection may be slow for 0.3 s."""
    monkeypatch.setattr("extractors.products.body.SLOW_SECONDS", 0.3)


@pytest.mark.usefixtures("impatient")
def test_a_connection_that_trickles_is_given_up(bucket: Bucket, folder: Path, proxy: FaultyS3) -> None:
    """No time limit of a socket is ever reached. The next connection is better."""
    body = bucket.put("a.img", noise(MEGABYTE))
    proxy.spoil("a.img", "trickle", times=1)
    bucket.store(host=proxy.endpoint, connections=1, retry_seconds=60).download(bucket.items(folder))
    assert (folder / "a.img").read_bytes() == body
    assert proxy.asked_for("/a.img") == 10 + 1


@pytest.mark.usefixtures("impatient")
def test_a_store_that_always_trickles_is_an_outage(bucket: Bucket, folder: Path, proxy: FaultyS3) -> None:
    bucket.put("a.img", noise(1000))
    proxy.spoil("a.img", "trickle")
    with pytest.raises(StoreUnavailableError, match=r"is too slow while downloading a\.img"):
        bucket.store(host=proxy.endpoint).download(bucket.items(folder))
    assert left_in(folder) == []


@pytest.mark.usefixtures("impatient")
def test_how_slow_it_may_be_is_a_setting(bucket: Bucket, folder: Path, proxy: FaultyS3) -> None:
    body = bucket.put("a.img", noise(20))
    proxy.trickle_seconds = 0.05
    proxy.spoil("a.img", "trickle")
    bucket.store(host=proxy.endpoint, least_bytes_per_second=0).download(bucket.items(folder))
    assert (folder / "a.img").read_bytes() == body


def test_a_listing_that_trickles_is_an_outage(bucket: Bucket, proxy: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put("a.img")
    monkeypatch.setattr("extractors.products.source.LONGEST_ANSWER_SECONDS", 0.5)
    proxy.spoil("list-type", "trickle", times=1)
    with pytest.raises(StoreUnavailableError, match="is too slow while listing a"):
        bucket.store(host=proxy.endpoint).list_objects("a")
    proxy.spoil("list-type", "trickle", times=1)
    (item,) = bucket.store(host=proxy.endpoint, retry_seconds=60).list_objects("a")
    assert item.key == "a.img"


def test_waiting_for_the_store_has_an_end(
    bucket: Bucket, folder: Path, proxy: FaultyS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it would be tried again."""
    monkeypatch.setattr("extractors.products.parts.LONGEST_GOODBYE_SECONDS", 0.1)
    bucket.put("a.img", noise(1000))
    proxy.spoil("a.img", "stall")
    store = bucket.store(host=proxy.endpoint, retry_seconds=10_000)
    with pytest.raises(StoreUnavailableError, match=r"has not delivered scene 7 within 0\.5 s$"):
        store.download(bucket.items(folder), "scene 7", seconds=0.5)
    assert left_in(folder) == []


def test_what_is_made_of_an_arrival_is_not_the_stores_time(bucket: Bucket, folder: Path) -> None:
    for name in "abc":
        bucket.put(f"{name}.img", noise(1000))
    bucket.store().download(bucket.items(folder), "scene 7", lambda _: threading.Event().wait(0.7), seconds=2)
    assert left_in(folder) == ["a.img", "b.img", "c.img"]


def test_an_error_in_one_part_ends_the_others(bucket: Bucket, folder: Path, proxy: FaultyS3) -> None:
    for name, size in SIZES.items():
        bucket.put(f"{name}.img", noise(size))
    items = bucket.items(folder) | {folder / "0.img": StoredObject("0.img", 5, "")}
    with pytest.raises(ObjectNotFoundError):
        bucket.store(host=proxy.endpoint, connections=1).download(items)
    assert set(asked(proxy)) <= {"0", "a"}
    assert not [name for name in left_in(folder) if name.endswith(".part")]
