"""Signatures: the statistics of one parcel, scene and band. What they are, and the records in which they travel.

Light to import: arrays are only named here. A new statistic is one more entry in `STATISTICS`.
"""

from collections import Counter
from collections.abc import Callable
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
        """Pixels of each parcel."""

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


def _as_value(numbers: "Floats", scale: float, offset: float) -> "Floats":
    return numbers * scale + offset


def _as_difference(numbers: "Floats", scale: float, _: float) -> "Floats":
    return numbers * scale


def _as_number(numbers: "Floats", _: float, __: float) -> "Floats":
    return numbers


@dataclass(frozen=True)
class Statistic:
    """One number per parcel, scene and band.

    name: its column in the results tables. of: computes it, one number per parcel. reference: what rasterstats calls
    it. exact: whether an engine must agree with rasterstats to the last bit, or only but for rounding. scaled: the
    number for scale x pixel + offset (scale > 0), from that for the pixels.
    """

    name: str
    of: Callable[[SortedValues], Any]
    reference: str
    exact: bool = True
    scaled: Callable[["Floats", float, float], "Floats"] = _as_value


STATISTICS = (
    Statistic("count", lambda values: values.counts, "count", scaled=_as_number),
    Statistic("mean", lambda values: values.means, "mean", exact=False),
    Statistic("std", lambda values: values.deviations, "std", exact=False, scaled=_as_difference),
    Statistic("min", lambda values: values.lowest, "min"),
    Statistic("max", lambda values: values.highest, "max"),
    Statistic("p25", lambda values: values.percentile(0.25), "percentile_25"),
    Statistic("p50", lambda values: values.percentile(0.5), "percentile_50"),
    Statistic("p75", lambda values: values.percentile(0.75), "percentile_75"),
)
# Tables of statistics have a row per parcel and these columns.
NAMES = tuple(statistic.name for statistic in STATISTICS)
COUNT = NAMES.index("count")
# Different values that the pixels of one parcel may have in a band of classes: what has more holds none.
MOST_CLASSES = 256


def rescaled(table: "Floats", scale: float, offset: float) -> "Floats":
    """Statistics (parcels x STATISTICS) of scale x pixel + offset, scale > 0, from those of the pixels themselves."""
    if (scale, offset) == (1, 0):
        return table
    result = table.copy()
    for column, statistic in enumerate(STATISTICS):
        result[:, column] = statistic.scaled(table[:, column], scale, offset)
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
    """Rows to write for one band and some parcels. pid: n numbers of parcels; table: n x STATISTICS, all counts > 0."""

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
