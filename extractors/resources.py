"""Everything a worker holds while it lives: configuration, checked tables, the database session, the store.

Opening it is every check before the first claim.
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from extractors.config import Options, read_database_config, read_store_config
from extractors.database.connection import Database
from extractors.database.parcels import Parcels
from extractors.database.queue import Queue
from extractors.database.tables import make_tables, read_tables
from extractors.errors import ConfigurationError
from extractors.model import Layer, StatisticsRequest
from extractors.products.card import Card

if TYPE_CHECKING:
    from extractors.products.store import ObjectStore


class Resources:
    """What an attempt at a scene needs; a context manager that closes the database session.

    The constructor checks everything and changes nothing: enough for a command that only reads. `open` is for
    extracting: it makes the tables that are absent. cores: how many threads a scene may keep busy. Raises
    ConfigurationError, OutageError.
    """

    def __init__(self, card: Card, options: Options, cores: int = 1, make: bool = False) -> None:
        self.card = card
        self.options = options
        self.config = read_database_config(options.db_config)
        self.store_config = read_store_config(options.s3_config)
        if make:
            _check_data_dir(options.data_dir)
        self.cores = self.config.extraction.cores or cores
        # Made with the first scene: boto3 takes long to load.
        self.store: ObjectStore | None = None
        labels = card.labels[self.config.extraction.band_labels]
        name = str(options.db_config)
        self.database = Database(self.config, name)
        try:
            tables = read_tables(self.database, self.config, name, labels.values(), card.categorical is not None)
            self.tables = make_tables(self.database, tables) if make else tables
        except BaseException:
            self.database.close()
            raise
        self.queue = Queue(self.database, self.tables, self.config, card.code)
        self.parcels = Parcels(self.database, self.tables, self.config.args.name)
        self.request = StatisticsRequest(
            options.engine or self.config.extraction.engine,
            self.config.extraction.verified_parcels,
            tuple(
                Layer(band, label, histogram=band == card.categorical and self.tables.hists is not None)
                for band, label in labels.items()
            ),
        )

    @classmethod
    def open(cls, card: Card, options: Options, cores: int = 1) -> Self:
        """Resources for extracting: the data directory can be written to, and every table exists."""
        return cls(card, options, cores, make=True)

    def close(self) -> None:
        """End the database session; a scene that is still claimed is free then."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check_data_dir(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigurationError(
            f"{folder}: cannot be written ({error.strerror}); make it writable, or name another with --data-dir"
        ) from error
