"""What a verb works with: configuration, session, and readers of the tables; nothing of it makes anything."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

from psycopg2 import sql

from extractors.config import SOURCES, DatabaseFile, read_database_config
from extractors.database.connection import Database, scalar
from extractors.database.outputs import EXTRA_TYPES, result_types
from extractors.database.schema import Table, find
from extractors.database.tables import TableReader, Tables
from extractors.errors import ConfigurationError
from extractors.labels import BANDS
from operations.sql import statement

APPLICATION = "parcel-extraction operations"


@dataclass(frozen=True)
class Session:
    """An open session. name: of the configuration's file, for messages."""

    config: DatabaseFile
    name: str
    database: Database

    def reader(self, card: str | None = None) -> "EarlyReader":
        """What finds and checks the tables as workers of this CARD, or of all (None), need them."""
        return EarlyReader(self, card)

    def labels(self, card: str | None = None) -> list[str]:
        """What workers of a CARD, or of all, write into the column `band`."""
        found: dict[str, None] = {}
        for code in BANDS if card is None else [card]:
            try:
                found |= dict.fromkeys(self.config.for_card(code).extraction.meaning(code)[SOURCES])
            except ValueError:
                # `bands` for all CARDs need not fit each of them; a worker says so.
                continue
        return list(found)

    def result_types(self, card: str | None = None) -> dict[str, set[str]]:
        """The columns of results that such workers write, and the types that can hold all of it."""
        found: dict[str, set[str]] = {}
        for code in BANDS if card is None else [card]:
            types = result_types(self.config.for_card(code).extraction)
            found |= {name: known & found.get(name, known) for name, known in types.items()}
        return found

    def reopen(self) -> None:
        """Begin another session, as after PostGIS has been made: names are looked up where it is then."""
        self.database.reopen()
        self.introduce()

    def introduce(self) -> None:
        """Tell the server that this session is no worker's."""
        with self.database.transaction("opening a session") as cursor:
            cursor.execute(statement("session.introduce"), {"application": APPLICATION})


class EarlyReader(TableReader):
    """A reader for a database in which area and parcels may still be lacking, and columns of additional statistics."""

    def __init__(self, opened: Session, card: str | None) -> None:
        super().__init__(opened.database, opened.config, opened.name, opened.labels(card), card in {None, "s2"})
        self._types_to_be = opened.result_types(card)
        self._result_types = {name: types for name, types in self._types_to_be.items() if name not in EXTRA_TYPES}

    @cached_property
    def parcels(self) -> Table:
        """The parcel table; absent, if there is none."""
        with self._database.transaction("looking for the parcel table") as cursor:
            found = find(cursor, self._wanted.parcel_table, f"{self._key}.parcel_table")
        return found if found.absent else super().parcels

    @cached_property
    def parcel_srid(self) -> int | None:
        """The SRID that the parcels have; None while there are none."""
        return None if self.parcels.absent else super().parcel_srid

    @cached_property
    def aoi_field(self) -> str:
        """The column of the AOI table for names, whether the configured one is there or not."""
        own, columns = self._args.aoi_field, self.aois.columns
        if own in columns:
            return own
        return "name" if "name" in columns else super().aoi_field  # which says what to do

    def need_parcels(self) -> None:
        """Raise ConfigurationError unless there is the parcel table."""
        if self.parcels.absent:
            raise ConfigurationError(
                f"{self.parcels.key}: there is no table {self.parcels} yet; import parcels, or write the name of theirs"
            )

    def need_area(self) -> None:
        """Raise ConfigurationError unless there is the area that is configured."""
        if not self.has_area():
            raise ConfigurationError(
                f"{self._args_key}.name: {self.aois} has no row {self._args.name!r}; write another name, or make that "
                "area with `operations setup --aoi FILE` or `--aoi parcels`"
            )

    def all(self) -> Tables:
        """All of them, with the columns that tables get which are made now."""
        return replace(super().all(), result_types=self._types_to_be)

    def has_area(self) -> bool:
        """Whether there is the area that is configured. Raises ConfigurationError for a table that cannot be used."""
        with self._database.transaction("looking for the area of interest") as cursor:
            if find(cursor, self._wanted.aoi_table, "").absent:
                return False
            names = {"aois": self.aois.identifier, "field": sql.Identifier(self.aoi_field)}
            cursor.execute(statement("session.any_area", **names), {"name": self._args.name})
            return bool(scalar(cursor))


@contextmanager
def session(options: argparse.Namespace) -> Iterator[Session]:
    """A session as `--db-config` describes it, which a signal interrupts. Raises ConfigurationError, OutageError."""
    config = read_database_config(options.db_config)
    with Database(config, str(options.db_config)) as database:
        options.signals.cancel_with(database.cancel)
        opened = Session(config, str(options.db_config), database)
        opened.introduce()
        yield opened
