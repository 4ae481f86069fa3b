"""The bands that a CARD can have, how they are named in configurations, and their labels in the results.

Sentinel-2 files come at several resolutions: `B02` is the band at its native one, `B02_20m` at another.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

# Resolutions of the bands of Sentinel-2 level 2A, the native one first. (B10 is in no level 2A product; AOT and WVP are
# made at 20 m. B01 at 20 m since baseline 04.00.)
SENTINEL_2: Mapping[str, tuple[str, ...]] = {
    "B01": ("60m", "20m"),
    "B02": ("10m", "20m", "60m"),
    "B03": ("10m", "20m", "60m"),
    "B04": ("10m", "20m", "60m"),
    "B05": ("20m", "60m"),
    "B06": ("20m", "60m"),
    "B07": ("20m", "60m"),
    "B08": ("10m",),
    "B8A": ("20m", "60m"),
    "B09": ("60m",),
    "B11": ("20m", "60m"),
    "B12": ("20m", "60m"),
    "AOT": ("20m", "10m", "60m"),
    "WVP": ("20m", "10m", "60m"),
    "SCL": ("20m", "60m"),
}
# Rows and columns of a tile at each.
SIDES = {"10m": 10_980, "20m": 5_490, "60m": 1_830}
# Polarisations of radar bands in the order of the results, sent before received.
POLARISATIONS = ("VV", "VH", "HH", "HV")
# All that can be asked for; and what is extracted unless something is.
BANDS: Mapping[str, tuple[str, ...]] = {
    "s2": tuple(f"{band}{end}" for band, sizes in SENTINEL_2.items() for end in ("", *(f"_{size}" for size in sizes))),
    **dict.fromkeys(("bs", "c6", "c1"), POLARISATIONS),
}
DEFAULT: Mapping[str, tuple[str, ...]] = {
    "s2": ("B04", "B08", "SCL"),
    **dict.fromkeys(("bs", "c6", "c1"), POLARISATIONS),
}
# What tells the bands of the CARDs apart in one table.
SUFFIXES = {"bs": "b", "c6": "c", "c1": "c"}
PRESETS = ("classic", "api")
LONGEST_LABEL = 63

# A band as it is asked for, and its label; None: the preset's.
Wanted = Sequence[tuple[str, str | None]]
Layers = tuple[tuple[str, str], ...]


def label(code: str, band: str, preset: str) -> str:
    """The label of a band in a preset: B4, SC, VV in `classic` (as in established databases); B04, SC, VVb in `api`."""
    if code != "s2":
        return band + (SUFFIXES[code] if preset == "api" else "")
    name = band.partition("_")[0]
    if name == "SCL":
        return "SC"
    return name.replace("B0", "B") if preset == "classic" else name


def native(code: str, band: str) -> str:
    """The name of a band without the resolution, if that is the native one: `B02` for `B02_10m`."""
    name, _, resolution = band.partition("_")
    return name if code == "s2" and resolution == SENTINEL_2[name][0] else band


def resolution(band: str) -> str:
    """At which resolution a band of Sentinel-2 is taken, as 10m."""
    name, _, named = band.partition("_")
    return named or SENTINEL_2[name][0]


def layers(code: str, preset: str, wanted: Wanted | None = None) -> Layers:
    """What is extracted of a CARD, in this order: bands, and their labels. ValueError for a band that the CARD cannot
    have, and for two with one label."""
    found = []
    for band, own in [(band, None) for band in DEFAULT[code]] if wanted is None else wanted:
        if band not in BANDS[code]:
            raise ValueError(f"{code} has no band {band}; known: {', '.join(BANDS[code])}")
        found.append((native(code, band), own or label(code, band, preset)))
    (most, number), *_ = Counter(label for _, label in found).most_common(1)
    if number > 1:
        bands = " and ".join(band for band, label in found if label == most)
        raise ValueError(f"{bands} have the same label {most}; give them others: an object band -> label")
    return tuple(found)
