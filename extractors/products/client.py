"""The client with which S3 stores are asked: boto3's, made for stores that are not Amazon's. It follows no redirects
and reads no answer without end."""

import re
import ssl
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import boto3
import urllib3.exceptions
from botocore import UNSIGNED
from botocore import exceptions as boto
from botocore.config import Config
from botocore.handlers import validate_bucket_name
from pydantic import SecretStr

from extractors.config import Store
from extractors.errors import (
    ConfigurationError,
    one_line,
)
from extractors.products.store_errors import MovedError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECT_TIMEOUT_SECONDS = 10
READ_TIMEOUT_SECONDS = 60
# The bucket of a tenant of Ceph's, whose name may be empty.
TENANT_BUCKET = re.compile(r"[\w.-]*:[\w.-]{1,255}", re.ASCII)
# A page of a listing has a thousand keys of up to 1,024 bytes.
MOST_BYTES_OF_ANSWER = 16_000_000
REDIRECTS = frozenset({301, 302, 303, 307, 308})


def open_client(session: boto3.session.Session, settings: Store, attempts: int) -> "S3Client":
    """A client for stores that are not Amazon's: none of the checksum headers that newer versions of boto3 add and
    other stores reject. Content is checked by ourselves."""
    client = session.client(
        "s3",
        endpoint_url=settings.host,
        region_name=settings.region,
        aws_access_key_id=settings.access_key,
        aws_secret_access_key=_secret(settings.secret_key),
        aws_session_token=_secret(settings.session_token),
        verify=settings.ca_file,
        config=Config(
            signature_version=UNSIGNED if settings.anonymous else "s3v4",
            s3={"addressing_style": settings.addressing},
            retries={"mode": "standard", "total_max_attempts": attempts},
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            read_timeout=READ_TIMEOUT_SECONDS,
            tcp_keepalive=True,
            max_pool_connections=settings.connections,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    client.meta.events.register_first("needs-retry.s3", _refuse_redirect)
    # There is no public way to see an answer before boto3 has read all of it.
    connections = client._endpoint.http_session  # type: ignore[attr-defined]
    client.meta.events.register_first("before-send.s3", partial(_send, connections))
    if TENANT_BUCKET.fullmatch(settings.bucket):
        client.meta.events.unregister("before-parameter-build.s3", validate_bucket_name)
    return client


class _Answer:
    """What comes from the store; read as a whole, as boto3 reads all but objects, it must not be too long."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def stream(self, *arguments: Any, **options: Any) -> Iterator[bytes]:
        """Its body, piece by piece."""
        size = 0
        for piece in self._raw.stream(*arguments, **options):
            size += len(piece)
            if size > MOST_BYTES_OF_ANSWER:
                self._raw.close()
                raise boto.ResponseStreamingError(error=f"an answer of over {MOST_BYTES_OF_ANSWER:,} bytes")
            yield piece


def _send(session: Any, request: Any, **_: Any) -> Any:
    """Send a request as boto3 does; what it would read at once is read here."""
    at_once = not request.stream_output
    request.stream_output = True
    response = session.send(request)
    response.raw = _Answer(response.raw)
    if at_once:
        try:
            _ = response.content
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise boto.ConnectionClosedError(error=error, request=request, endpoint_url=request.url) from error
    return response


def _secret(value: SecretStr | None) -> str | None:
    return None if value is None else value.get_secret_value()


def check_ca_file(ca_file: str | None, config_name: str) -> None:
    """Raise ConfigurationError if the certificates of authorities cannot be read."""
    if ca_file is not None:
        try:
            if Path(ca_file).exists() and not Path(ca_file).is_file():  # a pipe would be waited for
                raise OSError("it is no regular file")  # noqa: TRY301
            ssl.create_default_context(cafile=ca_file)
        except OSError as error:
            raise ConfigurationError(
                f"{config_name}: s3.ca_file: {ca_file} cannot be read as certificates ({one_line(error)}); write the "
                "path of a PEM file"
            ) from error


def _refuse_redirect(response: Any, **_: Any) -> None:
    """Boto3 follows a store that names another region; without one, it would ask for ever. Raises MovedError."""
    if response is None or response[0].status_code not in REDIRECTS:
        return
    headers, error = response[1].get("ResponseMetadata", {}).get("HTTPHeaders", {}), response[1].get("Error", {})
    if "x-amz-bucket-region" in headers or "Region" in error:
        return
    where = urlsplit(str(headers.get("location") or error.get("Endpoint") or ""))
    # Neither names and passwords nor signatures belong into a log.
    shown = urlunsplit((where.scheme, where.netloc.rpartition("@")[2], where.path, "", ""))
    raise MovedError(shown or "an address that it does not name")
