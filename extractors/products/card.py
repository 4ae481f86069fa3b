"""What a CARD is to a worker: the one thing in which the three scripts differ."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from extractors.errors import UnusableSceneError

if TYPE_CHECKING:
    from download_with_boto3 import ObjectStore, StoredObject
    from extractors.config import Extraction
    from extractors.database.catalogue import Scene
    from extractors.raster.bands import BandFile

# Longest text of a rejected reference that is shown.
SHOWN_CHARACTERS = 80


@dataclass(frozen=True)
class Product:
    """What a scene consists of: objects to download (each under its base name), and where its bands are then."""

    objects: tuple["StoredObject", ...]
    bands: Callable[[Path], tuple["BandFile", ...]]


@dataclass(frozen=True)
class Card:
    """One kind of Copernicus Analysis Ready Data.

    code: value of the catalogue's column `card`. bands: names in the order of extraction. labels: preset name to
    label of each band in the results table. reference: pattern of a product name. driver: the only GDAL driver its
    files are opened with. nodata: value without observation. classified: the band whose pixels are classes, if any.
    find: looks the product up in the store (raises SceneNotFoundError).
    """

    code: str
    bands: tuple[str, ...]
    labels: Mapping[str, Mapping[str, str]]
    reference: re.Pattern[str]
    driver: str
    nodata: float
    find: "Callable[[Scene, ObjectStore, Extraction], Product]"
    classified: str | None = None

    def check_reference(self, reference: str) -> None:
        """Refuse what is not a product name of this CARD, before it becomes part of a key (UnusableSceneError)."""
        if not self.reference.fullmatch(reference):
            shown = ascii(reference[:SHOWN_CHARACTERS]) + ("..." if len(reference) > SHOWN_CHARACTERS else "")
            raise UnusableSceneError(
                f"the reference {shown} is not a product name of card {self.code}; mend it in the catalogue"
            )
