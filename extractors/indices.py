"""Indices of two bands, computed pixel by pixel: what they are, and how they are written in configurations.

`nd(a, b)` is (a - b) / (a + b); besides there are `a / b` and `a - b`, and a few names of Sentinel-2.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from extractors.labels import BANDS, native

# What the names stand for.
NAMED: Mapping[str, str] = {"ndvi": "nd(B08, B04)", "ndwi": "nd(B03, B08)", "ndre": "nd(B8A, B05)"}
NORMALISED, RATIO, DIFFERENCE, DECIBEL = "nd", "/", "-", "db"
BAND = r"\s*([A-Z0-9]{2,3}(?:_[0-9]{2}m)?)\s*"
WRITTEN = re.compile(rf"\s*nd\s*\({BAND},{BAND}\)\s*|{BAND}([/-]){BAND}", re.ASCII)
CLASSES = "SCL"
LONGEST_SHOWN = 40


@dataclass(frozen=True)
class Formula:
    """How values are made of the pixels of some bands: by an operation on two, or DECIBEL of one."""

    operation: str
    bands: tuple[str, ...]

    def __str__(self) -> str:
        """As it is written, always in the same way."""
        if self.operation in {NORMALISED, DECIBEL}:
            return f"{self.operation}({', '.join(self.bands)})"
        return f" {self.operation} ".join(self.bands)


def parse(code: str, text: str) -> Formula:
    """The formula of an index of a CARD; ValueError for anything else."""
    name = text.strip()
    found = WRITTEN.fullmatch(NAMED.get(name, name) if code == "s2" else name)
    if found is None:
        names = f", or one of {', '.join(NAMED)}" if code == "s2" else ""
        raise ValueError(f"{text[:LONGEST_SHOWN]!a} is none; write nd(a, b), a / b or a - b, of two bands{names}")
    one, two, left, operation, right = found.groups()
    bands = tuple(native(code, _known(code, band)) for band in ((one, two) if operation is None else (left, right)))
    if bands[0] == bands[1]:
        raise ValueError(f"{text[:LONGEST_SHOWN]!a} is of one band; it takes two different ones")
    return Formula(operation or NORMALISED, bands)


def _known(code: str, band: str) -> str:
    if band not in BANDS[code]:
        raise ValueError(f"{code} has no band {band}")
    if band.partition("_")[0] == CLASSES:
        raise ValueError(f"{band} holds classes, of which there is no index")
    return band
