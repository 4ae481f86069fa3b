"""`python -m operations index`: indexes that help, on tables that are there; and partitions, closed when complete.

Indexes are made while workers write and others read. A partition is put into the order of its parcels, which keeps
readers of that partition waiting for as long as it takes.
"""

import argparse
from dataclasses import replace
from functools import partial

from psycopg2 import sql
from psycopg2.errors import LockNotAvailable

from extractors.config import TableName
from extractors.database.advice import wanted_by_parcel, wanted_by_scene, wanted_indexes
from extractors.database.connection import scalar
from extractors.database.schema import Table, WantedIndex, all_indexes
from extractors.database.sql import statement as shared
from operations.indexes import add_indexes, alone
from operations.lines import Report
from operations.options import add_card, add_dry_run
from operations.session import EarlyReader, Session, session
from operations.sql import statement

# For those who read a partition that is to be put into order, before it stays as it is.
LONGEST_WAIT = "10s"


class _InUseError(Exception):
    """A partition is being read for long."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    add_card(parser, "look at the tables of results as this CARD has them (default: all)")
    add_dry_run(parser)


def run(options: argparse.Namespace) -> int:
    """Make what is lacking."""
    report = Report(changes=not options.dry_run)
    with session(options) as opened, alone(opened.database):
        reader = opened.reader(options.card)
        add_indexes(opened.database, [one for one in wanted_indexes(reader) if _is_indexable(one.table)], report)
        for table in reader.all().of_results.values():
            if table.absent:
                continue
            if table.kind == "p":
                close_partitions(opened, reader, table, report)
            elif _is_indexable(table):
                add_indexes(opened.database, [*wanted_by_scene([table]), *wanted_by_parcel([table])], report)
    return 0


def _is_indexable(table: Table) -> bool:
    return not table.absent and table.kind in "rm"


def close_partitions(opened: Session, reader: EarlyReader, table: Table, report: Report) -> None:
    """Give each partition whose scenes are all done an index on the parcels, and put its rows into that order."""
    database = opened.database
    with database.transaction(f"looking at partitions of {table}") as cursor:
        cursor.execute(statement("partitions.bounds"), {"table": table.identifier.as_string(cursor)})
        found = [(TableName(name, schema), first, after) for schema, name, first, after in cursor.fetchall()]
        cursor.execute(statement("partitions.scenes", catalogue=reader.catalogue.identifier))
        _, last = cursor.fetchone() or (0, 0)
    for name, first, after in found:
        partition = replace(table, name=name, kind="r")
        (by_parcel,) = wanted_by_parcel([partition])
        if _is_closed(opened, by_parcel):
            report.there("partition", f"{name} is closed")
            continue
        with database.transaction(f"looking at scenes of {name}") as cursor:
            numbers = {"first": first, "after": after}
            cursor.execute(statement("partitions.unfinished", catalogue=reader.catalogue.identifier), numbers)
            unfinished = None if first is None else int(scalar(cursor))
        if unfinished is None or unfinished or last < after:
            why = f"{unfinished} of its scenes are to be done" if unfinished else "more scenes may come into it"
            report.there("partition", f"{name} stays open: {why}")
            continue
        add_indexes(database, [by_parcel], report)
        try:
            report.make("order", f"of {name}, by parcel", partial(_cluster, opened, by_parcel))
        except _InUseError:
            report.there("partition", f"{name} stays open: it is being read; the next `operations index` looks again")


def _is_closed(opened: Session, by_parcel: WantedIndex) -> bool:
    with opened.database.transaction("looking at indexes") as cursor:
        values = {"table": by_parcel.table.identifier.as_string(cursor)}
        cursor.execute(statement("partitions.is_clustered"), values)
        return bool(scalar(cursor))


def _cluster(opened: Session, by_parcel: WantedIndex) -> None:
    """Put a partition into order. Raises _InUseError if somebody reads it, or writes into it, all the while."""
    partition = by_parcel.table
    with opened.database.transaction("looking at indexes") as cursor:
        name = next(one.name for one in all_indexes(cursor, partition) if one.valid and by_parcel.like(one))
    in_use = False
    with opened.database.alone(f"ordering the rows of {partition}") as cursor:
        names = {"partition": partition.identifier, "index": sql.Identifier(name)}
        # As long as this waits for one reader, all that come later wait behind it.
        cursor.execute(shared("connection.set_limits"), {"limits": ["0", LONGEST_WAIT]})
        try:
            cursor.execute(statement("partitions.cluster", **names))
        except LockNotAvailable:
            in_use = True
        cursor.execute(shared("connection.set_limits"), {"limits": ["0", "0"]})
        cursor.execute(statement("indexes.analyze", table=partition.identifier))
    if in_use:
        raise _InUseError
