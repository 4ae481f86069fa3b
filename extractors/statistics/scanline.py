"""The engine `scanline`: the statistics of the pixels of many polygons at once, with numpy alone.

Which pixels these are, `spans` says. Their values are sorted within each polygon, many polygons in one sort; every
statistic is read off the sorted values.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from extractors.signatures import COUNT, STATISTICS, Statistic, check_classes
from extractors.statistics.grid import Array, Floats, Integers, PolygonsOnGrid
from extractors.statistics.pixels import Pixels, as_pixels
from extractors.statistics.spans import Spans, rasterize

# Pixels processed at once: limits the memory (some 30 bytes per pixel) and keeps it in the processor's cache.
BATCH_PIXELS = 60_000
# Zones with fewer pixels, on average, are quicker sorted together.
FEW_PIXELS = 16
# Of so many pixels of 16 bits, the square of the sum and the number times the sum of the squares fit into 63 bits.
MOST_PIXELS_EXACT = 46_340


class ScanlineZones:
    """Parcels on a grid."""

    def __init__(self, polygons: PolygonsOnGrid, wanted: Sequence[Statistic] = STATISTICS) -> None:
        self._spans = rasterize(polygons)
        self._wanted = wanted
        self._marks: tuple[Pixels, Array] | None = None

    @cached_property
    def pixels(self) -> Integers:
        """How many pixel centres lie in each parcel."""
        spans = self._spans
        return np.bincount(spans.zone, spans.length, spans.zones).astype(np.int64)

    def statistics(self, values: Pixels | Array, nodata: float = 0) -> Floats:
        """Parcels x statistics; count 0 and NaN elsewhere for a parcel without a valid pixel."""
        return statistics(self._spans, as_pixels(values, nodata), self._wanted)[0]

    def histograms(self, values: Pixels | Array, nodata: float = 0) -> list[dict[str, int]]:
        """Pixels per value for each parcel."""
        return histograms(self._spans, as_pixels(values, nodata))

    def both(self, values: Pixels, marks: Pixels) -> tuple[Floats, Floats]:
        """Statistics of all pixels, and of those with a mark."""
        if self._marks is None or self._marks[0] is not marks:
            # Gathered once for all that is marked so.
            self._marks = marks, values_under(marks, self._spans.first, self._spans.length)
        return statistics(self._spans, values, self._wanted, self._marks[1])


def statistics(
    spans: Spans, source: Pixels, wanted: Sequence[Statistic] = STATISTICS, marks: Array | None = None
) -> tuple[Floats, Floats]:
    """Statistics of every zone of values on the grid that the spans were made for; and of those pixels only that have a
    mark (marks: one for each pixel of the spans; None: nobody asks).

    Returns zones x statistics twice; count 0 and NaN elsewhere for a zone without a valid pixel. Sums of integers are
    exact; mean and std of floats are computed in float64, their percentiles in the values' own type, as numpy does it.
    """
    table = np.full((spans.zones, len(wanted)), np.nan)
    table[:, COUNT] = 0
    of_marked = table.copy()
    for batch in _valid_values(spans, source, marks):
        filled = np.flatnonzero(batch.counts)
        if not filled.size:
            continue
        counts, pixels, zone = batch.counts[filled], batch.pixels[filled], batch.zones.start + filled
        ordered, marked = _sorted_by_zone(batch.values, counts, batch.marks)
        table[zone] = _table(SortedZones(ordered, counts, pixels), wanted)
        if marked is not None:
            some, number = marked
            has = np.flatnonzero(number)
            if has.size:
                of_marked[zone[has]] = _table(SortedZones(some, number[has], pixels[has]), wanted)
    return table, of_marked


def _table(zones: "SortedZones", wanted: Sequence[Statistic]) -> Floats:
    return np.column_stack([statistic.of(zones) for statistic in wanted])


def histograms(spans: Spans, source: Pixels) -> list[dict[str, int]]:
    """Pixels per value in each zone, values as text; {} for a zone without a valid pixel."""
    result: list[dict[str, int]] = [{} for _ in range(spans.zones)]
    for batch in _valid_values(spans, source):
        filled = np.flatnonzero(batch.counts)
        if not filled.size:
            continue
        counts = batch.counts[filled]
        ordered, _ = _sorted_by_zone(batch.values, counts)
        begin = np.cumsum(counts) - counts
        run = _runs(ordered, begin)
        number = np.diff(run, append=ordered.size)
        first_run = np.searchsorted(run, begin)
        in_zone = np.diff(first_run, append=run.size)
        check_classes(int(in_zone.max()))
        zone = np.repeat(batch.zones.start + filled, in_zone)
        for index, value, pixels in zip(zone.tolist(), ordered[run].tolist(), number.tolist(), strict=True):
            result[index][str(value)] = pixels
    return result


@dataclass(frozen=True)
class _Batch:
    """Some zones: which ones, their valid values zone after zone, the marks of these, how many each zone has, and how
    many pixels."""

    zones: slice
    values: Array
    marks: Array | None
    counts: Integers
    pixels: Integers


def _valid_values(spans: Spans, source: Pixels, marks: Array | None = None) -> Iterator[_Batch]:
    """Batches of zones; marks: one for each pixel of the spans."""
    done = 0
    for zones, part in _batches(spans):
        values = values_under(source, spans.first[part], spans.length[part])
        here = None if marks is None else marks[done : done + values.size]
        done += values.size
        pixels = np.bincount(spans.zone[part] - zones.start, spans.length[part], zones.stop - zones.start)
        counts = pixels = pixels.astype(np.int64)
        invalid = values == source.nodata
        if values.dtype.kind == "f":
            invalid |= np.isnan(values)
        if invalid.any():
            valid = ~invalid
            if counts.size > 1:
                zone = np.repeat(np.arange(counts.size), counts)[valid]
            values, here = values[valid], None if here is None else here[valid]
            counts = np.bincount(zone, minlength=counts.size) if counts.size > 1 else np.array([values.size])
        yield _Batch(zones, values, here, counts, pixels)


def values_under(pixels: Pixels, first: Integers, length: Integers) -> Array:
    """The values under runs of pixels; those of one very large zone are fetched piece by piece."""
    number = int(length.sum())
    if number <= 2 * BATCH_PIXELS:
        return pixels.under(first, length)
    values = np.empty(number, dtype=pixels.dtype)
    ends = np.cumsum(length)
    done = 0
    while done < len(first):
        until = max(done + 1, int(np.searchsorted(ends, ends[done] + BATCH_PIXELS)))
        begin = ends[done] - length[done]
        if until == done + 1:
            for at in range(0, int(length[done]), BATCH_PIXELS):
                here = min(BATCH_PIXELS, int(length[done]) - at)
                values[begin + at : begin + at + here] = pixels.under(first[[done]] + at, np.array([here]))
        else:
            values[begin : ends[until - 1]] = pixels.under(first[done:until], length[done:until])
        done = until
    return values


def _batches(spans: Spans) -> Iterator[tuple[slice, slice]]:
    """Consecutive zones, and their spans, of at most BATCH_PIXELS pixels together, or a single larger zone."""
    begin = np.searchsorted(spans.zone, np.arange(spans.zones + 1))
    before = np.concatenate([[0], np.cumsum(spans.length)])[begin]
    zone = 0
    while zone < spans.zones:
        until = int(np.searchsorted(before, before[zone] + BATCH_PIXELS, side="right")) - 1
        until = max(until, zone + 1)
        yield slice(zone, until), slice(int(begin[zone]), int(begin[until]))
        zone = until


def _sorted_by_zone(
    values: Array, counts: Integers, marks: Array | None = None
) -> tuple[Array, tuple[Array, Integers] | None]:
    """Values, given zone after zone, sorted within their zones; and those of them that have a mark (1, not 0), also
    sorted, with the number of each zone; None without marks.

    One sort of one number made of zone and value (and mark) is many times faster than sorting zone by zone; but not,
    unless zones are small, for floats, whose numbers have 64 bits, and for values of 16 bits, which sort quickest as
    they are.
    """
    bits, of_mark = values.dtype.itemsize * 8, int(marks is not None)
    alone = values.dtype.kind == "f" or bits == 16
    if counts.size == 1 or bits == 64 or (alone and values.size >= FEW_PIXELS * counts.size):
        ordered = _sorted_one_by_one(values, counts)
        if marks is None:
            return ordered, None
        number = np.add.reduceat(marks, np.cumsum(counts) - counts, dtype=np.int64)
        return ordered, (_sorted_one_by_one(values[marks != 0], number), number)
    code, decode = _ordered_bits(values)
    narrow = bits + of_mark + int(counts.size - 1).bit_length() <= 32
    key_type, shift = (np.uint32, bits + of_mark) if narrow else (np.uint64, bits + of_mark)
    key: Array = np.repeat(np.left_shift(np.arange(counts.size, dtype=key_type), key_type(shift)), counts)
    if marks is None:
        key |= code
        key.sort()
        return decode(key.astype(code.dtype)), None
    key |= np.left_shift(code, 1, dtype=key_type)
    key |= marks
    key.sort()
    ordered_marks = (key & key_type(1)).astype(np.bool_)
    key >>= key_type(1)
    ordered = decode(key.astype(code.dtype))
    number = np.add.reduceat(ordered_marks, np.cumsum(counts) - counts, dtype=np.int64)
    return ordered, (ordered[ordered_marks], number)


def _sorted_one_by_one(values: Array, counts: Integers) -> Array:
    """Values, given zone after zone, sorted within their zones."""
    ordered, begin = values.copy(), 0
    for end in np.cumsum(counts).tolist():
        ordered[begin:end].sort()
        begin = end
    return ordered


def _ordered_bits(values: Array) -> tuple[Array, Callable[[Array], Array]]:
    """Values as unsigned integers in the same order, and the way back."""
    kind, unsigned = values.dtype, np.dtype(f"u{values.dtype.itemsize}")
    sign = unsigned.type(1 << (unsigned.itemsize * 8 - 1))
    raw = values.view(unsigned)
    if kind.kind == "u":
        return raw, lambda code: code
    if kind.kind == "i":
        return raw ^ sign, lambda code: (code ^ sign).view(kind)
    # Floats order like their bits, but for the sign, and backwards below zero.
    return (
        np.where(raw & sign, ~raw, raw | sign),
        lambda code: np.where(code & sign, code ^ sign, ~code).view(kind),
    )


class SortedZones:
    """The valid values of zones, each with at least one, sorted within the zones: see `signatures.SortedValues`."""

    def __init__(self, values: Array, counts: Integers, pixels: Integers) -> None:
        ends = np.cumsum(counts)
        self._values = values
        self._begin = ends - counts
        self.counts = counts
        self.pixels = pixels
        self.lowest: Array = values[self._begin]
        self.highest: Array = values[ends - 1]

    @cached_property
    def sums(self) -> Array:
        """Sum of each zone."""
        kind = np.float64 if self._values.dtype.kind == "f" else np.int64
        return np.add.reduceat(self._values, self._begin, dtype=kind)

    @cached_property
    def means(self) -> Floats:
        """Mean of each zone."""
        return self.sums / self.counts

    @cached_property
    def deviations(self) -> Floats:
        """Standard deviation (of the population) of each zone."""
        values, counts = self._values, self.counts
        if values.dtype.kind in "ui" and values.dtype.itemsize <= 2 and counts.max() <= MOST_PIXELS_EXACT:
            # No rounding before the end, and a fifth of the time.
            squares = np.multiply(values, values, dtype=np.dtype(f"{values.dtype.kind}{2 * values.dtype.itemsize}"))
            sums_of_squares = np.add.reduceat(squares, self._begin, dtype=np.int64)
            deviations: Floats = np.sqrt(counts * sums_of_squares - self.sums * self.sums) / counts
        elif counts.size == 1:
            # Piece by piece: a very large zone has many pixels.
            pieces = (values[at : at + BATCH_PIXELS] - self.means for at in range(0, values.size, BATCH_PIXELS))
            deviations = np.sqrt(sum(float(np.dot(piece, piece)) for piece in pieces) / counts)
        else:
            distances = values - np.repeat(self.means, counts)
            np.multiply(distances, distances, out=distances)
            deviations = np.sqrt(np.add.reduceat(distances, self._begin) / counts)
        return deviations

    @cached_property
    def commonest(self) -> Array:
        """The value that most pixels of each zone have; of several, the smallest."""
        values = self._values
        if self.counts.size > 1 or values.size <= BATCH_PIXELS:
            return _commonest(values, self._begin)[0]
        # Piece by piece, each with all pixels of its values: a very large zone has many.
        found, begin = [], 0
        while begin < values.size:
            end = int(np.searchsorted(values, values[min(begin + BATCH_PIXELS, values.size) - 1], side="right"))
            found.append(_commonest(values[begin:end], np.zeros(1, dtype=np.int64)))
            begin = end
        candidates, pixels = (np.concatenate(several) for several in zip(*found, strict=True))
        return candidates[[pixels.argmax()]]

    def percentile(self, fraction: float) -> Array:
        """Linear interpolation between the two nearest ranks, rounded as `numpy.percentile` rounds it."""
        kind = self._values.dtype.type if self._values.dtype.kind == "f" else np.float64
        rank = (self.counts - 1) * fraction
        below = np.floor(rank).astype(np.int64)
        weight = rank - below
        low = self._values[self._begin + below]
        high = self._values[self._begin + np.minimum(below + 1, self.counts - 1)]
        # Sorted, so the difference of unsigned integers does not wrap.
        difference = high - low
        from_high, from_low = difference * (1 - weight).astype(kind), difference * weight.astype(kind)
        result: Array = np.where(weight >= 0.5, high - from_high, low + from_low)
        return result


def _commonest(values: Array, begin: Integers) -> tuple[Array, Integers]:
    """Of zones that begin at these positions, with sorted values: the one that most pixels have (of several, the
    smallest), and how many these are."""
    run = _runs(values, begin)
    length = np.diff(run, append=values.size)
    first_run = np.searchsorted(run, begin)
    longest = np.maximum.reduceat(length, first_run)
    as_long = np.flatnonzero(length == np.repeat(longest, np.diff(first_run, append=run.size)))
    return values[run[as_long[np.searchsorted(as_long, first_run)]]], longest


def _runs(values: Array, begin: Integers) -> Integers:
    """Where each value of each zone begins: of zones that begin at these positions, with sorted values."""
    is_new = np.append(True, values[1:] != values[:-1])
    is_new[begin] = True
    return np.flatnonzero(is_new)
