"""`python -m operations retry`: sets scenes back to `ingested`, so that workers take them again.

Never one that a living worker is at."""

import argparse
import logging
from typing import NamedTuple

from psycopg2 import sql

from extractors.database.connection import scalar
from extractors.database.redo import find_list
from extractors.database.sql import statement as shared
from extractors.database.tables import Tables
from extractors.errors import ConfigurationError
from extractors.model import STATUSES
from extractors.text import say
from operations.options import add_card, add_dry_run
from operations.progress import about_list, conditions_of, names_of
from operations.session import Session, session
from operations.sql import statement

log = logging.getLogger(__name__)

DEFAULT = "failed"
# What scenes can be set back from.
FROM = tuple(status for status in STATUSES if status != "ingested")
LONGEST_REASON = 200


class Candidate(NamedTuple):
    """A scene that may be set back, and why its last attempt ended as it did."""

    obsid: int
    card: str
    reference: str
    status: str
    reason: str | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    parser.add_argument(
        "--status",
        choices=FROM,
        default=None,
        help=f"scenes with this status, of the configured dates and area (default: {DEFAULT})",
    )
    parser.add_argument(
        "--redo", action="store_true", help="in place of scenes, entries of the list of `operations redo` that failed"
    )
    parser.add_argument(
        "--scene",
        metavar="REFERENCE",
        help="this scene, wherever it lies and whatever its status, unless --status says",
    )
    add_card(parser, "scenes of this CARD only")
    add_dry_run(parser)


def run(options: argparse.Namespace) -> int:
    """Set them back; 1 if one of them could not be."""
    if options.redo and (options.status or options.scene):
        raise ConfigurationError("--redo is about the list of `operations redo`: leave --status and --scene out")
    with session(options) as opened:
        tables = opened.reader().all()
        if options.redo:
            return set_back_entries(opened, tables, options)
        candidates = find_candidates(opened, tables, options)
        left = 0
        for one in candidates:
            reason = f" ({one.reason[:LONGEST_REASON]})" if one.reason else ""
            what = f"{one.card} scene {one.obsid} {one.reference}, which was {one.status}{reason}"
            if options.dry_run:
                say(f"would set back {what}")
            elif set_back(opened, tables, one):
                say(f"set back {what}")
            else:
                left += 1
                say(f"left {one.card} scene {one.obsid} {one.reference}: somebody is at it, or has changed its status")
        verb = "would be" if options.dry_run else "were"
        log.info("%d scenes %s set back to 'ingested', %d were left", len(candidates) - left, verb, left)
    return int(left > 0)


def find_candidates(opened: Session, tables: Tables, options: argparse.Namespace) -> list[Candidate]:
    """The scenes that are meant. Raises ConfigurationError for a reference that none of them has."""
    bare = options.scene.removesuffix(".SAFE") if options.scene else ""
    statuses = [options.status] if options.status else list(FROM) if options.scene else [DEFAULT]
    values = conditions_of(opened, tables, options.card) | {
        "references": [bare, f"{bare}.SAFE"] if options.scene else None,
        "statuses": statuses,
    }
    reader = opened.reader()
    if not options.scene:
        # Without it, scenes of all areas would be set back.
        reader.need_area()
    names = names_of(tables, reader.has_area())
    names["reason"] = sql.SQL("NULL") if tables.log.absent else statement("retry.reason", log=tables.log.identifier)
    with opened.database.transaction("looking for scenes to set back") as cursor:
        cursor.execute(statement("retry.candidates", **names), values)
        found = [Candidate(*row) for row in cursor.fetchall()]
        if not found and options.scene:
            cursor.execute(statement("retry.statuses", **names), values)
            others = [status for (status,) in cursor.fetchall()]
            raise ConfigurationError(
                f"--scene: {options.scene} has the status '{others[0]}', so there is nothing to set back"
                if others
                else f"--scene: {options.scene} is not in {tables.catalogue}"
            )
    return found


def set_back(opened: Session, tables: Tables, scene: Candidate) -> bool:
    """Set a scene back; False if a worker is at it, or somebody has changed its status."""
    names = {"catalogue": tables.catalogue.identifier, "log": tables.log.identifier}
    values = {"obsid": scene.obsid, "status": scene.status}
    with opened.database.transaction("setting a scene back") as cursor:
        # The row first, then the lock, as workers do that set free a dead one's scene.
        cursor.execute(shared("queue.lock_row", **names), values)
        if cursor.fetchone() is None:
            return False
        cursor.execute(shared("queue.lock_for_now"), values)
        if not scalar(cursor):
            return False
        cursor.execute(statement("retry.set_back", **names), values)
        done = cursor.rowcount == 1
        if done and not tables.log.absent:
            cursor.execute(statement("retry.end_attempts", **names), values)
    return done


def set_back_entries(opened: Session, tables: Tables, options: argparse.Namespace) -> int:
    """Give entries of the list that have failed a new number, and with it all their attempts."""
    with opened.database.transaction("looking at the list of scenes to do again") as cursor:
        listed = find_list(cursor, tables.catalogue)
        found = []
        if not (listed.absent or tables.log.absent):
            names, values = about_list(opened, tables, listed, options.card)
            cursor.execute(statement("retry.failed_entries", **names), values)
            found = cursor.fetchall()
            if not options.dry_run:
                entries = [row[0] for row in found]
                cursor.execute(statement("retry.renumber", list=listed.identifier), {"entries": entries})
    for _, card, obsid, reference, reason in found:
        why = f" ({reason[:LONGEST_REASON]})" if reason else ""
        say(f"{'would set' if options.dry_run else 'set'} back {card} scene {obsid} {reference} in {listed}{why}")
    log.info("%d scenes %s tried again with --redo", len(found), "would be" if options.dry_run else "will be")
    return 0
