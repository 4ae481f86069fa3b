"""The store behind TLS: which of its errors may pass, and which are those of the configuration.

In front of the S3 server stands a proxy that encrypts by itself, with a certificate of the tests' own authority.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from extractors.errors import ConfigurationError, StoreUnavailableError
from tests.integration.stores import MEGABYTE, Bucket, left_in, noise
from tests.support.certificates import Authority
from tests.support.tls_proxy import TlsProxy


@pytest.fixture
def trusting(bucket: Bucket, tls_proxy: TlsProxy, authority: Authority) -> Bucket:
    """The bucket through the proxy, by stores that know the authority."""
    plain = bucket.settings
    bucket.settings = lambda **changes: plain(  # type: ignore[method-assign]
        **{"host": tls_proxy.endpoint, "ca_file": str(authority.ca_file), "retry_seconds": 60} | changes
    )
    return bucket


def test_a_ca_of_ones_own(trusting: Bucket, folder: Path) -> None:
    body = trusting.put("p/a.img", noise(MEGABYTE))
    trusting.store().download({folder / "a.img": trusting.item("p/a.img")})
    assert (folder / "a.img").read_bytes() == body


def test_a_flipped_bit_is_asked_for_again(trusting: Bucket, folder: Path, tls_proxy: TlsProxy) -> None:
    """The record's checksum (MAC) does not fit: an error of urllib3's that boto3 does not know. Nine times."""
    body = trusting.put("a.img", noise(MEGABYTE))
    tls_proxy.spoil("flip", times=9, key="a.img")
    trusting.store().download({folder / "a.img": trusting.item("a.img")})
    assert (folder / "a.img").read_bytes() == body
    assert tls_proxy.done("flip") == 9
    assert tls_proxy.asked_for("/a.img") == 10


def test_flipped_bits_without_end_are_an_outage(trusting: Bucket, folder: Path, tls_proxy: TlsProxy) -> None:
    trusting.put("a.img", noise(1000))
    tls_proxy.spoil("flip", key="a.img")
    with pytest.raises(StoreUnavailableError, match=r"does not answer while downloading a\.img"):
        trusting.store(retry_seconds=0).download({folder / "a.img": trusting.item("a.img")})
    assert left_in(folder) == []


@pytest.mark.parametrize("fault", ["eof", "alert"])
def test_handshakes_that_fail_may_pass(fault: str, trusting: Bucket, tls_proxy: TlsProxy) -> None:
    """More of them than boto3 itself tries again."""
    trusting.put("p/a.img")
    tls_proxy.spoil(fault, times=5)  # type: ignore[arg-type]
    assert [item.key for item in trusting.store().list_objects("p/")] == ["p/a.img"]
    assert tls_proxy.handshakes >= 6


@pytest.mark.parametrize("fault", ["eof", "alert"])
def test_handshakes_that_always_fail_are_an_outage(fault: str, trusting: Bucket, tls_proxy: TlsProxy) -> None:
    tls_proxy.spoil(fault)  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailableError, match="does not answer while listing p/"):
        trusting.store(retry_seconds=0).list_objects("p/")


def test_a_certificate_that_nobody_vouches_for(trusting: Bucket, tls_proxy: TlsProxy) -> None:
    with pytest.raises(ConfigurationError, match=r"^s3_config\.json: s3\.ca_file: the certificate of .* verified"):
        trusting.store(ca_file=None).list_objects("p/")
    assert tls_proxy.asked_for("") == 0


def test_a_certificate_of_another_host(trusting: Bucket, authority: Authority) -> None:
    with (
        TlsProxy(trusting.server.endpoint, authority.certify("other.example")) as proxy,
        pytest.raises(ConfigurationError, match=r"^s3_config\.json: s3\.ca_file: "),
    ):
        trusting.store(host=proxy.endpoint).list_objects("p/")


def test_a_server_without_tls(trusting: Bucket) -> None:
    host = trusting.server.endpoint.replace("http://", "https://")
    with pytest.raises(ConfigurationError, match=r"^s3_config\.json: s3\.host: what answers at .* does not speak TLS"):
        trusting.store(host=host).list_objects("p/")


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that accepts connections and hangs up."""
    listening = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                listening.accept()[0].close()
            except OSError:
                return

    threading.Thread(target=accept, daemon=True).start()
    yield f"https://127.0.0.1:{listening.getsockname()[1]}"
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()


def test_a_server_that_hangs_up_may_come_back(silent: str, trusting: Bucket) -> None:
    with pytest.raises(StoreUnavailableError):
        trusting.store(host=silent, retry_seconds=0).list_objects("p/")


@pytest.mark.parametrize("content", [None, "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_a_ca_file_that_cannot_be_used(content: str | None, trusting: Bucket, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigurationError, match=rf"^s3_config\.json: s3\.ca_file: {file} cannot be read"):
        trusting.store(ca_file=str(file))


def test_a_ca_file_of_the_environment_that_is_not_there(trusting: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/no/such/file")
    with pytest.raises(ConfigurationError, match=r"s3\.ca_file"):
        trusting.store(ca_file=None).list_objects("p/")
