"""How scenes of Sentinel-1 coherence are found: all polarisations in one GeoTIFF, whatever the days between."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from extractors.model import BandFile, Product, Scene
from extractors.products.card import polarisations

if TYPE_CHECKING:
    from extractors.config import Extraction
    from extractors.products.source import Source


def finder(template: str) -> "Callable[[Scene, Source, Extraction], Product]":
    """What finds a scene's GeoTIFF in this layout; the store files it by observation date.

    The products hold VH first; the established scripts took the first band for VV. With the setting
    coherence_band_order = "historical" the numbers agree with databases that were filled that way.
    """

    def find(scene: Scene, store: "Source", extraction: "Extraction") -> Product:
        file_name = f"{scene.reference}.tif"
        if scene.prefix is None:
            prefix = template.format(date=scene.obstime, name=scene.reference)
            objects = store.find_all([prefix + file_name], prefix)
        else:
            objects = store.find_named([file_name], scene.prefix)
        bands = polarisations(scene.reference)
        historical = extraction.coherence_band_order == "historical"
        order = bands if historical else bands[::-1]
        return Product(
            objects, tuple(BandFile(band, file_name, 1 + order.index(band), described=not historical) for band in bands)
        )

    return find
