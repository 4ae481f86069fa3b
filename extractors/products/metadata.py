"""What a Sentinel-2 product says of its own numbers, in its file MTD_MSIL2A.xml.

From processing baseline 04.00 on, reflectance is (pixel + offset) / 10000 with an offset for each band, which the file
lists; products without a list have none. Neither the date nor the number in the name tells: products are reprocessed,
and baseline 99.99 has no offset.
"""

import math
import re
from pathlib import Path
from typing import Any
from xml.parsers import expat

from extractors.errors import SceneError, UnusableSceneError
from extractors.model import Radiometry
from extractors.products.disk import readable

FILE_NAME = "MTD_MSIL2A.xml"
# Real ones have 55 kB.
MOST_BYTES = 5_000_000
ROOT = "Level-2A_User_Product"
OFFSETS = "BOA_ADD_OFFSET_VALUES_LIST"
# The bands by their number in the file.
BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
# Numbers of all products so far are reflectance times this; others could not be compared with them.
QUANTIFICATION = 10_000
# What stands in for the file where that is wanted: by the number in a product's name, as N0400.
FIRST_WITH_OFFSET, FIRST_OF_OTHERS, OFFSET = 400, 9900, -1000.0


class _Reader:
    """Takes in the parts of the file that matter, by the local names of its elements."""

    def __init__(self) -> None:
        self.root = ""
        self.baseline: str | None = None
        self.quantification: str | None = None
        # None without a list; else number of the band and offset, as they are written.
        self.offsets: list[tuple[str | None, str]] | None = None
        self._path: list[str] = []
        self._text: list[str] = []
        self._attributes: dict[str, str] = {}

    def start(self, name: str, attributes: dict[str, str]) -> None:
        local = name.rpartition(" ")[2]
        self.root = self.root or local
        if local == OFFSETS and self.offsets is None:
            self.offsets = []
        self._path.append(local)
        self._text, self._attributes = [], attributes

    def text(self, text: str) -> None:
        self._text.append(text)

    def end(self, _: str) -> None:
        local, text = self._path.pop(), "".join(self._text).strip()
        if local == "PROCESSING_BASELINE" and self.baseline is None:
            self.baseline = text
        elif local == "BOA_QUANTIFICATION_VALUE" and self.quantification is None:
            self.quantification = text
        elif local == "BOA_ADD_OFFSET" and self.offsets is not None and self._path[-1:] == [OFFSETS]:
            self.offsets.append((self._attributes.get("band_id"), text))
        self._text = []

    def refuse(self, *_: Any) -> None:
        """Nothing real declares a document type; entities, which can grow without bounds, need one."""
        raise UnusableSceneError(f"{FILE_NAME} declares a document type, as no real one does; replace the object")


def read_radiometry(path: Path, origin: str) -> Radiometry:
    """What the file at `path` says; origin: where it comes from. SceneError, UnusableSceneError if it says nothing that
    can be used."""
    with readable(path):
        if path.stat().st_size > MOST_BYTES:
            raise too_large(path.stat().st_size)
    reader = _Reader()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler, parser.EndElementHandler = reader.start, reader.end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = reader.text, reader.refuse
    try:
        with readable(path), path.open("rb") as file:
            parser.ParseFile(file)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise UnusableSceneError(f"{FILE_NAME} is no XML ({error}); replace the object") from error
    if reader.root != ROOT or not reader.baseline:
        raise UnusableSceneError(
            f"{FILE_NAME} is not the metadata of a level 2A product (root {reader.root[:80]!a}, baseline "
            f"{reader.baseline!a}); replace the object"
        )
    if reader.quantification is not None and _number(reader.quantification) != QUANTIFICATION:
        raise UnusableSceneError(
            f"{FILE_NAME} says that reflectance is multiplied by {reader.quantification[:80]!a}, not {QUANTIFICATION}: "
            "its numbers cannot be compared with those of other products"
        )
    return Radiometry(reader.baseline, origin, _by_band(reader.offsets))


def _by_band(listed: list[tuple[str | None, str]] | None) -> dict[str, float]:
    """Offset of each band; all have one, or none is listed."""
    if listed is None:
        return dict.fromkeys(BANDS, 0.0)
    found: dict[str, float] = {}
    for number, text in listed:
        offset = _number(text)
        known = number is not None and re.fullmatch(r"\d{1,2}", number, re.ASCII) and int(number) < len(BANDS)
        if number is None or not known or not math.isfinite(offset):
            raise UnusableSceneError(
                f"{FILE_NAME} lists the offset {text[:80]!a} for band {number!a}, which means nothing; replace the "
                "object"
            )
        band = BANDS[int(number)]
        if found.setdefault(band, offset) != offset:
            raise UnusableSceneError(
                f"{FILE_NAME} lists two offsets for {band}: {found[band]:g} and {offset:g}; replace the object"
            )
    return found


def _number(text: str) -> float:
    """The number in a text; NaN if it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def radiometry_of_name(name: str) -> Radiometry:
    """What a product's name lets us expect: an offset from baseline 04.00 up to those that are not ESA's."""
    found = re.search(r"_N(\d{2})(\d{2})_R\d{3}_T", name, re.ASCII)
    if found is None:
        raise UnusableSceneError(f"the name {name} has no baseline")
    offset = OFFSET if FIRST_WITH_OFFSET <= int(found[1] + found[2]) < FIRST_OF_OTHERS else 0.0
    return Radiometry(f"{found[1]}.{found[2]}", "the product's name", dict.fromkeys(BANDS, offset))


def too_large(size: int) -> UnusableSceneError:
    """The error for a file that cannot be what it should be."""
    return UnusableSceneError(f"{FILE_NAME} has {size:,} bytes, where real ones have 55,000; replace the object")


def lacking(prefix: str) -> SceneError:
    """The error for a product without the file."""
    return SceneError(
        f"{prefix} has no {FILE_NAME}, which says how its numbers are to be harmonised; bring it, or write "
        '"radiometry_fallback": "baseline" to believe the product\'s name'
    )
