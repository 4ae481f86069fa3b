"""Views of the tables of results, for people and programs that want a row per parcel and scene: made by `operations
setup`, and anew whenever what they are made of has changed. The same statements serve `operations report`."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from psycopg2 import sql

from extractors.config import LONGEST_IDENTIFIER_BYTES, SOURCES, TableName
from extractors.database.outputs import CLEAR_RESULTS, HISTS, RESULTS
from extractors.database.schema import Table, find
from extractors.database.sql import statement as shared
from extractors.indices import CLASSES
from extractors.labels import BANDS
from extractors.model import STATUSES
from operations.lines import Report
from operations.session import EarlyReader, Session
from operations.sql import statement

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as PgCursor  # noqa: N812

# How the comment on a view begins that tells that it may be made anew.
MADE_ANEW = "Made by parcel-extraction, anew by `operations setup`"
PROGRESS = "extraction_progress"
# Columns of the views, whatever the labels are; a band's label that is among them gets an ending.
FIXED = ("key", "pid", "obsid", "card", "obstime", "reference", "valid_pixels", "valid_share", "cloud_share")
ENDING = "_mean"
# What all pixels of a parcel are counted in, if that is asked for.
PIXELS = "pixels"
COMMA = sql.SQL(", ")
NOTHING, NULL, ALL = sql.SQL(""), sql.SQL("NULL::float8"), sql.SQL("true")
# CARD -> label -> the band or the index that it stands for.
Sources = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Wide:
    """What a row per parcel and scene is made of: tables as they are in the database, with all their columns, and the
    labels of each CARD in the order of the columns."""

    results: Table
    hists: Table | None
    catalogue: Table
    sources: Sources

    @property
    def labels(self) -> list[str]:
        """All labels, each once."""
        return list(dict.fromkeys(label for labels in self.sources.values() for label in labels))

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return [*FIXED, *(self.column(label) for label in self.labels)]

    def column(self, label: str) -> str:
        """The name of the column with the means of a label."""
        return f"{label}{ENDING}" if label in FIXED else label


def wide(of: Wide, of_rows: sql.Composable = ALL) -> sql.Composed:
    """The statement. of_rows: a condition on `pid`, to be found through indexes."""
    firsts = {card: next(iter(labels)) for card, labels in of.sources.items() if labels}
    counts = {label: sql.Identifier(f"n{number}") for number, label in enumerate(dict.fromkeys(firsts.values()))}
    means = {label: sql.Identifier(f"m{number}") for number, label in enumerate(of.labels)}
    pivot = [_pick("count", label, name) for label, name in counts.items()]
    pivot += [_pick("mean", label, name) for label, name in means.items()]
    cases = [sql.SQL("WHEN {} THEN s.{}").format(sql.Literal(card), counts[label]) for card, label in firsts.items()]
    columns = [sql.SQL("s.{} AS {}").format(name, sql.Identifier(of.column(label))) for label, name in means.items()]
    has_pixels = PIXELS in of.results.columns
    hists = None if of.hists is None else statement("views.histograms", hists=of.hists.identifier, of_rows=of_rows)
    return statement(
        "views.wide",
        obstime=obstime(of.catalogue),
        catalogue=of.catalogue.identifier,
        results=of.results.identifier,
        of_rows=of_rows,
        means=_after(columns),
        pivot=_after(pivot),
        valid_pixels=sql.SQL("CASE btrim(c.card::text) {} END").format(sql.SQL(" ").join(cases)) if cases else NULL,
        valid_share=sql.SQL("sum(count)::float8 / nullif(sum(pixels), 0)") if has_pixels else NULL,
        cloud_share=NULL if hists is None else statement("views.cloud_share"),
        histograms=NOTHING if hists is None else hists,
    )


def observations(of: Wide, of_rows: sql.Composable = ALL) -> sql.Composed:
    """The statement for one row per parcel and pass."""
    names = {"columns": COMMA.join(map(sql.Identifier, of.columns)), "pass": statement("views.pass")}
    return statement("views.observations", wide=wide(of, of_rows), **names)


def obstime(catalogue: Table) -> sql.Composed:
    """The time of scene `c` in UTC, without a zone."""
    if catalogue.columns["obstime"].type == "timestamptz":
        return sql.SQL("(c.obstime AT TIME ZONE 'UTC')").format()
    return sql.SQL("c.obstime::timestamp").format()


def settings_of(
    cursor: "PgCursor", opened: Session, log: Table, results: Table, card: str | None = None
) -> dict[str, dict[str, Any]]:
    """The settings that the numbers in a table depend on, by CARD: those that workers would use with this
    configuration, of one CARD or of all, and those that the log knows. SOURCES: what all these labels stand for;
    `tables`: where the log says that other results of these scenes are."""
    found: dict[str, dict[str, Any]] = {}
    for code in BANDS if card is None else [card]:
        try:
            found[code] = opened.config.for_card(code).extraction.meaning(code)
        except ValueError:
            # `bands` for all CARDs need not fit each of them; a worker says so.
            continue
    if not log.absent and "settings" in log.columns:
        cursor.execute(statement("views.settings", log=log.identifier), {"results": str(results)})
        for code, settings in cursor.fetchall():
            before = found.get(code, {})
            both = {key: {**before.get(key, {}), **settings.get(key, {})} for key in (SOURCES, "tables")}
            found[code] = {**settings, **both}
    return found


def make_views(opened: Session, reader: EarlyReader, report: Report, card: str | None = None) -> None:
    """Make what is lacking of the views, and anew what is out of date; nothing that others made is changed."""
    catalogue = reader.catalogue
    with opened.database.transaction("looking at the tables of results") as cursor:
        # With all their columns: those that workers do not write as well.
        tables = {name: find(cursor, table.name, table.key) for name, table in reader.of_results.items()}
        results, hists = tables[RESULTS], tables.get(HISTS)
        # What is still to be made, in a `--dry-run`, cannot be looked at.
        if results.absent:
            report.lacks("views", f"of {results}")
            return
        settings = settings_of(cursor, opened, reader.log, results, card)
        sources = {code: one[SOURCES] for code, one in settings.items()}
    hists = None if hists is None or hists.absent else hists
    wanted = {TableName(PROGRESS, catalogue.name.schema): progress(catalogue)}
    clear = tables.get(CLEAR_RESULTS)
    for table, of_cards in ((results, sources), (clear, _of_clear(sources))):
        if table is not None and not table.absent:
            of, base = Wide(table, hists, catalogue, of_cards), table.name
            wanted[TableName(f"{base.name}_wide", base.schema)] = wide(of)
            wanted[TableName(f"{base.name}_observations", base.schema)] = observations(of)
    outdated = _outdated(opened, wanted, report)
    if outdated:
        report.make("views", ", ".join(map(str, outdated)), partial(_make, opened, outdated))


def _of_clear(sources: Sources) -> Sources:
    """Those of clear pixels: classes have none of these, and other CARDs no classes."""
    of_card = sources.get("s2", {})
    return {"s2": {label: source for label, source in of_card.items() if source.partition("_")[0] != CLASSES}}


def progress(catalogue: Table) -> sql.Composed:
    """Scenes by CARD, month and status."""
    count = sql.SQL("count(*) FILTER (WHERE status::text = {}) AS {}")
    statuses = [count.format(sql.Literal(status), sql.Identifier(status)) for status in STATUSES]
    return statement(
        "views.progress",
        obstime=obstime(catalogue),
        catalogue=catalogue.identifier,
        statuses=_after(statuses),
        known=COMMA.join(map(sql.Literal, STATUSES)),
    )


def _outdated(
    opened: Session, wanted: Mapping[TableName, sql.Composed], report: Report
) -> dict[TableName, tuple[sql.Composed, str]]:
    """Of the views that are wanted, those that are lacking or made from something else, and the comments they get."""
    found: dict[TableName, tuple[sql.Composed, str]] = {}
    for name, query in wanted.items():
        users: list[str] = []
        with opened.database.transaction(f"looking for the view {name}") as cursor:
            comment = f"{MADE_ANEW} ({hashlib.sha256(query.as_string(cursor).encode()).hexdigest()[:16]})"
            cursor.execute(statement("views.find"), {"schema": name.schema, "name": name.name})
            kind, said = cursor.fetchone() or (None, None)
            if kind == "v":
                cursor.execute(statement("views.dependents"), {"view": name.identifier.as_string(cursor)})
                users = [user for (user,) in cursor.fetchall()]
        if len(name.name.encode()) > LONGEST_IDENTIFIER_BYTES:
            report.lacks("view", f"{name}: PostgreSQL takes no name so long; give the table of results a shorter one")
        elif kind is not None and not (kind == "v" and (said or "").startswith(MADE_ANEW)):
            report.there("view", f"{name} was made by others, and stays as it is")
        elif said == comment:
            report.there("view", str(name))
        elif users:
            report.lacks("view", f"{name}, as it is wanted now; drop what is made of it first: {', '.join(users)}")
        else:
            found[name] = query, comment
    return found


def _make(opened: Session, views: Mapping[TableName, tuple[sql.Composed, str]]) -> None:
    with opened.database.transaction(f"making the views {', '.join(map(str, views))}") as cursor:
        cursor.execute(shared("tables.lock_creation"))
        for name, (query, comment) in views.items():
            cursor.execute(statement("views.drop", view=name.identifier))
            cursor.execute(statement("views.create", view=name.identifier, query=query))
            cursor.execute(statement("views.comment", view=name.identifier, comment=sql.Literal(comment)))


def _pick(statistic: str, label: str, name: sql.Identifier) -> sql.Composed:
    """A statistic of one label, in a table with a row per label."""
    found = sql.SQL("max({}) FILTER (WHERE band = {}) AS {}")
    return found.format(sql.Identifier(statistic), sql.Literal(label), name)


def _after(columns: list[sql.Composed]) -> sql.Composed:
    """Columns that come after others."""
    return sql.SQL("").join([sql.SQL(", {}").format(column) for column in columns])
