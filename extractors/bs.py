"""Worker for Sentinel-1 geocoded backscatter (gamma0, linear power): an ENVI image with its header per polarisation."""

import re
import sys
from typing import TYPE_CHECKING

from extractors.errors import UnusableSceneError
from extractors.model import BandFile, ImageFormat, Product, Scene
from extractors.products import layouts
from extractors.products.card import Card, polarisations
from extractors.worker import main

if TYPE_CHECKING:
    from extractors.config import Extraction
    from extractors.products.source import Source


def find(scene: Scene, store: "Source", extraction: "Extraction") -> Product:
    """Find `Gamma0_VV.img`, `Gamma0_VH.img` (or whichever polarisations the product's name says, as far as they are
    wanted) and their headers; the store files them by observation date."""
    wanted = extraction.bands_needed(CARD.code)
    promised = polarisations(scene.reference)
    bands = [band for band in promised if band in wanted]
    if not bands:
        raise UnusableSceneError(f"the product has {', '.join(promised)}, and none of these is among the bands wanted")
    names = [f"Gamma0_{band}.{part}" for band in bands for part in ("img", "hdr")]
    if scene.prefix is None:
        prefix = layouts.BACKSCATTER.format(date=scene.obstime, name=scene.reference)
        objects = store.find_all([prefix + name for name in names], prefix)
    else:
        objects = store.find_named(names, scene.prefix)
    return Product(objects, tuple(BandFile(band, f"Gamma0_{band}.img") for band in bands))


CARD = Card(
    code="bs",
    reference=re.compile(r"S1[A-D]_[A-Za-z0-9_-]{1,100}_CARD_BS", re.ASCII),
    format=ImageFormat("ENVI", nodata=0, scaled=True),
    find=find,
    first_folder=layouts.first_folder(layouts.BACKSCATTER),
)

if __name__ == "__main__":
    sys.exit(main(CARD))
