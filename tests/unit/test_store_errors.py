"""Whose fault is it? The table of what goes wrong while talking to a store, and that no library raises what is not in
it."""

from __future__ import annotations

import http.client
import importlib
import inspect
import pkgutil
import socket
import ssl
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import boto3.exceptions
import botocore.exceptions as boto
import botocore.parsers
import pytest
import s3transfer.exceptions
import urllib3.exceptions

from extractors.config import Store
from extractors.errors import (
    ConfigurationError,
    DeliveryError,
    DiskFullError,
    ExtractionError,
    ObjectNotFoundError,
    OutageError,
    StoreUnavailableError,
    UnusableSceneError,
)
from extractors.products.parts import DifferenceError
from extractors.products.source import TooSlowError
from extractors.products.store_errors import BY_CLASS, MovedError, meaning_of, translated

SECRET = "canary-secret-key"
SETTINGS = Store.model_validate(
    {
        "access_key": "key", "secret_key": SECRET, "session_token": SECRET, "host": "https://store.example/DIAS",
        "bucket": "DIAS", "region": "here",
    }
)  # fmt: skip

Kind = type[ExtractionError]


def answer(code: str, status: int, operation: str = "GetObject") -> boto.ClientError:
    said: Any = {"Error": {"Code": code, "Message": "made by the test"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return boto.ClientError(said, operation)


def caused_by(error: Exception, cause: BaseException) -> Exception:
    error.__context__ = cause
    return error


def handshake(cause: BaseException) -> Exception:
    """What boto3 makes of an error in a handshake."""
    through = caused_by(urllib3.exceptions.SSLError(cause), cause)
    return caused_by(boto.SSLError(endpoint_url="https://store.example", error=through), through)


def tls(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}]")
    error.reason = reason
    return error


TABLE: list[tuple[Exception, Kind, bool]] = [
    # The network.
    (boto.EndpointConnectionError(endpoint_url="x", error="x"), StoreUnavailableError, True),
    (boto.ConnectTimeoutError(endpoint_url="x", error="x"), StoreUnavailableError, True),
    (boto.ReadTimeoutError(endpoint_url="x", error="x"), StoreUnavailableError, True),
    (boto.ConnectionClosedError(endpoint_url="x", error="x"), StoreUnavailableError, True),
    (boto.ProxyConnectionError(proxy_url="x", error="x"), StoreUnavailableError, True),
    (boto.HTTPClientError(error="x"), StoreUnavailableError, True),
    (boto.ResponseStreamingError(error="x"), StoreUnavailableError, True),
    (boto.IncompleteReadError(actual_bytes=1, expected_bytes=2), StoreUnavailableError, True),
    (boto.PaginationError(message="x"), StoreUnavailableError, True),
    (botocore.parsers.ResponseParserError("half a document"), StoreUnavailableError, True),
    (urllib3.exceptions.ProtocolError("x"), StoreUnavailableError, True),
    (urllib3.exceptions.IncompleteRead(1, 2), StoreUnavailableError, True),
    (http.client.BadStatusLine("x"), StoreUnavailableError, True),
    (http.client.RemoteDisconnected("x"), StoreUnavailableError, True),
    (socket.gaierror(-3, "Temporary failure in name resolution"), StoreUnavailableError, True),
    (ConnectionResetError(104, "x"), StoreUnavailableError, True),
    (TimeoutError("x"), StoreUnavailableError, True),
    (OSError(113, "No route to host"), StoreUnavailableError, True),
    (TooSlowError("2 bytes in 30 s"), StoreUnavailableError, True),
    # TLS.
    (urllib3.exceptions.SSLError("bad record mac"), StoreUnavailableError, True),
    (tls("DECRYPTION_FAILED_OR_BAD_RECORD_MAC"), StoreUnavailableError, True),
    (handshake(ssl.SSLEOFError(8, "EOF occurred in violation of protocol")), StoreUnavailableError, True),
    (handshake(tls("TLSV1_ALERT_INTERNAL_ERROR")), StoreUnavailableError, True),
    (handshake(tls("SSLV3_ALERT_HANDSHAKE_FAILURE")), StoreUnavailableError, True),
    (handshake(ssl.SSLZeroReturnError(6, "closed")), StoreUnavailableError, True),
    (handshake(ssl.SSLCertVerificationError(1, "self-signed certificate")), ConfigurationError, False),
    (handshake(FileNotFoundError(2, "No such file or directory")), ConfigurationError, False),
    (handshake(tls("WRONG_VERSION_NUMBER")), ConfigurationError, False),
    # In the middle of a body, that is a damaged record.
    (caused_by(urllib3.exceptions.SSLError("x"), tls("WRONG_VERSION_NUMBER")), StoreUnavailableError, True),
    # Keys and settings.
    (boto.NoCredentialsError(), ConfigurationError, False),
    (boto.PartialCredentialsError(provider="env", cred_var="x"), ConfigurationError, False),
    (boto.ProfileNotFound(profile="x"), ConfigurationError, False),
    (boto.SSOTokenLoadError(error_msg="x"), ConfigurationError, False),
    (boto.ParamValidationError(report="x"), ConfigurationError, False),
    (boto.InvalidRegionError(region_name="x"), ConfigurationError, False),
    (boto.EndpointResolutionError(msg="x"), ConfigurationError, False),
    (boto.UnknownServiceError(service_name="x", known_service_names=""), ConfigurationError, False),
    (MovedError("http://elsewhere"), ConfigurationError, False),
    # Where keys come from is a server, too.
    (boto.CredentialRetrievalError(provider="x", error_msg="x"), StoreUnavailableError, True),
    (boto.MetadataRetrievalError(error_msg="x"), StoreUnavailableError, True),
    # What boto3 has for others than us.
    (boto3.exceptions.S3TransferFailedError("x"), StoreUnavailableError, True),
    (s3transfer.exceptions.S3DownloadFailedError("x"), StoreUnavailableError, True),
    # What the store says.
    (answer("SlowDown", 503), StoreUnavailableError, True),
    (answer("InternalError", 500), StoreUnavailableError, True),
    (answer("", 502), StoreUnavailableError, True),
    (answer("", 599), StoreUnavailableError, True),
    (answer("TooManyRequests", 429), StoreUnavailableError, True),
    (answer("RequestTimeout", 400), StoreUnavailableError, True),
    (answer("SomethingNew", 400), StoreUnavailableError, False),
    (answer("ExpiredToken", 400), StoreUnavailableError, False),
    (answer("AccessDenied", 403), StoreUnavailableError, False),
    (answer("RequestTimeTooSkewed", 403), StoreUnavailableError, False),
    (answer("401", 401), StoreUnavailableError, False),
    (answer("InvalidAccessKeyId", 403), ConfigurationError, False),
    (answer("SignatureDoesNotMatch", 403), ConfigurationError, False),
    (answer("InvalidToken", 400), ConfigurationError, False),
    (answer("AuthorizationHeaderMalformed", 400), ConfigurationError, False),
    (answer("PermanentRedirect", 301), ConfigurationError, False),
    (answer("301", 301), ConfigurationError, False),
    (answer("NoSuchBucket", 404), ConfigurationError, False),
    (answer("404", 404, "ListObjectsV2"), ConfigurationError, False),
    (answer("NoSuchKey", 404, "ListObjectsV2"), ConfigurationError, False),
    (answer("MethodNotAllowed", 405), ConfigurationError, False),
    (answer("NotImplemented", 501), ConfigurationError, False),
    (answer("NoSuchKey", 404), ObjectNotFoundError, False),
    (answer("404", 404), ObjectNotFoundError, False),
    (answer("InvalidObjectState", 403), UnusableSceneError, False),
    (answer("KeyTooLongError", 400), UnusableSceneError, False),
    (answer("InvalidRange", 416), DeliveryError, False),
]  # fmt: skip


def named(row: Any) -> str:
    if not isinstance(row, BaseException):
        return ""
    cause = row.__context__
    while cause is not None and cause.__context__ is not None:
        cause = cause.__context__
    parts = [type(row).__name__, *([type(cause).__name__] if cause else [])]
    if isinstance(row, boto.ClientError):
        parts += [row.operation_name, row.response["Error"]["Code"]]
    return " ".join(parts)


@pytest.mark.parametrize(("error", "kind", "retryable"), TABLE, ids=named)
def test_whose_fault_it_is(error: Exception, kind: Kind, retryable: bool) -> None:
    meaning = meaning_of(error)
    assert meaning is not None
    assert (meaning.kind, meaning.retryable) == (kind, retryable)
    # Only an outage is asked about again at once.
    assert not meaning.retryable or issubclass(meaning.kind, OutageError)
    text = str(translated(error, meaning, "downloading a.img", SETTINGS, "s3_config.json"))
    assert "\n" not in text
    assert SECRET not in text
    assert len(text) < 500


@pytest.mark.parametrize(
    "error",
    [KeyError("x"), ZeroDivisionError(), DiskFullError("x"), DifferenceError("x")],
    ids=lambda e: type(e).__name__,
)
def test_what_has_nothing_to_do_with_a_store(error: Exception) -> None:
    assert meaning_of(error) is None
    # Nor does it when something of a library was at hand when it came up.
    assert meaning_of(caused_by(error, boto.NoCredentialsError())) is None


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (handshake(ssl.SSLCertVerificationError(1, "self-signed certificate")), ["s3.ca_file", "self-signed"]),
        (handshake(tls("WRONG_VERSION_NUMBER")), ["s3.host", "https://store.example/DIAS", "http://"]),
        (answer("NoSuchBucket", 404), ["s3.bucket", "no bucket DIAS", "remove /DIAS from s3.host"]),
        (MovedError("https://elsewhere.example/DIAS"), ["s3.host", "https://elsewhere.example/DIAS"]),
        (answer("InvalidToken", 400), ["s3.session_token"]),
        (boto.NoCredentialsError(), ["s3.access_key", '"anonymous": true']),
        (answer("AccessDenied", 403), ["AccessDenied", "s3.requester_pays"]),
        (answer("AuthorizationHeaderMalformed", 400), ["s3.region", "than here"]),
    ],
    ids=named,
)
def test_the_line_names_what_to_fix(error: Exception, words: list[str]) -> None:
    meaning = meaning_of(error)
    assert meaning is not None
    text = str(translated(error, meaning, "listing p/", SETTINGS, "s3_config.json"))
    assert [word for word in words if word not in text] == []


# All that the libraries define


def modules(name: str) -> Iterator[ModuleType]:
    """A package's modules, as far as they can be loaded: some want other packages."""
    package = importlib.import_module(name)
    yield package
    for found in pkgutil.walk_packages(getattr(package, "__path__", []), f"{name}."):
        # For browsers, and for another implementation of TLS and of S3, which are not used.
        if not {"emscripten", "contrib", "crt", "vendored"} & {*found.name.split(".")}:
            try:
                yield importlib.import_module(found.name)
            except ImportError:
                continue


PACKAGES = ("boto3", "botocore", "s3transfer", "urllib3", "ssl", "socket", "http.client")


def raised_by_libraries() -> list[type[Exception]]:
    """The classes of exceptions that they define, without those from which others are derived."""
    of_packages = {name.partition(".")[0] for name in PACKAGES}
    defined = {
        value
        for name in PACKAGES
        for module in modules(name)
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, Exception)
        and not issubclass(value, Warning)
        and value.__module__.partition(".")[0] in of_packages
    }
    leaves = {one for one in defined if not any(other is not one and issubclass(other, one) for other in defined)}
    return sorted(leaves, key=lambda one: (one.__module__, one.__qualname__))


LEAVES = raised_by_libraries()


def test_the_enumeration_finds_what_it_should() -> None:
    assert {
        boto.ReadTimeoutError, boto.NoCredentialsError, boto3.exceptions.S3UploadFailedError, ssl.SSLEOFError,
        s3transfer.exceptions.S3DownloadFailedError, urllib3.exceptions.NameResolutionError, socket.gaierror,
        http.client.RemoteDisconnected, botocore.parsers.ResponseParserError,
    } <= {*LEAVES}  # fmt: skip
    assert len(LEAVES) > 150


@pytest.mark.parametrize("kind", LEAVES, ids=lambda kind: f"{kind.__module__}.{kind.__qualname__}")
def test_nothing_that_a_library_raises_counts_against_a_scene(kind: type[Exception]) -> None:
    # Most want arguments of their own; an answer of a store is what it holds.
    error = kind({}, "GetObject") if issubclass(kind, boto.ClientError) else kind.__new__(kind)
    meaning = meaning_of(error)
    assert meaning is not None
    assert issubclass(meaning.kind, OutageError | ConfigurationError)


def test_the_table_names_classes_that_there_are() -> None:
    for name in BY_CLASS:
        module, _, kind = name.rpartition(".")
        assert inspect.isclass(getattr(importlib.import_module(module), kind, None)), name
