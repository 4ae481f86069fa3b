"""`python -m operations ingest`: the products of a source become rows of the catalogue.

It can be repeated as often as one likes: what is there already stays as it is. Every batch is written on its own, so
that what was found is not lost if the next one fails.
"""

import argparse
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path

from extractors.backoff import spread
from extractors.config import Directory, read_store_config
from extractors.errors import ConfigurationError, OutageError, UserError
from extractors.health import report
from extractors.logs import progress
from extractors.text import say
from operations.catalogue import Catalogue
from operations.options import add_card, add_dry_run, seconds
from operations.session import Session, session
from operations.sources.file import FileSource
from operations.sources.odata import ODataSource
from operations.sources.products import CARDS, Batch, Found, ProductSource, Question, Refused, bare
from operations.sources.stac import StacSource
from operations.sources.store import StoreSource

log = logging.getLogger(__name__)

SOURCES = ("store", "stac", "odata", "file")
# Of what each kind of reason refuses, so many are named.
NAMED = 3
LONGEST_NAME = 200
MOST_REASONS = 20
STEPS = 1000
# For the health file: what a source may take for a batch, with all its waiting.
LONGEST_BATCH_SECONDS = 3600.0


class AllRefusedError(UserError):
    """A source has products, and none of them can become a row: see the reasons, and fix the source or name another."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    parser.add_argument(
        "--from",
        dest="source",
        choices=SOURCES,
        required=True,
        help="where products are looked up: the store itself, or a catalogue or list of them",
    )
    parser.add_argument(
        "--url", help="address of the service (stac, odata), in place of that of the Copernicus Data Space"
    )
    parser.add_argument(
        "--file",
        type=Path,
        metavar="FILE",
        help="the list, for --from file: CSV or lines of JSON with name, start, footprint",
    )
    parser.add_argument("--watch", type=seconds, metavar="SECONDS", help="look again every SECONDS seconds")
    add_card(parser, "products of this CARD only")
    add_dry_run(parser)


def run(options: argparse.Namespace) -> int:
    """Fill the catalogue, once or again and again."""
    source, bucket = open_source(options)
    if options.card not in {None, *source.cards}:
        raise ConfigurationError(
            f"--card {options.card}: --from {options.source} has only {', '.join(source.cards)}; name another source"
        )
    with session(options) as opened:
        catalogue = Catalogue(opened, bucket, options.dry_run)
        while True:
            try:
                if opened.database.closed:
                    opened.reopen()
                Round(source, catalogue, opened, options).run()
            except (OutageError, AllRefusedError) as error:
                if options.watch is None:
                    raise
                log.warning("%s; looking again in %g s", error, options.watch)
            if options.watch is None:
                return 0
            pause = spread(options.watch, 0.95, 1.05)
            report("pausing", pause)
            time.sleep(pause)


def open_source(options: argparse.Namespace) -> tuple[ProductSource, str | None]:
    """The source that the options name, and the configured bucket. Raises ConfigurationError for options that do not
    go together."""
    kind = options.source
    if (options.file is not None) != (kind == "file"):
        raise ConfigurationError("--file FILE and --from file go together: write both, or neither")
    if options.url is not None and kind not in {"stac", "odata"}:
        raise ConfigurationError(f"--url is for --from stac and --from odata; {kind} has no address there")
    if kind == "file":
        return FileSource(options.file), None
    settings = read_store_config(options.s3_config).s3
    bucket = None if isinstance(settings, Directory) else settings.bucket
    if kind == "store":
        return StoreSource(settings, str(options.s3_config)), bucket
    return (StacSource if kind == "stac" else ODataSource)(options.url), bucket


@dataclass
class Counted:
    """What came of the products of a CARD: each counts once, however often it was found. moved: those of the known ones
    that lie elsewhere by now. refused: names by reason."""

    new: int = 0
    known: int = 0
    moved: int = 0
    elsewhere: int = 0
    refused: dict[str, list[str]] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    def first(self, name: str) -> bool:
        """Whether this product was not found before."""
        before = len(self.seen)
        self.seen.add(bare(name))
        return len(self.seen) > before

    def refuse(self, refused: Refused) -> None:
        """Count what cannot become a row; of reasons there are not endlessly many."""
        known = len(self.refused) < MOST_REASONS or refused.reason in self.refused
        self.refused.setdefault(refused.reason if known else "has another fault", []).append(refused.name)

    def in_words(self, dry_run: bool) -> str:
        """The summary of a CARD."""
        refused = sum(map(len, self.refused.values()))
        new = "would be new" if dry_run else "new"
        moved = f" ({self.moved} of them moved)" if self.moved else ""
        return (
            f"{len(self.seen)} found: {self.new} {new}, {self.known} known{moved}, {refused} refused, "
            f"{self.elsewhere} outside the area or the dates"
        )


class Round:
    """One time of asking a source for everything."""

    def __init__(
        self, source: ProductSource, catalogue: Catalogue, opened: Session, options: argparse.Namespace
    ) -> None:
        self._source, self._catalogue, self._options = source, catalogue, options
        cards = [CARDS[code] for code in source.cards if options.card in {None, code}]
        args = opened.config.args
        self._question = Question(cards, args.startdate, args.enddate, catalogue.boxes(), catalogue.known)
        self._counts = {card.code: Counted() for card in cards}

    def run(self) -> None:
        """Ask, write, and say what came of it."""
        with progress(STEPS, "", f"ingest from {self._options.source}") as bar:
            done = 0.0
            doing = f"ingesting from {self._options.source}"
            report(doing, LONGEST_BATCH_SECONDS)
            for batch in self._source.batches(self._question):
                self._take(batch)
                report(doing, LONGEST_BATCH_SECONDS)
                done += batch.share
                bar.update(min(STEPS, int(done * STEPS)) - bar.n)
        for code, counted in self._counts.items():
            say(f"{code or 'of no card'}: {counted.in_words(self._options.dry_run)}")
            for reason, names in sorted(counted.refused.items()):
                shown = ", ".join(name[:LONGEST_NAME] for name in names[:NAMED]) + ", ..." * (len(names) > NAMED)
                log.warning("%s: %d refused: %s (%s)", code or "of no card", len(names), reason, shown)
            if self._options.source == "file" and counted.elsewhere and not counted.new + counted.known:
                log.warning(
                    "%s: none of the list lies in the area and the dates; see args in %s, and that footprints have the "
                    "longitude first",
                    code,
                    self._options.db_config,
                )
        for table in sorted(self._catalogue.without_room):
            log.warning(
                "%s has no partition for the newest scenes, and workers refuse these until its owner has run "
                "`python -m operations setup`",
                table,
            )
        self._catalogue.without_room.clear()
        self._withdraw()
        found = sum(len(counted.seen) for counted in self._counts.values())
        if found and found == sum(
            len(names) for counted in self._counts.values() for names in counted.refused.values()
        ):
            raise AllRefusedError(
                f"all that was found ({found}) has been refused, so nothing has been added; see the reasons above"
            )

    def _take(self, batch: Batch) -> None:
        """Write a batch, and count what came of it."""
        counts, question = self._counts, self._question
        wanted: list[Found] = []
        for product in batch.found:
            if not counts[product.card].first(product.reference):
                continue
            if question.start <= product.obstime < question.end:
                wanted.append(product)
            else:
                counts[product.card].elsewhere += 1
        added = self._catalogue.add(wanted)
        for code, counted in counts.items():
            counted.new += sum(product.card == code for product in added.new)
            counted.known += sum(product.card == code for product in added.known)
            counted.moved += sum(product.card == code for product in added.moved)
            counted.elsewhere += sum(product.card == code for product in added.elsewhere)
        if isinstance(self._source, StoreSource):
            for product in added.elsewhere:
                self._source.ignore(product)
        for code, name in batch.known:
            counts[code].known += counts[code].first(name)
        for code, name in batch.elsewhere:
            counts[code].elsewhere += counts[code].first(name)
        for refused in batch.refused:
            counted = counts.setdefault(refused.card, Counted())
            if counted.first(refused.name):
                counted.refuse(refused)

    def _withdraw(self) -> None:
        """What the source has taken back is not begun with any more."""
        names = sorted({bare(name) for name in self._source.withdrawn(self._question)})
        if not names:
            return
        withdrawn, late = self._catalogue.withdraw(names)
        if withdrawn:
            log.warning(
                "the source has deleted %d products that nobody had begun with; they %s 'superseded': %s",
                len(withdrawn),
                "would be" if self._options.dry_run else "are",
                ", ".join(withdrawn),
            )
        if late:
            log.warning(
                "the source has deleted %d products after work on them had begun; see whether there are others in "
                "their place: %s",
                len(late),
                ", ".join(late),
            )
