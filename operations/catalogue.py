"""The catalogue, as those who fill it see it: which products it has, which meet the area, and new rows.

Rows are those that the established programs write: five columns, and the status that makes workers take them.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import shapely
from psycopg2 import sql

from extractors.config import TableName
from extractors.database import aoi
from extractors.database.connection import scalar
from extractors.database.places import PLACES_TABLE
from extractors.database.sql import statement as shared
from extractors.errors import ConfigurationError
from operations.partitions import MuchLackingError, make_room, make_room_first
from operations.places import make_places
from operations.session import Session
from operations.sources.products import Box, Found, bare
from operations.sql import statement

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as PgCursor  # noqa: N812

log = logging.getLogger(__name__)

DEGREES = 4326
ROWS_AT_ONCE = 1000
# Boxes of the area are as much wider on each side, in degrees.
MARGIN = 0.001


@dataclass
class Added:
    """What became of some products: of which there is a row now, of which there was one before (moved: those of these
    that lie elsewhere by now), and which do not meet the area."""

    new: list[Found] = field(default_factory=list)
    known: list[Found] = field(default_factory=list)
    moved: list[Found] = field(default_factory=list)
    elsewhere: list[Found] = field(default_factory=list)

    def __iadd__(self, more: "Added") -> Self:
        """Take in what became of others."""
        self.new += more.new
        self.known += more.known
        self.moved += more.moved
        self.elsewhere += more.elsewhere
        return self


class Catalogue:
    """The catalogue of a session. dry_run: nothing is written, and what would be new counts as new.

    bucket: the configured one, which need not be written down for each product; None where a directory takes its place,
    in which all buckets are one.
    """

    def __init__(self, session: Session, bucket: str | None, dry_run: bool) -> None:
        self._database = session.database
        self._tables = session.reader()
        self._session = session
        self._bucket = bucket
        self._dry_run = dry_run
        self._places = TableName(PLACES_TABLE, self._tables.catalogue.name.schema)
        # What would have been added.
        self._pretended: set[str] = set()
        # Tables of results in partitions that have none for some of the scenes added.
        self.without_room: set[str] = set()

    def boxes(self) -> list[Box]:
        """The boxes that enclose the area, in degrees. Raises ConfigurationError for an area without any."""
        self._tables.need_area()
        areas = aoi.areas(self._tables)
        with self._database.transaction("looking at the area of interest") as cursor:
            cursor.execute(statement("ingest.boxes", areas=areas), self._area)
            found = cursor.fetchall()
        if not found:
            args = self._session.config.args
            raise ConfigurationError(
                f"{self._session.name}: database.args.name: the area {args.name!r} has no outline that can be used; "
                "see its geometry"
            )
        return [
            (
                max(west - MARGIN, -180.0),
                max(south - MARGIN, -90.0),
                min(east + MARGIN, 180.0),
                min(north + MARGIN, 90.0),
            )
            for west, south, east, north in found
        ]

    def known(self, names: Collection[str]) -> set[str]:
        """Of some names without `.SAFE`, those that the catalogue has, written in either way."""
        with self._database.transaction("looking into the catalogue") as cursor:
            return set(self._scenes(cursor, names))

    def add(self, products: Sequence[Found]) -> Added:
        """Add rows for those that are new and meet the area. Nobody else who adds rows in this way comes in between."""
        added = Added()
        for start in range(0, len(products), ROWS_AT_ONCE):
            some = {bare(product.reference): product for product in products[start : start + ROWS_AT_ONCE]}
            try:
                added += self._add_some(some)
            except MuchLackingError as lacking:
                # Those of the numbers that the same scenes get next.
                make_room_first(self._database, lacking.last + ROWS_AT_ONCE)
                added += self._add_some(some)
        return added

    def _add_some(self, some: Mapping[str, Found]) -> Added:
        with self._database.transaction(f"adding to {self._tables.catalogue}") as cursor:
            cursor.execute(statement("ingest.as_it_is_now"))
            cursor.execute(statement("ingest.alone"), {"catalogue": str(self._tables.catalogue)})
            return self._add(cursor, some)

    def withdraw(self, names: Collection[str]) -> tuple[list[str], list[str]]:
        """Have no worker begin with these products any more. Returns those for which that was so, and those for which
        it comes too late, with their status."""
        catalogue = {"catalogue": self._tables.catalogue.identifier}
        with self._database.transaction(f"changing {self._tables.catalogue}") as cursor:
            scenes = {"scenes": list(self._scenes(cursor, names).values())}
            withdrawn: list[str] = []
            if not self._dry_run:
                cursor.execute(statement("ingest.withdraw", **catalogue), scenes)
                withdrawn = [str(reference) for (reference,) in cursor.fetchall()]
            cursor.execute(statement("ingest.statuses", **catalogue), scenes)
            rows = [(str(reference), str(status)) for reference, status in cursor.fetchall()]
        withdrawn += [reference for reference, status in rows if status == "ingested"]
        done = {"ingested", "superseded"}
        return withdrawn, [f"{reference} ({status})" for reference, status in rows if status not in done]

    @property
    def _area(self) -> dict[str, Any]:
        return {"aoi": self._session.config.args.name, "footprint_srid": self._tables.footprint_srid}

    def _scenes(self, cursor: "PgCursor", names: Collection[str]) -> dict[str, int]:
        """Name -> scene, of those names that the catalogue has."""
        known = statement("ingest.known", catalogue=self._tables.catalogue.identifier)
        cursor.execute(known, {"names": list(names)})
        return {name: int(scene) for name, scene in cursor.fetchall()}

    def _add(self, cursor: "PgCursor", some: Mapping[str, Found]) -> Added:
        added = Added()
        scenes = self._scenes(cursor, some)
        others = [product for name, product in some.items() if name not in scenes and name not in self._pretended]
        met = self._meeting(cursor, others)
        added.known += [product for name, product in some.items() if name in scenes or name in self._pretended]
        added.elsewhere += [product for place, product in enumerate(others) if place not in met]
        added.moved += self._move(cursor, {scenes[name]: product for name, product in some.items() if name in scenes})
        wanted = [product for place, product in enumerate(others) if place in met]
        if self._dry_run:
            self._pretended |= {bare(product.reference) for product in wanted}
            added.new += wanted
            return added
        made = self._insert(cursor, wanted)
        if made:
            # Workers must find room for a scene as soon as they see it.
            self.without_room.update(make_room(cursor, max(made.values())))
        added.new += [product for product in wanted if bare(product.reference) in made]
        added.known += [product for product in wanted if bare(product.reference) not in made]
        self._add_places(cursor, {made[name]: product for name, product in some.items() if name in made})
        return added

    def _meeting(self, cursor: "PgCursor", products: Sequence[Found]) -> set[int]:
        """Which of these meet the area, by the same rule by which workers claim."""
        if not products:
            return set()
        met = statement(
            "ingest.meeting",
            areas=aoi.areas(self._tables),
            met=aoi.met(self._tables),
            transformed=self._transformed,
        )
        cursor.execute(met, {"outlines": _hex(products), **self._area})
        return {int(place) - 1 for (place,) in cursor.fetchall()}

    def _insert(self, cursor: "PgCursor", products: Sequence[Found]) -> dict[str, int]:
        """Name -> scene, of the rows that were added."""
        if not products:
            return {}
        values: dict[str, sql.Composable] = {
            "obstime": sql.SQL("obstime"),
            "reference": sql.SQL("reference"),
            "sensor": sql.SQL("substr(reference, 2, 2)"),
            "card": sql.SQL("card"),
            "status": sql.SQL("'ingested'"),
            "footprint": self._transformed,
        }
        columns = self._tables.catalogue.columns
        values = {name: value for name, value in values.items() if name in columns}
        adding = statement(
            "ingest.add",
            catalogue=self._tables.catalogue.identifier,
            columns=sql.SQL(", ").join(map(sql.Identifier, values)),
            values=sql.SQL(", ").join(values.values()),
        )
        parameters = {
            "obstimes": [product.obstime for product in products],
            "references": [product.reference for product in products],
            "cards": [product.card for product in products],
            "outlines": _hex(products),
            "footprint_srid": self._tables.footprint_srid,
        }
        cursor.execute(adding, parameters)
        return {bare(str(reference)): int(scene) for scene, reference in cursor.fetchall()}

    @property
    def _transformed(self) -> sql.Composable:
        """The outline `raw` in the catalogue's SRID."""
        if self._tables.footprint_srid == DEGREES:
            return sql.SQL("raw")
        return statement("ingest.in_srid")

    def _add_places(self, cursor: "PgCursor", products: Mapping[int, Found]) -> None:
        """Write down where products lie of which nothing is known."""
        if not (parameters := self._where(products)):
            return
        places = {"places": self._places.identifier}
        cursor.execute(shared("tables.lock_creation"))
        if not self._has_places(cursor):
            make_places(cursor, self._places, self._tables.catalogue)
        cursor.execute(statement("ingest.add_places", **places), parameters)

    def _move(self, cursor: "PgCursor", products: Mapping[int, Found]) -> list[Found]:
        """Write down where known products lie by now, as long as nobody has extracted them."""
        if not (parameters := self._where(products)) or not self._has_places(cursor):
            return []
        names = {"places": self._places.identifier, "catalogue": self._tables.catalogue.identifier}
        cursor.execute(statement("ingest.moved", **names), parameters | {"usual": self._bucket})
        moved = {int(scene): products[int(scene)] for (scene,) in cursor.fetchall()}
        if moved and not self._dry_run:
            cursor.execute(statement("ingest.move", places=names["places"]), self._where(moved))
            self._add_places(cursor, moved)
        return list(moved.values())

    def _has_places(self, cursor: "PgCursor") -> bool:
        cursor.execute(shared("places.exists"), {"table": self._places.identifier.as_string(cursor)})
        return bool(scalar(cursor))

    def _where(self, products: Mapping[int, Found]) -> dict[str, Any]:
        """Where these lie, as far as the source says, as parameters; nothing if it says nothing."""
        placed = {scene: product.place for scene, product in products.items() if product.place is not None}
        if not placed:
            return {}
        buckets = [place.bucket if self._bucket and place.bucket != self._bucket else None for place in placed.values()]
        return {"scenes": list(placed), "buckets": buckets, "prefixes": [place.prefix for place in placed.values()]}


def _hex(products: Sequence[Found]) -> list[str]:
    outlines = shapely.set_srid([product.outline for product in products], DEGREES)
    return [str(text) for text in shapely.to_wkb(outlines, hex=True, include_srid=True)]
