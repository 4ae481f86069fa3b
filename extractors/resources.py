"""Everything a worker holds while it lives: configuration, checked tables, the database session, the store.

What has to be seen before the first claim is a list of named checks. A worker that starts ends with the first one that
fails; `--check` goes through all of them.
"""

import logging
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from extractors.config import Extraction, Options, read_database_config, read_store_config
from extractors.database.checks import DatabaseChecks
from extractors.database.connection import Database
from extractors.database.making import make_tables
from extractors.database.parcels import Parcels
from extractors.database.places import Places
from extractors.database.queue import Queue
from extractors.database.redo import RedoQueue, check_access
from extractors.database.tables import TableReader
from extractors.errors import ConfigurationError
from extractors.indices import DECIBEL, Formula
from extractors.labels import SIDES, resolution
from extractors.model import Check, Layer, Limits, ParcelRules, StatisticsRequest
from extractors.products.card import Card
from extractors.signatures import FRACTION

if TYPE_CHECKING:
    from extractors.products.source import Source


log = logging.getLogger(__name__)

# What the log calls the engine where pixels count by their share; and the one that cannot do that.
SHARES, REFERENCE = "exactextract", "rasterstats"
# Bytes for a scene, and for each core beside that: a Sentinel-2 tile takes half a gigabyte, decoded.
MEMORY, MEMORY_PER_CORE = 700_000_000, 200_000_000
# Of Sentinel-2: decoded, and while it is decoded (1,024 rows and columns).
BYTES_PER_PIXEL, BYTES_PER_BLOCK = 2, 12_600_000


class Start:
    """What a worker begins with: its configuration, a session when `connect` has opened it, and the checks.

    Changes nothing, unless `make` says that the data directory may be made. The constructor raises ConfigurationError
    for files that cannot be used.
    """

    def __init__(self, card: Card, options: Options, make: bool = False) -> None:
        self.card = card
        self.options = options
        self.config = read_database_config(options.db_config).for_card(card.code)
        self.store_config = read_store_config(options.s3_config)
        self.layers = self._layers()
        # By bucket, None for the configured one; made with the first scene: boto3 takes long to load.
        self.stores: dict[str | None, Source] = {}
        self.database: Database | None = None
        self._make = make

    @property
    def first_checks(self) -> list[Check]:
        """What comes before everything else; the last one opens the session."""
        return [Check("data directory", self._check_data_dir), Check("database", self.connect)]

    @property
    def database_checks(self) -> DatabaseChecks:
        """The checks of the database to which the session is open."""
        return self._database_checks

    @property
    def reader(self) -> TableReader:
        """The tables in it."""
        return self._reader

    @property
    def labels(self) -> list[str]:
        """What will be written into the column `band`."""
        return [layer.label for layer in self.layers]

    @property
    def by_fraction(self) -> bool:
        """Whether pixels count by their share."""
        return self.config.extraction.pixel_rule == FRACTION

    def _layers(self) -> tuple[Layer, ...]:
        """What is extracted, as it is configured; raises ConfigurationError if that cannot be."""
        name, categorical = self.options.db_config, self.card.categorical
        try:
            wanted = self.config.extraction.layers(self.card.code)
        except ValueError as error:
            raise ConfigurationError(f"{name}: extraction.bands: {error}") from error
        bands = [band for band, _ in wanted]
        histograms = categorical is not None and self.config.tables.hists_table is not None
        if histograms and categorical not in bands:
            raise ConfigurationError(
                f"{name}: database.tables.hists_table: histograms are of {categorical}, which is not among "
                f"extraction.bands; add it there, or remove hists_table"
            )
        if self.by_fraction and histograms:
            raise ConfigurationError(
                f"{name}: database.tables.hists_table: histograms count whole pixels, and with extraction.pixel_rule "
                "fraction there are shares; remove hists_table, or write another pixel_rule"
            )
        if self.by_fraction and REFERENCE in {self.options.engine, self.config.extraction.engine}:
            raise ConfigurationError(
                f"{name}: extraction.pixel_rule: the engine rasterstats knows no fractions of pixels; remove that "
                "engine, or write another pixel_rule"
            )
        # One histogram, however many labels the band has.
        first = bands.index(categorical) if histograms and categorical else None
        layers = [Layer(band, label, histogram=place == first) for place, (band, label) in enumerate(wanted)]
        if self.card.code == "bs" and self.config.extraction.backscatter_unit == "db":
            layers = [_made(label, Formula(DECIBEL, (band,))) for band, label in wanted]
        return (*layers, *self._indices())

    def _indices(self) -> list[Layer]:
        name, code, settings = self.options.db_config, self.card.code, self.config.extraction
        try:
            formulas = settings.formulas(code)
        except ValueError as error:
            raise ConfigurationError(f"{name}: extraction.indices: {error}") from error
        if formulas and code == "s2" and settings.radiometry != "harmonised":
            raise ConfigurationError(
                f"{name}: extraction.indices: with offsets that differ between products they mean nothing; write "
                '"radiometry": "harmonised", or remove the indices'
            )
        return [_made(label, formula) for label, formula in formulas]

    def close(self) -> None:
        """End the session, if there is one."""
        if self.database is not None:
            self.database.close()

    def connect(self) -> str:
        """Open the session; returns where."""
        config, name = self.config, str(self.options.db_config)
        self.database = Database(config, name)
        classes = self.card.categorical is not None
        self._reader = TableReader(self.database, config, name, self.labels, classes)
        may_be_empty = self.options.watch_seconds is not None
        self._database_checks = DatabaseChecks(self.database, self._reader, config, self.card.code, may_be_empty)
        return f"{config.connection.host}:{config.connection.port}, database {config.connection.dbname}"

    def _check_data_dir(self) -> str:
        folder = self.options.data_dir
        try:
            if self._make:
                folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=_nearest(folder)):
                pass
        except OSError as error:
            raise ConfigurationError(
                f"{folder}: cannot be written ({error.strerror}); make it writable, or name another with --data-dir"
            ) from error
        return f"{folder.absolute()} can be written"


class Resources:
    """What an attempt at a scene needs; a context manager that closes the database session.

    start: one whose checks have passed. cores: how many threads a scene may keep busy. memory: what the container or
    the machine has, in bytes. make: make the tables that are absent. Raises ConfigurationError, OutageError.
    """

    def __init__(self, start: Start, cores: int = 1, memory: int | None = None, make: bool = True) -> None:
        if start.database is None:
            raise ValueError("no session is open")
        self.start = start
        self.card, self.options = start.card, start.options
        self.config, self.store_config = start.config, start.store_config
        bands = self.config.extraction.bands_needed(self.card.code) if self.card.code == "s2" else ()
        self.limits = limits(self.config.extraction, cores, memory, bands)
        self.database = start.database
        tables = start.reader.all()
        self.tables = make_tables(self.database, tables, start.labels) if make else tables
        queue = RedoQueue if self.options.redo else Queue
        self.queue = queue(self.database, self.tables, self.config, self.card.code, start.labels)
        self.parcels = Parcels(self.database, self.tables, self.config.args.name)
        self.places = Places(self.database, self.tables.catalogue)
        settings = self.config.extraction
        self.rules = ParcelRules(settings.inward_buffer_m, settings.min_area_m2, settings.min_pixels)
        # Whether the checks have passed that wait until there is a scene to claim.
        self.proven = False
        self.request = StatisticsRequest(
            SHARES if start.by_fraction else self.options.engine or self.config.extraction.engine,
            self.config.extraction.verified_parcels,
            start.layers,
            self.config.extraction.statistics,
            self.config.extraction.pixel_rule,
            self.config.extraction.clear_classes,
        )

    @classmethod
    def open(cls, card: Card, options: Options, cores: int = 1, memory: int | None = None) -> Self:
        """Resources for extracting: every check has passed that comes before the first look for a scene, and every
        table exists."""
        start = Start(card, options, make=True)
        with closed_on_failure(start):
            for check in start.first_checks:
                check.look()
            for check in start.database_checks.before_any_work():
                check.look()
            if options.redo and start.database is not None:
                check_access(start.database, start.reader)
            start.database_checks.warn_of_superuser()
            return cls(start, cores, memory)

    @classmethod
    def for_reading(cls, card: Card, options: Options) -> Self:
        """Resources for a command that only reads: nothing is made, and no right to write is asked for."""
        start = Start(card, options)
        with closed_on_failure(start):
            start.connect()
            return cls(start, make=False)

    def close(self) -> None:
        """End the database session; a scene that is still claimed is free then."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _made(label: str, formula: Formula) -> Layer:
    """A layer of values that are made of pixels."""
    return Layer(str(formula), label, formula=formula)


def limits(settings: Extraction, cores: int, memory: int | None, bands: Collection[str] = ()) -> Limits:
    """What a worker may take for a scene, as configured, or else of so many cores and so much memory; bands: those of
    Sentinel-2 that it decodes. Fewer cores, if whole tiles need that. Raises ConfigurationError if even one is too many
    for the memory that there is."""
    cores = wanted = settings.cores or cores
    if settings.memory_megabytes is not None:
        available = settings.memory_megabytes * 1_000_000
    else:
        available = max(MEMORY + cores * MEMORY_PER_CORE, memory_of_tiles(bands, cores))
        if memory is not None and available > memory * 3 // 4:
            available = memory * 3 // 4
            if memory_of_tiles(bands, 1) > available:
                raise ConfigurationError(
                    f"{len(bands)} bands of whole tiles need {memory_of_tiles(bands, 1) / 1e6:,.0f} MB of memory, and "
                    f"a worker may take {available / 1e6:,.0f} MB here, three quarters of what there is; give it more, "
                    "or fewer extraction.bands (or write extraction.memory_megabytes, if tiles are smaller)"
                )
    while cores > 1 and memory_of_tiles(bands, cores) > available:
        cores -= 1
    if cores < wanted:
        log.warning("%d threads instead of %d: memory does not suffice for more", cores, wanted)
    return Limits(cores, available)


def memory_of_tiles(bands: Collection[str], cores: int) -> int:
    """Bytes for whole tiles of these bands of Sentinel-2: their pixels, a block of each file for each thread, and a
    quarter of all for the computing."""
    pixels = sum(BYTES_PER_PIXEL * SIDES[resolution(band)] ** 2 for band in bands)
    return (pixels + len(bands) * cores * BYTES_PER_BLOCK) * 4 // 3


@contextmanager
def closed_on_failure(start: Start) -> Iterator[None]:
    """A block whose failure ends the session."""
    try:
        yield
    except BaseException:
        start.close()
        raise


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())
