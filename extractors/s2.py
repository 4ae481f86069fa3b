"""Worker for Sentinel-2 level 2A: bands B04, B08 (10 m) and the scene classification SCL (20 m), or others."""

import datetime as dt
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from extractors import labels
from extractors.errors import SceneError, SceneNotFoundError, UnusableSceneError
from extractors.model import BandFile, ImageFormat, Product, Radiometry, Scene, StoredObject
from extractors.products import layouts, metadata
from extractors.products.card import Card
from extractors.worker import main

if TYPE_CHECKING:
    from extractors.config import Extraction
    from extractors.products.source import Source

REFERENCE = re.compile(
    r"S2[A-D]_MSIL2A_(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})T\d{6}_N\d{4}_R\d{3}"
    r"_T\d{2}[A-Z]{3}_\d{8}T\d{6}(?P<safe>\.SAFE)?",
    re.ASCII,
)


def find(scene: Scene, store: "Source", extraction: "Extraction") -> Product:
    """Find the product's band files by what their keys end with: the granule's name cannot be composed.

    Unless it is known where it lies, tried are: the reference with and without `.SAFE`, as written first, in each
    collection.
    """
    prefixes = _prefixes(scene.reference) if scene.prefix is None else [scene.prefix]
    wanted = extraction.bands_needed(CARD.code)
    missing = []
    for prefix in prefixes:
        listed = store.list_product(prefix)
        found = {band: _band_object(band, listed) for band in wanted}
        objects = {band: item for band, item in found.items() if item is not None}
        if len(objects) == len(wanted):
            bands = tuple(BandFile(band, item.file_name) for band, item in objects.items())
            product = Product(tuple(objects.values()), bands, manifest=_manifest(prefix, listed))
            return (
                product if extraction.radiometry == "raw" else _harmonised(product, listed, extraction, scene, prefix)
            )
        if listed:
            missing.append(_lacking(prefix, [band for band in wanted if band not in objects]))
    if not missing and scene.prefix is not None:
        raise SceneNotFoundError(f"{store.name} has nothing under {scene.prefix}")
    collections, bare = " or ".join(layouts.SENTINEL_2_COLLECTIONS), scene.reference.removesuffix(".SAFE")
    raise SceneNotFoundError(
        "; ".join(missing) or f"no product {bare}, with or without .SAFE, in {collections} of its date"
    )


def _lacking(prefix: str, bands: list[str]) -> str:
    """What a product is not complete without, in words."""
    return f"{prefix} lacks {', '.join(bands)}"


def _prefixes(reference: str) -> list[str]:
    """Where the product with this name may lie, in the order of trying."""
    match = REFERENCE.fullmatch(reference)
    if match is None:
        raise UnusableSceneError(f"the reference {reference!a} is not a Sentinel-2 product name")
    try:
        date = dt.date(int(match["year"]), int(match["month"]), int(match["day"]))
    except ValueError as error:
        raise UnusableSceneError(f"the reference {reference} has no date in its name ({error})") from error
    bare = reference.removesuffix(".SAFE")
    names = (f"{bare}.SAFE", bare) if match["safe"] else (bare, f"{bare}.SAFE")
    return [
        layouts.SENTINEL_2.format(collection=collection, date=date, name=name)
        for collection in layouts.SENTINEL_2_COLLECTIONS
        for name in names
    ]


def _harmonised(
    product: Product, listed: list[StoredObject], extraction: "Extraction", scene: Scene, prefix: str
) -> Product:
    """The product with its own metadata; where that is lacking, with what its name tells, if that is wanted."""
    found = [item for item in listed if item.file_name == metadata.FILE_NAME]
    if not found:
        if extraction.radiometry_fallback is None:
            raise metadata.lacking(prefix)
        return replace(product, radiometry=lambda _: metadata.radiometry_of_name(scene.reference))
    # Nearest to the product's root.
    item = min(found, key=lambda item: item.key.count("/"))
    if item.size > metadata.MOST_BYTES:
        raise metadata.too_large(item.size)

    def read(folder: Path) -> Radiometry:
        return metadata.read_radiometry(folder / item.file_name, item.key)

    return replace(product, objects=(*product.objects, item), radiometry=read)


def _manifest(prefix: str, listed: list[StoredObject]) -> StoredObject | None:
    """The product's manifest, if it has one."""
    name, most = layouts.MANIFEST, layouts.MOST_BYTES_OF_MANIFEST
    return next((item for item in listed if item.key == prefix + name and item.size <= most), None)


def _band_object(band: str, listed: list[StoredObject]) -> StoredObject | None:
    """The one object that holds a band; products before mid 2018 have file names that start with `L2A_`."""
    name, resolution = band.partition("_")[0], labels.resolution(band)
    pattern = re.compile(
        rf".+/GRANULE/[^/]+/IMG_DATA/R{resolution}/(L2A_)?T\w{{5}}_\d{{8}}T\d{{6}}_{name}_{resolution}\.jp2", re.ASCII
    )
    matching = [item for item in listed if pattern.fullmatch(item.key)]
    if len(matching) > 1:
        raise SceneError(f"the product holds {len(matching)} files for {band}: {', '.join(m.key for m in matching)}")
    return matching[0] if matching else None


CARD = Card(
    code="s2",
    reference=REFERENCE,
    format=ImageFormat("JP2OpenJPEG", nodata=0),
    find=find,
    first_folder=layouts.first_folder(layouts.SENTINEL_2),
    categorical="SCL",
)

if __name__ == "__main__":
    sys.exit(main(CARD))
