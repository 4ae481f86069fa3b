"""What a worker holds while it runs: configuration, checked tables, the store, and the one connection that claims
and publishes."""

import logging
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from psycopg2.errors import QueryCanceled

from extractors import failpoints
from extractors.config import read_database_config, read_store_config
from extractors.database.catalogue import Ending, Scene, open_catalogue
from extractors.database.connection import connect, database_errors, name_in_database
from extractors.database.parcels import count_without_geometry, open_parcels
from extractors.database.results import open_hists, open_results
from extractors.database.sql import statement
from extractors.errors import ConfigurationError, DatabaseUnavailableError
from extractors.model import Account
from extractors.products.card import Card
from extractors.runtime.cores import usable_cores
from extractors.runtime.options import Options
from extractors.runtime.scratch import sweep

if TYPE_CHECKING:
    from download_with_boto3 import ObjectStore


log = logging.getLogger(__name__)

# Scenes named in a warning.
SHOWN_SCENES = 5
# How often a worker looks whether it may download.
SLOT_PAUSE_SECONDS = 1.0


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
        self.cores = self.config.extraction.cores or usable_cores()
        self._check_data_dir()
        self._store: ObjectStore | None = None
        self._without_geometry: tuple[int, int] | None = None
        self._unsettled: tuple[Scene, Ending, Account] | None = None
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
        extraction = self.config.extraction
        self.connection = connect(
            self.config.connection,
            extraction.database_wait_seconds,
            str(self.options.db_config),
            extraction.server_settings,
        )
        failpoints.reach("connected")

    def cancel(self) -> None:
        """Cancel the running query, if there is one; for another thread than the one that waits for it."""
        self.connection.cancel()

    def claim(self) -> Scene | None:
        """Set scenes of dead workers free and claim the next one, None if there is none; a connection that broke since
        the last one is opened anew."""
        sweep(self.options.data_dir)
        if self._unsettled is not None:
            self.release(*self._unsettled)
            self._unsettled = None
        try:
            return self._claim()
        except DatabaseUnavailableError:
            if not self.connection.closed:
                raise
        self.connect()
        return self._claim()

    def _claim(self) -> Scene | None:
        self.catalogue.rescue(self.connection, self.config.extraction.max_attempts)
        return self.catalogue.claim(self.connection, self.options.scene)

    def look_for_foreign(self) -> None:
        """Report scenes that other programs have left `inprogress`, or take them if that is wanted."""
        foreign = self.catalogue.foreign(self.connection)
        if not foreign:
            return
        if not self.options.adopt_foreign:
            shown = ", ".join(str(obsid) for obsid, _ in foreign[:SHOWN_SCENES])
            log.warning(
                "%d scenes are 'inprogress' in %s, but not by this program (%s%s): they are left alone; take them with "
                "--adopt-foreign if no other program works on them",
                len(foreign),
                self.catalogue.table,
                shown,
                ", ..." if len(foreign) > SHOWN_SCENES else "",
            )
            return
        for obsid, reference in foreign:
            if self.catalogue.adopt(self.connection, obsid):
                about = {"scene": obsid, "reference": reference}
                log.warning(
                    "scene %d %s: taken from the program that left it 'inprogress'", *about.values(), extra=about
                )

    def unlock(self) -> None:
        """Free the claimed scene's lock, unless how its attempt ended is still to be written. If the connection has
        broken, that is done already."""
        if not self.connection.closed and self._unsettled is None:
            with suppress(DatabaseUnavailableError):
                self.catalogue.unlock(self.connection)
        failpoints.reach("unlocked")

    @contextmanager
    def download_slot(self) -> Iterator[None]:
        """One of the places for downloading that all workers of the database share, if these are limited."""
        slots = self.store_config.s3.fleet_downloads
        if slots is None:
            yield
            return
        order = random.sample(range(slots), slots)
        waiting = False
        while (taken := next((slot for slot in order if self._take_slot(slot)), None)) is None:
            if not waiting:
                log.info("waiting for one of %d places for downloading", slots)
                waiting = True
            time.sleep(random.uniform(0.5, 1.0) * SLOT_PAUSE_SECONDS)  # noqa: S311 (no secret, only jitter)
        try:
            yield
        finally:
            # A session that has broken has given it back already.
            connection = self.connection
            with (
                suppress(DatabaseUnavailableError),
                database_errors(connection, "sharing downloads"),
                connection,
                connection.cursor() as cursor,
            ):
                cursor.execute(statement("session.give_slot"), {"slot": taken})

    def _take_slot(self, slot: int) -> bool:
        connection = self.connection
        with database_errors(connection, "sharing downloads"), connection, connection.cursor() as cursor:
            cursor.execute(statement("session.take_slot"), {"slot": slot})
            row = cursor.fetchone()
        return bool(row and row[0])

    def release(self, scene: Scene, ending: Ending, account: Account) -> bool:
        """Say in catalogue and log how a claim ended that wrote nothing; on a new connection if ours broke.

        False if it had ended before, or others have set the scene's status meanwhile.
        """
        try:
            if not self.connection.closed:
                with database_errors(self.connection, "rolling back"):
                    self.connection.rollback()
                return self.catalogue.release(self.connection, scene, ending, account)
        except DatabaseUnavailableError as error:
            # A query cancelled by a signal that came a moment too late is no reason to give up.
            if not self.connection.closed and not isinstance(error.__cause__, QueryCanceled):
                raise
        if self.connection.closed:
            self.connect()
        return self.catalogue.release(self.connection, scene, ending, account)

    def settle_later(self, scene: Scene, ending: Ending, account: Account) -> None:
        """Keep for the next claim how a scene's attempt ended, which cannot be written now. If this worker ends before
        that, others find the scene abandoned."""
        self._unsettled = (scene, ending, account)

    def published(self, scene: Scene) -> bool:
        """Whether the scene's attempt has ended well: the answer to its COMMIT may have been lost on the way."""
        return self.catalogue.outcome(self.connection, scene) in {"extracted", "no_parcels"}

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
