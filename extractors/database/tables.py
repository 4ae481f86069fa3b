"""The tables that a worker uses: found and checked without touching them; absent ones are made in a step of its own."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from psycopg2 import sql

from extractors.config import Args, DatabaseFile, TableName
from extractors.database.connection import Database, scalar
from extractors.database.schema import MADE_HERE, Table, find
from extractors.database.sql import statement
from extractors.errors import ConfigurationError
from extractors.signatures import NAMES

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as PgCursor  # noqa: N812

logger = logging.getLogger(__name__)

LOG_TABLE = "extraction_log"
LONGITUDE_LATITUDE = 4326
INTEGERS = {"int2", "int4", "int8"}
FLOATS = {"float4", "float8", "numeric"}
TEXTS = {"bpchar", "varchar", "text"}

# Columns that tables of others must have, and what they are for.
CATALOGUE_COLUMNS = {
    "id": "number of the scene",
    "obstime": "observation time, UTC",
    "reference": "product name",
    "card": "s2, bs or c6",
    "status": "state of processing",
    "footprint": "outline of the scene",
}
AOI_COLUMNS = {"wkb_geometry": "outline of the area"}
PARCEL_COLUMNS = {"ogc_fid": "unique number of the parcel", "wkb_geometry": "its boundary"}
# What tells the log of this program from a table of the same name.
LOG_COLUMNS = {"run_id", "attempt", "status", "retry_after", "parcels_without_geometry", "versions"}
# Columns that are written, and the types that can hold them.
RESULT_TYPES = {"pid": INTEGERS, "obsid": INTEGERS, "band": TEXTS} | {
    name: INTEGERS | FLOATS if name == "count" else FLOATS for name in NAMES
}
HIST_TYPES = {"pid": INTEGERS, "obsid": INTEGERS, "hist": {"json", "jsonb", "text"}}
# Some established tables spell it so.
OTHER_SPELLING = {"std": "stdev"}
# How the columns of a table are declared that is made here; ids as those of the parcels.
ID_TYPES = {"int8": sql.SQL("bigint")}
STATISTIC_COLUMNS = sql.SQL(", ").join(sql.SQL("{} real").format(sql.Identifier(name)) for name in NAMES)


@dataclass(frozen=True)
class Tables:
    """All tables of one configuration, checked.

    footprint_srid: of the catalogue. aoi_field: the column of the AOI table in which the name is looked up.
    parcel_srid: None while there are no parcels. pid_type: type of the parcels' ids. hists: None if none is wanted.
    """

    catalogue: Table
    footprint_srid: int
    aois: Table
    aoi_field: str
    parcels: Table
    parcel_srid: int | None
    pid_type: str
    log: Table
    results: Table
    hists: Table | None


def read_tables(
    database: Database, config: DatabaseFile, config_name: str, labels: Collection[str], histograms: bool
) -> Tables:
    """Find and check all tables; the log and the results tables may be absent. Changes nothing in the database.

    labels: what will be written into the column `band`. histograms: whether the configured table for these is wanted.
    Raises ConfigurationError that names the configuration's key, the table, and what to do.
    """
    wanted, key = config.tables, f"{config_name}: database.tables"
    with database.transaction("checking the parcel table") as cursor:
        parcels = _require(cursor, wanted.parcel_table, f"{key}.parcel_table", PARCEL_COLUMNS)
        pid_type = parcels.columns["ogc_fid"].type
        if pid_type not in INTEGERS:
            raise ConfigurationError(
                f"{parcels.key}: column ogc_fid of {parcels} has the type {pid_type}; it must be an integer"
            )
        parcel_srid = _srid(cursor, parcels, "wkb_geometry")
    with database.transaction("checking the catalogue") as cursor:
        catalogue = _require(cursor, wanted.catalogue_table, f"{key}.catalogue_table", CATALOGUE_COLUMNS)
        footprint_srid = _srid(cursor, catalogue, "footprint") or LONGITUDE_LATITUDE
        aois = _require(cursor, wanted.aoi_table, f"{key}.aoi_table", AOI_COLUMNS)
        _srid(cursor, aois, "wkb_geometry")
        aoi_field = _aoi_field(cursor, aois, config.args, f"{config_name}: database.args")
        # Beside the catalogue, because it holds its ids.
        log = _checked_log(find(cursor, TableName(LOG_TABLE, catalogue.name.schema), key))
    with database.transaction(_checking(wanted.results_table, f"{key}.results_table")) as cursor:
        results = _checked(find(cursor, wanted.results_table, f"{key}.results_table"), RESULT_TYPES)
        _check_labels(results, labels)
    hists = None
    if histograms and wanted.hists_table is not None:
        with database.transaction(_checking(wanted.hists_table, f"{key}.hists_table")) as cursor:
            hists = _checked(find(cursor, wanted.hists_table, f"{key}.hists_table"), HIST_TYPES)
    return Tables(catalogue, footprint_srid, aois, aoi_field, parcels, parcel_srid, pid_type, log, results, hists)


def make_tables(database: Database, tables: Tables) -> Tables:
    """Create the tables that are absent, all of them or none; whoever else starts now finds them made.

    Raises ConfigurationError if the database does not let us, or if others have made one meanwhile that does not fit.
    """
    results = [table for table in (tables.results, tables.hists) if table is not None]
    absent = [table for table in (tables.log, *results) if table.absent]
    if not absent:
        return tables
    with database.transaction(
        f"creating {', '.join(f'the table {table} ({table.key})' for table in absent)}"
    ) as cursor:
        cursor.execute(statement("tables.lock_creation"))
        for table in absent:
            # Another worker may have been quicker.
            if not find(cursor, table.name, table.key).absent:
                continue
            if table is tables.log:
                cursor.execute(statement("tables.create_log", log=table.identifier))
                cursor.execute(statement("tables.index_log", log=table.identifier))
                cursor.execute(statement("tables.index_open_attempts", log=table.identifier))
                continue
            columns = {"pid_type": ID_TYPES.get(tables.pid_type, sql.SQL("integer")), "statistics": STATISTIC_COLUMNS}
            if table is tables.results:
                cursor.execute(statement("tables.create_results", table=table.identifier, **columns))
            else:
                cursor.execute(statement("tables.create_hists", table=table.identifier, **columns))
            cursor.execute(statement("tables.comment", table=table.identifier), {"comment": MADE_HERE})
        return replace(
            tables,
            log=_checked_log(find(cursor, tables.log.name, tables.log.key)),
            results=_checked(find(cursor, tables.results.name, tables.results.key), RESULT_TYPES),
            hists=tables.hists and _checked(find(cursor, tables.hists.name, tables.hists.key), HIST_TYPES),
        )


def _require(cursor: "PgCursor", wanted: TableName, key: str, needed: Mapping[str, str]) -> Table:
    """A table that must exist; `needed` maps its columns' names to what they are for."""
    table = find(cursor, wanted, key)
    if table.absent:
        raise ConfigurationError(
            f"{key}: there is no table {wanted} in the database; create it or write the name of the right one"
        )
    for name, purpose in needed.items():
        if name not in table.columns:
            raise ConfigurationError(
                f"{key}: table {table} has no column {name} ({purpose}); add it or write the name of the right table"
            )
    return table


def _srid(cursor: "PgCursor", table: Table, column: str) -> int | None:
    """The SRID of a geometry column, from its type or else from its data; None for a table without geometries."""
    srid = table.columns[column].srid
    if not srid:
        cursor.execute(statement("tables.srid_of_data", table=table.identifier, geometry=sql.Identifier(column)))
        srid = scalar(cursor)
    if srid == 0:
        raise ConfigurationError(
            f"{table.key}: the geometries of {table} have no SRID, so nobody knows where they are; set it with SELECT "
            f"UpdateGeometrySRID('{table.name.schema or 'public'}', '{table.name.name}', '{column}', <EPSG code>)"
        )
    return srid


def _aoi_field(cursor: "PgCursor", aois: Table, args: Args, key: str) -> str:
    """The column of the AOI table in which the configured name is found."""
    column = args.aoi_field
    if column not in aois.columns:
        if "name" not in aois.columns:
            raise ConfigurationError(
                f"{key}.aoi_field: table {aois} has no column {column}; write the name of one of its columns: "
                f"{', '.join(aois.columns)}"
            )
        column = "name"
        logger.warning("table %s has no column %s (aoi_field): using its column name", aois, args.aoi_field)
    cursor.execute(
        statement("tables.count_aois", aois=aois.identifier, field=sql.Identifier(column)), {"name": args.name}
    )
    found, with_geometry = cursor.fetchone() or (0, 0)
    if not with_geometry:
        raise ConfigurationError(
            f"{key}.name: the area {args.name!r} in {aois} has no geometry; give it one"
            if found
            else f"{key}.name: no row of {aois} has {column} = {args.name!r}; write the name of an area in that table"
        )
    return column


def _checked_log(log: Table) -> Table:
    """The log, if it is absent or really ours."""
    missing = LOG_COLUMNS - log.columns.keys()
    if missing and not log.absent:
        raise ConfigurationError(
            f"table {log} is not the log of this program (it lacks {', '.join(sorted(missing))}); rename that table"
        )
    return log


def _checked(table: Table, types: Mapping[str, set[str]]) -> Table:
    """A table to write into, with just the columns that are written; `types`: their names, and the types allowed."""
    if table.absent:
        return table
    ours = {}
    for name, allowed in types.items():
        own = OTHER_SPELLING.get(name, name)
        own = name if name in table.columns or own not in table.columns else own
        if own not in table.columns:
            raise ConfigurationError(
                f"{table.key}: table {table} has no column {name}; add it (its columns must be {', '.join(types)}), or "
                "write the name of another table"
            )
        if table.columns[own].type not in allowed:
            raise ConfigurationError(
                f"{table.key}: column {own} of table {table} has the type {table.columns[own].type}, which cannot hold "
                f"it; change it to one of {', '.join(sorted(allowed))}"
            )
        ours[name] = table.columns[own]
    for column in table.columns.values():
        if column not in ours.values() and column.required:
            raise ConfigurationError(
                f"{table.key}: column {column.name} of table {table} is NOT NULL without a default, and nothing writes "
                "it; drop it, allow NULL or give it a default"
            )
    return replace(table, columns=ours)


def _check_labels(results: Table, labels: Collection[str]) -> None:
    """Raise ConfigurationError if the bands' labels do not fit into their column."""
    longest = max(map(len, labels), default=0)
    room = None if results.absent else results.columns["band"].longest_text
    if room is not None and room < longest:
        raise ConfigurationError(
            f"{results.key}: column band of table {results} holds {room} characters, but the labels have {longest}; "
            "widen it, or write extraction.band_labels = classic"
        )


def _checking(table: TableName, key: str) -> str:
    return f"checking the table {table} ({key})"
