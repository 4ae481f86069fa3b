"""The tables that a worker uses: found and checked without touching them.

What their columns must be is in `columns` and `outputs`; whether this worker may do with them what it has to do, in
`checks`; and `making` makes those that are absent.
"""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from psycopg2 import sql

from extractors.config import DatabaseFile, TableName
from extractors.database.columns import AOI_COLUMNS, CATALOGUE_COLUMNS, INTEGERS, PARCEL_GEOMETRY, PARCEL_ID
from extractors.database.connection import Database, scalar
from extractors.database.outputs import OUTPUTS, RESULT_TYPES, RESULTS, check_labels, checked, result_types
from extractors.database.schema import Column, Table, find
from extractors.database.sql import statement
from extractors.errors import ConfigurationError

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as PgCursor  # noqa: N812

logger = logging.getLogger(__name__)

LOG_TABLE = "extraction_log"
LONGITUDE_LATITUDE = 4326
# Rows that are looked at for the SRID of a column whose type does not say it.
MANY_ROWS = 10_000
ALL = sql.SQL("true")
# What tells the log of this program from a table of the same name.
LOG_COLUMNS = {"run_id", "attempt", "status", "retry_after", "parcels_without_geometry", "versions"}
# Came with a later version.
SETTINGS = "settings"


@dataclass(frozen=True)
class Tables:
    """All tables of one configuration, checked.

    footprint_srid: of the catalogue; in_degrees: whether that is longitude and latitude. aoi_field: the column of the
    AOI table in which the name is looked up. parcel_srid: as it is now; None while there are no parcels. of_results:
    those of OUTPUTS that are wanted. fixes_by_structure: whether this PostGIS has the quick way of making geometries
    valid. result_types: the columns of results that are written, and the types that can hold them.
    """

    catalogue: Table
    footprint_srid: int
    in_degrees: bool
    aois: Table
    aoi_srid: int | None
    aoi_field: str
    parcels: Table
    parcel_srid: int | None
    log: Table
    of_results: Mapping[str, Table]
    fixes_by_structure: bool
    result_types: Mapping[str, set[str]] = field(default_factory=lambda: RESULT_TYPES)

    @property
    def results(self) -> Table:
        """The results table proper."""
        return self.of_results[RESULTS]

    @property
    def other_results(self) -> dict[str, dict[str, str]]:
        """The others of OUTPUTS, as the log has them among its settings; nothing if there are none."""
        others = {name: str(table) for name, table in self.of_results.items() if name != RESULTS}
        return {"tables": others} if others else {}

    @property
    def pid_type(self) -> str:
        """Type of the parcels' ids."""
        return self.parcels.columns["id"].type

    @property
    def parcel_columns(self) -> dict[str, sql.Composable]:
        """Id and geometry of a parcel `p`, and the table."""
        columns = {"pid": self.parcels.columns["id"].of("p"), "geometry": self.parcels.columns["geometry"].of("p")}
        return columns | {"parcels": self.parcels.identifier}


class TableReader:
    """Finds and checks the tables of a configuration, each when it is asked for; changes nothing in the database.

    labels: what will be written into the column `band`. classes: whether the CARD has classes of pixels.
    Every property raises ConfigurationError that names the configuration's key, the table, and what to do; the log and
    the results tables may be absent.
    """

    def __init__(
        self, database: Database, config: DatabaseFile, config_name: str, labels: Collection[str], classes: bool
    ) -> None:
        self._database = database
        self._wanted, self._args = config.tables, config.args
        self._key, self._args_key = f"{config_name}: database.tables", f"{config_name}: database.args"
        self.labels = labels
        self._classes = classes
        self._result_types = result_types(config.extraction)

    @cached_property
    def parcels(self) -> Table:
        """The parcel table, with the columns `id` and `geometry`."""
        pid, geometry = self._wanted.parcel_id, self._wanted.parcel_geometry
        with self._database.transaction("checking the parcel table") as cursor:
            needed = {pid: PARCEL_ID, geometry: PARCEL_GEOMETRY}
            parcels = self._require(cursor, self._wanted.parcel_table, "parcel_table", needed)
        return replace(parcels, columns={"id": parcels.columns[pid], "geometry": parcels.columns[geometry]})

    @cached_property
    def parcel_srid(self) -> int | None:
        """The SRID that the parcels themselves have; None while there are none."""
        return self._reference(self.parcels, replace(self.parcels.columns["geometry"], srid=None), rows=1)[0]

    @cached_property
    def catalogue(self) -> Table:
        """The catalogue, with all its columns."""
        with self._database.transaction("checking the catalogue") as cursor:
            return self._require(cursor, self._wanted.catalogue_table, "catalogue_table", CATALOGUE_COLUMNS)

    @cached_property
    def footprints(self) -> tuple[int, bool]:
        """The catalogue's SRID, and whether that is longitude and latitude."""
        srid, in_degrees = self._reference(self.catalogue, self.catalogue.columns["footprint"])
        return (LONGITUDE_LATITUDE, True) if srid is None else (srid, in_degrees)

    @property
    def footprint_srid(self) -> int:
        """The catalogue's SRID."""
        return self.footprints[0]

    @property
    def in_degrees(self) -> bool:
        """Whether that is longitude and latitude."""
        return self.footprints[1]

    @cached_property
    def aois(self) -> Table:
        """The AOI table, with all its columns."""
        with self._database.transaction("checking the AOI table") as cursor:
            return self._require(cursor, self._wanted.aoi_table, "aoi_table", AOI_COLUMNS)

    @cached_property
    def aoi_srid(self) -> int | None:
        """The SRID of the area."""
        named = sql.SQL("{}::text = {}").format(self.aois.columns[self.aoi_field].of(), sql.Literal(self._args.name))
        return self._reference(self.aois, self.aois.columns["wkb_geometry"], of_use=named)[0]

    @cached_property
    def aoi_field(self) -> str:
        """The column of the AOI table in which the configured name is found, with a geometry."""
        aois, column, name = self.aois, self._args.aoi_field, self._args.name
        if column not in aois.columns:
            if "name" not in aois.columns:
                raise ConfigurationError(
                    f"{self._args_key}.aoi_field: table {aois} has no column {column}; write the name of one of its "
                    f"columns: {', '.join(aois.columns)}"
                )
            column = "name"
            logger.warning("table %s has no column %s (aoi_field): using its column name", aois, self._args.aoi_field)
        field, geometry = aois.columns[column].of(), aois.columns["wkb_geometry"].of()
        with self._database.transaction("looking for the area of interest") as cursor:
            count = statement("tables.count_aois", aois=aois.identifier, field=field, geometry=geometry)
            cursor.execute(count, {"name": name})
            found, with_geometry = cursor.fetchone() or (0, 0)
        if not with_geometry:
            raise ConfigurationError(
                f"{self._args_key}.name: the area {name!r} in {aois} has no geometry; give it one"
                if found
                else f"{self._args_key}.name: no row of {aois} has {column} = {name!r}; write the name of an area in "
                "that table"
            )
        return column

    @cached_property
    def fixes_by_structure(self) -> bool:
        """Whether this PostGIS has the quick way of making geometries valid."""
        with self._database.transaction("looking at PostGIS") as cursor:
            cursor.execute(statement("connection.fixes_by_structure"))
            return bool(scalar(cursor))

    @cached_property
    def log(self) -> Table:
        """The log, beside the catalogue, because it holds its ids."""
        with self._database.transaction("looking for the log") as cursor:
            return checked_log(find(cursor, TableName(LOG_TABLE, self.catalogue.name.schema), self._key))

    @cached_property
    def results(self) -> Table:
        """The results table proper."""
        return self.of_results[RESULTS]

    @cached_property
    def of_results(self) -> dict[str, Table]:
        """Those of OUTPUTS that are wanted."""
        found: dict[str, Table] = {}
        for name, output in OUTPUTS.items():
            wanted: TableName | None = getattr(self._wanted, output.key)
            if wanted is None or (output.of_classes and not self._classes):
                continue
            key = f"{self._key}.{output.key}"
            with self._database.transaction(f"checking the table {wanted} ({key})") as cursor:
                table = checked(find(cursor, wanted, key), output.types or self._result_types)
            check_labels(table, self.labels)
            for other, its in found.items():
                if its.name == table.name:
                    raise ConfigurationError(
                        f"{key}: {table} is the {OUTPUTS[other].key} already; write the name of another table"
                    )
            found[name] = table
        return found

    def forget_parcels(self) -> None:
        """Look at the parcels' SRID again when it is asked for: there were none."""
        self.__dict__.pop("parcel_srid", None)

    def all(self) -> Tables:
        """All of them."""
        return Tables(
            catalogue=self.catalogue,
            footprint_srid=self.footprints[0],
            in_degrees=self.footprints[1],
            aois=self.aois,
            aoi_srid=self.aoi_srid,
            aoi_field=self.aoi_field,
            parcels=self.parcels,
            parcel_srid=self.parcel_srid,
            log=self.log,
            of_results=self.of_results,
            fixes_by_structure=self.fixes_by_structure,
            result_types=self._result_types,
        )

    def _require(
        self, cursor: "PgCursor", wanted: TableName, key: str, needed: Mapping[str, tuple[str, set[str]]]
    ) -> Table:
        """A table that must exist, with these columns."""
        table = find(cursor, wanted, f"{self._key}.{key}")
        if table.absent:
            raise ConfigurationError(
                f"{table.key}: there is no table {wanted} in the database; create it or write the name of the right one"
            )
        for name, (purpose, types) in needed.items():
            if name not in table.columns:
                raise ConfigurationError(
                    f"{table.key}: table {table} has no column {name} ({purpose}); add it or write the name of the "
                    "right table"
                )
            found = table.columns[name].type
            if types and found not in types:
                must = "an integer" if types is INTEGERS else f"one of {', '.join(sorted(types))}"
                raise ConfigurationError(
                    f"{table.key}: column {name} of {table} has the type {found}; it must be {must}"
                )
        return table

    def _reference(
        self, table: Table, column: Column, rows: int = MANY_ROWS, of_use: sql.Composable = ALL
    ) -> tuple[int | None, bool]:
        """The SRID of a geometry column, from its type or else from its data (None for a table without geometries), and
        whether that is longitude and latitude. rows: so many are looked at, and what most of them have counts: a single
        one must not decide about all others. of_use: which rows count."""
        geometry = {"table": table.identifier, "geometry": column.of()}
        with self._database.transaction("looking at reference systems") as cursor:
            srid = column.srid
            if not srid:
                cursor.execute(statement("tables.usual_srid", **geometry, of_use=of_use), {"rows": rows})
                srid = scalar(cursor)
            cursor.execute(statement("tables.definition"), {"srid": srid})
            definition = cursor.fetchone()
        as_another = (
            f"SELECT UpdateGeometrySRID('{table.name.schema or 'public'}', '{table.name.name}', '{column.name}', "
            "<EPSG code>)"
        )
        if srid == 0:
            raise ConfigurationError(
                f"{table.key}: the geometries of {table} have no SRID, so nobody knows where they are; set it with "
                f"{as_another}"
            )
        if srid is not None and definition is None:
            raise ConfigurationError(
                f"{table.key}: the geometries of {table} have the SRID {srid}, which this database does not know; add "
                "its definition to the table spatial_ref_sys (columns srid, auth_name, auth_srid, srtext, proj4text), "
                f"or, if they are in a known CRS, say so with {as_another}"
            )
        return srid, definition is not None and bool(definition[0])


def checked_log(log: Table) -> Table:
    """The log, if it is absent or really ours."""
    missing = LOG_COLUMNS - log.columns.keys()
    if missing and not log.absent:
        raise ConfigurationError(
            f"table {log} is not the log of this program (it lacks {', '.join(sorted(missing))}); rename that table"
        )
    return log
