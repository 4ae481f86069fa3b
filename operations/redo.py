"""`python -m operations redo`: lists what is to be computed again of scenes that are extracted, and stay so meanwhile.

Workers that are started with `--redo` do it. Nothing but the list is written here.
"""

import argparse
import datetime as dt
import logging
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from psycopg2 import sql

from extractors.config import parse_table_name
from extractors.database import aoi
from extractors.database.columns import INTEGERS
from extractors.database.connection import scalar
from extractors.database.parcels import Parcels
from extractors.database.queue import naive_utc
from extractors.database.redo import DONE, absent_tables, check_indexes, find_list
from extractors.database.schema import Table, find
from extractors.database.sql import statement as shared
from extractors.database.tables import Tables
from extractors.errors import ConfigurationError, SceneError
from extractors.model import Scene
from extractors.text import say
from operations.options import add_card, add_dry_run
from operations.progress import conditions_of, elsewhere_in_words, names_of, read_elsewhere
from operations.session import Session, session
from operations.sql import statement

log = logging.getLogger(__name__)

# The parcels that are meant, in a table of the session.
MEANT = sql.Identifier("pg_temp", "wanted_parcels")
# What the comparison says first.
FATES = ("unchanged", "changed", "new", "gone", "renumbered")
# What happens to rows of parcels that are renumbered, unless told otherwise.
ROWS_OF_NO_PARCEL = "; rows under numbers that no parcel has any more go only with --gone delete"


class Listed(NamedTuple):
    """A scene that may be listed. here: the log says that rows of this area went into this results table; of_area: or
    into any (tables can be renamed); known: or those of any area. problem: why its footprint cannot be used."""

    obsid: int
    card: str
    reference: str
    obstime: dt.datetime
    status: str
    here: bool
    of_area: bool
    known: bool
    problem: str | None


class Wanted(NamedTuple):
    """What is to be done again: all parcels of scenes that lack this area or table, or those of the table MEANT."""

    all_missing: bool = False
    parcels: int = 0


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
        with opened.database.transaction("looking at indexes") as cursor:
            check_indexes(cursor, tables.of_results.values())
        wanted = what_is_wanted(opened, tables, options)
        if wanted.all_missing and options.card is None:
            require_one_card(opened, tables)
        listed = None if options.dry_run else make_list(opened, tables)
        scenes: Counter[str] = Counter()
        parcels: Counter[str] = Counter()
        for scene, number in listing(opened, tables, options.card, (wanted, listed)):
            scenes[scene.card] += 1
            parcels[scene.card] += number
        with opened.database.transaction("looking at the list of scenes to do again") as cursor:
            elsewhere = read_elsewhere(cursor, opened, tables, options.card)
    verb = "would be listed" if options.dry_run else "listed"
    for card in scenes:
        of = "all parcels" if wanted.all_missing else f"{parcels[card]} parcels in all"
        say(f"{card}: {scenes[card]} scenes {verb}, {of}")
        if not options.dry_run:
            log.info("python -m extractors.%s --redo --all does it, with this configuration (%s)", card, opened.name)
    if not scenes:
        say("nothing to list")
    if elsewhere:
        say(elsewhere_in_words(elsewhere))
    return 0


def require_one_card(opened: Session, tables: Tables) -> None:
    """Raise ConfigurationError if scenes of several CARDs could be missing: each may have a results table of its own,
    and nobody but the operator knows whose this one is."""
    cards = sorted({scene.card for scene in scenes_of(opened, tables, None, missing=True)})
    if len(cards) > 1:
        raise ConfigurationError(
            f"--missing: there are scenes of {', '.join(cards)}; name the CARD that {tables.results} is for with "
            "--card (each in turn, if it is for several)"
        )


def what_is_wanted(opened: Session, tables: Tables, options: argparse.Namespace) -> Wanted:
    """What is asked for; the parcels that are meant are in MEANT then."""
    if options.missing:
        return Wanted(all_missing=True)
    with opened.database.transaction("making a list of parcels") as cursor:
        cursor.execute(statement("listing.make_wanted"))
    if options.parcels is not None:
        note_named(opened, tables, options.parcels)
    else:
        note_different(opened, tables, options)
    with opened.database.transaction("making a list of parcels") as cursor:
        if options.gone == "keep":
            cursor.execute(statement("listing.keep_gone", meant=MEANT))
        cursor.execute(statement("listing.analyze", meant=MEANT))
        cursor.execute(statement("listing.count", meant=MEANT))
        return Wanted(parcels=scalar(cursor))


def note_named(opened: Session, tables: Tables, name: str) -> None:
    """Note the parcels of a table that has nothing but their numbers, or more."""
    table = table_named(opened, name, "--parcels")
    if "pid" not in table.columns or table.columns["pid"].type not in INTEGERS:
        raise ConfigurationError(f"--parcels: table {table} has no column pid of integers; name one that has")
    names = {"meant": MEANT, "table": table.identifier, **tables.parcel_columns}
    with opened.database.transaction(f"reading the table {table}") as cursor:
        cursor.execute(statement("listing.named", **names))
        cursor.execute(statement("listing.note_gone", meant=MEANT, **tables.parcel_columns))
        cursor.execute(statement("listing.count_gone", meant=MEANT))
        number, gone = cursor.fetchone() or (0, 0)
    say(f"{number} parcels in {name}, {gone} of them gone")


def note_different(opened: Session, tables: Tables, options: argparse.Namespace) -> None:
    """Note what differs between an older parcel table and that of today: numbers that parcels have now which are new,
    or have changed; and those that these, and parcels that are gone, had before."""
    key = options.key
    old = table_named(opened, options.changed_since, "--changed-since")
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
        "meant": MEANT,
        "old": old.identifier,
        "old_key": old.columns[key].of("p"),
        "old_pid": old.columns[now.columns["id"].name].of("p"),
        "old_geometry": old.columns[now.columns["geometry"].name].of("p"),
        "key": today.columns[key].of("p"),
    }
    with opened.database.transaction("comparing parcels") as cursor:
        cursor.execute(statement("listing.compare", **names, **columns))
        found = dict.fromkeys(FATES, 0) | dict(cursor.fetchall())
        cursor.execute(statement("listing.note_gone", meant=MEANT, **columns))
    say(", ".join(f"{number} {fate}" for fate, number in found.items()))
    if found["renumbered"]:
        log.warning(
            "%d parcels have another %s than before, as happens to numbers that an import gives: rows under their old "
            "numbers are taken for those of others, so all are listed; let tables.parcel_id be a column that lasts%s",
            *(found["renumbered"], now.columns["id"].name, "" if options.gone == "delete" else ROWS_OF_NO_PARCEL),
        )


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


def listing(
    opened: Session, tables: Tables, card: str | None, what: tuple[Wanted, Table | None]
) -> Iterator[tuple[Listed, int]]:
    """List the scenes of which something is to be done again (without a list: only look for them), each with how many
    parcels it is listed with."""
    wanted, listed = what
    if not wanted.all_missing and not wanted.parcels:
        return
    with opened.database.transaction("looking for scenes") as cursor:
        # Until the session ends. As `results.use_indexes`, and for the same reason.
        cursor.execute(statement("listing.use_indexes"))
    parcels = Parcels(opened.database, tables, opened.config.args.name)
    statements, only_look = Statements(tables, listed), Statements(tables, None)
    left_out = 0
    for scene in scenes_of(opened, tables, card, wanted.all_missing):
        mine = scene.here or ((scene.of_area or not scene.known) and has_rows(opened, tables, scene.obsid))
        if mine == wanted.all_missing:
            continue
        # Nobody replaces the older of two products that have no rows; both would get some.
        is_left_out = scene.status == "no_parcels" and opened.config.for_card(scene.card).extraction.newest_only(
            scene.card
        )
        ways = only_look if is_left_out else statements
        values = {"obsid": scene.obsid, "results": str(tables.results), "aoi": opened.config.args.name}
        if wanted.all_missing:
            if is_left_out:
                left_out += 1
                continue
            if statements.names:
                with opened.database.transaction("listing a scene") as cursor:
                    cursor.execute(statement("listing.list_all", **statements.names), values)
            yield scene, 0
            continue
        claimed = Scene(scene.obsid, scene.reference, naive_utc(scene.obstime), 0, problem=scene.problem)
        try:
            number = parcels.ask(claimed, ways.list_found, ways.chosen, values)
        except SceneError as error:
            log.warning("scene %d %s is left out: %s", scene.obsid, scene.reference, error)
            continue
        if number and is_left_out:
            left_out += 1
        elif number:
            yield scene, number
    if left_out:
        log.warning(
            "%d scenes without parcels are left out, as only the newest of duplicates is wanted: `operations retry "
            "--status no_parcels` has workers look at them again",
            left_out,
        )


class Statements:
    """What lists a scene with those of its parcels that are meant, or only tells how many these are. names: of the
    list, for listing a scene with all of them; empty without a list."""

    def __init__(self, tables: Tables, listed: Table | None) -> None:
        held = [
            statement("listing.held", table=table.identifier, meant=MEANT)
            for table in tables.of_results.values()
            if not table.absent
        ]
        self.chosen = statement("listing.chosen", meant=MEANT, **tables.parcel_columns)
        self.names: dict[str, sql.Composable] = {}
        if listed is not None:
            self.names = {
                "list": listed.identifier,
                "last_run": statement("listing.last_run", log=tables.log.identifier),
                "put_together": statement("listing.put_together"),
            }
        found = statement("listing.found", held=sql.SQL("\n").join(held))
        if listed is None:
            self.list_found = found + statement("listing.count_found")
        else:
            self.list_found = found + statement("listing.list_found", meant=MEANT, **self.names)


def scenes_of(opened: Session, tables: Tables, card: str | None, missing: bool) -> list[Listed]:
    """Scenes that are extracted; and those that workers are at, unless any extraction will do: they may have selected
    parcels as they were before."""
    values = conditions_of(opened, tables, card) | {
        "results": str(tables.results),
        "statuses": list(DONE) if missing else [*DONE, "inprogress"],
    }
    with opened.database.transaction("looking for scenes") as cursor:
        names = names_of(tables, has_area=True) | {"problem": aoi.problem(tables)}
        cursor.execute(statement("listing.scenes", **names), values)
        return [Listed(*row) for row in cursor.fetchall()]


def has_rows(opened: Session, tables: Tables, obsid: int) -> bool:
    """Whether the results table holds rows of a scene."""
    with opened.database.transaction("looking for rows of a scene") as cursor:
        cursor.execute(shared("results.use_indexes"))
        cursor.execute(statement("listing.any_row", table=tables.results.identifier), {"obsid": obsid})
        return bool(scalar(cursor))


def make_list(opened: Session, tables: Tables) -> Table:
    """The list; made if it is absent, with the rights on it for all who may read the log, or write into it."""
    with opened.database.transaction("making the list of scenes to do again") as cursor:
        cursor.execute(shared("tables.lock_creation"))
        listed = find_list(cursor, tables.catalogue)
        if listed.absent:
            cursor.execute(statement("listing.create_list", list=listed.identifier))
            number_on = statement("listing.number_on", log=tables.log.identifier)
            cursor.execute(number_on, {"list": listed.identifier.as_string(cursor)})
            cursor.execute(statement("listing.log_users"), {"log": tables.log.identifier.as_string(cursor)})
            for role, writes in cursor.fetchall():
                names = {"list": listed.identifier, "role": sql.Identifier(role)}
                if writes:
                    cursor.execute(statement("listing.let_take", **names))
                else:
                    cursor.execute(statement("listing.let_read", **names))
            listed = find_list(cursor, tables.catalogue)
        for name, number in absent_tables(cursor, listed, opened.config.args.name).items():
            cursor.execute(statement("listing.forget", list=listed.identifier), {"results": name})
            log.warning("%d scenes were listed for the table %s, which is not there any more: forgotten", number, name)
    return listed
