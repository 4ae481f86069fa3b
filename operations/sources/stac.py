"""A STAC API as a source, for Sentinel-2: that of the Copernicus Data Space, and others with items like its own.

What lets a list end is a missing link, and most such services do not say how many items there are. So a list that ends
with a full page is read once more with another size of page, which must end with one that is not full.
"""

import datetime as dt
from collections.abc import Iterator
from functools import partial
from json import JSONDecodeError
from typing import Any
from urllib.parse import urljoin, urlsplit

from pystac_client import Client
from pystac_client.errors import ClientTypeError
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from requests import Request, Response

from extractors.errors import ConfigurationError, one_line
from extractors.products.card import Card
from extractors.text import printable
from operations.sources import outlines
from operations.sources.products import CARDS, Batch, Box, Found, Question, Refused, bare, is_ghost, place_of, product
from operations.sources.service import (
    BUSY,
    CONNECT_SECONDS,
    READ_SECONDS,
    SHOWN_CHARACTERS,
    Patience,
    ServiceError,
    service_url,
    whole,
)

URL = "https://stac.dataspace.copernicus.eu/v1/"
COLLECTION = "sentinel-2-l2a"
GHOSTS = "99.05"
PAGE = 100
WINDOW = dt.timedelta(days=15)
# Of an item, what is looked at; the rest is a hundred times as much.
FIELDS = ["id", "type", "geometry", "links", "collection", "properties.datetime", "properties.processing:version"]


class _Answers(StacApiIO):
    """Answers of a service, asked for until they come, in the form that the library takes for granted. url: its own.
    searching: they are lists of items."""

    searching = False

    def __init__(self, url: str) -> None:
        super().__init__(max_retries=None)
        self._url = url
        # Of the last answer: when to ask again.
        self._retry_after: str | None = None
        self.session.hooks["response"].append(self._received)

    def read_json(self, source: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """An answer. Raises ServiceError if it cannot be had, ConfigurationError for a refusal."""
        patience = Patience(self._url)
        while True:
            self._retry_after = None
            try:
                return self._read(source, *args, **kwargs)
            except (APIError, ValueError, OSError, RecursionError) as error:
                if isinstance(error.__context__, ServiceError):
                    raise error.__context__ from None
                status = getattr(error, "status_code", None) or 0
                no_json = isinstance(error, JSONDecodeError | RecursionError)
                reason = "an answer that is no JSON" if no_json else printable(one_line(error))[:SHOWN_CHARACTERS]
                if status and status not in BUSY:
                    raise ConfigurationError(
                        f"{self._url} refuses the question with status {status} ({reason}); see --url"
                    ) from error
            # Tried again whatever the method, which is harmless for searches.
            patience.wait(f"status {status}" if status else reason, status, self._retry_after)

    def _read(self, source: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """An answer; raises ValueError for what is none."""
        answer: Any = super().read_json(source, *args, **kwargs)
        links = answer.get("links", []) if isinstance(answer, dict) else None
        if not isinstance(links, list) or not all(
            isinstance(link, dict) and {"rel", "href"} <= {*link} for link in links
        ):
            raise ValueError("an answer that is no object of STAC")
        if self.searching and not isinstance(answer.get("features"), list):
            # For the library it would be an empty list.
            raise ValueError("an answer without a list of items")
        return dict(answer)

    def check(self, request: Request) -> Request:
        """Links lead nowhere but to the service itself."""
        self._refuse_others(str(request.url))
        return request

    def _received(self, response: Response, **_: Any) -> None:
        """Nor do redirections; and of no answer more is read than it can have."""
        if response.is_redirect:
            self._refuse_others(urljoin(response.url, response.headers["Location"]))
        self._retry_after = response.headers.get("Retry-After")
        response._content = whole(response.raw)

    def _refuse_others(self, url: str) -> None:
        host = urlsplit(url).hostname
        if host != urlsplit(self._url).hostname:
            raise ServiceError(f"{self._url} leads to another host, {printable(str(host))[:SHOWN_CHARACTERS]}")


class StacSource:
    """The collection of Sentinel-2 level 2A of a STAC API."""

    cards = ("s2",)

    def __init__(self, url: str | None = None) -> None:
        self._address = url or URL
        self._url = service_url(self._address)
        self._client: Client | None = None
        self._answers = _Answers(self._url)

    def batches(self, question: Question) -> Iterator[Batch]:
        """The products, some days at a time."""
        card = CARDS["s2"]
        starts = []
        start = question.start
        end = min(question.end, dt.datetime.now(dt.UTC).replace(tzinfo=None) + dt.timedelta(days=1))
        while start < end:
            starts.append(start)
            start += WINDOW
        for box in question.boxes:
            for start in starts:
                batch = Batch(share=1 / (len(starts) * len(question.boxes)))
                for item in self._window(box, start, min(start + WINDOW, end)):
                    batch.add(_product(card, item))
                yield batch

    def withdrawn(self, question: Question) -> Iterator[str]:
        """Nothing: items that are gone leave no trace."""
        yield from ()

    def _window(self, box: Box, start: dt.datetime, end: dt.datetime) -> list[dict[str, Any]]:
        """All items of a window. Raises ServiceError if that cannot be had, ConfigurationError for a refusal."""
        size, wrong = PAGE, 0
        while True:
            items, fault = self._read(box, start, end, size)
            if fault is None:
                return items
            wrong += 1
            if wrong > 1:
                raise ServiceError(
                    f"{self._url} {fault}: from {start} to {end}, {len(items)} items came, and whether these are all "
                    "is unknown; try again later"
                )
            # Another size of page, as the last one may have been full by chance.
            size -= 1

    def _read(
        self, box: Box, start: dt.datetime, end: dt.datetime, size: int
    ) -> tuple[list[dict[str, Any]], str | None]:
        """The items of a window, and what is wrong with the answer, if anything is."""
        # The library may read the landing page once more.
        self._answers.searching = False
        search = self._opened().search(
            collections=[COLLECTION],
            bbox=list(box),
            datetime=f"{_stamp(start)}/{_stamp(end)}",
            limit=size,
            fields={"include": FIELDS, "exclude": ["assets"]},
            sortby=[{"field": "properties.datetime", "direction": "asc"}, {"field": "id", "direction": "asc"}],
        )
        self._answers.searching = True
        found: dict[str, dict[str, Any]] = {}
        announced: int | None = None
        last = 0
        for page in search.pages_as_dicts():
            items = page["features"]
            if not all(isinstance(item, dict) for item in items):
                raise self._no_api()
            before = len(found)
            found |= {str(item.get("id")): item for item in items}
            if items and len(found) == before:
                return list(found.values()), "repeats a page"
            returned, matched = page.get("numberReturned"), page.get("numberMatched")
            if isinstance(returned, int) and returned != len(items):
                return list(found.values()), f"announces {returned} items on a page that holds {len(items)}"
            announced = matched if isinstance(matched, int) else announced
            last = len(items)
        if announced is not None and announced != len(found):
            return list(found.values()), f"announces {announced} items"
        if announced is None and last >= size:
            return list(found.values()), "ends its list with a full page"
        return list(found.values()), None

    def _opened(self) -> Client:
        """The connection, made when it is needed first."""
        if self._client is None:
            try:
                # What `open` is not given, it takes away from the other.
                client = Client.open(
                    self._address,
                    stac_io=self._answers,
                    timeout=(CONNECT_SECONDS, READ_SECONDS),
                    request_modifier=self._answers.check,
                )
            except ClientTypeError as error:
                raise self._no_api() from error
            for conformance in ("ITEM_SEARCH", "FIELDS", "SORT"):
                client.add_conforms_to(conformance)
            self._client = client
        return self._client

    def _no_api(self) -> ConfigurationError:
        return ConfigurationError(f"{self._url} is no STAC API; write the address of one with --url")


def _stamp(moment: dt.datetime) -> str:
    return f"{moment.isoformat(timespec='milliseconds')}Z"


def _product(card: Card, item: dict[str, Any]) -> Found | Refused:
    name, properties, links = item.get("id"), item.get("properties"), item.get("links")
    properties = properties if isinstance(properties, dict) else {}
    if isinstance(name, str) and (is_ghost(f"{bare(name)}") or properties.get("processing:version") == GHOSTS):
        return Refused(card.code, name, "is one of those (N9905) whose files do not exist")
    place = None
    for link in links if isinstance(links, list) else []:
        if isinstance(name, str) and isinstance(link, dict) and link.get("rel") == "enclosure":
            place = place_of(link.get("href"), name) or place
    return product(card, name, properties.get("datetime"), partial(outlines.of_geojson, item.get("geometry")), place)
