"""Worker for Sentinel-2 level 2A: bands B04, B08 (10 m) and the scene classification SCL (20 m)."""

import datetime as dt
import re
import sys
from typing import TYPE_CHECKING

from extractors.errors import SceneError, SceneNotFoundError, UnusableSceneError
from extractors.model import BandFile, ImageFormat, Product, Scene, StoredObject
from extractors.products import layouts
from extractors.products.card import Card
from extractors.worker import main

if TYPE_CHECKING:
    from extractors.config import Extraction
    from extractors.products.source import Source

RESOLUTIONS = {"B04": "10m", "B08": "10m", "SCL": "20m"}
REFERENCE = re.compile(
    r"S2[A-D]_MSIL2A_(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})T\d{6}_N\d{4}_R\d{3}"
    r"_T\d{2}[A-Z]{3}_\d{8}T\d{6}(?P<safe>\.SAFE)?",
    re.ASCII,
)


def find(scene: Scene, store: "Source", _: "Extraction") -> Product:
    """Find the product's band files by what their keys end with: the granule's name cannot be composed.

    Tried: the reference with and without `.SAFE`, as written first, in each collection.
    """
    match = REFERENCE.fullmatch(scene.reference)
    if match is None:
        raise UnusableSceneError(f"the reference {scene.reference!a} is not a Sentinel-2 product name")
    try:
        date = dt.date(int(match["year"]), int(match["month"]), int(match["day"]))
    except ValueError as error:
        raise UnusableSceneError(f"the reference {scene.reference} has no date in its name ({error})") from error
    bare = scene.reference.removesuffix(".SAFE")
    names = (f"{bare}.SAFE", bare) if match["safe"] else (bare, f"{bare}.SAFE")
    missing = []
    for collection in layouts.SENTINEL_2_COLLECTIONS:
        for name in names:
            prefix = layouts.SENTINEL_2.format(collection=collection, date=date, name=name)
            listed = store.list_product(prefix)
            found = {band: _band_object(band, listed) for band in RESOLUTIONS}
            objects = {band: item for band, item in found.items() if item is not None}
            if len(objects) == len(RESOLUTIONS):
                bands = tuple(BandFile(band, item.file_name) for band, item in objects.items())
                return Product((*objects.values(), *_manifest(prefix, listed)), bands)
            if listed:
                missing.append(f"{prefix} lacks {', '.join(band for band in RESOLUTIONS if band not in objects)}")
    collections = " or ".join(layouts.SENTINEL_2_COLLECTIONS)
    raise SceneNotFoundError(
        "; ".join(missing) or f"no product {bare}, with or without .SAFE, in {collections} of its date"
    )


def _manifest(prefix: str, listed: list[StoredObject]) -> list[StoredObject]:
    """The product's manifest, if it has one."""
    name, most = layouts.MANIFEST, layouts.MOST_BYTES_OF_MANIFEST
    return [item for item in listed if item.key == prefix + name and item.size <= most]


def _band_object(band: str, listed: list[StoredObject]) -> StoredObject | None:
    """The one object that holds a band; products before mid 2018 have file names that start with `L2A_`."""
    resolution = RESOLUTIONS[band]
    pattern = re.compile(
        rf".+/GRANULE/[^/]+/IMG_DATA/R{resolution}/(L2A_)?T\w{{5}}_\d{{8}}T\d{{6}}_{band}_{resolution}\.jp2", re.ASCII
    )
    matching = [item for item in listed if pattern.fullmatch(item.key)]
    if len(matching) > 1:
        raise SceneError(f"the product holds {len(matching)} files for {band}: {', '.join(m.key for m in matching)}")
    return matching[0] if matching else None


CARD = Card(
    code="s2",
    labels={
        "classic": {"B04": "B4", "B08": "B8", "SCL": "SC"},
        "api": {"B04": "B04", "B08": "B08", "SCL": "SC"},
    },
    reference=REFERENCE,
    format=ImageFormat("JP2OpenJPEG", nodata=0),
    find=find,
    first_folder=layouts.first_folder(layouts.SENTINEL_2),
    categorical="SCL",
)

if __name__ == "__main__":
    sys.exit(main(CARD))
