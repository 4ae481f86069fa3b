"""The map of a page: its colours are those of its legend, and its title tells of all its cells."""

from __future__ import annotations

import datetime as dt
import re

from operations.overview import Map, Overview
from operations.page.document import overview
from operations.page.figures import map_of

LEGEND = re.compile(r'height="10" fill="([^"]+)"/><text [^>]*>(\d+)(?: to (\d+))?</text>')
CELL = re.compile(r'<rect [^>]*(?:fill="([^"]+)"|class="none")><title>(\d+)</title>')


def grid(number: int, days: dict[str, dict[tuple[int, int], int]]) -> Map:
    """A row of cells."""
    cells = [(x, 0) for x in range(number)]
    return Map(0.0, 0.0, 1.0, 1.0, number, 1, in_degrees=True, outline={}, cells=cells, days=days)


def test_each_colour_is_that_of_the_legend() -> None:
    """Whatever the least and the most are: each number is in one entry, and has its colour."""
    for least in range(1, 61):
        for most in range(least, 61):
            values = {(x, 0): least + x for x in range(most - least + 1)}
            drawn = map_of(grid(len(values) + 1, {}), values)
            legend = [(colour, int(first), int(last or first)) for colour, first, last in LEGEND.findall(drawn)]
            for colour, number in CELL.findall(drawn):
                inside = [one for one, first, last in legend if first <= int(number) <= last]
                assert inside == ([colour] if colour else []), (least, most, number)


def test_cells_that_nothing_observed_are_in_the_title() -> None:
    days = {"s2": {(0, 0): 3, (1, 0): 7}, "bs": {(0, 0): 2, (1, 0): 2, (2, 0): 2}}
    found = Overview(dt.datetime(2020, 7, 1), {}, [], {}, "day", [], grid(3, days), [], [], [])
    text = "".join(overview(found, [], []))
    assert "Sentinel-2 (s2): 0 to 7 days" in text
    assert "Backscatter (bs): 2 to 2 days" in text
