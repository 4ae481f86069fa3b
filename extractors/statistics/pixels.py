"""Where the values of a layer come from: a band, one on another grid, a formula of several, or clear pixels only.

Engines ask for the values under runs of pixels, or within a window, of a grid; so values that are made are made only
where parcels are, and no array of them is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from extractors.indices import DECIBEL, DIFFERENCE, NORMALISED, Formula
from extractors.statistics.grid import Array, Grid, Integers

LARGEST_INT32 = 2**31 - 1
# No pixel, scale or offset is larger: the sums and squares of all that a parcel can hold then fit into 32-bit floats,
# with which rasterstats computes.
LARGEST_VALUE = 1e15


class Pixels(Protocol):
    """The values on a grid; those that are `nodata`, and NaN, are none."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values."""

    @property
    def nodata(self) -> float:
        """What stands where there is none."""

    def under(self, first: Integers, length: Integers) -> Array:
        """The values under runs of pixels (positions in the flattened grid), one run after the other."""

    def within(self, rows: slice, columns: slice) -> Array:
        """Those of a window."""


def as_pixels(values: "Pixels | Array", nodata: float) -> "Pixels":
    """An array with its nodata in this form; what has it already, as it is."""
    return Stored(values, nodata) if isinstance(values, np.ndarray) else values


@dataclass(frozen=True, eq=False)
class Stored:
    """An array of the grid's shape."""

    array: Array
    nodata: float

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values."""
        return self.array.dtype

    def under(self, first: Integers, length: Integers) -> Array:
        """The values under runs of pixels."""
        flat = self.array.reshape(-1)
        if len(first) == 1:
            return flat[first[0] : first[0] + length[0]]
        return flat.take(positions(first, length))

    def within(self, rows: slice, columns: slice) -> Array:
        """Those of a window."""
        return self.array[rows, columns]


@dataclass(frozen=True, eq=False)
class Places:
    """Which row and column of another grid holds the centres of each row and column of this one; -1: none."""

    rows: Integers
    columns: Integers

    @classmethod
    def of(cls, here: Grid, there: Grid) -> "Places":
        """Of two grids in the same CRS."""
        row = np.floor((here.transform.f + (np.arange(here.shape[0]) + 0.5) * here.transform.e - there.transform.f)
                       / there.transform.e)  # fmt: skip
        column = np.floor((here.transform.c + (np.arange(here.shape[1]) + 0.5) * here.transform.a - there.transform.c)
                          / there.transform.a)  # fmt: skip
        rows, columns = there.shape
        row[(row < 0) | (row >= rows)] = -1
        column[(column < 0) | (column >= columns)] = -1
        return cls(row.astype(np.int64), column.astype(np.int64))

    def cut(self, rows: slice, columns: slice) -> tuple[slice, slice, "Places"]:
        """For a window here: the window there that holds it, and the places relative to both."""
        row, column = self.rows[rows], self.columns[columns]
        window = [slice(int(found.min()), int(found.max()) + 1) if (found := each[each >= 0]).size else slice(0, 0)
                  for each in (row, column)]  # fmt: skip
        moved = [np.where(each < 0, -1, each - there.start) for each, there in zip((row, column), window, strict=True)]
        return window[0], window[1], Places(moved[0], moved[1])

    @cached_property
    def everywhere(self) -> bool:
        """Whether there is a pixel there for each one here."""
        return bool((self.rows >= 0).all() and (self.columns >= 0).all())

    @cached_property
    def narrow(self) -> Array:
        """The columns in half the memory."""
        return self.columns.astype(np.int32)


@dataclass(frozen=True, eq=False)
class Elsewhere:
    """An array on another grid, of which each pixel here takes the one that holds its centre."""

    array: Array
    nodata: float
    places: Places

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values."""
        return self.array.dtype

    def under(self, first: Integers, length: Integers) -> Array:
        """The values under runs of pixels."""
        places, columns = self.places, self.array.shape[1]
        if not self.array.size:
            return np.full(int(length.sum()), self.nodata, dtype=self.dtype)
        row, column = np.divmod(first, len(places.columns))
        there = places.narrow.take(positions(column, length))
        begin = places.rows[row] * columns
        kind = np.int32 if self.array.size < LARGEST_INT32 else np.int64
        values: Array = self.array.reshape(-1).take(there + np.repeat(begin.astype(kind), length))
        if not places.everywhere:
            values[(there < 0) | np.repeat(places.rows[row] < 0, length)] = self.nodata
        return values

    def within(self, rows: slice, columns: slice) -> Array:
        """Those of a window."""
        row, column = self.places.rows[rows], self.places.columns[columns]
        if not self.array.size:
            return np.full((len(row), len(column)), self.nodata, dtype=self.dtype)
        values: Array = self.array[np.ix_(row, column)]
        values[row < 0] = self.nodata
        values[:, column < 0] = self.nodata
        return values


@dataclass(frozen=True)
class Input:
    """A band of a formula: its values are scale x pixel + offset."""

    pixels: Pixels
    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True)
class Made:
    """Values made of those of bands, pixel by pixel. NaN where one of these has none, or where there is no finite
    value."""

    formula: Formula
    inputs: Sequence[Input]

    @property
    def nodata(self) -> float:
        """NaN: 0 is a value."""
        return np.nan

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values."""
        return made_type([one.pixels.dtype for one in self.inputs])

    def under(self, first: Integers, length: Integers) -> Array:
        """The values under runs of pixels."""
        return self._made([one.pixels.under(first, length) for one in self.inputs])

    def within(self, rows: slice, columns: slice) -> Array:
        """Those of a window."""
        return self._made([one.pixels.within(rows, columns) for one in self.inputs])

    def _made(self, raw: list[Array]) -> Array:
        values = []
        for one, pixels in zip(self.inputs, raw, strict=True):
            value = pixels.astype(self.dtype)
            if one.scale != 1:
                value *= self.dtype.type(one.scale)
            if one.offset != 0:
                value += self.dtype.type(one.offset)
            values.append(value)
        with np.errstate(all="ignore"):
            result = calculated(self.formula.operation, values)
            invalid = ~(np.abs(result) <= LARGEST_VALUE)
        for one, pixels in zip(self.inputs, raw, strict=True):
            invalid |= pixels == one.pixels.nodata
        result[invalid] = np.nan
        return result


def made_type(dtypes: Sequence[Any]) -> np.dtype[Any]:
    """Of what values a formula of these has: 32-bit floats, which hold all numbers of 16 bits, if that does not lose
    what the pixels have."""
    return np.result_type(np.float32, *dtypes)


def calculated(operation: str, values: Sequence[Array]) -> Array:
    """A formula's operation on floats."""
    if operation == DECIBEL:
        return 10 * np.log10(values[0])
    one, two = values
    if operation == DIFFERENCE:
        return one - two
    return (one - two) / (one + two) if operation == NORMALISED else one / two


@dataclass(frozen=True)
class Marks:
    """1 where the pixels have one of some classes, else 0."""

    pixels: Pixels
    classes: tuple[int, ...]

    @property
    def nodata(self) -> float:
        """What is not marked."""
        return 0

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the marks."""
        return np.dtype(np.uint8)

    def under(self, first: Integers, length: Integers) -> Array:
        """The marks under runs of pixels."""
        return self._table.take(self.pixels.under(first, length), mode="clip")

    def within(self, rows: slice, columns: slice) -> Array:
        """Those of a window."""
        return self._table.take(self.pixels.within(rows, columns), mode="clip")

    @cached_property
    def _table(self) -> NDArray[np.uint8]:
        """By class; the last one stands for all that are larger."""
        table = np.zeros(max(self.classes) + 2, dtype=np.uint8)
        table[list(self.classes)] = 1
        return table


@dataclass(frozen=True)
class Marked:
    """Values where there is a mark."""

    pixels: Pixels
    marks: Pixels

    @property
    def nodata(self) -> float:
        """That of the values."""
        return self.pixels.nodata

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values."""
        return self.pixels.dtype

    def under(self, first: Integers, length: Integers) -> Array:
        """The values under runs of pixels."""
        return self._only(self.pixels.under(first, length), self.marks.under(first, length))

    def within(self, rows: slice, columns: slice) -> Array:
        """Those of a window."""
        return self._only(self.pixels.within(rows, columns), self.marks.within(rows, columns))

    def _only(self, values: Array, marks: Array) -> Array:
        result: Array = np.where(marks != 0, values, self.dtype.type(self.nodata))
        return result


def positions(first: Integers, length: Integers) -> NDArray[np.int32] | Integers:
    """All positions of the runs: [3, 9], [2, 1] gives [3, 4, 9]."""
    ends = np.cumsum(length)
    # Half the memory traffic, where the raster is small enough: most of the time here goes into moving numbers.
    kind = np.int32 if first.size and first.max() + length.max() < LARGEST_INT32 else np.int64
    shift = (first - (ends - length)).astype(kind)
    return np.repeat(shift, length) + np.arange(ends[-1] if ends.size else 0, dtype=kind)
