"""`python -m operations redo`: lists what is to be computed again of scenes that are extracted, and stay so meanwhile.

Workers that are started with `--redo` do it. Nothing but the list is written here.
"""

import argparse
import datetime as dt
import logging
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from psycopg2 import sql

from extractors.config import parse_table_name
from extractors.database.columns import INTEGERS
from extractors.database.connection import scalar
from extractors.database.parcels import Parcels
from extractors.database.queue import naive_utc
from extractors.database.redo import DONE, find_list
from extractors.database.results import array_literal
from extractors.database.schema import Table, find
from extractors.database.sql import statement as shared
from extractors.database.tables import Tables
from extractors.errors import ConfigurationError, SceneError
from extractors.model import Redo, Scene
from extractors.text import say
from operations.options import add_card, add_dry_run
from operations.progress import conditions_of, names_of
from operations.session import Session, session
from operations.sql import statement

log = logging.getLogger(__name__)

# What the comparison says first.
FATES = ("unchanged", "changed", "new", "gone", "renumbered")


class Listed(NamedTuple):
    """A scene that may be listed. here: the log says that rows of this area went into this results table; known: or
    into any, of whatever area."""

    obsid: int
    card: str
    reference: str
    obstime: dt.datetime
    status: str
    here: bool
    known: bool


@dataclass(frozen=True)
class Wanted:
    """What is to be done again: these parcels, None for all of scenes that lack this area or table; and those of them
    whose rows go, because they are gone."""

    pids: frozenset[int] | None
    gone: frozenset[int] = frozenset()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--parcels", metavar="TABLE", help="the parcels of this table (column pid), wherever they are now"
    )
    what.add_argument(
        "--changed-since", metavar="TABLE", help="parcels that differ from those of this older parcel table, see --key"
    )
    what.add_argument(
        "--missing",
        action="store_true",
        help="scenes that are extracted for another area or table, and not for this one",
    )
    parser.add_argument("--key", metavar="COLUMN", help="the column of both parcel tables that tells which is which")
    parser.add_argument(
        "--gone",
        choices=("keep", "delete"),
        default="keep",
        help="what becomes of rows of parcels that are not in the parcel table any more (keep)",
    )
    add_card(parser, "scenes of this CARD only")
    add_dry_run(parser)


def run(options: argparse.Namespace) -> int:
    """List it."""
    if (options.changed_since is None) != (options.key is None):
        raise ConfigurationError("--changed-since and --key go together: name a column that both parcel tables have")
    with session(options) as opened:
        reader = opened.reader(options.card)
        if reader.parcels.absent or reader.log.absent or reader.results.absent or not reader.has_area():
            raise ConfigurationError(
                f"{opened.name}: area, parcels, log and results are not all there, so nothing has been extracted that "
                "could be done again; see `python -m operations setup --check`"
            )
        tables = reader.all()
        wanted = what_is_wanted(opened, tables, options)
        scenes: Counter[str] = Counter()
        parcels: Counter[str] = Counter()
        listed = None if options.dry_run else make_list(opened, tables)
        for scene, pids in to_do(opened, tables, options.card, wanted):
            scenes[scene.card] += 1
            parcels[scene.card] += len(pids or ())
            if listed is not None:
                add(opened, tables, listed, (scene, pids, wanted.gone))
    verb = "would be listed" if options.dry_run else "listed"
    for card in scenes:
        of = "all parcels" if wanted.pids is None else f"{parcels[card]} parcels in all"
        say(f"{card}: {scenes[card]} scenes {verb}, {of}")
        if not options.dry_run:
            log.info("python -m extractors.%s --redo --all does it", card)
    if not scenes:
        say("nothing to list")
    return 0


def what_is_wanted(opened: Session, tables: Tables, options: argparse.Namespace) -> Wanted:
    """The parcels that are meant, as they are asked for."""
    if options.missing:
        return Wanted(None)
    if options.parcels is not None:
        pids = named(opened, options.parcels)
        gone = absent(opened, tables, pids)
        say(f"{len(pids)} parcels in {options.parcels}, {len(gone)} of them gone")
    else:
        pids, before = compare(opened, tables, options.changed_since, options.key)
        gone = absent(opened, tables, before)
    return Wanted(pids | gone, gone) if options.gone == "delete" else Wanted(pids - gone)


def named(opened: Session, name: str) -> frozenset[int]:
    """The parcels of a table that has nothing but their numbers, or more."""
    table = table_named(opened, name, "--parcels")
    if "pid" not in table.columns or table.columns["pid"].type not in INTEGERS:
        raise ConfigurationError(f"--parcels: table {table} has no column pid of integers; name one that has")
    with opened.database.transaction(f"reading the table {table}") as cursor:
        cursor.execute(statement("listing.named", table=table.identifier))
        return frozenset(pid for (pid,) in cursor.fetchall())


def absent(opened: Session, tables: Tables, pids: Collection[int]) -> frozenset[int]:
    """Those that the parcel table does not have."""
    with opened.database.transaction("looking for parcels that are gone") as cursor:
        cursor.execute(statement("listing.absent", **tables.parcel_columns), {"pids": array_literal(pids)})
        return frozenset(pid for (pid,) in cursor.fetchall())


def compare(opened: Session, tables: Tables, name: str, key: str) -> tuple[frozenset[int], frozenset[int]]:
    """What differs between an older parcel table and that of today: numbers that parcels have now which are new, or
    have changed; and those that these, and parcels that are gone, had before."""
    old = table_named(opened, name, "--changed-since")
    now, columns = tables.parcels, tables.parcel_columns
    with opened.database.transaction("looking at the parcel table") as cursor:
        today = find(cursor, now.name, now.key)
    needed = [key, *(column.name for column in now.columns.values())]
    for table, wanted in ((old, needed), (today, [key])):
        lacking = [column for column in wanted if column not in table.columns]
        if lacking:
            raise ConfigurationError(f"table {table} has no column {lacking[0]}, which is compared; see --key")
        require_key(opened, table, key)
    names = {
        "old": old.identifier,
        "old_key": old.columns[key].of("p"),
        "old_pid": old.columns[now.columns["id"].name].of("p"),
        "old_geometry": old.columns[now.columns["geometry"].name].of("p"),
        "key": today.columns[key].of("p"),
    }
    with opened.database.transaction("comparing parcels") as cursor:
        cursor.execute(statement("listing.compare", **names, **columns))
        found = {fate: (number, after or [], before or []) for fate, number, after, before in cursor.fetchall()}
    counts = {fate: found.get(fate, (0, [], []))[0] for fate in FATES}
    say(", ".join(f"{number} {fate}" for fate, number in counts.items()))
    if counts["renumbered"]:
        log.warning(
            "%d parcels have another %s than before, as happens to numbers that an import gives: rows under their old "
            "numbers are taken for those of others, so all are listed; let tables.parcel_id be a column that lasts",
            *(counts["renumbered"], now.columns["id"].name),
        )
    pids = frozenset(pid for _, after, _ in found.values() for pid in after)
    return pids, frozenset(pid for _, _, before in found.values() for pid in before)


def require_key(opened: Session, table: Table, key: str) -> None:
    """Raise ConfigurationError unless each parcel has a value of its own there."""
    with opened.database.transaction(f"looking at the table {table}") as cursor:
        cursor.execute(statement("listing.twins", table=table.identifier, key=table.columns[key].of("p")))
        twins = scalar(cursor)
    if twins:
        raise ConfigurationError(
            f"--key: {twins} values of {key} in {table} belong to several parcels, or are lacking; name a column in "
            "which each parcel has a value of its own"
        )


def table_named(opened: Session, name: str, option: str) -> Table:
    """A table that somebody has named on the command line."""
    try:
        wanted = parse_table_name(name)
    except ValueError as error:
        raise ConfigurationError(f"{option}: {name} is not the name of a table; write TABLE or SCHEMA.TABLE") from error
    with opened.database.transaction(f"looking for the table {name}") as cursor:
        table = find(cursor, wanted, option)
    if table.absent:
        raise ConfigurationError(f"{option}: there is no table {name} in the database; write the name of one")
    return table


def to_do(
    opened: Session, tables: Tables, card: str | None, wanted: Wanted
) -> Iterator[tuple[Listed, frozenset[int] | None]]:
    """The scenes of which something is to be done again, each with the parcels that are meant (None: all)."""
    parcels = Parcels(opened.database, tables, opened.config.args.name)
    for scene in scenes_of(opened, tables, card, wanted.pids is None):
        mine = scene.here or (not scene.known and has_rows(opened, tables, scene.obsid))
        if wanted.pids is None:
            if not mine:
                yield scene, None
        elif mine and wanted.pids:
            pids = holding(opened, tables, scene.obsid, wanted.pids)
            probe = Scene(scene.obsid, scene.reference, naive_utc(scene.obstime), 0, redo=Redo(0, tuple(wanted.pids)))
            try:
                pids |= frozenset(parcels.meeting(probe))
            except SceneError as error:
                log.warning("scene %d %s is left out: %s", scene.obsid, scene.reference, error)
                continue
            if pids:
                yield scene, pids


def scenes_of(opened: Session, tables: Tables, card: str | None, missing: bool) -> list[Listed]:
    """Scenes that are extracted; and those that workers are at, unless any extraction will do: they may have selected
    parcels as they were before."""
    values = conditions_of(opened, tables, card) | {
        "results": str(tables.results),
        "statuses": list(DONE) if missing else [*DONE, "inprogress"],
    }
    with opened.database.transaction("looking for scenes") as cursor:
        cursor.execute(statement("listing.scenes", **names_of(tables, has_area=True)), values)
        return [Listed(*row) for row in cursor.fetchall()]


def has_rows(opened: Session, tables: Tables, obsid: int) -> bool:
    """Whether the results table holds rows of a scene."""
    with opened.database.transaction("looking for rows of a scene") as cursor:
        cursor.execute(shared("results.use_indexes"))
        cursor.execute(statement("listing.any_row", table=tables.results.identifier), {"obsid": obsid})
        return bool(scalar(cursor))


def holding(opened: Session, tables: Tables, obsid: int, pids: Collection[int]) -> frozenset[int]:
    """Those of which any table of results holds rows of a scene."""
    found: set[int] = set()
    with opened.database.transaction("looking for rows of parcels") as cursor:
        cursor.execute(shared("results.use_indexes"))
        for table in tables.of_results.values():
            if not table.absent:
                values = {"obsid": obsid, "pids": array_literal(pids)}
                cursor.execute(statement("listing.holding", table=table.identifier), values)
                found |= {pid for (pid,) in cursor.fetchall()}
    return frozenset(found)


def make_list(opened: Session, tables: Tables) -> Table:
    """The list; made if it is absent, with the rights on it for all who may write into the log."""
    with opened.database.transaction("making the list of scenes to do again") as cursor:
        cursor.execute(shared("tables.lock_creation"))
        listed = find_list(cursor, tables.catalogue)
        if listed.absent:
            cursor.execute(statement("listing.create_list", list=listed.identifier))
            cursor.execute(statement("listing.index_redone", log=tables.log.identifier))
            cursor.execute(statement("listing.log_writers"), {"log": tables.log.identifier.as_string(cursor)})
            for (role,) in cursor.fetchall():
                names = {"list": listed.identifier, "role": sql.Identifier(role)}
                cursor.execute(statement("listing.grant_list", **names))
            listed = find_list(cursor, tables.catalogue)
    return listed


def add(
    opened: Session, tables: Tables, listed: Table, what: tuple[Listed, frozenset[int] | None, frozenset[int]]
) -> None:
    """Put a scene into the list, with its parcels and those that are gone, and with what is there of it already. It
    gets a new number, so that a worker which is at it starts anew."""
    scene, pids, all_gone = what
    gone = frozenset() if pids is None else pids & all_gone
    names = {"list": listed.identifier, "log": tables.log.identifier}
    values = {"obsid": scene.obsid, "results": str(tables.results), "aoi": opened.config.args.name}
    with opened.database.transaction("listing a scene") as cursor:
        cursor.execute(statement("listing.lock"))
        cursor.execute(statement("listing.take_back", **names), values)
        for before, before_gone in cursor.fetchall():
            pids = None if pids is None or before is None else pids | frozenset(before)
            gone |= frozenset(before_gone)
        values["pids"] = None if pids is None else array_literal(sorted(pids))
        cursor.execute(statement("listing.add", **names), values | {"gone": array_literal(sorted(gone))})
