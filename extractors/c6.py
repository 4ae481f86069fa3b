"""Worker for Sentinel-1 6-day coherence (0 to 1): all polarisations in one GeoTIFF."""

import re
import sys
from typing import TYPE_CHECKING

from extractors.model import BandFile, ImageFormat, Product, Scene
from extractors.products import layouts
from extractors.products.card import Card, polarisations
from extractors.worker import main

if TYPE_CHECKING:
    from extractors.config import Extraction
    from extractors.products.source import Source


def find(scene: Scene, store: "Source", extraction: "Extraction") -> Product:
    """Find the scene's GeoTIFF; the store files it by observation date.

    The products hold VH first; the established scripts took the first band for VV. With the setting
    coherence_band_order = "historical" the numbers agree with databases that were filled that way.
    """
    prefix = layouts.COHERENCE.format(date=scene.obstime, name=scene.reference)
    file_name = f"{scene.reference}.tif"
    objects = store.find_all([prefix + file_name], prefix)
    bands = polarisations(scene.reference)
    historical = extraction.coherence_band_order == "historical"
    order = bands if historical else bands[::-1]
    return Product(
        objects, tuple(BandFile(band, file_name, 1 + order.index(band), described=not historical) for band in bands)
    )


CARD = Card(
    code="c6",
    reference=re.compile(r"S1[A-D]_[A-Za-z0-9_-]{1,100}_CARD-COH6", re.ASCII),
    format=ImageFormat("GTiff", nodata=0, scaled=True),
    find=find,
    first_folder=layouts.first_folder(layouts.COHERENCE),
)

if __name__ == "__main__":
    sys.exit(main(CARD))
