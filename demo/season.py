"""How fields look through the year, in the optical and in the radar, cover by cover.

A crop's year is a few points (day of year, value) with straight lines between them; a parcel lives it some days
earlier or later. The numbers are typical of north-west Europe and only have to look right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from demo.landscape import COVERS, Landscape

Floats = npt.NDArray[np.float64]
Course = Sequence[tuple[float, float]]  # (day of year, value)

# Reflectance of pure surfaces: (red B04, near infrared B08).
SOIL = (0.125, 0.185)
LEAVES = (0.026, 0.47)
STRAW = (0.165, 0.28)
BLOSSOM_RED = 0.055  # what rape in full bloom adds to the red

CUT_COVER, CUT_RECOVERY = 0.68, 15.0  # share of green that mowing takes; days until 63 % of it is back
CUT_VH_DB = -2.0
COHERENCE_CANOPY = {"VV": 0.21, "VH": 0.19}
COHERENCE_BARE = {"VV": 0.74, "VH": 0.60}
DISTURBED = 0.45  # what is left of coherence when the soil was worked or the crop cut between the two passes
PASS_DAYS = 6
MOST_WORKS = 3


@dataclass(frozen=True)
class Year:
    """One cover's year. `green` and `dead` are shares of the ground they hide; gamma0 in dB; `works`: days of year."""

    green: Course
    dead: Course = ((0, 0.0),)
    blossom: Course = ((0, 0.0),)
    vv: Course = ((0, -11.0),)
    vh: Course = ((0, -18.0),)
    works: tuple[float, ...] = ()  # sowing, harvest, ploughing
    ground: tuple[float, float] = SOIL
    coherence: float = np.nan  # NaN: follows what hides the ground


YEARS = {
    "winter wheat": Year(
        green=((60, 0.30), (95, 0.50), (125, 0.88), (150, 0.96), (172, 0.90), (192, 0.30), (205, 0.08),
               (214, 0.05), (232, 0.16), (252, 0.18), (255, 0.03), (285, 0.06), (305, 0.22)),
        dead=((165, 0.0), (195, 0.65), (212, 0.85), (214, 0.25), (250, 0.15), (255, 0.0)),
        vv=((60, -10.8), (100, -11.5), (125, -14.5), (150, -16.2), (172, -14.2), (195, -12.6),
            (212, -12.0), (214, -12.4), (255, -11.0), (305, -10.8)),
        vh=((60, -19.5), (100, -19.8), (125, -21.5), (148, -21.8), (172, -18.8), (195, -17.6),
            (212, -17.8), (214, -20.6), (255, -19.2), (305, -19.4)),
        works=(213, 255, 270),
    ),
    "rapeseed": Year(
        green=((60, 0.50), (90, 0.68), (115, 0.93), (150, 0.95), (170, 0.80), (190, 0.25), (202, 0.06),
               (204, 0.04), (232, 0.30), (244, 0.34), (246, 0.03), (275, 0.12), (305, 0.38)),
        dead=((165, 0.0), (195, 0.55), (202, 0.70), (204, 0.25), (240, 0.10), (246, 0.0)),
        blossom=((112, 0.0), (121, 0.9), (135, 1.0), (148, 0.1), (152, 0.0)),
        vv=((60, -11.0), (100, -11.8), (122, -12.6), (150, -9.6), (180, -9.9), (202, -11.2), (204, -12.4),
            (246, -11.0), (305, -11.2)),
        vh=((60, -18.6), (100, -17.6), (122, -16.4), (150, -12.6), (175, -12.8), (202, -15.8),
            (204, -20.0), (246, -19.2), (305, -18.4)),
        works=(203, 246),
    ),
    "maize": Year(
        green=((60, 0.12), (100, 0.18), (104, 0.02), (140, 0.03), (160, 0.22), (182, 0.78), (205, 0.95),
               (240, 0.90), (262, 0.62), (270, 0.50), (272, 0.04), (305, 0.05)),
        dead=((245, 0.0), (270, 0.35), (272, 0.22), (305, 0.15)),
        vv=((60, -11.2), (104, -10.6), (140, -11.6), (165, -10.8), (195, -9.0), (240, -9.3), (270, -9.9),
            (272, -11.8), (305, -11.5)),
        vh=((60, -20.0), (104, -19.8), (140, -21.0), (165, -18.4), (195, -14.8), (240, -14.4),
            (270, -15.2), (272, -19.9), (305, -19.8)),
        works=(104, 121, 271),
    ),
    "sugar beet": Year(
        green=((60, 0.03), (110, 0.03), (135, 0.15), (160, 0.70), (178, 0.95), (230, 0.92), (270, 0.84),
               (284, 0.80), (286, 0.08), (305, 0.06)),
        vv=((60, -11.4), (100, -10.8), (135, -11.8), (160, -9.8), (180, -8.7), (284, -9.2), (286, -10.8),
            (305, -10.9)),
        vh=((60, -20.4), (100, -19.9), (135, -20.6), (160, -16.4), (180, -14.4), (284, -14.9),
            (286, -18.8), (305, -19.0)),
        works=(97, 285),
    ),
    "permanent grassland": Year(
        green=((60, 0.52), (90, 0.66), (115, 0.90), (200, 0.90), (260, 0.86), (290, 0.74), (305, 0.68)),
        vv=((60, -12.2), (115, -12.6), (200, -12.2), (305, -12.0)),
        vh=((60, -19.2), (115, -18.2), (200, -17.9), (305, -18.6)),
    ),
    "verge": Year(green=((60, 0.38), (120, 0.72), (200, 0.60), (305, 0.45)), vv=((0, -11.5),), vh=((0, -17.8),)),
    "wood": Year(
        green=((60, 0.28), (108, 0.36), (128, 0.96), (265, 0.92), (292, 0.60), (305, 0.40)),
        vv=((0, -8.8),), vh=((0, -14.2),),
    ),
    "village": Year(
        green=((60, 0.18), (130, 0.34), (305, 0.24)), vv=((0, -5.5),), vh=((0, -13.5),), coherence=0.68,
    ),
    "water": Year(
        green=((0, 0.0),), vv=((0, -19.0),), vh=((0, -26.0),), ground=(0.028, 0.014), coherence=0.12,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Day:
    """What each label (see `Landscape`) looks like on one day; every array has one entry per label."""

    green: Floats
    dead: Floats
    blossom: Floats
    ground: Floats  # (labels, 2): reflectance of bare ground in B04 and B08
    gamma0: dict[str, Floats]  # "VV", "VH": dB
    coherence: dict[str, Floats]  # "VV", "VH": 0-1, between this day and six days before


def on_day(landscape: Landscape, day: float) -> Day:
    """The state of every label on a day of the year."""

    def course(name: str) -> Floats:
        values = np.empty(len(landscape.covers))
        for cover, label in enumerate(COVERS):
            here = landscape.covers == cover
            days, points = np.transpose(getattr(YEARS[label], name))
            values[here] = np.interp(day - landscape.delays[here], days, points)
        return values

    with np.errstate(invalid="ignore"):  # NaN: a cut that is not made
        since_cut = day - landscape.mowings
        after_cut = np.where(since_cut >= 0, np.exp(-since_cut / CUT_RECOVERY), 0.0).max(axis=1)
    green = np.clip(course("green") * landscape.vigours * (1 - CUT_COVER * after_cut), 0, 1)
    dead = course("dead")
    # Straw hides the ground less than leaves do, and up to a quarter of it is stubble, which does not move.
    hidden = np.clip(green + 0.6 * np.clip(dead - 0.25, 0, 1), 0, 1)
    kept = np.where(_worked(landscape, day), DISTURBED, 1.0)
    fixed = np.array([YEARS[COVERS[cover]].coherence for cover in landscape.covers])
    coherence = {}
    for polarisation, low in COHERENCE_CANOPY.items():
        seen = low + (COHERENCE_BARE[polarisation] - low) * (1 - hidden) ** 1.4
        coherence[polarisation] = np.where(np.isnan(fixed), seen * kept, fixed)
    return Day(
        green=green,
        dead=dead,
        blossom=course("blossom"),
        ground=np.array([YEARS[COVERS[cover]].ground for cover in landscape.covers]),
        gamma0={"VV": course("vv"), "VH": course("vh") + CUT_VH_DB * after_cut},
        coherence=coherence,
    )


def _worked(landscape: Landscape, day: float) -> npt.NDArray[np.bool_]:
    """Where the soil was worked or the crop cut since the pass before."""
    works = np.full((len(COVERS), MOST_WORKS), np.nan)
    for cover, name in enumerate(COVERS):
        works[cover, : len(YEARS[name].works)] = YEARS[name].works
    days = np.hstack([works[landscape.covers] + landscape.delays[:, None], landscape.mowings])
    worked: npt.NDArray[np.bool_] = np.any((day - days >= 0) & (day - days < PASS_DAYS), axis=1)
    return worked
