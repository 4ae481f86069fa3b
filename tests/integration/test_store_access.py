"""How a store is asked: with which keys, at which address, how often; and what it is told about what it cannot do."""

from __future__ import annotations

import logging
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from extractors.config import Store
from extractors.errors import ConfigurationError, StoreUnavailableError, UnusableSceneError
from extractors.products.store import ObjectStore
from tests.faults.spoilt_store import SpoiltStore
from tests.faulty_s3 import FaultyS3
from tests.integration.stores import SECRET, Bucket, noise
from tests.support.scripted import NOTHING, Answer, Asked, Scripted

TOKEN = "canary-session-token"


@pytest.fixture(autouse=True)
def _no_keys_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")


def store_at(server: Scripted, **changes: Any) -> ObjectStore:
    settings = {"access_key": "key", "secret_key": SECRET, "host": server.endpoint, "bucket": "eodata"}
    wanted = {key: value for key, value in (settings | {"retry_seconds": 0} | changes).items() if value is not None}
    return ObjectStore(Store.model_validate(wanted))


NO_KEYS = {"access_key": None, "secret_key": None}


# Keys


def test_a_session_token_goes_with_its_keys() -> None:
    with Scripted() as server:
        store_at(server, session_token=TOKEN).list_objects("p/")
    (asked,) = server.asked
    assert asked.headers["x-amz-security-token"] == TOKEN
    assert "Credential=key/" in asked.headers["authorization"]


def test_a_token_of_the_environment_is_never_combined_with_keys_of_the_file(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It belongs to other keys: the store would refuse them together. That it is not used is said once."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "other")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other")
    with Scripted() as server:
        store = store_at(server)
        store.list_objects("p/")
        store.list_objects("p/")
    assert not any("x-amz-security-token" in asked.headers for asked in server.asked)
    assert all("Credential=key/" in asked.headers["authorization"] for asked in server.asked)
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "AWS_SESSION_TOKEN" in warning.getMessage()
    assert "s3.session_token" in warning.getMessage()
    assert TOKEN not in caplog.text


def test_a_token_of_the_environment_goes_with_keys_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "other")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with Scripted() as server:
        store_at(server, **NO_KEYS).list_objects("p/")
    (asked,) = server.asked
    assert asked.headers["x-amz-security-token"] == TOKEN
    assert "Credential=other/" in asked.headers["authorization"]
    assert caplog.records == []


def test_a_token_in_the_file_goes_before_that_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "other")
    with Scripted() as server:
        store_at(server, session_token=TOKEN).list_objects("p/")
    assert server.asked[0].headers["x-amz-security-token"] == TOKEN
    assert caplog.records == []


def test_anonymous_requests_carry_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even those that the environment has."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "other")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with Scripted() as server:
        store_at(server, anonymous=True, **NO_KEYS).list_objects("p/")
    (asked,) = server.asked
    assert not {"authorization", "x-amz-security-token"} & asked.headers.keys()


@pytest.mark.parametrize("pays", [True, False])
def test_who_reads_pays(pays: bool, bucket: Bucket, folder: Path) -> None:
    """With listings, and with objects."""
    bucket.put("a.img", b"12345")

    def answer(asked: Asked) -> Answer:
        if "?" in asked.target:
            entry = b"<Contents><Key>a.img</Key><Size>5</Size><ETag>x</ETag></Contents></ListBucketResult>"
            return Answer(NOTHING.replace(b"</ListBucketResult>", entry))
        return Answer(b"12345", headers={"ETag": "x"})

    with Scripted(answer) as server:
        store = store_at(server, requester_pays=pays)
        store.download({folder / item.file_name: item for item in store.list_objects("")})
    assert [asked.headers.get("x-amz-request-payer") for asked in server.asked] == ["requester" if pays else None] * 2


# Addresses


def test_the_bucket_in_the_hosts_name(monkeypatch: pytest.MonkeyPatch) -> None:
    look_up = socket.getaddrinfo
    names: list[Any] = []

    def found(host: Any, *arguments: Any, **more: Any) -> Any:
        names.append(host)
        return look_up("127.0.0.1", *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", found)
    with Scripted() as server:
        host = f"http://store.example:{server.port}"
        store_at(server, host=host, addressing="virtual").list_objects("p/")
        store_at(server, host=host).list_objects("p/")
    assert names == ["eodata.store.example", "store.example"]
    virtual, path = server.asked
    assert virtual.headers["host"] == f"eodata.store.example:{server.port}"
    assert virtual.target.startswith("/?")
    assert path.target.startswith("/eodata?")


@pytest.mark.parametrize("name", ["proj1:eodata", ":eodata", "a0b1c2d3e4:EODATA-2"])
def test_the_bucket_of_another_tenant(name: str) -> None:
    with Scripted() as server:
        store_at(server, bucket=name).list_objects("p/")
    assert server.asked[0].target.startswith(f"/{name}?")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_store_that_sends_us_on_is_asked_once(status: int) -> None:
    """Boto3 would ask for the bucket's region, be sent on, ask for the bucket's region, ..."""

    def answer(_: Asked) -> Answer:
        where = f"https://name:{SECRET}@elsewhere.example/DIAS?X-Amz-Signature={SECRET}"
        return Answer(b"", status, {"Location": where})

    with Scripted(answer) as server, pytest.raises(ConfigurationError) as caught:
        store_at(server).list_objects("p/")
    assert str(caught.value) == (
        f"s3_config.json: s3.host: the S3 store at {server.endpoint} sends us on to https://elsewhere.example/DIAS; "
        "write that, if it is the store"
    )
    assert len(server.asked) == 1


def test_a_store_that_sends_us_on_without_an_address() -> None:
    with (
        Scripted(lambda _: Answer(b"", 307)) as server,
        pytest.raises(ConfigurationError, match=r"s3\.host: .* sends us on to an address that it does not name"),
    ):
        store_at(server).list_objects("p/")
    assert len(server.asked) == 1


def test_the_endpoint_that_amazon_names() -> None:
    body = (
        b"<?xml version='1.0'?><Error><Code>PermanentRedirect</Code><Message>use it</Message>"
        b"<Endpoint>eodata.s3.example</Endpoint></Error>"
    )
    with (
        Scripted(lambda _: Answer(body, 301)) as server,
        pytest.raises(ConfigurationError, match=r"s3\.host: .* sends us on to eodata\.s3\.example;"),
    ):
        store_at(server).list_objects("p/")


def test_another_region_of_the_same_store_is_followed() -> None:
    def answer(asked: Asked) -> Answer:
        if "/eu-far-1/s3/" in asked.headers["authorization"]:
            return Answer()
        return Answer(b"", 301, {"x-amz-bucket-region": "eu-far-1"})

    with Scripted(answer) as server:
        assert store_at(server).list_objects("p/") == []
    assert len(server.asked) == 2


def test_the_bucket_in_the_hosts_path(bucket: Bucket) -> None:
    """As in the first published configurations: http://data.cloudferro.com/DIAS."""
    bucket.put("p/a.img")
    host = f"{bucket.server.endpoint}/{bucket.name}"
    with pytest.raises(ConfigurationError) as caught:
        bucket.store(host=host).list_objects("p/")
    assert str(caught.value) == (
        f"s3_config.json: s3.bucket: the S3 store at {host} has no bucket {bucket.name}; write the right name, or "
        f"remove /{bucket.name} from s3.host if that is the bucket"
    )


def test_a_slash_at_the_end_of_the_host(bucket: Bucket) -> None:
    bucket.put("p/a.img")
    store = bucket.store(host=f"{bucket.server.endpoint}/")
    assert [item.key for item in store.list_objects("p/")] == ["p/a.img"]


# Is it the right one?


def test_a_bucket_that_holds_nothing_of_the_kind(bucket: Bucket) -> None:
    bucket.put("Sentinel-1/SAR/a.img")
    bucket.put("Sentinel-2/", b"")
    bucket.put("Sentinel-20/a.img")
    store = bucket.store()
    store.check("Sentinel-1/")
    with pytest.raises(ConfigurationError) as caught:
        store.check("Sentinel-2/")
    assert str(caught.value) == (
        f"s3_config.json: s3.bucket: bucket {bucket.name} holds nothing under Sentinel-2/; see whether it is the right "
        "one"
    )


def test_looking_whether_it_holds_anything_ends_with_the_first_page(bucket: Bucket, proxy: FaultyS3) -> None:
    """Of folders within folders, placeholders come first."""
    folders = ("", "MSI/", "MSI/L2A/", "MSI/L2A/2018/", "MSI/L2A/2018/01/")
    for name in folders:
        bucket.put(f"Sentinel-2/{name}", b"")
    proxy.page_size = 2
    store = bucket.store(host=proxy.endpoint)
    assert not store.holds("Sentinel-2/")
    assert len(proxy.requests) == 3
    for number in range(5):
        bucket.put(f"Sentinel-2/MSI/L2A/{number}.img")
    assert store.holds("Sentinel-2/")
    assert len(proxy.requests) == 3 + 2


# Listings


def listing(key: str, token: str) -> bytes:
    entry = f"<Contents><Key>{key}</Key><Size>5</Size></Contents><NextContinuationToken>{token}"
    text = NOTHING.replace(b"false", b"true")
    return text.replace(b"</ListBucketResult>", f"{entry}</NextContinuationToken></ListBucketResult>".encode())


def test_a_listing_that_repeats_itself_is_an_outage() -> None:
    with (
        Scripted(lambda _: Answer(listing("p/a.img", "the same"))) as server,
        pytest.raises(StoreUnavailableError, match="while listing p/"),
    ):
        store_at(server).list_objects("p/")
    assert len(server.asked) == 2


def test_a_listing_without_an_end_is_not_one_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extractors.products.source.MOST_OBJECTS_OF_A_PRODUCT", 20)
    numbers = iter(range(1000))

    def answer(_: Asked) -> Answer:
        number = next(numbers)
        return Answer(listing(f"p/{number}.img", f"token {number}"))

    with Scripted(answer) as server:
        store = store_at(server)
        with pytest.raises(UnusableSceneError, match=r"^there are more than 20 objects under p/"):
            store.list_product("p/")
        with pytest.raises(UnusableSceneError, match=r"^there are more than 20 objects under p/"):
            store.find_all(["p/a.img"], "p/")
    assert len(server.asked) == 2 * 21


@pytest.mark.parametrize("placeholders", [0, 1])
def test_a_listing_of_nothing_that_does_not_end(placeholders: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without a key, or with names of folders only."""
    for module in ("source", "store"):
        monkeypatch.setattr(f"extractors.products.{module}.MOST_OBJECTS_OF_A_PRODUCT", 20)
    numbers = iter(range(1000))

    def answer(_: Asked) -> Answer:
        page = listing("p/folder/", f"token {next(numbers)}")
        return Answer(page if placeholders else re.sub(rb"<Contents>.*</Contents>", b"", page))

    with Scripted(answer) as server:
        store = store_at(server)
        for ask in (store.list_product, store.check):
            with pytest.raises(UnusableSceneError, match=r"^there are more than 20 objects under p/"):
                ask("p/")
    assert len(server.asked) == 2 * 21


@pytest.mark.parametrize("status", [200, 404])
def test_an_answer_that_is_too_long_is_not_read_to_its_end(status: int) -> None:
    """Neither a listing nor what comes instead of one."""
    with (
        Scripted(lambda _: Answer(NOTHING + b" " * 20_000_000, status)) as server,
        pytest.raises(StoreUnavailableError, match="an answer of over 16,000,000 bytes"),
    ):
        store_at(server, retry_seconds=0).list_product("p/")


def test_what_is_refused_while_others_are_served_is_not_waited_for(
    bucket: Bucket, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not to the end of `retry_seconds`: what is left of them is the scene's pause."""
    monkeypatch.setattr("extractors.products.source.PATIENCE_SECONDS", 0)
    for key in ("bad/a.img", "good/b.img"):
        bucket.put(key, noise(1000))
    with SpoiltStore(bucket.server) as spoilt:
        store = bucket.store(host=spoilt.endpoint, retry_seconds=30)
        (item,) = store.list_objects("bad/")
        spoilt.error("a.img", 500, "InternalError")
        with pytest.raises(StoreUnavailableError, match="InternalError") as caught:
            store.download({folder / "a.img": item})
        assert 0 < caught.value.pause <= 30
        # Nothing is served: that is waited for.
        store = bucket.store(host=spoilt.endpoint, retry_seconds=0.5)
        spoilt.error("", 500, "InternalError")
        with pytest.raises(StoreUnavailableError, match="InternalError") as caught:
            store.download({folder / "a.img": item})
        assert caught.value.pause == 0


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (500, "InternalError")])
def test_trouble_that_passes_is_waited_for(status: int, code: str, bucket: Bucket, folder: Path) -> None:
    """Others are served meanwhile."""
    for key in ("bad/a.img", "good/b.img"):
        bucket.put(key, noise(1000))
    with SpoiltStore(bucket.server) as spoilt:
        store = bucket.store(host=spoilt.endpoint, retry_seconds=600)
        (item,) = store.list_objects("bad/")
        # Boto3 asks three times.
        spoilt.error("a.img", status, code, times=7)
        store.download({folder / "a.img": item})
    assert (folder / "a.img").stat().st_size == 1000


def test_people_may_list_as_much_as_there_is(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("extractors.products.source.MOST_OBJECTS_OF_A_PRODUCT", 3)
    for number in range(5):
        bucket.put(f"p/{number}.img")
    assert len(bucket.store().list_objects("p/")) == 5


def test_half_a_listing_is_asked_for_again(bucket: Bucket) -> None:
    """Boto3 does not compare its length, and what comes of the rest is an error that is not of its own tree."""
    whole = listing("p/a.img", "").replace(b"true", b"false")
    answers = iter([whole[: len(whole) // 2], whole[:-1], whole])
    with Scripted(lambda _: Answer(next(answers), headers={"Content-Length": str(len(whole))})) as server:
        (item,) = store_at(server, retry_seconds=60).list_objects("p/")
    assert item.key == "p/a.img"
    assert len(server.asked) == 3


def test_no_secret_is_shown(bucket: Bucket, proxy: FaultyS3, caplog: pytest.LogCaptureFixture) -> None:
    bucket.put("a.img", noise(10))
    store = bucket.store(host=proxy.endpoint, session_token=TOKEN, retry_seconds=60)
    for fault in ("503", "reset", "403"):
        proxy.spoil("list-type", fault, times=4)
    with pytest.raises(ConfigurationError) as caught:
        store.list_objects("")
    for text in (str(caught.value), caplog.text):
        assert SECRET not in text
        assert TOKEN not in text
