"""`python -m operations setup`: makes what workers need and is not there, and leaves alone what others have made.

In an empty database that is PostGIS, the catalogue, the AOI table and the table of places. Once parcels have been
imported, also the area around them, the log, and the tables of results. Done twice, it changes nothing.
"""

import argparse
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg2 import sql

from extractors.config import TableName
from extractors.database.advice import wanted_of_catalogue, wanted_of_log
from extractors.database.making import make_tables
from extractors.database.outputs import EXTRA_TYPES, OUTPUTS
from extractors.database.places import PLACES_TABLE
from extractors.database.schema import Table, find
from extractors.database.sql import statement as shared
from extractors.database.tables import SETTINGS, Tables
from extractors.errors import ConfigurationError
from operations.area import make_area
from operations.indexes import add_indexes, alone, are_lacking
from operations.lines import Report
from operations.options import add_card, add_dry_run
from operations.partitions import SCENES, cover_scenes, divide, make_partitioned
from operations.places import make_places
from operations.role import grant_rights
from operations.session import EarlyReader, Session, session
from operations.sql import statement
from operations.views import make_views

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as PgCursor  # noqa: N812


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    parser.add_argument(
        "--aoi",
        metavar="FILE|parcels",
        help="make the area of interest, if it is lacking: from a file (GeoPackage, GeoJSON, Shapefile), or as a rough "
        "outline of the parcels",
    )
    parser.add_argument(
        "--role", metavar="NAME", help="give a role the rights that workers need, and make it if there is none"
    )
    parser.add_argument(
        "--role-config",
        metavar="FILE",
        type=Path,
        help="the workers' db_config.json, which holds the password of a role that is made (otherwise it is asked for)",
    )
    parser.add_argument(
        "--partitioned",
        metavar="SCENES",
        nargs="?",
        type=int,
        const=SCENES,
        help=f"for large countries: tables of results in partitions of so many scenes ({SCENES}), if they are made now",
    )
    add_card(parser, "make the tables of results for this CARD only (default: for all)")
    add_dry_run(parser)
    parser.add_argument(
        "--check", action="store_true", help="change nothing, say what is lacking, and end with 2 if anything is"
    )


def run(options: argparse.Namespace) -> int:
    """Make what is lacking."""
    if options.partitioned is not None and options.partitioned < 1:
        raise ConfigurationError("--partitioned: a partition holds one scene or more")
    report = Report(changes=not (options.check or options.dry_run))
    with session(options) as opened:
        has_postgis = make_extension(opened, report)
        (make_tables_of_scenes if has_postgis else look_without_postgis)(opened, report)
        reader = opened.reader(options.card)
        # What was not made, because nothing is to be changed, cannot be filled.
        if has_postgis and _has_scenes(opened):
            make_area(opened, reader, options.aoi, report)
            make_results(opened, reader, options.partitioned, report)
            reader = opened.reader(options.card)
            if not reader.parcels.absent:
                cover_scenes(opened, reader, report)
                make_views(opened, reader, report, options.card)
            if options.role is not None:
                grant_rights(opened, reader, options.role, options.role_config, report)
    return ConfigurationError.exit_code if options.check and report.lacking else 0


def make_extension(opened: Session, report: Report) -> bool:
    """Make the extension PostGIS; False if it is lacking, so that geometries cannot be looked at."""
    with opened.database.transaction("looking for PostGIS") as cursor:
        cursor.execute(shared("connection.describe"))
        server, version, schema, *_ = cursor.fetchone() or ("", None, None)
    if version is not None:
        report.there("PostGIS", f"{version} in schema {schema}, PostgreSQL {server}")
        return True
    report.make("PostGIS", "the extension postgis", partial(_create_extension, opened))
    return report.changes


def _create_extension(opened: Session) -> None:
    with opened.database.transaction("making the extension postgis (a superuser may)") as cursor:
        cursor.execute(shared("tables.lock_creation"))
        cursor.execute(statement("setup.create_extension"))
    opened.reopen()


def look_without_postgis(opened: Session, report: Report) -> None:
    """Say which tables are there that need geometries. More cannot be looked at: PostGIS itself tells of these."""
    wanted = opened.config.tables
    for what, name in (
        ("catalogue", wanted.catalogue_table),
        ("AOI table", wanted.aoi_table),
        ("parcel table", wanted.parcel_table),
    ):
        with opened.database.transaction(f"looking for the table {name}") as cursor:
            cursor.execute(shared("tables.find"), {"schema": name.schema, "name": name.name})
            is_there = cursor.fetchone() is not None
        hint = " is there without any geometries, as it was made without PostGIS; rename it, or configure another name"
        report.lacks(what, f"{name}{hint if is_there else ''}")


def make_tables_of_scenes(opened: Session, report: Report) -> None:
    """Make catalogue, AOI table and the table of places, as far as they are lacking."""
    wanted = opened.config.tables
    catalogue = _find(opened, wanted.catalogue_table)
    if catalogue.absent:
        report.make(
            "catalogue", f"{catalogue}, with the indexes that claims need", partial(_catalogue, opened, catalogue)
        )
    else:
        report.there("catalogue", str(catalogue))
    aois = _find(opened, wanted.aoi_table)
    if aois.absent:
        report.make("AOI table", str(aois), partial(_aois, opened, aois))
    else:
        report.there("AOI table", str(aois))
    places = _find(opened, TableName(PLACES_TABLE, catalogue.name.schema))
    if places.absent:
        report.make("table of places", str(places), partial(_places, opened, places, catalogue))
    else:
        report.there("table of places", str(places))


def _find(opened: Session, name: TableName) -> Table:
    with opened.database.transaction(f"looking for the table {name}") as cursor:
        return find(cursor, name, f"{opened.name}: database.tables")


def _catalogue(opened: Session, table: Table) -> None:
    with _making(opened, table) as cursor:
        if cursor is None:
            return
        cursor.execute(statement("setup.create_catalogue", catalogue=table.identifier))
        made = find(cursor, table.name, table.key)
        definitions = [index.definition for index in wanted_of_catalogue(made)]
        for definition in [*definitions, sql.SQL("USING gist (footprint)")]:
            cursor.execute(statement("indexes.create_at_once", table=table.identifier, definition=definition))


def _aois(opened: Session, table: Table) -> None:
    field = sql.Identifier(opened.config.args.aoi_field)
    with _making(opened, table) as cursor:
        if cursor is not None:
            cursor.execute(statement("setup.create_aois", aois=table.identifier, field=field))


def _places(opened: Session, table: Table, catalogue: Table) -> None:
    with _making(opened, table) as cursor:
        if cursor is not None:
            make_places(cursor, table.name, catalogue)


@contextmanager
def _making(opened: Session, table: Table) -> "Iterator[PgCursor | None]":
    """A transaction in which nobody else makes tables; None if somebody has just made this one."""
    with opened.database.transaction(f"making the table {table}") as cursor:
        cursor.execute(shared("tables.lock_creation"))
        yield cursor if find(cursor, table.name, table.key).absent else None


def _has_scenes(opened: Session) -> bool:
    """Whether the tables are there without which nothing more can be looked at."""
    wanted = opened.config.tables
    return not any(_find(opened, name).absent for name in (wanted.catalogue_table, wanted.aoi_table))


def make_results(opened: Session, reader: EarlyReader, partitioned: int | None, report: Report) -> None:
    """Make log and tables of results, once there are parcels, and bring those of earlier versions up to date."""
    if reader.parcels.absent:
        report.lacks("parcel table", f"{reader.parcels}; import parcels, then make log and results with this command")
        return
    report.there("parcel table", str(reader.parcels))
    tables = reader.all()
    absent = [table for table in (tables.log, *tables.of_results.values()) if table.absent]
    outdated = not tables.log.absent and SETTINGS not in tables.log.columns
    for table in (tables.log, *tables.of_results.values()):
        if not table.absent:
            report.there("log" if table is tables.log else "results", str(table))
    for table in tables.of_results.values():
        if partitioned is not None and not table.absent and table.kind != "p":
            divide(opened.database, table, tables.catalogue, partitioned, report)
    for name, table in tables.of_results.items():
        if not table.absent and OUTPUTS[name].types is None:
            _add_columns(opened, table, tables.result_types, report)
    if absent or outdated:
        what = [str(table) for table in absent] + [f"column {SETTINGS} of {tables.log}"] * outdated
        report.make("log and results", ", ".join(what), partial(_results, opened, tables, reader.labels, partitioned))
    if not tables.log.absent:
        wanted = wanted_of_log(tables.log)
        # Who makes none need not wait for others who do.
        with alone(opened.database) if report.changes and are_lacking(opened.database, wanted) else nullcontext():
            add_indexes(opened.database, wanted, report)


def _add_columns(opened: Session, table: Table, types: Collection[str], report: Report) -> None:
    """Give a table of ours the columns of statistics that are configured by now."""
    with opened.database.transaction(f"looking at columns of {table}") as cursor:
        found = find(cursor, table.name, table.key)
    lacking = [name for name in types if name in EXTRA_TYPES and name not in found.columns]
    if not lacking:
        return
    columns = sql.SQL(", ").join(
        sql.SQL("ADD COLUMN IF NOT EXISTS {} real").format(sql.Identifier(name)) for name in lacking
    )
    what = f"{', '.join(lacking)} of {table} (extraction.extra_statistics)"
    if found.made_here:
        report.make("columns", what, partial(_alter, opened, table, columns))
    else:
        report.lacks(
            "columns", f"{what}, which others made: {', '.join(f'ADD COLUMN {name} real' for name in lacking)}"
        )


def _alter(opened: Session, table: Table, columns: sql.Composed) -> None:
    with opened.database.transaction(f"adding columns to {table}") as cursor:
        cursor.execute(statement("setup.add_columns", table=table.identifier, columns=columns))


def _results(opened: Session, tables: Tables, labels: Collection[str], partitioned: int | None) -> None:
    if partitioned is None:
        make_tables(opened.database, tables, labels)
        return
    before = {table.name for table in tables.of_results.values() if table.absent}
    with _holding_creation(opened):
        made = make_tables(opened.database, tables, labels)
        for table in made.of_results.values():
            if table.name in before:
                make_partitioned(opened.database, table, made.catalogue, partitioned)


@contextmanager
def _holding_creation(opened: Session) -> Iterator[None]:
    """A block of several transactions in which nobody else makes tables, or views of those that are made here."""
    with opened.database.transaction("waiting for others who make tables") as cursor:
        cursor.execute(statement("setup.hold_creation"))
    try:
        yield
    finally:
        if not opened.database.closed:
            with opened.database.transaction("letting others make tables") as cursor:
                cursor.execute(statement("setup.allow_creation"))
