"""Worker for Sentinel-1 geocoded backscatter (gamma0, linear power): VV and VH, each an ENVI image with its header."""

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


def find(scene: "Scene", store: "ObjectStore", _: "Extraction") -> Product:
    """Find `Gamma0_VV.img`, `Gamma0_VH.img` and their headers; the store files them by observation date."""
    prefix = f"Sentinel-1/SAR/CARD-BS/{scene.obstime:%Y/%m/%d}/{scene.reference}/{scene.reference}.data/"
    objects = store.find_all([f"{prefix}Gamma0_{band}.{part}" for band in BANDS for part in ("img", "hdr")], prefix)
    return Product(objects, _bands)


def _bands(folder: Path) -> "tuple[BandFile, ...]":
    from extractors.raster.bands import BandFile

    return tuple(BandFile(band, folder / f"Gamma0_{band}.img") for band in BANDS)


CARD = Card(
    code="bs",
    bands=BANDS,
    labels={"classic": {"VV": "VV", "VH": "VH"}, "api": {"VV": "VVb", "VH": "VHb"}},
    reference=re.compile(r"S1[A-D]_[A-Za-z0-9_-]{1,100}_CARD_BS", re.ASCII),
    driver="ENVI",
    nodata=0,
    find=find,
)

if __name__ == "__main__":
    sys.exit(main(CARD))
