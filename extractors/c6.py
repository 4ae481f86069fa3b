"""Worker for Sentinel-1 6-day coherence (0 to 1): VV and VH in one GeoTIFF."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from extractors.products.card import Card, Product
from extractors.worker import main

if TYPE_CHECKING:
    from download_with_boto3 import ObjectStore
    from extractors.config import Extraction
    from extractors.database.catalogue import Scene
    from extractors.raster.bands import BandFile

BANDS = ("VV", "VH")
# The products hold VH first; the established scripts took the first band for VV. With the setting
# coherence_band_order = "historical" the numbers agree with databases that were filled that way.
PRODUCT_ORDER = {"VH": 1, "VV": 2}
HISTORICAL_ORDER = {"VV": 1, "VH": 2}


def find(scene: "Scene", store: "ObjectStore", extraction: "Extraction") -> Product:
    """Find the scene's GeoTIFF; the store files it by observation date."""
    prefix = f"Sentinel-1/SAR/CARD-COH6/{scene.obstime:%Y/%m/%d}/{scene.reference}/"
    objects = store.find_all([f"{prefix}{scene.reference}.tif"], prefix)
    historical = extraction.coherence_band_order == "historical"

    def bands(folder: Path) -> "tuple[BandFile, ...]":
        from extractors.raster.bands import BandFile

        path = folder / objects[0].file_name
        order = HISTORICAL_ORDER if historical else PRODUCT_ORDER
        return tuple(BandFile(band, path, order[band], described=not historical) for band in BANDS)

    return Product(objects, bands)


CARD = Card(
    code="c6",
    bands=BANDS,
    labels={"classic": {"VV": "VV", "VH": "VH"}, "api": {"VV": "VVc", "VH": "VHc"}},
    reference=re.compile(r"S1[A-D]_[A-Za-z0-9_-]{1,100}_CARD-COH6", re.ASCII),
    driver="GTiff",
    nodata=0,
    find=find,
)

if __name__ == "__main__":
    sys.exit(main(CARD))
