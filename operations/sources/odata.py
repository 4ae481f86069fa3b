"""The OData catalogue of the Copernicus Data Space, and others of its kind, as a source.

What such a service promises is little: a list without an order repeats itself, from the 10,000th product on nothing can
be asked for, and the link to the next page may be missing. So the period is cut into windows of time of which the
service counts the products, each is read in an order, and what was read must be as many as were counted.
"""

import datetime as dt
import logging
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

from shapely import Polygon

from extractors.errors import ConfigurationError
from extractors.products.card import Card
from operations.sources import outlines
from operations.sources.outlines import OutlineError
from operations.sources.products import (
    Batch,
    Box,
    Changes,
    Found,
    Question,
    Refused,
    bare,
    card_of,
    is_ghost,
    place_of,
    product,
)
from operations.sources.service import NothingThereError, Service, ServiceError

log = logging.getLogger(__name__)

URL = "https://catalogue.dataspace.copernicus.eu/odata/v1"
# Collection and type of product.
NAMES = {
    "s2": ("SENTINEL-2", "S2MSI2A"),
    "bs": ("SENTINEL-1", "CARD-BS"),
    "c6": ("SENTINEL-1", "CARD-COH6"),
    "c1": ("SENTINEL-1", "CARD-COH12"),
}
PAGE = 1000
# Beyond that nothing can be asked for; windows hold less, since products may come while they are read.
MOST_IN_A_WINDOW = 9000
SHORTEST_WINDOW = dt.timedelta(milliseconds=1)
# Names asked for at once.
NAMES_AT_ONCE = 20
# What was published shortly before the newest product that was seen may have become visible after it.
OVERLAP = dt.timedelta(hours=6)
PRODUCTS, DELETED = "Products", "DeletedProducts"
# By resource: when an entry came into the list.
DATES = {PRODUCTS: "PublicationDate", DELETED: "DeletionDate"}


class Window(NamedTuple):
    """Products of a CARD in a box that were observed from `start` up to before `end`. share: of all that is asked."""

    card: Card
    box: Box
    start: dt.datetime
    end: dt.datetime
    share: float

    def halves(self) -> "tuple[Window, Window]":
        """Its two halves."""
        middle = self.start + (self.end - self.start) / 2
        middle = middle.replace(microsecond=middle.microsecond // 1000 * 1000)
        return self._replace(end=middle, share=self.share / 2), self._replace(start=middle, share=self.share / 2)


class ODataSource:
    """An OData catalogue. Asked again about the same area, it tells only of what was published since."""

    cards = tuple(NAMES)

    def __init__(self, url: str | None = None) -> None:
        self._service = Service(url or URL)
        # Resource -> up to when all was seen of this area, in all rounds that have come to their end.
        self._newest: dict[str, dt.datetime] = {}
        self._area = ""
        # Names of the catalogue's products that were deleted at some time, and those of them that are listed since.
        self._deleted: set[str] = set()
        self._listed: set[str] = set()

    def batches(self, question: Question) -> Iterator[Batch]:
        """The products, window by window."""
        begun, newest = _now(), None
        for window, entries in self._all(PRODUCTS, question):
            batch = Batch(share=window.share)
            for entry in entries:
                batch.add(_product(window.card, entry))
                newest = _later(newest, entry.get(DATES[PRODUCTS]))
            self._listed |= self._deleted & _names(entries)
            yield batch
        self._remember(PRODUCTS, newest, begun)

    def changes(self, question: Question) -> Iterator[Changes]:
        """What has become of products of the catalogue that were deleted at some time: of two with one name, one may
        be deleted, and another may come in their place."""
        begun, newest = _now(), None
        deleted: set[str] = set()
        try:
            for _, entries in self._all(DELETED, question):
                deleted |= _names(entries)
                for entry in entries:
                    newest = _later(newest, entry.get(DATES[DELETED]))
        except NothingThereError:
            log.warning("%s has no list of deleted products: nothing is known of those", self._service.name)
            return
        deleted = {name for name in question.known(deleted) if card_of(name) is not None}
        ours = sorted(deleted | self._listed)
        again: set[str] = set()
        for start in range(0, len(ours), NAMES_AT_ONCE):
            some = ours[start : start + NAMES_AT_ONCE]
            names = " or ".join(f"Name eq '{name}{end}'" for name in some for end in ("", ".SAFE"))
            page, counted = self._page(PRODUCTS, names, 0, count=True)
            if counted != len(page):
                raise ServiceError(f"{self._service.name} counts {counted} products, and gives {len(page)}")
            again |= _names(page) & {*some}
        yield Changes({*ours} - again, again)
        self._deleted |= deleted
        self._listed.clear()
        self._remember(DELETED, newest, begun)

    def _remember(self, resource: str, newest: dt.datetime | None, begun: dt.datetime) -> None:
        """Up to when a round has seen all: what came after it had begun may lie in a window that had been read."""
        if newest is not None:
            self._newest[resource] = min(newest, begun)

    def _all(self, resource: str, question: Question) -> Iterator[tuple[Window, list[dict[str, Any]]]]:
        """All entries of a resource, in windows that were read completely."""
        if question.area != self._area:
            self._area = question.area
            self._newest.clear()
        share = 1 / (len(question.cards) * len(question.boxes))
        windows = [
            Window(card, box, question.start, question.end, share) for card in question.cards for box in question.boxes
        ]
        windows.reverse()
        while windows:
            window = windows.pop()
            entries = self._read(resource, window)
            if entries is None:
                windows += reversed(window.halves())
            else:
                yield window, entries

    def _read(self, resource: str, window: Window) -> list[dict[str, Any]] | None:
        """All entries of a window; None if it is to be halved. Raises ServiceError if the service does not give what it
        counts."""
        divisible = window.end - window.start > 2 * SHORTEST_WINDOW
        counted, found = self._try(resource, window, divisible)
        if found is not None and len(found) != counted and not divisible:
            # Something may have come or gone while it was read.
            counted, found = self._try(resource, window, divisible)
            if found is not None and len(found) != counted:
                raise ServiceError(
                    f"{self._service.name} counts {counted} {resource} of card {window.card.code} at {window.start}, "
                    f"and gives {len(found)}; try again later"
                )
        return found if found is not None and len(found) == counted else None

    def _try(self, resource: str, window: Window, divisible: bool) -> tuple[int, list[dict[str, Any]] | None]:
        """How many entries of a window the service counts, and those that it gives, each once; None: too many."""
        condition = self._condition(resource, window)
        page, counted = self._page(resource, condition, 0, count=True)
        if counted is None:
            raise ServiceError(f"{self._service.name} does not count what it lists: whether all of it came is unknown")
        if counted > MOST_IN_A_WINDOW:
            if divisible:
                return counted, None
            raise ServiceError(
                f"{self._service.name} has {counted} {resource} of card {window.card.code} observed at "
                f"{window.start}: more than it lets anybody read"
            )
        found = {_key(entry): entry for entry in page}
        # Pages may be shorter than asked for.
        given = len(page)
        while page and given < counted:
            page, _ = self._page(resource, condition, given)
            given += len(page)
            found |= {_key(entry): entry for entry in page}
        return counted, list(found.values())

    def _condition(self, resource: str, window: Window) -> str:
        collection, kind = NAMES[window.card.code]
        west, south, east, north = (f"{degrees:.4f}" for degrees in window.box)
        ring = ",".join(f"{x} {y}" for x, y in
                        ((west, south), (east, south), (east, north), (west, north), (west, south)))  # fmt: skip
        parts = [
            f"Collection/Name eq '{collection}'",
            "Attributes/OData.CSC.StringAttribute/any(att:att/Name eq 'productType' and "
            f"att/OData.CSC.StringAttribute/Value eq '{kind}')",
            f"ContentDate/Start ge {_stamp(window.start)}",
            f"ContentDate/Start lt {_stamp(window.end)}",
            f"OData.CSC.Intersects(area=geography'SRID=4326;POLYGON(({ring}))')",
        ]
        if resource in self._newest:
            parts.append(f"{DATES[resource]} ge {_stamp(self._newest[resource] - OVERLAP)}")
        return " and ".join(parts)

    def _page(
        self, resource: str, condition: str, skip: int, count: bool = False
    ) -> tuple[list[dict[str, Any]], int | None]:
        """Some entries, and how many there are in all if that is asked for and told."""
        parameters = {"$filter": condition, "$orderby": "ContentDate/Start asc", "$top": str(PAGE), "$skip": str(skip)}
        if count:
            parameters["$count"] = "True"
        answer = self._service.get(resource, parameters)
        entries = answer.get("value") if isinstance(answer, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ConfigurationError(f"{self._service.name} is no OData catalogue; write the address of one with --url")
        counted = answer.get("@odata.count")
        return entries, counted if isinstance(counted, int) else None


def _key(entry: dict[str, Any]) -> str:
    return str(entry.get("Id") or entry.get("Name"))


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(tzinfo=None)


def _names(entries: list[dict[str, Any]]) -> set[str]:
    return {bare(entry["Name"]) for entry in entries if isinstance(entry.get("Name"), str)}


def _stamp(moment: dt.datetime) -> str:
    return f"{moment.isoformat(timespec='milliseconds')}Z"


def _later(newest: dt.datetime | None, text: object) -> dt.datetime | None:
    """The later one of two moments."""
    try:
        moment = dt.datetime.fromisoformat(text).replace(tzinfo=None) if isinstance(text, str) else None
    except ValueError:
        return newest
    return max(filter(None, (newest, moment)), default=None)


def _product(card: Card, entry: dict[str, Any]) -> Found | Refused:
    name, dates = entry.get("Name"), entry.get("ContentDate")
    if isinstance(name, str) and is_ghost(name):
        return Refused(card.code, name, "is one of those (N9905) whose files do not exist")
    start = dates.get("Start") if isinstance(dates, dict) else None
    path = entry.get("S3Path")
    place = place_of(f"s3:/{path}", name) if isinstance(name, str) and isinstance(path, str) else None
    return product(card, name, start, partial(_outline, entry), place)


def _outline(entry: dict[str, Any]) -> Polygon:
    """As GeoJSON if there is any, else as text."""
    if entry.get("GeoFootprint") is not None:
        try:
            return outlines.of_geojson(entry["GeoFootprint"])
        except OutlineError:
            if not isinstance(entry.get("Footprint"), str):
                raise
    return outlines.of_wkt(entry.get("Footprint"))
