"""What a verb works with: configuration, session, and readers of the tables; nothing of it makes anything."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from extractors.config import DatabaseFile, read_database_config
from extractors.database.connection import Database
from extractors.database.tables import TableReader
from extractors.labels import BANDS
from operations.sql import statement

APPLICATION = "parcel-extraction operations"


@dataclass(frozen=True)
class Session:
    """An open session. name: of the configuration's file, for messages."""

    config: DatabaseFile
    name: str
    database: Database

    def reader(self, card: str | None = None) -> TableReader:
        """What finds and checks the tables as workers of this CARD, or of all (None), need them."""
        return TableReader(self.database, self.config, self.name, self.labels(card), card in {None, "s2"})

    def labels(self, card: str | None = None) -> list[str]:
        """What workers of a CARD, or of all, write into the column `band`."""
        found: dict[str, None] = {}
        for code in BANDS if card is None else [card]:
            try:
                found |= {label: None for _, label in self.config.for_card(code).extraction.layers(code)}
            except ValueError:
                # `bands` for all CARDs need not fit each of them; a worker says so.
                continue
        return list(found)

    def reopen(self) -> None:
        """Begin another session, as after PostGIS has been made: names are looked up where it is then."""
        self.database.reopen()
        self.introduce()

    def introduce(self) -> None:
        """Tell the server that this session is no worker's."""
        with self.database.transaction("opening a session") as cursor:
            cursor.execute(statement("session.introduce"), {"application": APPLICATION})


@contextmanager
def session(options: argparse.Namespace) -> Iterator[Session]:
    """A session as `--db-config` describes it, which a signal interrupts. Raises ConfigurationError, OutageError."""
    config = read_database_config(options.db_config)
    with Database(config, str(options.db_config)) as database:
        options.signals.cancel_with(database.cancel)
        opened = Session(config, str(options.db_config), database)
        opened.introduce()
        yield opened
