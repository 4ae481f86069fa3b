"""What a worker holds while it runs: configuration, checked tables, the store, and the one connection that claims
and publishes."""

import os
import tempfile
from typing import TYPE_CHECKING

from extractors.cards import Card
from extractors.catalogue import Account, Scene, open_catalogue
from extractors.config import read_database_config, read_store_config
from extractors.database import connect, database_errors, name_in_database
from extractors.errors import ConfigurationError, DatabaseUnavailableError
from extractors.options import Options
from extractors.parcels import count_without_geometry, open_parcels
from extractors.signatures import open_hists, open_results

if TYPE_CHECKING:
    from download_with_boto3 import ObjectStore


class Session:
    """Opened once per worker: everything that can be checked before a scene is claimed is checked here.

    Raises ConfigurationError, DatabaseUnavailableError.
    """

    def __init__(self, card: Card, options: Options) -> None:
        self.card = card
        self.options = options
        self.config = read_database_config(options.db_config)
        self.store_config = read_store_config(options.s3_config)
        self.labels = card.labels[self.config.extraction.band_labels]
        self.engine = options.engine or self.config.extraction.engine
        self.cores = self.config.extraction.cores or len(os.sched_getaffinity(0))
        self._check_data_dir()
        self._store: ObjectStore | None = None
        self._without_geometry: tuple[int, int] | None = None
        self.connect()
        name = str(options.db_config)
        self.parcels = open_parcels(self.connection, self.config, name)
        # The results table may have to be made, so it comes last: nothing is made for a configuration that cannot work.
        results = name_in_database(self.connection, self.config.tables.results_table)
        self.catalogue = open_catalogue(self.connection, self.config, name, card.code, results)
        pid_type = self.parcels.pid_type
        self.results = open_results(self.connection, self.config, name, self.labels.values(), pid_type)
        self.hists = open_hists(self.connection, self.config, name, pid_type) if card.classified else None

    def connect(self) -> None:
        """Open the connection, at first or in place of one that broke."""
        self.connection = connect(
            self.config.connection, self.config.extraction.database_wait_seconds, str(self.options.db_config)
        )

    def claim(self) -> Scene | None:
        """Claim the next scene, None if there is none; a connection that broke since the last one is opened anew."""
        try:
            return self.catalogue.claim(self.connection, self.options.scene)
        except DatabaseUnavailableError:
            if not self.connection.closed:
                raise
        self.connect()
        return self.catalogue.claim(self.connection, self.options.scene)

    def release(self, scene: Scene, status: str, outcome: str, reason: str, account: Account) -> bool:
        """Say in catalogue and log how a claim ended that wrote nothing; on a new connection if ours broke.

        False if it had ended before, or others have set the scene's status meanwhile.
        """
        try:
            if not self.connection.closed:
                with database_errors(self.connection, "rolling back"):
                    self.connection.rollback()
                return self.catalogue.release(self.connection, scene, status, outcome, reason, account)
        except DatabaseUnavailableError:
            if not self.connection.closed:
                raise
        self.connect()
        return self.catalogue.release(self.connection, scene, status, outcome, reason, account)

    def parcels_without_geometry(self) -> tuple[int, int]:
        """Parcels with NULL and with empty geometry, counted once per worker."""
        if self._without_geometry is None:
            self._without_geometry = count_without_geometry(self.connection, self.parcels)
        return self._without_geometry

    @property
    def store(self) -> "ObjectStore":
        """The S3 store; its client is made when first needed, because boto3 takes long to load."""
        if self._store is None:
            from download_with_boto3 import ObjectStore

            self._store = ObjectStore(self.store_config.s3, str(self.options.s3_config))
        return self._store

    def _check_data_dir(self) -> None:
        folder = self.options.data_dir
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise ConfigurationError(
                f"{folder}: cannot be written ({error.strerror}); make it writable, or name another with --data-dir"
            ) from error
