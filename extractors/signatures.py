"""Signatures: the statistics of one parcel, scene and band. What they are, and the records in which they travel.

Light to import: arrays are only named here. A new statistic is one more entry in `EXTRA`.
"""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from extractors.errors import UnusableSceneError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]
    Floats = NDArray[np.float64]
    Array = NDArray[Any]


class SortedValues(Protocol):
    """The valid pixels of some parcels, sorted within each parcel; every parcel has at least one."""

    @property
    def counts(self) -> "Integers":
        """Valid pixels of each parcel."""

    @property
    def pixels(self) -> "Integers":
        """All pixels of each parcel, valid or not."""

    @property
    def sums(self) -> "Array":
        """Sum of each parcel's pixels; exact for integers."""

    @property
    def commonest(self) -> "Array":
        """The value that most of each parcel's pixels have; of several, the smallest."""

    @property
    def means(self) -> "Floats":
        """Mean of each parcel's pixels."""

    @property
    def deviations(self) -> "Floats":
        """Standard deviation (of the population) of each parcel's pixels."""

    @property
    def lowest(self) -> "Array":
        """Smallest value of each parcel."""

    @property
    def highest(self) -> "Array":
        """Largest value of each parcel."""

    def percentile(self, fraction: float) -> "Array":
        """The value below which this fraction of each parcel's pixels lies, interpolated linearly."""


def _as_value(numbers: "Floats", _: "Floats", scale: float, offset: float) -> "Floats":
    return numbers * scale + offset


def _as_difference(numbers: "Floats", _: "Floats", scale: float, __: float) -> "Floats":
    return numbers * scale


def _as_sum(numbers: "Floats", counts: "Floats", scale: float, offset: float) -> "Floats":
    return numbers * scale + counts * offset


def _as_number(numbers: "Floats", _: "Floats", __: float, ___: float) -> "Floats":
    return numbers


# What rasterstats calls statistics that it has not in this form: all pixels of a parcel on the grid, and those of them
# that are not valid.
PIXELS, INVALID = "pixels", "invalid"


@dataclass(frozen=True)
class Statistic:
    """One number per parcel, scene and band.

    name: its column in the results tables. of: computes it, one number per parcel. reference: what rasterstats calls
    it, or PIXELS or INVALID. weighted: what exactextract calls it. exact: whether an engine must agree with rasterstats
    to the last bit, or only but for rounding. adds_up: whether it grows with the number of pixels, and its rounding
    with it. scaled: the number for scale x pixel + offset (scale > 0), from those for the pixels and their counts.
    """

    name: str
    of: Callable[[SortedValues], Any]
    reference: str
    weighted: str
    exact: bool = True
    adds_up: bool = False
    scaled: Callable[["Floats", "Floats", float, float], "Floats"] = _as_value


def _percentile(percent: int) -> Statistic:
    """A percentile. Between float32 pixels, versions of numpy round all but the quartiles' differently."""
    fraction = percent / 100
    return Statistic(
        f"p{percent}",
        lambda values: values.percentile(fraction),
        f"percentile_{percent}",
        f"quantile(q={fraction})",
        exact=percent % 25 == 0,
    )


# The established ones, in every results table.
STATISTICS = (
    Statistic("count", lambda values: values.counts, "count", "count", scaled=_as_number),
    Statistic("mean", lambda values: values.means, "mean", "mean", exact=False),
    Statistic("std", lambda values: values.deviations, "std", "stdev", exact=False, scaled=_as_difference),
    Statistic("min", lambda values: values.lowest, "min", "min"),
    Statistic("max", lambda values: values.highest, "max", "max"),
    *(_percentile(percent) for percent in (25, 50, 75)),
)
# Those that `extra_statistics` can add. They change nothing about the others.
EXTRA = (
    *(_percentile(percent) for percent in (10, 90)),
    Statistic("sum", lambda values: values.sums, "sum", "sum", exact=False, adds_up=True, scaled=_as_sum),
    Statistic("majority", lambda values: values.commonest, "majority", "majority"),
    Statistic("pixels", lambda values: values.pixels, PIXELS, PIXELS, scaled=_as_number),
    Statistic("nodata", lambda values: values.pixels - values.counts, INVALID, INVALID, scaled=_as_number),
)
# Tables of statistics have a row per parcel, and these columns before all others.
NAMES = tuple(statistic.name for statistic in STATISTICS)
EXTRA_NAMES = tuple(statistic.name for statistic in EXTRA)
COUNT, LOWEST, HIGHEST = (NAMES.index(name) for name in ("count", "min", "max"))
# Different values that the pixels of one parcel may have in a band of classes: what has more holds none.
MOST_CLASSES = 256


def with_extra(names: Collection[str]) -> tuple[Statistic, ...]:
    """The established statistics and those with these names, in their order."""
    return STATISTICS + tuple(statistic for statistic in EXTRA if statistic.name in names)


def rescaled(table: "Floats", scale: float, offset: float, statistics: tuple[Statistic, ...] = STATISTICS) -> "Floats":
    """Statistics (parcels x statistics) of scale x pixel + offset, scale > 0, from those of the pixels themselves."""
    if (scale, offset) == (1, 0):
        return table
    result = table.copy()
    for column, statistic in enumerate(statistics):
        result[:, column] = statistic.scaled(table[:, column], table[:, COUNT], scale, offset)
    return result


def check_classes(number: int) -> None:
    """Raise UnusableSceneError if so many different values under one parcel cannot be classes."""
    if number > MOST_CLASSES:
        raise UnusableSceneError(
            f"a parcel has {number:,} different values in a band of classes, of which there can be {MOST_CLASSES}; "
            "replace the object"
        )


@dataclass(frozen=True)
class Signatures:
    """Rows to write for one band and some parcels. pid: n numbers of parcels; table: n x statistics, all counts > 0."""

    label: str
    pid: "Integers"
    table: "Floats"


@dataclass
class ChunkResult:
    """What a chunk of parcels gave. parcels: how many; pid: the numbers of those that could be computed. without_row:
    by label and reason, the numbers of those without a row. clear, clear_without_row: the same as signatures and
    without_row, of clear pixels only. hists: parcel and pixels per class. recomputed: rasterstats had to. not_finite:
    by label, infinite pixels of these parcels, left out."""

    parcels: int
    pid: "Integers"
    signatures: list[Signatures] = field(default_factory=list)
    without_row: "dict[str, dict[str, Integers]]" = field(default_factory=dict)
    clear: list[Signatures] = field(default_factory=list)
    clear_without_row: "dict[str, dict[str, Integers]]" = field(default_factory=dict)
    hists: list[tuple[int, dict[str, int]]] = field(default_factory=list)
    recomputed: bool = False
    not_finite: Counter[str] = field(default_factory=Counter)
