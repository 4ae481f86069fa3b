"""The season of a parcel as a picture, drawn by matplotlib, which the workers do not need."""

import datetime as dt
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from matplotlib.dates import ConciseDateFormatter
from matplotlib.figure import Figure

from operations.seasons import Season

# As in the page.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b0528b")
STYLES = ("-", "--", ":", "-.")
# What is shown at least, so that days can be told, and no hours are.
SHORTEST = dt.timedelta(days=20)
# Dates whose points hide neither one another nor the style of their line.
FEW = 100


def picture(season: Season, title: str, form: str) -> bytes:
    """All charts, one below the other. form: png or svg."""
    # Without pyplot, no display is looked for.
    figure = Figure(figsize=(9, 0.6 + 2.8 * len(season.charts)), layout="constrained")
    figure.suptitle(title, fontsize=11, wrap=True)
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
            size = 3 if len(points) <= FEW else 1.5
            panel.plot(_each(clear, 0), _each(clear, 1), style, marker="o", ms=size, color=colour, label=line.name)
            panel.plot(
                _each(hidden, 0), _each(hidden, 1), "o", ms=size + 1, mfc="none", mec=colour, alpha=0.6,
                label=f"{line.name}, cloudy" if hidden else None,
            )  # fmt: skip
            if line.low is not None and clear:
                # A band of a single date has no width of its own.
                panel.fill_between(
                    _each(clear, 0), _each(clear, 2), _each(clear, 3), color=colour, alpha=0.22,
                    lw=0 if len(clear) > 1 else 6, label=f"{line.name}, p25 to p75",
                )  # fmt: skip
        panel.set_title(f"{chart.title}. {chart.note}", fontsize=8, loc="left", wrap=True)
        panel.set(ylabel=chart.unit, ylim=chart.range)
        panel.grid(alpha=0.3)
        # Beside the curves, where it hides none of them.
        panel.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    moments = [one.moment for chart in season.charts for one in chart.observations]
    if moments and max(moments) - min(moments) < SHORTEST:
        middle = min(moments) + (max(moments) - min(moments)) / 2
        panels[-1].set_xlim(middle - SHORTEST / 2, middle + SHORTEST / 2)
    # Short labels, which have room wherever they are.
    dates = panels[-1].xaxis.get_major_locator()
    panels[-1].xaxis.set_major_formatter(ConciseDateFormatter(dates))  # type: ignore[no-untyped-call]
    figure.align_ylabels()
    written = BytesIO()
    # Without the time of drawing, the same numbers give the same file.
    figure.savefig(written, format=form, dpi=120, metadata={"Date": None} if form == "svg" else {})
    return written.getvalue()


def _each(rows: Sequence[Sequence[Any]], place: int) -> list[Any]:
    return [row[place] for row in rows]
