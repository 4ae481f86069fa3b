"""The season of a parcel as a picture, drawn by matplotlib, which the workers do not need."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

from matplotlib.figure import Figure

from operations.seasons import Season

# As in the page.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b0528b")
STYLES = ("-", "--", ":", "-.")
RANGES = {"NDVI": (-0.2, 1.0), "coherence": (0.0, 1.0)}


def picture(season: Season, title: str, form: str) -> bytes:
    """All charts, one below the other. form: png or svg."""
    # Without pyplot, no display is looked for.
    figure = Figure(figsize=(9, 0.6 + 2.8 * len(season.charts)), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(len(season.charts), 1, squeeze=False, sharex=True)[:, 0]
    for panel, chart in zip(panels, season.charts, strict=True):
        times = [one.moment for one in chart.observations]
        for place, line in enumerate(chart.lines):
            colour = COLOURS[(place + 2 * (chart.unit == "NDVI")) % len(COLOURS)]
            style = STYLES[place % len(STYLES)]
            nothing = [None] * len(times)
            points = [
                (time, value, low, high, cloudy)
                for time, value, low, high, cloudy in zip(
                    times, line.middle, line.low or nothing, line.high or nothing, chart.cloudy, strict=True
                )
                if value is not None
            ]
            clear, hidden = ([one for one in points if one[4] is cloudy] for cloudy in (False, True))
            panel.plot(_each(clear, 0), _each(clear, 1), style, marker="o", ms=3, color=colour, label=line.name)
            panel.plot(_each(hidden, 0), _each(hidden, 1), "o", ms=4, mfc="none", mec=colour)
            if line.low is not None and clear:
                panel.fill_between(_each(clear, 0), _each(clear, 2), _each(clear, 3), color=colour, alpha=0.22, lw=0)
        panel.set_title(f"{chart.title}. {chart.note}", fontsize=8, loc="left")
        panel.set(ylabel=chart.unit, ylim=RANGES.get(chart.unit))
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8, loc="upper right")
    written = BytesIO()
    # Without the time of drawing, the same numbers give the same file.
    figure.savefig(written, format=form, dpi=120, metadata={"Date": None} if form == "svg" else {})
    return written.getvalue()


def _each(rows: Sequence[Sequence[Any]], place: int) -> list[Any]:
    return [row[place] for row in rows]
