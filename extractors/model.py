"""The records that several rooms share. Light to import: heavy types are only named here."""

import datetime as dt
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from extractors.errors import OutageError, UnusableSceneError
from extractors.indices import CLASSES, Formula
from extractors.signatures import CENTRE, STATISTICS, Statistic
from extractors.text import printable

if TYPE_CHECKING:
    from pathlib import Path

    import geopandas

    from extractors.signatures import ChunkResult, Integers

# The status of a scene whose place a newer product of the same observation has taken, if only that is wanted.
SUPERSEDED = "superseded"
# All that the catalogue's column `status` is given.
STATUSES = ("ingested", "inprogress", "extracted", "no_parcels", "notfound", "failed", SUPERSEDED)
# Which two polarisations an instrument records together.
PARTNERS = {"VV": "VH", "VH": "VV", "HH": "HV", "HV": "HH"}
# The log's words for attempts that do not count: ended through no fault of the scene, or before its product was there.
GIVEN_BACK = "given_back"
ABSENT = "absent"
# What the log appends to a label for the rows of clear pixels.
CLEAR = " clear"
# The log's word for an extracted scene of which rows were computed once more.
REDONE = "redone"


@dataclass(frozen=True)
class Redo:
    """What is to be computed again of a scene that is extracted: an entry of the list, by its number there.

    pids: the parcels that are meant; None: all of them. gone: those of them whose rows go even if the parcel table does
    not have them any more.
    """

    entry: int
    pids: tuple[int, ...] | None = None
    gone: tuple[int, ...] = ()


@dataclass(frozen=True)
class Scene:
    """A row of the catalogue that this worker has claimed; `obstime` is naive UTC, `run_id` its attempt in the log,
    and the `attempt`-th that counts. waited: seconds since its first attempt. problem: why its footprint cannot be used
    (`is empty`). prefix: where its product lies, if that is known and not to be composed from its name. redo: None,
    unless it is extracted, and stays so."""

    id: int
    reference: str
    obstime: dt.datetime
    run_id: int
    attempt: int = 1
    waited: float = 0.0
    problem: str | None = None
    prefix: str | None = None
    redo: Redo | None = None


class Clock(Protocol):
    """What limits the time that a worker takes for a scene."""

    def running(self) -> AbstractContextManager[None]:
        """A block whose time counts."""

    def paused(self, doing: str) -> AbstractContextManager[None]:
        """A block within that one whose time does not count, since the worker waits for others."""


@dataclass(frozen=True)
class Outcome:
    """How an attempt at a scene ended; a value that keeps nothing of the attempt alive.

    kind: what the log calls it. status: the scene's status afterwards. reason: why, in words (the log's `detail`),
    which are made printable. retry_after: seconds before another attempt may begin (None: at once, or never).
    exit_code: that of a worker which ends with it. ends_worker: whether the next scene would end in the same way.
    """

    kind: str
    status: str
    reason: str
    exit_code: int = 0
    retry_after: float | None = None
    ends_worker: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", printable(self.reason))

    @property
    def counts(self) -> bool:
        """Whether it lies in the scene, and not in an outage, a signal or the configuration."""
        return self.kind not in {GIVEN_BACK, ABSENT}

    @property
    def failed(self) -> bool:
        """Whether the attempt ended without a result, for reasons that lie in the scene."""
        return self.counts and self.kind not in {"extracted", "no_parcels", SUPERSEDED, REDONE}

    @property
    def interrupted(self) -> bool:
        """Whether something from outside ended the attempt: an outage or a signal."""
        return self.kind == GIVEN_BACK and self.exit_code >= OutageError.exit_code

    @property
    def is_outage(self) -> bool:
        """Whether database, store or disk were missing."""
        return self.exit_code == OutageError.exit_code


@dataclass(frozen=True)
class Pending:
    """What may still come when there is nothing to claim: scenes that wait for their next attempt, the seconds until
    the first one's, and scenes that other workers are at; and whether nothing is claimed because there are no
    parcels."""

    waiting: int = 0
    seconds: float = 0.0
    under_way: int = 0
    without_parcels: bool = False


class Check(NamedTuple):
    """One of the things that are looked at before a worker claims a scene.

    look: returns what was seen, in words; raises ExtractionError that says what to do. after: the checks without which
    this one cannot be made.
    """

    name: str
    look: Callable[[], str]
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class StoredObject:
    """An object as the store lists it: key, size in bytes, ETag (the content's MD5 if it is 32 hexadecimal digits)."""

    key: str
    size: int
    etag: str

    @property
    def file_name(self) -> str:
        """The last part of the key."""
        return self.key.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Limits:
    """What a worker may take for a scene: threads to keep busy, and bytes of memory (beside what libraries take)."""

    cores: int = 1
    memory: int = 900_000_000


@dataclass(frozen=True)
class BandFile:
    """Where a band is: the file's name, and the band's number in there (from 1). With `described`, what the file's
    descriptions say of polarisations comes before that: then these are its bands."""

    name: str
    file_name: str
    index: int = 1
    described: bool = False


@dataclass(frozen=True)
class ImageFormat:
    """What a CARD's files are: the only GDAL driver that they are opened with, and the value without observation.
    scaled: whether a scale and an offset that a file declares are part of its values."""

    driver: str
    nodata: float
    scaled: bool = False


@dataclass(frozen=True)
class Radiometry:
    """How a product's pixels become numbers that can be compared with other products': an offset is added to those of
    each band named here. baseline: of processing, as 04.00. origin: where all this was read."""

    baseline: str
    origin: str
    offsets: Mapping[str, float]

    def offset_of(self, band: str) -> float:
        """What is added to the pixels of a band, B04 or B04_20m; nothing to those that are no reflectances (SCL, AOT,
        WVP). UnusableSceneError for a reflectance of which nothing is said."""
        name = band.partition("_")[0]
        if name not in self.offsets and name.startswith("B"):
            raise UnusableSceneError(f"{self.origin} lists offsets, and none for {name}; replace the object")
        return self.offsets.get(name, 0.0)


@dataclass(frozen=True)
class Product:
    """What a scene consists of: objects to download (each under its base name), and where its bands are then.
    radiometry: reads it, once the objects are in a folder; None: pixels are taken as they are. manifest: says what the
    objects should hold, if there is one that can be had."""

    objects: tuple[StoredObject, ...]
    bands: tuple[BandFile, ...]
    radiometry: "Callable[[Path], Radiometry] | None" = None
    manifest: StoredObject | None = None


@dataclass(frozen=True)
class Layer:
    """One band, or values made of the pixels of some (formula; then band is its text), as it goes into the results: its
    label there, and whether its class histograms are wanted as well."""

    band: str
    label: str
    histogram: bool = False
    formula: Formula | None = None

    @property
    def bands(self) -> tuple[str, ...]:
        """Of which pixels are needed."""
        return (self.band,) if self.formula is None else self.formula.bands


@dataclass(frozen=True)
class StatisticsRequest:
    """What is to be computed of every parcel: by which engine, for which layers (those of bands that the scene has),
    how many parcels of each chunk rasterstats computes as well, which statistics, and which pixels are a parcel's.
    clear: also of pixels in these classes only, for all layers but those of classes; None: not. shifts: what is added
    to the values of a band."""

    engine: str
    verified_parcels: int
    layers: tuple[Layer, ...]
    statistics: tuple[Statistic, ...] = STATISTICS
    pixel_rule: str = CENTRE
    clear: tuple[int, ...] | None = None
    shifts: Mapping[str, float] = field(default_factory=dict)

    def is_cleared(self, layer: Layer) -> bool:
        """Whether there are statistics of its clear pixels."""
        return self.clear is not None and layer.band.partition("_")[0] != CLASSES

    def labels(self, layers: Sequence[Layer]) -> tuple[str, ...]:
        """How the log calls the rows of these layers."""
        labels = [layer.label for layer in layers]
        return (*labels, *(layer.label + CLEAR for layer in layers if self.is_cleared(layer)))


@dataclass(frozen=True)
class ParcelRules:
    """Which parcels get statistics, and of which part of them; 0: all of them, as they are. inward_buffer_m: what is
    closer than that to its outline is no part of a parcel. min_area_m2: of a parcel. min_pixels: of each row."""

    inward_buffer_m: float = 0
    min_area_m2: float = 0
    min_pixels: int = 0


@dataclass(frozen=True)
class ParcelChunk:
    """Neighbouring parcels, in the scene's CRS.

    parcels: column `pid` (ogc_fid) and the geometry: 2-D polygons and multipolygons, possibly invalid, never empty.
    unusable: by reason, the numbers of the selected parcels of this chunk that have no such geometry; 0 for one that
    has no number.
    """

    parcels: "geopandas.GeoDataFrame"
    unusable: "dict[str, Integers]"

    def __len__(self) -> int:
        return len(self.parcels) + sum(map(len, self.unusable.values()))


@dataclass
class ParcelCounts:
    """What came of a scene's parcels: for every band, parcels selected = rows written + parcels without a row.

    bands: their labels, followed by CLEAR for the rows of clear pixels. absent: bands that scenes of this kind may have
    and this one lacks. settings: what the numbers depend on besides parcels and pixels, as JSON takes it. not_finite:
    infinite pixels left out, by label.
    """

    bands: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    parcels_selected: int = 0
    rows_written: Counter[str] = field(default_factory=Counter)
    parcels_without_row: dict[str, Counter[str]] = field(default_factory=dict)
    chunks_recomputed: int = 0
    null_geometries: int = 0
    empty_geometries: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    not_finite: Counter[str] = field(default_factory=Counter)

    def add(self, result: "ChunkResult") -> None:
        """Count what a chunk of parcels gave."""
        self.parcels_selected += result.parcels
        self.chunks_recomputed += result.recomputed
        self.not_finite.update(result.not_finite)
        for signatures, without_row, suffix in (
            (result.signatures, result.without_row, ""),
            (result.clear, result.clear_without_row, CLEAR),
        ):
            for part in signatures:
                self.rows_written[part.label + suffix] += len(part.pid)
            for label, by_reason in without_row.items():
                counts = self.parcels_without_row.setdefault(label + suffix, Counter())
                counts.update({reason: len(pids) for reason, pids in by_reason.items()})

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the seconds that a block takes to a step's total."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0) + time.monotonic() - started

    def in_words(self) -> str:
        """For each band: rows, parcels, and the reasons of those without a row; and bands that the scene lacks."""
        texts = []
        for band in self.bands:
            without = sorted(self.parcels_without_row.get(band, Counter()).items())
            reasons = ", ".join(f"{number} {reason}" for reason, number in without)
            text = f"{band}: {self.rows_written[band]} of {self.parcels_selected} parcels"
            texts.append(f"{text} ({reasons})" if reasons else text)
        texts += [f"the product has no {band}" for band in self.absent]
        return "; ".join(texts)

    def without_rows(self) -> "ParcelCounts":
        """The counts of an attempt that wrote nothing."""
        return ParcelCounts(
            self.bands,
            null_geometries=self.null_geometries,
            empty_geometries=self.empty_geometries,
            seconds=self.seconds,
            versions=self.versions,
            settings=self.settings,
        )

    def as_parameters(self) -> dict[str, Any]:
        """The columns of the log row."""
        return {
            "parcels_selected": self.parcels_selected,
            "rows_written": _json({band: self.rows_written[band] for band in self.bands}),
            "parcels_without_row": _json({band: self.parcels_without_row.get(band, {}) for band in self.bands}),
            "chunks_recomputed": self.chunks_recomputed,
            "parcels_without_geometry": _json({"null": self.null_geometries, "empty": self.empty_geometries}),
            "seconds": _json({step: round(seconds, 3) for step, seconds in self.seconds.items()}),
            "versions": _json(self.versions),
            "settings": _json(self.settings) if self.settings else None,
        }


def _json(value: Any) -> str:
    # As it is: escapes would be more than some encodings of databases can make of them.
    return json.dumps(value, ensure_ascii=False)
