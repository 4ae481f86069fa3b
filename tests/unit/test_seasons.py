"""Charts of a parcel's season: what their axes hold, and that pictures can be drawn of few dates and many."""

from __future__ import annotations

import datetime as dt

import pytest

from extractors.products.metadata import radiometry_of_name
from operations.drawing import picture
from operations.seasons import Chart, Line, Observation, Season, _offset


def chart(unit: str, values: list[float | None], spread: float = 0.0) -> Chart:
    days = [dt.datetime(2020, 4, 1, 10) + dt.timedelta(days=5 * number) for number in range(len(values))]
    observed = [Observation("s2", day, "a product", None, None, {}) for day in days]
    low, high = ([None if one is None else one + sign * spread for one in values] for sign in (-1, 1))
    return Chart("Title", unit, "Note.", observed, [Line("one", values, low, high)])


def test_what_the_axis_holds() -> None:
    """The same range for all parcels, so that they can be compared; what lies lower, as over water, is seen as well."""
    assert chart("NDVI", [0.3, None, 0.9]).range == (-0.2, 1.0)
    assert chart("coherence", [0.3]).range == (0.0, 1.0)
    assert chart("gamma0, dB", [-12.0]).range is None
    least, most = chart("NDVI", [-0.31, 0.2], spread=0.2).range or (0.0, 0.0)
    assert least == pytest.approx(-0.6)
    assert most == 1.0
    # One dark date hides no other.
    assert chart("NDVI", [0.3, -199.0, 0.9]).range == (-1.0, 1.0)


@pytest.mark.parametrize("baseline", ["N0301", "N0400", "N0511", "N9999"])
def test_the_offset_is_the_one_that_workers_take_off(baseline: str) -> None:
    name = f"S2A_MSIL2A_20200401T100031_{baseline}_R122_T33TWM_20200401T120000.SAFE"
    assert _offset(name) == -radiometry_of_name(name).offsets["B04"]


@pytest.mark.parametrize("dates", [1, 2, 30, 400])
@pytest.mark.filterwarnings("error")
def test_pictures_of_few_dates_and_many(dates: int) -> None:
    """Without a warning, such as that of an axis without width or text without room."""
    drawn = picture(Season(1, [chart("NDVI", [0.5] * dates), chart("gamma0, dB", [-9.0] * dates)]), "A title", "png")
    assert drawn.startswith(b"\x89PNG")
