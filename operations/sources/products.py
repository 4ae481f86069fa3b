"""Products as a source announces them. All of it is text from outside, so it is checked here, once for all sources."""

import datetime as dt
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Protocol

import shapely
from shapely import MultiPolygon, Polygon
from shapely.affinity import translate

from extractors import bs, c1, c6, s2
from extractors.config import parse_moment
from extractors.database.places import Place
from extractors.errors import UnusableSceneError
from extractors.products.card import Card
from operations.sources.outlines import OutlineError

CARDS: dict[str, Card] = {card.code: card for card in (s2.CARD, bs.CARD, c6.CARD, c1.CARD)}
SAFE = ".SAFE"
S3_URL = re.compile(r"s3://([A-Za-z0-9][A-Za-z0-9._-]{1,62})/(\S{1,1000})", re.ASCII)
# Products of Sentinel-2C's commissioning: catalogues list them, stores do not have them.
GHOST = re.compile(r"_N9905_")

TILE = re.compile(r"_T(\d{2})([C-X])[A-Z]{2}_", re.ASCII)
BANDS_OF_LATITUDE = "CDEFGHJKLMNPQRSTUVWX"

# West, south, east, north, in degrees.
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Found:
    """A product that can become a row of the catalogue. reference: as it is written there. obstime: naive UTC. outline:
    in degrees, longitude first. place: where it lies, if the source says so."""

    card: str
    reference: str
    obstime: dt.datetime
    outline: Polygon
    place: Place | None = None


@dataclass(frozen=True)
class Refused:
    """What cannot become a row, and why. card: its code, "" where nobody knows."""

    card: str
    name: str
    reason: str


@dataclass
class Batch:
    """Some of what a source has. known: names that are in the catalogue already, so that nobody looked closer.
    elsewhere: how many lie outside the area. share: how much of the whole work this was, from 0 to 1."""

    found: list[Found] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    known: list[tuple[str, str]] = field(default_factory=list)
    elsewhere: list[tuple[str, str]] = field(default_factory=list)
    share: float = 0.0

    def add(self, product: Found | Refused) -> None:
        """Take in one product."""
        if isinstance(product, Found):
            self.found.append(product)
        else:
            self.refused.append(product)


@dataclass(frozen=True)
class Question:
    """What is wanted: products of these CARDs with start <= observation < end that meet one of the boxes, which enclose
    the area. known: of some names, those that the catalogue has, all without `.SAFE`."""

    cards: Sequence[Card]
    start: dt.datetime
    end: dt.datetime
    boxes: Sequence[Box]
    known: Callable[[Collection[str]], set[str]]


class ProductSource(Protocol):
    """Something that announces products; `cards`: the codes of those that it can have."""

    @property
    def cards(self) -> tuple[str, ...]: ...  # noqa: D102

    def batches(self, question: Question) -> Iterator[Batch]:
        """What there is, batch by batch; a product may come more than once."""

    def withdrawn(self, question: Question) -> Iterator[str]:
        """Names of products that are there no more, as far as the source says so."""


def bare(name: str) -> str:
    """A product's name as it is compared."""
    return name.strip().removesuffix(SAFE)


def product(
    card: Card, name: object, start: object, outline: Callable[[], Polygon], place: Place | None = None
) -> Found | Refused:
    """A product with this name, start of observation and outline, or why it is none. outline: raises OutlineError."""
    if not isinstance(name, str):
        return Refused(card.code, "(no name)", "has no name")
    reference = bare(name) + (SAFE if card.code == s2.CARD.code else "")
    try:
        card.check_reference(reference)
    except UnusableSceneError:
        return Refused(card.code, name, f"its name is not that of a product of card {card.code}")
    try:
        obstime = start if isinstance(start, dt.datetime) else parse_moment(start)
    except ValueError as error:
        return Refused(card.code, reference, f"its start of observation is {error}")
    try:
        shape = outline()
    except OutlineError as error:
        return Refused(card.code, reference, f"its outline {error}")
    if (zone := zone_of(reference)) is not None and not zone.intersects(shape):
        west, south, east, north = shape.bounds
        reason = (
            f"lies at {west:.0f} to {east:.0f} degrees east, {south:.0f} to {north:.0f} north, and its tile does not"
        )
        return Refused(card.code, reference, f"its outline {reason} (longitude comes first)")
    # Established catalogues have milliseconds.
    obstime = obstime.replace(microsecond=obstime.microsecond // 1000 * 1000, tzinfo=None)
    return Found(card.code, reference, obstime, shape, place)


def zone_of(name: str) -> MultiPolygon | None:
    """Where a Sentinel-2 product's tile lies, as far as the zone in its name tells, with all that tiles reach beyond
    it; None where it does not tell."""
    found = TILE.search(name)
    return _zone(int(found[1]), found[2]) if found is not None and 1 <= int(found[1]) <= 60 else None


@cache
def _zone(number: int, band: str) -> MultiPolygon:
    west, south = 6 * number - 186, 8 * BANDS_OF_LATITUDE.index(band) - 80
    # Near the poles, tiles are wide; X is higher than the others.
    beyond = 4 if abs(south) < 64 else 15
    zone = shapely.box(west - beyond, south - 2, west + 6 + beyond, south + 14)
    zones = MultiPolygon([translate(zone, turn) for turn in (-360, 0, 360)])
    shapely.prepare(zones)
    return zones


def is_ghost(reference: str) -> bool:
    """Whether services list such a product, and no store has its files."""
    return bool(GHOST.search(reference))


def card_of(name: str) -> Card | None:
    """The CARD whose products have such names."""
    return next((card for card in CARDS.values() if card.reference.fullmatch(bare(name))), None)


def place_of(url: object, name: str) -> Place | None:
    """Where `s3://bucket/folders/name` says that the product lies; None if it cannot be the place of this one."""
    match = S3_URL.fullmatch(url.strip().rstrip("/")) if isinstance(url, str) else None
    if match is None or not match[2].isprintable():
        return None
    parts = match[2].split("/")
    if not all(parts) or {".", ".."} & set(parts) or bare(parts[-1]) != bare(name):
        return None
    return Place(match[1], match[2] + "/")
