"""A season of scenes of the landscape, from March to October 2021, as products of the three CARDs.

2021 is the last year with both Sentinel-1 satellites of the first pair, so with coherence over six days. What
Sentinel-2 saw until June is there as it was processed then (N0300, reflectance = DN / 10000); what it saw later, as it
was processed anew (Collection 1, N0500), with an offset: reflectance = (DN - 1000) / 10000.
The names follow the real ones; times, orbits and the last fields are made up.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from demo.products import Grid

YEAR = 2021
GRID = Grid(epsg=32632, left=520_020.0, top=6_080_040.0, pixel=10.0)  # within tile 32UNF, on its 60 m raster
SIZE = 1098  # pixels: a tenth of a real tile
SHAPE, SHAPE_20M = (SIZE, SIZE), (SIZE // 2, SIZE // 2)
CENTRE = (GRID.left + 5 * SIZE, GRID.top - 5 * SIZE)

# Sentinel-2: month, day, satellite, share of the sky under clouds. The 20 June is seen from the neighbouring orbit,
# whose swath ends in this tile.
S2_DATES = (
    (3, 30, "A", 0.0), (4, 19, "A", 0.0), (5, 9, "A", 0.04), (5, 29, "A", 0.25),
    (6, 20, "B", 0.0), (7, 3, "B", 0.85), (7, 18, "A", 0.0), (7, 28, "A", 0.3), (8, 12, "B", 0.06), (9, 6, "A", 0.0),
    (9, 21, "B", 0.4), (10, 11, "B", 0.1),
)  # fmt: skip
NEIGHBOUR_ORBIT_DAY = (6, 20)
REPROCESSED_FROM, REPROCESSED_AT = datetime(YEAR, 7, 1), datetime(YEAR + 2, 1, 24, 4, 12, 9)
OFFSET = -1000  # of the reprocessed ones, as they list it for each band
# Sentinel-1, descending: days after the 8 March, all multiples of the six days between S1A and S1B.
S1_START, S1_DAYS = datetime(YEAR, 3, 8, 5, 33, 46), (0, 36, 54, 66, 78, 102, 114, 132, 150, 174, 192, 210)
RAIN = (0, 1, 4, 7, 10)  # numbers of the Sentinel-1 scenes that follow rain: wet soil is brighter, and decorrelated


@dataclass(frozen=True)
class Scene:
    """One product of the season; `number` counts within its CARD."""

    card: str
    number: int
    reference: str
    obstime: datetime  # UTC
    clouds: float = 0.0  # share of the sky
    rain: bool = False  # just before
    swath_edge: bool = False  # within the picture (always so for Sentinel-1)
    reprocessed: bool = False

    @property
    def day(self) -> int:
        """Day of the year."""
        return self.obstime.timetuple().tm_yday


def scenes_of_the_season() -> list[Scene]:
    """All scenes, CARD by CARD, each in the order of time."""
    scenes = []
    for number, (month, day, satellite, clouds) in enumerate(S2_DATES):
        neighbour = (month, day) == NEIGHBOUR_ORBIT_DAY
        time = datetime(YEAR, month, day, 10, 15, 59) if neighbour else datetime(YEAR, month, day, 10, 30, 21)
        reprocessed = time >= REPROCESSED_FROM
        baseline, track = ("N0500" if reprocessed else "N0300"), ("R065" if neighbour else "R108")
        made = REPROCESSED_AT if reprocessed else time + timedelta(hours=3, minutes=11, seconds=37)
        reference = f"S2{satellite}_MSIL2A_{_stamp(time)}_{baseline}_{track}_T32UNF_{_stamp(made)}.SAFE"
        scenes.append(Scene("s2", number, reference, time, clouds, swath_edge=neighbour, reprocessed=reprocessed))
    for number, days in enumerate(S1_DAYS):
        time = S1_START + timedelta(days=days)
        satellite, other = "AB" if days // 6 % 2 == 0 else "BA"
        orbit = (36910 if satellite == "A" else 25927) + days * 175 // 12
        reference = (
            f"S1{satellite}_IW_GRDH_1SDV_{_stamp(time)}_{_stamp(time + timedelta(seconds=25))}"
            f"_{orbit:06d}_{orbit * 7 + 31:06X}_{orbit * 37 % 65536:04X}_CARD_BS"
        )
        scenes.append(Scene("bs", number, reference, time, rain=number in RAIN))
        reference = f"S1{satellite}_{_stamp(time)}__1{other}__{_stamp(time - timedelta(days=6))}_CARD-COH6"
        scenes.append(Scene("c6", number, reference, time, rain=number in RAIN))
    return sorted(scenes, key=lambda scene: (scene.card, scene.number))


def _stamp(time: datetime) -> str:
    return f"{time:%Y%m%dT%H%M%S}"
