"""Worker for Sentinel-1 12-day coherence (0 to 1): all polarisations in one GeoTIFF."""

import re
import sys

from extractors.model import ImageFormat
from extractors.products import layouts
from extractors.products.card import Card
from extractors.products.coherence import finder
from extractors.worker import main

CARD = Card(
    code="c1",
    reference=re.compile(r"S1[A-D]_[A-Za-z0-9_-]{1,100}_CARD-COH12", re.ASCII),
    format=ImageFormat("GTiff", nodata=0, scaled=True),
    find=finder(layouts.COHERENCE_12),
    first_folder=layouts.first_folder(layouts.COHERENCE_12),
)

if __name__ == "__main__":
    sys.exit(main(CARD))
