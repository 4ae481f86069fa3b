"""The parcels of a scene, selected by PostGIS and fetched in chunks of neighbours.

PostGIS selects (really meeting the footprint and the AOI), transforms to the scene's CRS and orders along its
space-filling curve. The selection is fetched at once by a binary COPY and kept in a file beside the scene's images, so
that nothing stays open or locked in the database while statistics are computed, and memory stays bounded.
"""

import logging
import math
import sys
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg2
from psycopg2 import errors as pg
from psycopg2 import sql

from extractors.database import aoi
from extractors.database.connection import Database, scalar
from extractors.database.results import array_literal
from extractors.database.spool import Received, Spool
from extractors.database.sql import statement
from extractors.database.tables import Tables
from extractors.errors import ConfigurationError, ParcelsChangedError, UnusableSceneError, one_line
from extractors.model import Scene

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as PgCursor  # noqa: N812

log = logging.getLogger(__name__)

Result = TypeVar("Result")
Functions = dict[str, sql.Composable]

# A row of COPY is the number of its fields (2 bytes), and each field behind its size (4 bytes), most significant byte
# first. That of a parcel: its id (8 bytes), problem (2 bytes), and well-known binary to the row's end.
PID_AT, PROBLEM_AT, WKB_AT = 2 + 4, 2 + 4 + 8 + 4, 2 + 4 + 8 + 4 + 2 + 4
# The problems of a parcel that has no id, and of one with too many vertices, as `parcels.stream` gives them.
WITHOUT_ID, TOO_MANY_VERTICES = 2, 3
# What no real parcel has, and still fits into memory.
MOST_VERTICES = 1_100_000
# Ids named in an error.
SHOWN_IDS = 5

# West, south, east, north.
Box = tuple[float, float, float, float]

PLAIN: Functions = {
    "transform": sql.SQL("ST_Transform"),
    "intersects": sql.SQL("ST_Intersects"),
    "sound": sql.SQL("true"),
    "inside": sql.SQL("(SELECT yes FROM inside)"),
}
CAREFUL: Functions = {
    "transform": sql.Identifier("pg_temp", "careful_transform"),
    "intersects": sql.Identifier("pg_temp", "careful_intersects"),
    "sound": sql.SQL("ST_IsValid(shape)"),
    "inside": sql.SQL("false"),
}


@dataclass(frozen=True)
class Selection:
    """The parcels of one scene: how many, their ids, and their rows, one block for each chunk, to go through once. What
    is in a row, `copy.parcel_chunk` knows."""

    total: int
    pids: "array[int]"
    blocks: Iterator[list[bytes]]


class Parcels:
    """The parcel table, asked for one area of interest."""

    def __init__(self, database: Database, tables: Tables, aoi: str) -> None:
        self._database = database
        self._tables = tables
        self._aoi = aoi
        self._without_geometry: tuple[int, int] | None = None

    def without_geometry(self) -> tuple[int, int]:
        """How many parcels have no geometry (NULL), and how many an empty one: no scene ever meets these. Counted when
        first asked for."""
        if self._without_geometry is None:
            with self._database.transaction("counting parcels") as cursor:
                cursor.execute(statement("parcels.without_geometry", **self._tables.parcel_columns))
                null, empty = cursor.fetchone() or (0, 0)
            self._without_geometry = int(null), int(empty)
        return self._without_geometry

    def require_footprint(self, scene: Scene) -> None:
        """Raise UnusableSceneError if the scene's footprint cannot be used."""
        if scene.problem is not None:
            raise UnusableSceneError(f"its footprint in {self._tables.catalogue} {scene.problem}; fix it")

    def meet(self, scene: Scene) -> bool:
        """Whether any parcel meets the scene's footprint and the AOI; costs little, and may spare a download.

        Raises ParcelsChangedError if there are no parcels at all any more.
        """
        values = self._values(scene)

        def ask(cursor: "PgCursor", functions: Functions) -> bool:
            what = statement("parcels.any")
            cursor.execute(_selection(self._tables, what, functions | self._chosen(scene)), values)
            return bool(scalar(cursor))

        return self._plain_or_careful(ask)

    def leaving(self, scene: Scene) -> "array[int]":
        """Of the parcels that are to be done again, those whose rows go because they do not meet the scene any more, or
        are gone. What meets it outside of the AOI stays: another area may share the table. None of a scene whose
        footprint cannot be used: that is refused."""
        if scene.redo is None or scene.redo.pids is None or scene.problem is not None:
            return array("q")
        values = self._values(scene) | {"gone": array_literal(scene.redo.gone)}

        def ask(cursor: "PgCursor", functions: Functions) -> "array[int]":
            names = {**self._tables.parcel_columns, "catalogue": self._tables.catalogue.identifier}
            what = statement("parcels.leaving", **names)
            anywhere = statement("parcels.around_the_scene", outline=aoi.footprint(self._tables), **names)
            cursor.execute(_selection(self._tables, what, functions | self._chosen(scene), anywhere), values)
            return array("q", [pid for (pid,) in cursor.fetchall()])

        return self._plain_or_careful(ask)

    def ask(self, scene: Scene, what: sql.Composable, chosen: sql.Composable, values: Mapping[str, Any]) -> Any:
        """What a statement tells of those of the scene's parcels `p` that meet a condition: its first value. Raises
        UnusableSceneError if the scene's footprint cannot be used."""
        self.require_footprint(scene)
        all_values = {**self._values(scene), **values}

        def ask(cursor: "PgCursor", functions: Functions) -> Any:
            cursor.execute(_selection(self._tables, what, functions | {"chosen": chosen}), all_values)
            return scalar(cursor)

        return self._plain_or_careful(ask)

    def srid(self) -> int | None:
        """The SRID of the parcels; None while there are none. Not what it was at the start: a new import may have come
        with another one."""
        with self._database.transaction("selecting parcels") as cursor:
            cursor.execute(statement("parcels.srid", **self._tables.parcel_columns))
            srid: int | None = scalar(cursor)
            if srid is not None:
                self._require_srid(cursor, srid, f"{self._tables.parcels.key}: the parcels of {self._tables.parcels}")
        return srid

    def _require_srid(self, cursor: "PgCursor", srid: int, whose: str) -> None:
        cursor.execute(statement("tables.definition"), {"srid": srid})
        if cursor.fetchone() is None:
            raise ConfigurationError(
                f"{whose} have the SRID {srid}, which the database does not know; add its definition to the table "
                "spatial_ref_sys (columns srid, auth_name, auth_srid, srtext, proj4text)"
            )

    def boxes_with_parcels(self, scene: Scene, epsg: int, boxes: Sequence[Box]) -> list[int]:
        """Which of the boxes (in EPSG:`epsg`) may hold parcels of the scene: a quick guess, for preparing them. Empty
        if it cannot be made."""
        if not boxes:
            return []
        sides = zip(("west", "south", "east", "north"), map(list, zip(*boxes, strict=True)), strict=True)
        values = self._values(scene) | {"scene_srid": epsg} | dict(sides)
        chosen = self._chosen(scene)
        what = statement("parcels.boxes", **self._tables.parcel_columns, **chosen)
        try:
            with self._database.transaction("looking where parcels are") as cursor:
                cursor.execute(_selection(self._tables, what, PLAIN | chosen), values)
                return [int(row[0]) for row in cursor.fetchall()]
        except ConfigurationError as error:
            if _broken_geometry(error) is None:
                raise
            return []  # the selection itself will say so

    def footprint_bounds(self, scene: Scene, srid: int) -> Box | None:
        """The box around the scene's footprint in the CRS of this number; None if it cannot be brought there."""
        names = {
            "footprint": aoi.in_srid(sql.Identifier("footprint"), "scene_srid"),
            "valid": aoi.footprint(self._tables),
            "catalogue": self._tables.catalogue.identifier,
        }
        try:
            with self._database.transaction("looking where the scene is") as cursor:
                cursor.execute(statement("parcels.footprint_bounds", **names), {"obsid": scene.id, "scene_srid": srid})
                box: Box = cursor.fetchone() or (None,) * 4
        except ConfigurationError as error:
            if _broken_geometry(error) is None:
                raise
            return None  # the selection itself will say so
        return box if all(side is not None and math.isfinite(side) for side in box) else None

    @contextmanager
    def select(self, scene: Scene, epsg: int, chunk_size: int, folder: Path) -> Iterator[Selection]:
        """Select the parcels that meet the scene's footprint and the AOI, in chunks of `chunk_size` (or of fewer
        with many vertices), in EPSG:`epsg`.

        They are kept in a nameless file in `folder`. One broken geometry must not cost the scene: if the plain query
        fails on one, it is run again with functions that fix or mark such parcels. Raises UnusableSceneError if
        footprint or AOI themselves cannot be used, ConfigurationError if several parcels have the same id or the
        database does not know EPSG:`epsg`, ParcelsChangedError if there are no parcels any more, OSError if the file
        cannot be written.
        """
        values = self._values(scene) | {"scene_srid": epsg, "most_vertices": MOST_VERTICES}
        with self._database.transaction("looking at reference systems") as cursor:
            self._require_srid(cursor, epsg, "the scene's files")

        def fetch(cursor: "PgCursor", functions: Functions) -> "tuple[Spool, array[int]]":
            rows, pids = Spool(folder, 0, chunk_size), array("q")

            def note(row: bytes) -> None:
                if row[PROBLEM_AT : PROBLEM_AT + 2] != WITHOUT_ID.to_bytes(2, "big"):
                    pids.frombytes(row[PID_AT : PID_AT + 8])

            try:
                received = Received(rows, note)
                what = statement("parcels.stream", **functions)
                # COPY takes no parameters: the values go in beforehand, quoted by the driver.
                selection = _selection(self._tables, what, functions | self._chosen(scene))
                query = cursor.mogrify(selection, values).decode()
                cursor.copy_expert(statement("parcels.fetch", selection=sql.SQL(query)), received)
                received.finish()
            except BaseException:
                rows.close()
                raise
            if sys.byteorder == "little":
                pids.byteswap()
            return rows, pids

        rows, pids = self._plain_or_careful(fetch)
        with rows:
            self._refuse_twins(pids)
            yield Selection(rows.total, pids, rows.blocks())

    def _refuse_twins(self, pids: "array[int]") -> None:
        """Raise ConfigurationError if an id is there twice: nobody could tell the rows of these parcels apart."""
        if len(set(pids)) == len(pids):
            return
        twins = [pid for pid, number in Counter(pids).items() if number > 1]
        shown = ", ".join(map(str, sorted(twins)[:SHOWN_IDS])) + (", ..." if len(twins) > SHOWN_IDS else "")
        raise ConfigurationError(
            f"{self._tables.parcels.key}: {len(twins)} ids belong to several parcels of {self._tables.parcels} each "
            f"({shown}); give every parcel an id of its own"
        )

    def _chosen(self, scene: Scene) -> Functions:
        """Which of them come into question: all, or those that are to be done again."""
        if scene.redo is None or scene.redo.pids is None:
            return {"chosen": sql.SQL("true")}
        return {"chosen": statement("parcels.chosen", **self._tables.parcel_columns)}

    def _values(self, scene: Scene) -> dict[str, Any]:
        srid = self.srid()
        if srid is None:
            raise ParcelsChangedError(
                f"{self._tables.parcels} holds no parcels any more; see whether it is being filled"
            )
        redo = None if scene.redo is None else scene.redo.pids
        return {
            "pids": None if redo is None else array_literal(redo),
            "obsid": scene.id,
            "aoi": self._aoi,
            "footprint_srid": self._tables.footprint_srid,
            "parcel_srid": srid,
        }

    def _plain_or_careful(self, query: "Callable[[PgCursor, Functions], Result]") -> Result:
        """Run a query with PostGIS' own functions, or, if a geometry breaks them, with ones that step over it."""
        try:
            with self._database.transaction("selecting parcels") as cursor:
                return query(cursor, PLAIN)
        except ConfigurationError as error:
            broken = _broken_geometry(error)
            if broken is None:
                raise
            log.warning("a geometry is broken (%s): selecting again, parcel by parcel", one_line(broken))
        try:
            with self._database.transaction("selecting parcels") as cursor:
                cursor.execute(statement("parcels.careful_transform"))
                cursor.execute(statement("parcels.careful_intersects"))
                return query(cursor, CAREFUL)
        except ConfigurationError as error:
            broken = _broken_geometry(error)
            if broken is None:
                raise
            raise UnusableSceneError(
                f"the scene's footprint or the AOI cannot be used for selecting parcels ({one_line(broken)}); fix it"
            ) from error


def _selection(
    tables: Tables, what: sql.Composable, functions: Functions, areas: sql.Composable | None = None
) -> sql.Composed:
    """The statement that selects a scene's parcels and tells `what` of them. areas: in place of the AOI."""
    return statement(
        "parcels.selection",
        areas=areas or aoi.areas(tables),
        outline=aoi.footprint(tables),
        footprint=aoi.in_srid_by_parts(sql.Identifier("outline"), "parcel_srid"),
        area=aoi.in_srid_by_parts(sql.Identifier("area"), "parcel_srid"),
        catalogue=tables.catalogue.identifier,
        **tables.parcel_columns,
        what=what,
        **functions,
    )


def _broken_geometry(error: ConfigurationError) -> psycopg2.Error | None:
    """What PostGIS and GEOS have reported of a geometry that they cannot work with, if that is behind an error."""
    return error.__cause__ if isinstance(error.__cause__, pg.InternalError) else None
