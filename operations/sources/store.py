"""The store itself as a source: the folders of each day, and what the products' own small files say of their outlines.

Nobody needs a catalogue of others for that. Where a product lies on the ground is read from its metadata
(Sentinel-2), or from the header of an image.
"""

import datetime as dt
import logging
import re
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import groupby
from pathlib import Path
from xml.parsers import expat

import rasterio
import shapely
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.warp import transform
from shapely import Polygon

from extractors.config import Directory, Store
from extractors.database.places import Place
from extractors.errors import SceneError
from extractors.model import StoredObject
from extractors.products import layouts, metadata
from extractors.products.card import Card
from extractors.products.store import open_source
from operations.sources import outlines
from operations.sources.products import Batch, Box, Changes, Found, Question, Refused, bare, product, zone_of
from operations.sources.tiff import header_of

log = logging.getLogger(__name__)

# By card: the folders of products, day by day.
TEMPLATES = {
    "s2": tuple(layouts.SENTINEL_2.replace("{collection}", name) for name in layouts.SENTINEL_2_COLLECTIONS),
    "bs": (layouts.BACKSCATTER,),
    "c6": (layouts.COHERENCE_6,),
    "c1": (layouts.COHERENCE_12,),
}
ONE_DAY = dt.timedelta(days=1)
# Headers of images end long before that, those of TIFFs excepted.
HEADER_BYTES = 65_536
LARGEST_IMAGE = 10**12
# How many points of each side of an image go into its outline: sides are curves in degrees.
POINTS_PER_SIDE = 8


class StoreSource:
    """The configured store. What it holds is looked at once in the life of this object: what lies outside the area is
    not read again, unless that has changed."""

    cards = tuple(TEMPLATES)

    def __init__(self, settings: Store | Directory, config_name: str) -> None:
        self._store = open_source(settings, config_name)
        self._elsewhere: set[str] = set()
        self._area = ""
        # Folders of which has been said that they are empty.
        self._said: set[str] = set()

    def batches(self, question: Question) -> Iterator[Batch]:
        """What lies in the folders of each day, a day at a time."""
        if question.area != self._area:
            self._area = question.area
            self._elsewhere.clear()
        end = min(question.end, dt.datetime.now(dt.UTC).replace(tzinfo=None) + ONE_DAY)
        first, last = question.start.date(), (end - dt.timedelta(microseconds=1)).date()
        days = [first + ONE_DAY * number for number in range((last - first).days + 1)]
        folders = self._folders(question)
        for card, template in folders:
            # Most mirrors have few days: their months tell which.
            for _, month in groupby(days, key=lambda day: (day.year, day.month)):
                names = {day: template.partition("{name}")[0].format(date=day) for day in month}
                there = self._store.list_folders(min(names.values()).rstrip("/").rpartition("/")[0] + "/")
                for name in names.values():
                    if name.rstrip("/").rpartition("/")[2] in there:
                        yield self._day(card, name, question)
                yield Batch(share=len(names) / (len(folders) * len(days)))

    def _folders(self, question: Question) -> list[tuple[Card, str]]:
        """The CARDs and their folders, of satellites of which the store has anything. Raises ConfigurationError if that
        is none."""
        folders = [(card, template) for card in question.cards for template in TEMPLATES[card.code]]
        satellites = sorted({layouts.first_folder(template) for _, template in folders})
        absent = {satellite for satellite in satellites if not self._store.holds(satellite)}
        if absent == {*satellites}:
            self._store.check(satellites[0])
        for satellite in sorted(absent - self._said):
            log.warning("%s: %s holds nothing under %s", self._store.setting, self._store.name, satellite)
        self._said |= absent
        return [(card, template) for card, template in folders if layouts.first_folder(template) not in absent]

    def changes(self, question: Question) -> Iterator[Changes]:
        """Nothing: what is not there any more is found by the workers."""
        yield from ()

    def _day(self, card: Card, folder: str, question: Question) -> Batch:
        """The products in one folder."""
        batch = Batch()
        names = self._store.list_folders(folder)
        known = question.known([bare(name) for name in names])
        for name in names:
            key = f"{folder}{name}/"
            if bare(name) in known:
                batch.known.append((card.code, name))
            elif key in self._elsewhere or (card.code == "s2" and not _may_meet(name, question.boxes)):
                batch.elsewhere.append((card.code, name))
            else:
                batch.add(self._product(card, name, key))
        return batch

    def ignore(self, product: Found) -> None:
        """Remember that a product lies outside the area."""
        if product.place is not None:
            self._elsewhere.add(product.place.prefix)

    def _product(self, card: Card, name: str, prefix: str) -> Found | Refused:
        if not card.reference.fullmatch(name):
            return Refused(card.code, name, f"is not the name of a product of card {card.code}")
        reading = {"s2": self._sentinel_2, "bs": self._backscatter}.get(card.code, self._coherence)
        try:
            start, outline = reading(name, prefix)
        except outlines.OutlineError as error:
            return Refused(card.code, name, f"its outline {error}")
        except SceneError as error:
            return Refused(card.code, name, str(error))
        return product(card, name, start, lambda: outline, Place(None, prefix))

    def _sentinel_2(self, name: str, prefix: str) -> tuple[object, Polygon]:
        """From the product's metadata, or else from the header of a band."""
        listed = self._store.list_product(prefix)
        described = next((item for item in listed if item.key == prefix + metadata.FILE_NAME), None)
        if described is not None and described.size <= metadata.MOST_BYTES:
            return read_metadata(self._store.read(described, 0, described.size))
        images = [item for item in listed if item.key.endswith(("_SCL_20m.jp2", "_B04_10m.jp2", "_B04_20m.jp2"))]
        if not images:
            raise outlines.OutlineError(f"is unknown: there is neither {metadata.FILE_NAME} nor a band under {prefix}")
        return _time_in(name, 2), self._box(min(images, key=lambda item: item.size), "JP2OpenJPEG")

    def _backscatter(self, name: str, prefix: str) -> tuple[object, Polygon]:
        listed = {item.key: item for item in self._store.list_product(prefix)}
        for key, item in listed.items():
            header = listed.get(key.removesuffix(".img") + ".hdr")
            if key.startswith(f"{prefix}{name}.data/Gamma0_") and key.endswith(".img") and header is not None:
                return _time_in(name, 4), self._box(item, "ENVI", header)
        raise outlines.OutlineError(f"is unknown: there is no Gamma0_...img with its .hdr under {prefix}{name}.data")

    def _coherence(self, name: str, prefix: str) -> tuple[object, Polygon]:
        (item,) = self._store.find_all([f"{prefix}{name}.tif"], prefix)
        return _time_in(name, 1), self._box(item, "GTiff")

    def _box(self, item: StoredObject, driver: str, header: StoredObject | None = None) -> Polygon:
        """The outline of an image, of which no more is read than its header: the rest is a hole in a local file."""
        if item.size > LARGEST_IMAGE:
            raise outlines.OutlineError(f"is unknown: {item.key} has {item.size:,} bytes")
        with tempfile.TemporaryDirectory(prefix="ingest-") as folder:
            path = Path(folder, f"image{Path(item.key).suffix}")
            pieces: dict[int, bytes] = {}
            if header is not None:
                path.with_suffix(".hdr").write_bytes(self._store.read(header, 0, HEADER_BYTES))
            elif driver == "GTiff":
                pieces = header_of(partial(self._store.read, item), item.size)
            else:
                pieces = {0: self._store.read(item, 0, HEADER_BYTES)}
            with path.open("wb") as file:
                file.truncate(item.size)
                for start, content in pieces.items():
                    file.seek(start)
                    file.write(content)
            return _outline_of(path, driver, (header or item).key)


def _time_in(name: str, field: int) -> dt.datetime | str:
    """The time in a field of a product's name."""
    parts = re.split(r"_+", name)
    text = parts[field] if field < len(parts) else ""
    with suppress(ValueError):
        return dt.datetime.strptime(text, "%Y%m%dT%H%M%S")
    return text


def _outline_of(path: Path, driver: str, key: str) -> Polygon:
    """The four sides of an image, in degrees."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, driver=driver) as image:
                crs, corner, columns, rows = image.crs, image.transform, image.width, image.height
        if crs is None or corner.is_identity:
            raise outlines.OutlineError(f"is unknown: the header {key} does not say where its image lies")
        steps = [number / POINTS_PER_SIDE for number in range(POINTS_PER_SIDE)]
        sides = [(s, 0.0) for s in steps] + [(1.0, s) for s in steps]
        sides += [(1 - x, 1 - y) for x, y in sides]
        points = [corner * (x * columns, y * rows) for x, y in sides]
        longitudes, latitudes = transform(crs, "EPSG:4326", [x for x, _ in points], [y for _, y in points])[:2]
    except (RasterioError, ValueError) as error:
        raise outlines.OutlineError(f"is unknown: {key} cannot be read as {driver}") from error
    return outlines.of_rings([[list(point) for point in zip(longitudes, latitudes, strict=True)]])


def _may_meet(name: str, boxes: Sequence[Box]) -> bool:
    """Whether a tile can lie in one of the boxes: of a day's products of the whole Earth, most are not looked at."""
    zone = zone_of(name)
    return zone is None or any(shapely.box(*box).intersects(zone) for box in boxes)


class _Metadata:
    """Takes in start and outline of a Sentinel-2 product's metadata, by the local names of its elements."""

    def __init__(self) -> None:
        self.start = ""
        self.positions = ""
        self._text: list[str] = []

    def begin(self, _name: str, _attributes: dict[str, str]) -> None:
        self._text = []

    def text(self, text: str) -> None:
        self._text.append(text)

    def end(self, name: str) -> None:
        local = name.rpartition(" ")[2]
        if local == "PRODUCT_START_TIME":
            self.start = self.start or "".join(self._text).strip()
        elif local == "EXT_POS_LIST":
            self.positions = self.positions or "".join(self._text)
        self._text = []

    def refuse(self, *_: object) -> None:
        raise outlines.OutlineError(f"is unknown: {metadata.FILE_NAME} declares a document type, as no real one does")


def read_metadata(content: bytes) -> tuple[str, Polygon]:
    """Start of observation and outline, as MTD_MSIL2A.xml says; raises OutlineError."""
    reader = _Metadata()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler, parser.EndElementHandler = reader.begin, reader.end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = reader.text, reader.refuse
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise outlines.OutlineError(f"is unknown: {metadata.FILE_NAME} is no XML") from error
    numbers = reader.positions.split()
    if not numbers or len(numbers) % 2:
        raise outlines.OutlineError(f"is unknown: {metadata.FILE_NAME} has no list of positions")
    # Latitude comes first there.
    return reader.start, outlines.of_rings([list(map(list, zip(numbers[1::2], numbers[::2], strict=True)))])
