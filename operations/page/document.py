"""The page as text. All that comes from outside goes through `text` or `data`."""

import datetime as dt
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from statistics import median
from typing import Any

from extractors.text import printable
from operations.forecast import Forecast
from operations.overview import Failure, Overview, Pace, Seen
from operations.page.figures import bar, columns, map_of
from operations.progress import NONE_AGAIN
from operations.seasons import Chart, Season

# Status -> colour; all numbers are written as well.
STATUS_COLOURS = {
    "extracted": "#0072b2",
    "no_parcels": "#56b4e9",
    "superseded": "#9fb8c6",
    "ingested": "#a8a8a8",
    "inprogress": "#e69f00",
    "notfound": "#cc79a7",
    "failed": "#d55e00",
}
OTHER = "#6b5b95"
# Clear observations in a month: from none to MANY and more.
SHADES = ("#d55e00", "#f0e2a8", "#b5d5e5", "#5fa5cf", "#0072b2")
MANY = len(SHADES) - 1
MOST_FAILURES = 200
NAMES = {"s2": "Sentinel-2", "bs": "Backscatter", "c6": "Coherence, 6 days", "c1": "Coherence, 12 days"}
# Nothing is fetched, whatever stands in the page.
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"


def text(value: object) -> str:
    """Text from outside, as a part of HTML."""
    return escape(printable(str(value)))


def data(value: Any) -> str:
    """Data as JSON within a script: nothing in it can end that."""
    written = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return written.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def page(title: str, subtitle: str, sections: Iterable[str]) -> str:
    """The whole page."""
    script = "\n".join(_asset(name) for name in ("uPlot.iife.min.js", "page.js"))
    style = "\n".join(_asset(name) for name in ("uPlot.min.css", "page.css"))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{text(title)}</title>
<link rel="icon" href="data:,">
<style>
{style}
</style>
</head>
<body>
<h1>{text(title)}</h1>
<p class="soft">{text(subtitle)}</p>
<noscript><p class="notes">The charts of parcels need JavaScript, all of which is in this file.</p></noscript>
{"".join(sections)}
<!-- The library that draws the charts:
{text(_asset("uPlot.LICENSE")).replace("--", "- -")}
-->
<script>
{script}
</script>
</body>
</html>
"""


def overview(found: Overview, forecasts: Sequence[Forecast], chosen: Sequence[int]) -> list[str]:
    """The sections about all scenes and parcels. chosen: parcels whose months are shown."""
    return [
        _notes(found.notes),
        _section("Progress", "Scenes of the configured dates and area, by month of observation.", _progress(found)),
        _section("Observations of the area", *_map(found)),
        _section("Completeness", *_completeness(found, chosen)),
        _section("Failures", "Why scenes failed or were not found, as their last attempts say.", _failures(found)),
        _section("Throughput", f"Scenes done, by {found.unit}.", _throughput(found)),
        _section(
            "Forecast and reality",
            "One scene on average: what was expected of it, and what the log tells of those that are done.",
            _forecasts(forecasts),
        ),
    ]


def seasons(found: Sequence[Season], chosen: bool) -> str:
    """The section with the charts of parcels. chosen: whether somebody has asked for these."""
    how = "" if chosen else " Drawn at random; --parcel chooses others."
    parts = [
        f'<div class="parcel"><h3>Parcel {season.pid}</h3>{"".join(map(_chart, season.charts)) or _nothing()}</div>'
        for season in found
    ]
    return _section(
        "Seasons of parcels",
        f"Point at a date to read its values; drag to zoom, double-click to return.{how}",
        "".join(parts),
    )


def _asset(name: str) -> str:
    return (files("operations.page") / name).read_text(encoding="utf-8")


def _section(title: str, what: str, content: str) -> str:
    return f'<section><h2>{text(title)}</h2><p class="soft">{text(what)}</p>{content or _nothing()}</section>\n'


def _nothing() -> str:
    return "<p>Nothing yet.</p>"


def _notes(notes: Sequence[str]) -> str:
    items = "".join(f"<li>{text(note)}</li>" for note in notes)
    return f'<div class="notes"><p>Left out:</p><ul>{items}</ul></div>' if items else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], kinds: str = "") -> str:
    """A table of cells that are HTML. kinds: a letter for each of the first columns, w(ord) or l(ong text); the others
    hold numbers."""
    classes = {"w": "", "l": ' class="long"'}
    opened = [classes[kind] for kind in kinds] + [' class="number"'] * (len(head) - len(kinds))

    def line(cells: Sequence[str], kind: str) -> str:
        inside = "".join(f"<{kind}{one}>{cell}</{kind}>" for one, cell in zip(opened, cells, strict=True))
        return f"<tr>{inside}</tr>"

    body = "".join(line(row, "td") for row in rows)
    whole = f'<div class="wide"><table><thead>{line(head, "th")}</thead><tbody>{body}</tbody></table></div>'
    return whole if body else ""


def _keys(keys: Mapping[str, str]) -> str:
    marks = "".join(
        f'<span class="key" style="background:{colour}"></span>{text(name)}' for name, colour in keys.items()
    )
    return f'<p class="soft">{marks}</p>'


def _card(code: str) -> str:
    return text(f"{NAMES[code]} ({code})" if code in NAMES else code)


def _in_order(cards: Iterable[str]) -> list[str]:
    """CARDs as they are listed everywhere, then others."""
    return sorted(
        set(cards), key=lambda code: (code not in NAMES, list(NAMES).index(code) if code in NAMES else 0, code)
    )


def _progress(found: Overview) -> str:
    used = {status for statuses in found.months.values() for status in statuses}
    shown = [status for status in STATUS_COLOURS if status in used] + sorted(used - STATUS_COLOURS.keys())
    colours = {status: STATUS_COLOURS.get(status, OTHER) for status in shown}
    parts = []
    for card in _in_order(card for card, _ in found.months):
        months = {
            f"{month:%Y-%m}": statuses for (code, month), statuses in sorted(found.months.items()) if code == card
        }
        whole = {status: sum(statuses.get(status, 0) for statuses in months.values()) for status in shown}
        rows = []
        for name, statuses in {"all": whole, **months}.items():
            counts = [statuses.get(status, 0) for status in shown]
            rows.append([name, bar(counts, colours.values()), *map(_number, (sum(counts), *counts))])
        parts.append(f"<h3>{_card(card)}</h3>{_table(['month', '', 'scenes', *map(text, shown)], rows, 'ww')}")
        if again := found.again.get(card, NONE_AGAIN).in_words():
            parts.append(f'<p class="soft">Scenes to be done again: {text(again)}.</p>')
    return "".join([_keys(colours), *parts]) if parts else ""


def _map(found: Overview) -> tuple[str, str]:
    what = (
        "Days with an extracted scene whose footprint holds the middle of the cell, along the outline of the area "
        "(grey: none); whether a parcel was free of clouds on these days is in the next section."
    )
    if found.map is None:
        return what, ""
    grid = found.map
    figures = [
        f"<figure><figcaption>{_card(card)}: {min(values.get(cell, 0) for cell in grid.cells)} to "
        f"{max(values.values())} days</figcaption>{map_of(grid, values)}</figure>"
        for card, values in ((card, grid.days[card]) for card in _in_order(grid.days))
        if values
    ]
    return what, f'<div class="maps">{"".join(figures)}</div>' if figures else ""


def _completeness(found: Overview, chosen: Sequence[int]) -> tuple[str, str]:
    sample = set(found.sample)
    what = (
        f"Observations in each month: of {len(sample):,} parcels of the area, drawn at random, the share that has "
        f"none, 1, 2, 3, or {MANY} and more; and of single ones by number, how many. Of Sentinel-2, those without "
        "clouds count (at most a tenth of the pixels in the classes 3, 8, 9, 10, 11; without histograms, a mean scene "
        "class from 4 up to 6); of each pass, one."
    )
    by_month: dict[tuple[str, dt.date], dict[int, int]] = {}
    for seen in found.seen:
        by_month.setdefault((seen.card, seen.month), {})[seen.pid] = seen.clear
    # Of what was read, those of which nothing came as well.
    cards = {card for one in found.results for card in one.cards} & {card for card, _ in found.months}
    months = _months_between(month for _, month in [*found.months, *by_month])
    head = ["month", "", "median", "none", *(f"no. {pid}" for pid in chosen)]
    parts = []
    for card in _in_order(cards.union(card for card, _ in by_month)) if sample else []:
        rows = []
        for month in months:
            clear = by_month.get((card, month), {})
            numbers = [clear.get(pid, 0) for pid in sample]
            shares = [sum(min(number, MANY) == many for number in numbers) for many in range(MANY + 1)]
            own = [_number(clear.get(pid, 0)) for pid in chosen]
            share = shares[0] / len(numbers)
            rows.append([f"{month:%Y-%m}", bar(shares, SHADES), f"{median(numbers):g}", f"{share:.0%}", *own])
        parts.append(f"<h3>{_card(card)}</h3>{_table(head, rows, 'ww')}")
    if not parts:
        return what, ""
    keys = {str(many) if many < MANY else f"{many} and more": shade for many, shade in enumerate(SHADES)}
    clouds = (
        "<p>Of some observations of Sentinel-2, mostly of small parcels, it is not known whether they are cloudy: they "
        "count as clear.</p>"
    )
    return what, "".join([_keys(keys), *parts, "" if _clouds_known(found.seen) else clouds])


def _months_between(months: Iterable[dt.date]) -> list[dt.date]:
    """From the first of these to the last, those between that are not among them as well."""
    numbers = [month.year * 12 + month.month - 1 for month in months]
    return [dt.date(one // 12, one % 12 + 1, 1) for one in range(min(numbers), max(numbers) + 1)] if numbers else []


def _clouds_known(seen: Iterable[Seen]) -> bool:
    return all(one.known for one in seen)


def _failures(found: Overview) -> str:
    def row(one: Failure) -> list[str]:
        reason = text(one.reason) if len(one.reason) <= MOST_FAILURES else text(one.reason[:MOST_FAILURES]) + " ..."
        return [_card(one.card), text(one.status), reason, text(one.example), _number(one.scenes)]

    failed = _table(["CARD", "status", "reason", "for instance", "scenes"], map(row, found.failures), "wwll")
    ended = sorted({outcome for outcomes in found.outcomes.values() for outcome in outcomes})
    attempts = _table(
        ["CARD", *map(text, ended)],
        (
            [_card(card), *(_number(outcomes.get(name, 0)) for name in ended)]
            for card, outcomes in found.outcomes.items()
        ),
        "w",
    )
    return (failed or "<p>None.</p>") + (f"<h3>How attempts ended</h3>{attempts}" if attempts else "")


def _throughput(found: Overview) -> str:
    parts = []
    for card in _in_order(pace.card for pace in found.pace):
        paces: list[Pace] = [pace for pace in found.pace if pace.card == card]
        scenes, rows = sum(pace.scenes for pace in paces), sum(pace.rows for pace in paces)
        weighted = sum(pace.seconds * pace.scenes for pace in paces) / scenes
        workers = max(pace.workers for pace in paces)
        said = (
            f"{_card(card)}: {scenes:,} scenes, {rows:,} rows; a scene took {weighted:,.0f} s; up to {workers:,} "
            f"workers in {'an' if found.unit == 'hour' else 'a'} {found.unit}"
        )
        parts.append(f"<figure><figcaption>{said}</figcaption>{columns(paces, found.unit)}</figure>")
    return "".join(parts)


def _forecasts(forecasts: Sequence[Forecast]) -> str:
    rows = []
    for one in forecasts:
        for name, field, scale in (
            ("parcels", "parcels", 1.0),
            ("rows", "rows", 1.0),
            ("results, MB", "results_bytes", 1e6),
            ("seconds of a worker", "seconds", 1.0),
        ):
            expected = getattr(one.expected, field) / scale
            happened = None if one.measured is None else getattr(one.measured, field) / scale
            ratio = "" if happened is None or not expected else f"{happened / expected:.2f}"
            rows.append(
                [_card(one.card), name, f"{expected:,.1f}", "" if happened is None else f"{happened:,.1f}", ratio]
            )
    return _table(["CARD", "of a scene", "expected", "so far", "ratio"], rows, "ww")


def _number(value: int) -> str:
    return f"{value:,}" if value else "·"


def _chart(chart: Chart) -> str:
    """A chart that the page's script draws."""
    content = {
        "unit": chart.unit,
        "range": chart.range,
        "colour": 2 if chart.unit == "NDVI" else 0,
        "times": [int(one.moment.replace(tzinfo=dt.UTC).timestamp()) for one in chart.observations],
        "references": [printable(one.reference) for one in chart.observations],
        "cloudy": chart.cloudy,
        "lines": [
            {"name": line.name, "middle": _rounded(line.middle), "low": _rounded(line.low), "high": _rounded(line.high)}
            for line in chart.lines
        ],
    }
    return (
        f'<figure><figcaption><strong>{text(chart.title)}</strong>. {text(chart.note)}</figcaption><div class="chart">'
        f'<script type="application/json">{data(content)}</script></div></figure>'
    )


def _rounded(values: Sequence[float | None] | None) -> list[float | None] | None:
    return None if values is None else [None if value is None else round(value, 4) for value in values]
