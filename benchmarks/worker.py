"""A worker for some bands of a CARD only: `python -m benchmarks.worker s2 B04,SCL [the worker's own arguments]`."""

import dataclasses
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from extractors.model import Product, Scene
from extractors.products.card import Card
from extractors.worker import main

if TYPE_CHECKING:
    from extractors.config import Extraction
    from extractors.products.source import Source


def with_bands(card: Card, bands: list[str]) -> Card:
    """The CARD reduced to some of its bands; only their files are downloaded."""

    def find(scene: Scene, store: "Source", extraction: "Extraction") -> Product:
        product = card.find(scene, store, extraction)
        chosen = tuple(band for band in product.bands if band.name in bands)
        # With the header of an image, which differs from it in its suffix.
        stems = {Path(band.file_name).stem for band in chosen}
        return Product(tuple(item for item in product.objects if Path(item.file_name).stem in stems), chosen)

    labels = {preset: {b: label for b, label in names.items() if b in bands} for preset, names in card.labels.items()}
    return dataclasses.replace(card, labels=labels, find=find)


def peak_megabytes() -> float:
    """Highest resident memory of this process. (What the system tells a parent of its child's includes the parent's
    own, which the child has for a moment.)"""
    text = Path("/proc/self/status").read_text()
    (kilobytes,) = [line.split()[1] for line in text.splitlines() if line.startswith("VmHWM")]
    return int(kilobytes) / 1024


if __name__ == "__main__":
    chosen_card = importlib.import_module(f"extractors.{sys.argv[1]}").CARD
    code = main(with_bands(chosen_card, sys.argv[2].split(",")), sys.argv[3:])
    print(peak_megabytes())
    sys.exit(code)
