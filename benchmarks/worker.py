"""A worker for some bands of a CARD only: `python -m benchmarks.worker s2 B04,SCL [the worker's own arguments]`."""

import dataclasses
import importlib
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


def with_bands(card: Card, bands: list[str]) -> Card:
    """The CARD reduced to some of its bands; only their files are downloaded."""

    def find(scene: "Scene", store: "ObjectStore", extraction: "Extraction") -> Product:
        product = card.find(scene, store, extraction)

        def chosen(folder: Path) -> "tuple[BandFile, ...]":
            return tuple(file for file in product.bands(folder) if file.name in bands)

        stems = {file.path.stem for file in chosen(Path())}
        objects = tuple(item for item in product.objects if Path(item.file_name).stem in stems)
        return Product(objects, chosen)

    labels = {preset: {b: label for b, label in names.items() if b in bands} for preset, names in card.labels.items()}
    return dataclasses.replace(card, bands=tuple(bands), labels=labels, find=find)


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
