"""Services that answer questions over HTTP with JSON: asked until they answer, or for as long as anybody waits."""

import json
import logging
import os
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from extractors.backoff import Backoff
from extractors.config import parse_endpoint
from extractors.errors import ConfigurationError, OutageError, one_line
from extractors.text import printable

log = logging.getLogger(__name__)

CONNECT_SECONDS, READ_SECONDS = 10.0, 120.0
# How long a question that has failed is asked again, with all pauses, and the longest pause that a service may ask for.
RETRY_SECONDS = 300.0
LONGEST_PAUSE_SECONDS = 120.0
LONG_PAUSE_SECONDS = 10.0
PAUSES = Backoff(first=1.0, longest=30.0)
# A page of a thousand products with all that is told of them.
MOST_BYTES = 200_000_000
BYTES_AT_ONCE = 1024**2
# For one answer to be all there, however slowly it comes.
LONGEST_ANSWER_SECONDS = 600.0
SHOWN_CHARACTERS = 200
BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
# Names a file with the certificates of CAs that are trusted, in place of those that are installed with us.
CA_BUNDLE = "REQUESTS_CA_BUNDLE"


class NothingThereError(ConfigurationError):
    """The service has nothing at an address: see `--url`."""


class ServiceError(OutageError):
    """A service does not answer, or does not give what it says it has: try again later, or ask another one."""


def service_url(url: str) -> str:
    """An address without a slash at its end; raises ConfigurationError for what is none."""
    try:
        parts = urlsplit(str(parse_endpoint(url)))
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(
            "--url: this is no address of a service; write one such as https://host/path, without a user, ? and #"
        )
    return url.rstrip("/")


class Patience:
    """How long a question is put again and again to a service of this name, from its first failure on: an answer may
    take longer than that, and break off then."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._give_up: float | None = None
        self._failures = 0

    def wait(self, reason: str, status: int, wanted: str | None) -> None:
        """Pause before the question is put again. Raises ServiceError if that would take too long. status: of the
        answer, 0 for none. wanted: what its Retry-After says."""
        self._failures += 1
        self._give_up = self._give_up or time.monotonic() + RETRY_SECONDS
        asked = _seconds(wanted)
        pause = min(PAUSES.pause(self._failures) if asked is None else asked, LONGEST_PAUSE_SECONDS)
        if time.monotonic() + pause > self._give_up:
            raise ServiceError(f"{self._name} does not answer ({reason}) within {RETRY_SECONDS:g} s")
        # Being told to wait for a moment is usual.
        level = logging.DEBUG if status == 429 and pause < LONG_PAUSE_SECONDS else logging.WARNING
        log.log(level, "%s: %s; asking again in %.0f s", self._name, reason, pause)
        time.sleep(pause)


def lasting(error: BaseException, url: str) -> ConfigurationError | None:
    """The error for a service that cannot be reached however often that is tried; None if it may be reached later."""
    bundle = os.environ.get(CA_BUNDLE)
    if bundle and url.startswith("https:"):
        try:
            folder = Path(bundle).is_dir()
            ssl.create_default_context(cafile=None if folder else bundle, capath=bundle if folder else None)
        except OSError as wrong:
            return ConfigurationError(
                f"REQUESTS_CA_BUNDLE: {bundle} cannot be used ({wrong.strerror or one_line(wrong)}); name a file with "
                "certificates (PEM)"
            )
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConfigurationError(
            f"the certificate of {url} cannot be verified ({error.verify_message}); name the file with the "
            "certificates of its CA in REQUESTS_CA_BUNDLE, or fix --url"
        )
    if isinstance(error, ValueError) and isinstance(error, requests.RequestException | HTTPError):
        # The service's own address has been looked at. Nothing is quoted, as there may be a password in it.
        return ConfigurationError(
            "the address of the proxy in HTTPS_PROXY or HTTP_PROXY cannot be used; write it such as http://host:port"
        )
    behind = error.__cause__ or error.__context__
    return lasting(behind, url) if behind is not None else None


class Service:
    """A service at an address; `name` is what errors call it."""

    def __init__(self, url: str) -> None:
        self.name = service_url(url)
        self._session = requests.Session()
        self._session.headers["Accept"] = "application/json"

    def get(self, path: str, parameters: dict[str, str]) -> Any:
        """The answer to a question. Raises ServiceError after waiting, ConfigurationError for a refusal."""
        patience = Patience(self.name)
        while True:
            status, wanted = 0, None
            try:
                status, wanted, content = self._ask(path, parameters)
                if status == 200:
                    return json.loads(content)
                reason = f"status {status}"
            except (HTTPError, OSError) as error:
                if (refused := lasting(error, self.name)) is not None:
                    raise refused from error
                reason = one_line(error)
            except (ValueError, RecursionError):
                status, wanted, reason = 0, None, "an answer that is no JSON"
            if status and status not in BUSY:
                raise self._refusal(path, status, content)
            patience.wait(reason, status, wanted)

    def _ask(self, path: str, parameters: dict[str, str]) -> tuple[int, str | None, bytes]:
        """Status, what Retry-After says, and content, which is all there: less than was announced is an
        error."""
        with self._session.get(
            f"{self.name}/{path}",
            params=parameters,
            timeout=(CONNECT_SECONDS, READ_SECONDS),
            stream=True,
            # They lead to hosts that nobody has named.
            allow_redirects=False,
        ) as response:
            content = whole(response.raw)
            return response.status_code, response.headers.get("Retry-After"), content

    def _refusal(self, path: str, status: int, content: bytes) -> ConfigurationError:
        said = printable(" ".join(content[:2000].decode("utf-8", "replace").split()))[:SHOWN_CHARACTERS]
        if status == 404:
            return NothingThereError(f"{self.name} has no {path}; see --url")
        return ConfigurationError(
            f"{self.name} refuses the question with status {status} ({said}); see --url and the dates and the area"
        )


def whole(response: BaseHTTPResponse) -> bytes:
    """An answer's body; raises HTTPError if it ends too early, or not at all."""
    return b"".join(_pieces(response))


def _pieces(response: BaseHTTPResponse) -> Iterator[bytes]:
    give_up = time.monotonic() + LONGEST_ANSWER_SECONDS
    size = 0
    while piece := response.read1(BYTES_AT_ONCE, decode_content=True):
        size += len(piece)
        if size > MOST_BYTES:
            raise HTTPError(f"an answer of over {MOST_BYTES:,} bytes")
        if time.monotonic() > give_up:
            raise HTTPError(f"no whole answer within {LONGEST_ANSWER_SECONDS:g} s")
        yield piece


def _seconds(text: str | None) -> float | None:
    """What Retry-After says, if that is a number of seconds."""
    try:
        return max(0.0, float(text)) if text is not None else None
    except ValueError:
        return None
