"""How far the scenes of a configuration are, and what workers do: read at one moment, so that all numbers add up."""

import datetime as dt
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from psycopg2 import sql

from extractors.database import aoi
from extractors.database.connection import Database, scalar
from extractors.database.redo import DONE, FINAL, find_list
from extractors.database.schema import Table
from extractors.database.sql import statement as shared
from extractors.database.tables import Tables
from extractors.labels import BANDS
from extractors.model import STATUSES
from operations.session import EarlyReader, Session
from operations.sql import statement

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as PgCursor  # noqa: N812

Row = tuple[Any, ...]

# Outcomes of the log after which somebody may want to know why.
FAILURES = ("error", "failed", "notfound", "lost", "claim_lost")
SHOWN_FAILURES = 5
# Of other configurations, in a line about what is listed for them.
SHOWN_TABLES = 5
# In this order.
KNOWN = list(BANDS)
# PostgreSQL shows the numbers of scenes in locks without a sign.
UNSIGNED = 2**32


@dataclass(frozen=True)
class Worker:
    """An attempt at a scene that has not ended. alive: its session has locked the scene; process: that session's. ours:
    the scene is `inprogress` and one of this configuration. redo: it is extracted, and done again."""

    worker: str
    card: str
    obsid: int
    reference: str
    attempt: int
    seconds: float
    alive: bool
    ours: bool
    doing: str
    process: int | None
    redo: bool


@dataclass(frozen=True)
class Failure:
    """An attempt that failed, and why."""

    finished_at: dt.datetime
    card: str
    obsid: int
    reference: str
    outcome: str
    status: str | None
    detail: str


class Again(NamedTuple):
    """Scenes that are listed to be done again: those that can be taken, those that workers are at, those that have
    failed, and those that nobody takes now: they are not extracted, or of other dates."""

    waiting: int = 0
    under_way: int = 0
    failed: int = 0
    kept: int = 0

    def in_words(self) -> str:
        """The same in words; "" for none."""
        words = ("waiting", "being worked on", "failed", "not extracted now, or of other dates")
        return ", ".join(f"{number} {text}" for number, text in zip(self, words, strict=True) if number)


NONE_AGAIN = Again()


class ListedElsewhere(NamedTuple):
    """How many scenes are listed to be done again for another results table or area."""

    results: str
    aoi: str
    scenes: int


@dataclass(frozen=True)
class CardProgress:
    """The scenes of one CARD.

    statuses: how many of this configuration have which; they sum up to `scenes`. elsewhere: of other dates or areas.
    waiting: those `ingested` that wait for their next attempt. alive, gone, foreign: those `inprogress` by workers that
    live, that have died, and by other programs. last_hour: how many got a status for good; active_seconds: for how long
    of that hour there was work. idle: seconds since an attempt began or ended; None: never. again: what `redo` has
    listed.
    """

    statuses: Mapping[str, int]
    elsewhere: int = 0
    waiting: int = 0
    alive: int = 0
    gone: int = 0
    foreign: int = 0
    last_hour: int = 0
    active_seconds: float = 0.0
    idle: float | None = None
    again: Again = NONE_AGAIN

    @property
    def scenes(self) -> int:
        """How many there are."""
        return sum(self.statuses.values())

    @property
    def left(self) -> int:
        """How many are still to be done."""
        return self.statuses.get("ingested", 0) + self.statuses.get("inprogress", 0)

    @property
    def per_hour(self) -> float:
        """How many get done in an hour, at the pace of the last one."""
        return self.last_hour * 3600 / max(self.active_seconds, 1.0) if self.last_hour else 0.0

    @property
    def hours_left(self) -> float | None:
        """At this pace, until all are done; None: nobody knows."""
        if not self.left:
            return 0.0
        return self.left / self.per_hour if self.last_hour else None


@dataclass(frozen=True)
class Progress:
    """All CARDs, by code. area: which one; None: it is lacking, and scenes everywhere count. others: sessions of
    workers that are at no scene. elsewhere: what `redo` has listed for other configurations."""

    moment: dt.datetime
    area: str | None
    cards: Mapping[str, CardProgress]
    workers: list[Worker] = field(default_factory=list)
    others: int = 0
    failures: list[Failure] = field(default_factory=list)
    elsewhere: list[ListedElsewhere] = field(default_factory=list)


def read_progress(opened: Session, reader: EarlyReader, card: str | None = None) -> Progress:
    """Read it, of one CARD or of all; makes nothing."""
    tables = reader.all()
    has_area = reader.has_area()
    names = names_of(tables, has_area)
    values = conditions_of(opened, tables, card) | {"outcomes": list(FAILURES), "most": SHOWN_FAILURES}
    with opened.database.transaction("looking how far the scenes are") as cursor:
        cursor.execute(statement("progress.begin"))
        cursor.execute(statement("progress.now"))
        moment: dt.datetime = scalar(cursor)
        cursor.execute(statement("progress.scenes", **names), values)
        counted = cursor.fetchall()
        under_way, rates, failures = [], [], []
        if not tables.log.absent:
            cursor.execute(statement("progress.under_way", **names), values)
            under_way = cursor.fetchall()
            cursor.execute(statement("progress.rates", **names), values)
            rates = cursor.fetchall()
            cursor.execute(statement("progress.failures", **names), values)
            failures = [Failure(*row) for row in cursor.fetchall()]
        again = read_again(cursor, opened, tables)
        elsewhere = read_elsewhere(cursor, opened, tables, card)
    runs = [row[3] for row in under_way if row[3] is not None]
    sessions, open_still, others = _living(opened.database, tables, runs)
    workers = []
    for code, obsid, ours, run_id, reference, name, attempt, seconds, redo in under_way:
        if run_id is None:
            continue
        process, doing = sessions.get(obsid % UNSIGNED, (None, "gone"))
        # What has ended since all this was read was alive then.
        alive = process is not None or run_id not in open_still
        doing = "just ended" if alive and process is None else doing
        workers.append(Worker(name, code, obsid, reference, attempt, seconds, alive, ours, doing, process, redo))
    area = opened.config.args.name if has_area else None
    cards = _cards(counted, under_way, workers, rates)
    cards = {code: replace(found, again=again.get(code, NONE_AGAIN)) for code, found in cards.items()}
    return Progress(moment, area, cards, workers, others, failures, elsewhere)


def read_again(cursor: "PgCursor", opened: Session, tables: Tables) -> dict[str, Again]:
    """What is listed to be done again for this area and results table, by CARD."""
    listed = find_list(cursor, tables.catalogue)
    if listed.absent or tables.log.absent:
        return {}
    names, values = about_list(opened, tables, listed, None)
    cursor.execute(statement("progress.again", **names), values)
    return {code: Again(*numbers) for code, *numbers in cursor.fetchall()}


def read_elsewhere(cursor: "PgCursor", opened: Session, tables: Tables, card: str | None) -> list[ListedElsewhere]:
    """What is listed to be done again for other results tables and areas, which no worker of this configuration
    takes."""
    listed = find_list(cursor, tables.catalogue)
    if listed.absent:
        return []
    names = {"list": listed.identifier, "catalogue": tables.catalogue.identifier}
    values = conditions_of(opened, tables, card) | {"results": str(tables.results)}
    cursor.execute(statement("progress.elsewhere", **names), values)
    return [ListedElsewhere(*row) for row in cursor.fetchall()]


def elsewhere_in_words(elsewhere: Sequence[ListedElsewhere]) -> str:
    """The same in words; "" for none."""
    if not elsewhere:
        return ""
    shown = ", ".join(f"{one.scenes} for {one.results} (area {one.aoi})" for one in elsewhere[:SHOWN_TABLES])
    more = ", ..." if len(elsewhere) > SHOWN_TABLES else ""
    scenes = sum(one.scenes for one in elsewhere)
    return f"{scenes} scenes are listed to be done again for other results tables or areas: {shown}{more}"


def about_list(
    opened: Session, tables: Tables, listed: Table, card: str | None
) -> tuple[dict[str, sql.Composable], dict[str, Any]]:
    """What statements about the list of scenes to do again are filled in with, and their values."""
    names: dict[str, sql.Composable] = {
        "list": listed.identifier,
        "log": tables.log.identifier,
        "catalogue": tables.catalogue.identifier,
        "reference": shared("queue.reference"),
    }
    names["hopeless"] = shared("redo.hopeless", **names)
    values = conditions_of(opened, tables, card) | {"results": str(tables.results), "done": list(DONE)}
    most = {code: opened.config.for_card(code).extraction.max_attempts for code in BANDS}
    return names, values | {"final": list(FINAL), "most": json.dumps(most)}


def conditions_of(opened: Session, tables: Tables, card: str | None) -> dict[str, Any]:
    """The values of the same statements: dates and area of the configuration, and one CARD or all."""
    args = opened.config.args
    return {
        "start": args.startdate,
        "end": args.enddate,
        "aoi": args.name,
        "footprint_srid": tables.footprint_srid,
        "cards": None if card is None else [card],
    }


def tables_by_card(cursor: "PgCursor", tables: Tables, values: Mapping[str, Any]) -> dict[str, str]:
    """CARD -> the table with its results, since CARDs may have configurations of their own: the configured one, or, if
    scenes went into others only, that of the last of them. values: as `conditions_of` has them."""
    found = dict.fromkeys(BANDS, str(tables.results))
    if not tables.log.absent:
        cursor.execute(
            statement("progress.tables", log=tables.log.identifier), {**values, "results": str(tables.results)}
        )
        found |= dict(cursor.fetchall())
    return found


def names_of(tables: Tables, has_area: bool) -> dict[str, sql.Composable]:
    """What statements about scenes of a configuration are filled in with."""
    names: dict[str, sql.Composable] = {
        "catalogue": tables.catalogue.identifier,
        "log": tables.log.identifier,
        "reference": shared("queue.reference"),
        "storable": shared("queue.storable"),
        # Without an area, all scenes are of this configuration.
        "areas": aoi.areas(tables) if has_area else sql.SQL("SELECT NULL"),
        "met": aoi.met(tables) if has_area else sql.SQL("true"),
    }
    names["wanted"] = statement("progress.wanted", **names)
    names["waits"] = sql.SQL("false")
    if not tables.log.absent:
        names["waits"] = statement("progress.waits", **names)
    return names


def _living(database: Database, tables: Tables, runs: list[int]) -> tuple[dict[int, tuple[int, str]], set[int], int]:
    """By scene, the session that holds it and what that does; which of these attempts are open still; and how many
    sessions of workers hold none.

    Asked after the attempts have been read: one that is open, without a session, and open still, is a dead worker's.
    """
    with database.transaction("looking what workers do") as cursor:
        cursor.execute(statement("progress.locks"))
        sessions = {obsid: (process, doing) for obsid, process, doing in cursor.fetchall()}
        cursor.execute(statement("progress.workers"))
        others = {process for (process,) in cursor.fetchall()} - {process for process, _ in sessions.values()}
    open_still: set[int] = set()
    if runs:
        with database.transaction("looking what workers do") as cursor:
            cursor.execute(statement("progress.still_open", log=tables.log.identifier), {"runs": runs})
            open_still = {run_id for (run_id,) in cursor.fetchall()}
    return sessions, open_still, len(others)


def _cards(
    counted: Sequence[Row], under_way: Sequence[Row], workers: list[Worker], rates: Sequence[Row]
) -> dict[str, CardProgress]:
    statuses: dict[str, Counter[str]] = {}
    elsewhere: Counter[str] = Counter()
    waiting: Counter[str] = Counter()
    for code, status, wanted, scenes, wait in counted:
        of_card = statuses.setdefault(code, Counter())
        if wanted:
            of_card[status] += scenes
            waiting[code] += wait
        else:
            elsewhere[code] += scenes
    alive = Counter(worker.card for worker in workers if worker.ours and worker.alive)
    gone = Counter(worker.card for worker in workers if worker.ours and not worker.alive)
    pace = {code: numbers for code, *numbers in rates}
    found = {}
    for code in sorted(statuses, key=lambda code: (KNOWN.index(code) if code in KNOWN else len(KNOWN), code)):
        of_card = statuses[code]
        last_hour, active, idle = pace.get(code, (0, None, None))
        found[code] = CardProgress(
            dict.fromkeys(STATUSES, 0) | dict(of_card),
            elsewhere[code],
            waiting[code],
            alive[code],
            gone[code],
            of_card["inprogress"] - alive[code] - gone[code],
            last_hour,
            active or 0.0,
            idle,
        )
    return found
