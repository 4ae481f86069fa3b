"""A picture of what Sentinel-2 has seen of a parcel of each crop, with the spread of its pixels, across a change of
baseline. (The seasons of all CARDs are on the page that `operations report` writes.)"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from psycopg2 import sql

from demo.landscape import CROPS
from demo.scenes import REPROCESSED_FROM, YEAR
from demo.stage import HISTS, NDVI, PARCEL_TABLE, results_table

mpl.use("Agg")  # no display is needed

from matplotlib import pyplot as plt
from matplotlib.lines import Line2D

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from psycopg2.extensions import connection

Floats = npt.NDArray[np.float64]
Dates = dict[datetime, tuple[bool, dict[str, float]]]  # whether it is clear there, and the offset of each band

CLOUDY_CLASSES = ("3", "8", "9", "10")  # shadow, clouds, cirrus
MOST_CLOUDS = 0.1  # share of a parcel's pixels in these classes beyond which a date is cloudy
COLOURS = {"B4": "#c0392b", "B8": "#7b4aa8", "NDVI": "#2e7d32"}
EPOCH = datetime(1970, 1, 1).toordinal()  # matplotlib counts days from here

# For each crop the parcel nearest to 5 ha that every scene has seen, mostly without clouds.
PARCELS_SQL = """
SELECT DISTINCT ON (p.crop) p.ogc_fid, p.crop, ST_Area(p.wkb_geometry) / 1e4
FROM {parcels} p
JOIN (SELECT pid, count(*) AS seen, count(*) FILTER (WHERE NOT hist ?| %(cloudy)s) AS clear
      FROM (SELECT pid, hist::jsonb FROM {hists}) AS one GROUP BY pid) AS optical ON optical.pid = p.ogc_fid
JOIN (SELECT pid, count(*) AS seen FROM {bs} GROUP BY pid) AS radar ON radar.pid = p.ogc_fid
ORDER BY p.crop, optical.clear >= 9 DESC, radar.seen DESC, optical.seen DESC,
         abs(ST_Area(p.wkb_geometry) - 5e4)"""

# By date: the parcel's pixels in each scene class, and the offset that was added to each band.
DATES_SQL = """
SELECT c.obstime, h.hist::jsonb, l.settings -> 'harmonised' -> 'offsets'
FROM {hists} h JOIN dias_catalogue c ON c.id = h.obsid
JOIN extraction_log l ON l.obsid = h.obsid AND l.outcome = 'extracted' WHERE h.pid = %s"""

SERIES_SQL = """
SELECT c.obstime, trim(s.band), s.mean, s.p25, s.p75
FROM {results} s JOIN dias_catalogue c ON c.id = s.obsid WHERE s.pid = %s ORDER BY c.obstime"""


@dataclass(frozen=True)
class Parcel:
    """A parcel to be drawn."""

    number: int  # ogc_fid
    crop: str
    hectares: float

    @property
    def title(self) -> str:
        """What stands over its panel."""
        return f"{self.crop.capitalize()}  (parcel {self.number}, {self.hectares:.1f} ha)"


@dataclass(frozen=True)
class Series:
    """One band of one parcel through the season: `values` has the columns mean, p25 and p75."""

    times: list[datetime]
    values: Floats


def draw(database: connection, parcels: Sequence[Parcel], path: Path) -> None:
    """Draw these parcels' season as Sentinel-2 has seen it."""
    with plt.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        series = [_read(database, parcel) for parcel in parcels]
        figure = _draw(parcels, series, [_read_dates(database, parcel) for parcel in parcels])
        figure.savefig(path, dpi=110)
        plt.close(figure)


def typical_parcels(database: connection) -> list[Parcel]:
    """One parcel of each crop."""
    tables = {"parcels": PARCEL_TABLE, "hists": HISTS, "bs": results_table("bs")}
    identifiers = {key: sql.Identifier(table) for key, table in tables.items()}
    with database, database.cursor() as cursor:
        cursor.execute(sql.SQL(PARCELS_SQL).format(**identifiers), {"cloudy": list(CLOUDY_CLASSES)})
        found = [Parcel(*row) for row in cursor]
    return sorted(found, key=lambda parcel: CROPS.index(parcel.crop))


def _read(database: connection, parcel: Parcel) -> dict[str, Series]:
    """The parcel's series, by band label."""
    with database, database.cursor() as cursor:
        cursor.execute(sql.SQL(SERIES_SQL).format(results=sql.Identifier(results_table("s2"))), (parcel.number,))
        rows = cursor.fetchall()
    return {
        band: Series(
            [row[0] for row in rows if row[1] == band],
            np.array([row[2:] for row in rows if row[1] == band], dtype=float),
        )
        for band in sorted({row[1] for row in rows})
    }


def _read_dates(database: connection, parcel: Parcel) -> Dates:
    with database, database.cursor() as cursor:
        cursor.execute(sql.SQL(DATES_SQL).format(hists=sql.Identifier(HISTS)), (parcel.number,))
        return {time: (_is_clear(hist), offsets) for time, hist, offsets in cursor}


def _is_clear(hist: dict[str, int]) -> bool:
    return sum(hist.get(number, 0) for number in CLOUDY_CLASSES) <= MOST_CLOUDS * sum(hist.values())


def _draw(parcels: Sequence[Parcel], series: Sequence[dict[str, Series]], dates: Sequence[Dates]) -> Figure:
    """Reflectance and NDVI. Dashed: of the numbers in the files, which is what was extracted less the offsets."""
    size = (12, 2.35 * len(parcels) + 1)
    figure, axes = plt.subplots(len(parcels), 2, figsize=size, sharex=True, sharey="col", layout="constrained")
    for (left, right), parcel, bands, known in zip(axes, parcels, series, dates, strict=True):
        times = bands["B4"].times
        clear = np.array([known[time][0] for time in times])
        raw = {
            band: bands[band].values[:, 0] - np.array([known[time][1][band] for time in times]) for band in ("B8", "B4")
        }
        for band, label in (("B8", "B8 near infrared"), ("B4", "B4 red")):
            _draw_raw(left, times, raw[band] / 1e4, clear)
            _draw_series(left, Series(times, bands[band].values / 1e4), COLOURS[band], label, clear)
        _draw_raw(right, times, (raw["B8"] - raw["B4"]) / (raw["B8"] + raw["B4"]), clear)
        _draw_series(right, bands[NDVI], COLOURS["NDVI"], "NDVI of each pixel", clear)
        left.set_title(parcel.title, loc="left", fontweight="bold")
        left.set(ylabel="reflectance", ylim=(0, 0.9))
        right.set(ylabel="NDVI", ylim=(0, 1.1))
        for panel in (left, right):
            panel.axvline(np.datetime64(REPROCESSED_FROM, "s"), color="#909090", lw=0.8)
            panel.annotate(
                "baseline 05.00", (np.datetime64(REPROCESSED_FROM, "s"), 1), (3, -9), fontsize=7.5, color="#606060",
                xycoords=("data", "axes fraction"), textcoords="offset points",
            )  # fmt: skip
    _finish(figure, list(axes.flat), f"Sentinel-2 level 2A, {YEAR}: mean and p25-p75 of the pixels of a parcel")
    return figure


def _draw_raw(axes: Axes, times: Sequence[datetime], values: Floats, clear: npt.NDArray[np.bool_]) -> None:
    moments = np.array(times, dtype="datetime64[s]")
    axes.plot(moments[clear], values[clear], "--", color="#505050", lw=1, label="of raw numbers, without the offset")


def _draw_series(
    axes: Axes, series: Series, colour: str, label: str, clear: npt.NDArray[np.bool_] | None = None
) -> None:
    """Draw a band as a line with its spread; dates that are not `clear` beside it, as open circles."""
    times = np.array(series.times, dtype="datetime64[s]")
    mean, *spread = series.values.T
    if clear is None:
        clear = np.full(len(times), True)
    if spread:
        axes.fill_between(times[clear], spread[0][clear], spread[1][clear], color=colour, alpha=0.25, lw=0)
    axes.plot(times[clear], mean[clear], "-o", color=colour, ms=3.5, lw=1.4, label=label)
    axes.plot(times[~clear], mean[~clear], "o", mfc="none", mec=colour, ms=5, alpha=0.7)


def _finish(figure: Figure, panels: Sequence[Axes], title: str) -> None:
    """Title, months, grid, and one legend below for all panels."""
    figure.suptitle(title, fontsize=12)
    months = [datetime(YEAR, month, 1) for month in range(3, 11)]
    entries: dict[str, Artist] = {}
    for panel in panels:
        panel.set_xticks(np.array(months, dtype="datetime64[s]"), [f"{month:%b}" for month in months])
        panel.set_xlim(float(months[0].toordinal() - EPOCH), float(months[-1].toordinal() - EPOCH + 19))
        panel.grid(alpha=0.25, lw=0.6)
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if any(label.startswith("NDVI") for label in entries):
        cloudy = f"open circles: over {MOST_CLOUDS:.0%} of the pixels are clouds or shadow"
        entries[cloudy] = Line2D([], [], ls="", marker="o", mfc="none", mec="#606060", ms=5)
    figure.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=len(entries), frameon=False)
