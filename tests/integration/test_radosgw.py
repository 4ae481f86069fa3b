"""The store against Ceph's own gateway, which is what large archives run: tenants, temporary keys, buckets for all,
buckets that bill their readers, addresses. (The other server for tests lets everybody do everything.)"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from extractors.errors import ConfigurationError, ExtractionError, ObjectNotFoundError, StoreUnavailableError
from extractors.model import StoredObject
from tests.integration.stores import left_in, noise
from tests.support.radosgw import DOMAIN, RadosGateway, User

BODY = noise(1000)


@pytest.fixture(scope="module")
def owner(gateway: RadosGateway) -> User:
    """Somebody of the tenant `proj1`; has the bucket `eodata`, which all may read, and `private`."""
    owner = gateway.user("owner", "proj1")
    gateway.bucket(owner, "eodata", public=True).put_object(Bucket="eodata", Key="Sentinel-2/a.img", Body=BODY)
    gateway.bucket(owner, "private").put_object(Bucket="private", Key="Sentinel-2/a.img", Body=BODY)
    return owner


@pytest.fixture(scope="module")
def reader(gateway: RadosGateway) -> User:
    """Somebody without a tenant; has the bucket `own`, which all may read."""
    reader = gateway.user("reader")
    gateway.bucket(reader, "own", public=True).put_object(Bucket="own", Key="Sentinel-2/a.img", Body=BODY)
    return reader


def read(gateway: RadosGateway, user: User | None, bucket: str, folder: Path, **changes: Any) -> None:
    """List a bucket and download what is in it."""
    store = gateway.store(user, bucket, **changes)
    store.check("Sentinel-2/")
    (item,) = store.list_objects("Sentinel-2/")
    store.download({folder / item.file_name: item})
    assert (folder / "a.img").read_bytes() == BODY


def refused(gateway: RadosGateway, user: User | None, bucket: str, **changes: Any) -> ExtractionError:
    with pytest.raises(ExtractionError) as caught:
        gateway.store(user, bucket, **changes).list_objects("Sentinel-2/")
    return caught.value


# Tenants


def test_the_bucket_of_another_tenant(gateway: RadosGateway, owner: User, reader: User, folder: Path) -> None:
    read(gateway, reader, "proj1:eodata", folder)


def test_a_bucket_of_ones_own_tenant(gateway: RadosGateway, owner: User, folder: Path) -> None:
    read(gateway, owner, "eodata", folder)


def test_a_bucket_without_a_tenant_for_those_who_have_one(
    gateway: RadosGateway, owner: User, reader: User, folder: Path
) -> None:
    read(gateway, owner, ":own", folder)
    assert isinstance(refused(gateway, owner, "own"), ConfigurationError)


@pytest.mark.parametrize("bucket", ["eodata", "proj2:eodata", "proj1:no-such-bucket"])
def test_no_such_bucket(bucket: str, gateway: RadosGateway, owner: User, reader: User) -> None:
    error = refused(gateway, reader, bucket)
    assert isinstance(error, ConfigurationError)
    assert f"has no bucket {bucket};" in str(error)


def test_a_bucket_that_one_may_not_read(gateway: RadosGateway, owner: User, reader: User) -> None:
    """It may be allowed later: an outage."""
    error = refused(gateway, reader, "proj1:private")
    assert isinstance(error, StoreUnavailableError)
    assert "AccessDenied" in str(error)


# Keys


def test_without_keys(gateway: RadosGateway, owner: User, reader: User, folder: Path) -> None:
    read(gateway, None, "own", folder)
    read(gateway, None, "proj1:eodata", folder)
    assert isinstance(refused(gateway, None, "proj1:private"), StoreUnavailableError)


def test_wrong_keys(gateway: RadosGateway, reader: User) -> None:
    """This gateway, which knows temporary keys as well, does not say what is wrong with them."""
    for keys in (User(reader.access_key, "wrong"), User("nobody", "wrong")):
        error = refused(gateway, keys, "own")
        assert isinstance(error, ConfigurationError | StoreUnavailableError)
        assert "access_key" in str(error)
        assert "wrong" not in str(error)


@pytest.fixture(scope="module")
def temporary(gateway: RadosGateway, reader: User) -> tuple[User, str]:
    """Keys of the reader's that end some time, and their token."""
    return gateway.temporary_keys(reader, "reader")


def test_temporary_keys(gateway: RadosGateway, temporary: tuple[User, str], folder: Path) -> None:
    keys, token = temporary
    read(gateway, keys, "own", folder, session_token=token)


def test_temporary_keys_without_their_token(gateway: RadosGateway, temporary: tuple[User, str]) -> None:
    keys, token = temporary
    error = refused(gateway, keys, "own")
    assert isinstance(error, ConfigurationError | StoreUnavailableError)
    assert token not in str(error)


def test_a_token_of_the_environment_does_no_harm_to_lasting_keys(
    gateway: RadosGateway, reader: User, temporary: tuple[User, str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sent with them, the gateway refuses them."""
    _, token = temporary
    assert isinstance(refused(gateway, reader, "own", session_token=token), ExtractionError)
    monkeypatch.setenv("AWS_SESSION_TOKEN", token)
    read(gateway, reader, "own", folder)


def test_temporary_keys_of_the_environment(
    gateway: RadosGateway, temporary: tuple[User, str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, token = temporary
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys.secret_key)
    monkeypatch.setenv("AWS_SESSION_TOKEN", token)
    read(gateway, None, "own", folder, anonymous=False)


def test_who_reads_pays(gateway: RadosGateway, owner: User, reader: User, folder: Path) -> None:
    billing = gateway.bucket(owner, "billing", public=True)
    billing.put_object(Bucket="billing", Key="Sentinel-2/a.img", Body=BODY)
    billing.put_bucket_request_payment(Bucket="billing", RequestPaymentConfiguration={"Payer": "Requester"})
    error = refused(gateway, reader, "proj1:billing")
    assert isinstance(error, StoreUnavailableError)
    assert "s3.requester_pays" in str(error)
    read(gateway, reader, "proj1:billing", folder, requester_pays=True)


# Addresses


def test_the_bucket_in_the_hosts_name(
    gateway: RadosGateway, reader: User, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up = socket.getaddrinfo
    names = set()

    def found(host: Any, *arguments: Any, **more: Any) -> Any:
        names.add(host)
        return look_up("127.0.0.1", *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", found)
    read(gateway, reader, "own", folder, host=f"http://{DOMAIN}:{gateway.port}", addressing="virtual")
    assert names == {f"own.{DOMAIN}"}


def test_the_bucket_in_the_hosts_path(gateway: RadosGateway, reader: User) -> None:
    error = refused(gateway, reader, "own", host=f"{gateway.endpoint}/own")
    assert isinstance(error, ConfigurationError)
    assert "remove /own from s3.host" in str(error)


# Objects


def test_objects_of_all_kinds(gateway: RadosGateway, reader: User, folder: Path) -> None:
    client = gateway.bucket(reader, "kinds")
    keys = ["a b+c.img", "100%25.img", "ü/ß.img", "a&b=c?d#e.img", "quote'\".img", "empty.img"]
    for key in keys:
        client.put_object(Bucket="kinds", Key=key, Body=b"" if key == "empty.img" else key.encode())
    client.put_object(Bucket="kinds", Key="folder/", Body=b"")
    large, five = noise(20_000_000), 5 * 1024**2
    upload = client.create_multipart_upload(Bucket="kinds", Key="large.img")["UploadId"]
    parts: Any = [
        {
            "PartNumber": number,
            "ETag": client.upload_part(
                Bucket="kinds", Key="large.img", UploadId=upload, PartNumber=number, Body=large[at : at + five]
            )["ETag"],
        }
        for number, at in enumerate(range(0, len(large), five), 1)
    ]
    client.complete_multipart_upload(Bucket="kinds", Key="large.img", UploadId=upload, MultipartUpload={"Parts": parts})
    store = gateway.store(reader, "kinds")
    items = store.list_objects("")
    assert sorted(item.key for item in items) == sorted([*keys, "large.img"])
    assert [item.etag.endswith("-4") for item in items if item.key == "large.img"] == [True]
    store.download({folder / str(number): item for number, item in enumerate(items)})
    for number, item in enumerate(items):
        content = (folder / str(number)).read_bytes()
        assert content == (large if item.key == "large.img" else b"" if item.key == "empty.img" else item.key.encode())


def test_an_object_that_is_gone(gateway: RadosGateway, reader: User, folder: Path) -> None:
    with pytest.raises(ObjectNotFoundError):
        gateway.store(reader, "own").download({folder / "gone.img": StoredObject("gone.img", 5, "")})
    assert left_in(folder) == []
