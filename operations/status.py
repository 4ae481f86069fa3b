"""`python -m operations status`: how far the scenes are, what workers do, and what has failed. It makes nothing."""

import argparse
import json
import logging
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from extractors.errors import OutageError
from extractors.model import STATUSES
from extractors.text import printable, say
from operations.conditions import Condition, condition
from operations.options import add_card, seconds
from operations.progress import CardProgress, Progress, elsewhere_in_words, read_progress
from operations.session import Session, session

log = logging.getLogger(__name__)

LONGEST_DETAIL = 200
LONGEST_REFERENCE = 80
# Moves a terminal's cursor to its upper left corner, and clears what is below.
CLEAR = "\x1b[H\x1b[J"
# What a condition can be on.
NUMBERS: Mapping[str, str] = {
    **{status: f"scenes that are {status}" for status in STATUSES},
    "scenes": "all scenes of the configuration",
    "elsewhere": "scenes of other dates or areas",
    "waiting": "scenes that wait for their next attempt",
    "redo": "scenes listed to be done again that can be taken, or that workers are at",
    "redo_failed": "scenes listed to be done again that have failed",
    "alive": "workers at scenes",
    "gone": "scenes of workers that have died",
    "foreign": "scenes that are inprogress by other programs",
    "per_hour": "scenes done in an hour",
    "hours_left": "hours until all are done",
    "idle": "seconds since an attempt began or ended, while there is work and nobody is at it",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    add_card(parser, "this CARD only")
    parser.add_argument("--watch", metavar="SECONDS", type=seconds, help="look again every SECONDS seconds")
    parser.add_argument("--json", action="store_true", help="one line of JSON in place of text")
    parser.add_argument(
        "--fail-if",
        metavar="CONDITION",
        action="append",
        default=[],
        type=condition(NUMBERS),
        help=f"end with 1 if this holds, as 'failed>0' or 'idle>3600'; may be repeated. Names: {', '.join(NUMBERS)}",
    )


def run(options: argparse.Namespace) -> int:
    """Show it, once or again and again; 1 if a condition holds."""
    with session(options) as opened:
        while True:
            try:
                if opened.database.closed:
                    opened.reopen()
                code = look(opened, options)
            except OutageError as error:
                if options.watch is None:
                    raise
                log.warning("%s; looking again in %g s", error, options.watch)
                code = 0
            if code or options.watch is None:
                return code
            time.sleep(options.watch)


def look(opened: Session, options: argparse.Namespace) -> int:
    """Show it once; 1 if a condition holds."""
    progress = read_progress(opened, opened.reader(), options.card)
    if options.json:
        say(json.dumps(as_json(progress), ensure_ascii=False))
    else:
        in_place = options.watch is not None and sys.stdout.isatty()
        print((CLEAR if in_place else "") + "\n".join(map(printable, as_text(progress))), flush=True)
    holding = failing(progress, options.fail_if)
    for text in holding:
        log.error("%s", text)
    return int(bool(holding))


def failing(progress: Progress, conditions: list[Condition]) -> list[str]:
    """Which conditions hold, and what the numbers are."""
    numbers = all_numbers(progress)
    return [f"{one} holds: {one.name} is {numbers[one.name]:g}" for one in conditions if one.holds(numbers)]


def all_numbers(progress: Progress) -> dict[str, float]:
    """What conditions can be on, of all CARDs that were looked at."""
    cards = list(progress.cards.values())
    found: dict[str, float] = {status: sum(card.statuses.get(status, 0) for card in cards) for status in STATUSES}
    for name in ("scenes", "elsewhere", "waiting", "alive", "gone", "foreign", "per_hour"):
        found[name] = sum(getattr(card, name) for card in cards)
    found["redo"] = sum(card.again.waiting + card.again.under_way for card in cards)
    found["redo_failed"] = sum(card.again.failed for card in cards)
    # CARDs have workers of their own.
    found["hours_left"] = max((math.inf if one.hours_left is None else one.hours_left for one in cards), default=0.0)
    found["idle"] = max(map(idle, cards), default=0.0)
    return found


def idle(card: CardProgress) -> float:
    """For how many seconds nothing has happened, while there is work; endless, if nobody ever began."""
    if not card.left or card.alive:
        return 0.0
    return math.inf if card.idle is None else card.idle


def as_json(progress: Progress) -> dict[str, Any]:
    """The same as JSON takes it."""
    cards = {
        code: {
            "scenes": card.scenes,
            "statuses": dict(card.statuses),
            "elsewhere": card.elsewhere,
            "waiting": card.waiting,
            "redo": card.again._asdict(),
            "inprogress": {"alive": card.alive, "gone": card.gone, "foreign": card.foreign},
            "last_hour": card.last_hour,
            "per_hour": round(card.per_hour, 2),
            "hours_left": None if card.hours_left is None else round(card.hours_left, 2),
            "idle_seconds": None if card.idle is None else round(card.idle, 1),
        }
        for code, card in progress.cards.items()
    }
    failures = [asdict(failure) | {"finished_at": failure.finished_at.isoformat()} for failure in progress.failures]
    return {
        "time": progress.moment.isoformat(),
        "area": progress.area,
        "cards": cards,
        "workers": [asdict(worker) for worker in progress.workers],
        "other_workers": progress.others,
        "redo_elsewhere": [one._asdict() for one in progress.elsewhere],
        "failures": failures,
    }


def as_text(progress: Progress) -> list[str]:
    """The same for people."""
    lines = [f"{progress.moment:%Y-%m-%d %H:%M:%S} UTC"]
    if progress.area is None:
        lines.append("the area is lacking (operations setup --aoi): scenes everywhere are counted")
    # Columns in which there is something, and whatever else others have written there.
    found = dict.fromkeys(status for card in progress.cards.values() for status in card.statuses)
    shown = [status for status in found if any(card.statuses.get(status) for card in progress.cards.values())]
    table = [["card", "scenes", *shown, "per hour", "left"]]
    for code, card in progress.cards.items():
        numbers = [str(card.statuses.get(status, 0)) for status in shown]
        table.append([code, str(card.scenes), *numbers, f"{card.per_hour:.1f}", _duration(card.hours_left)])
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines += ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in table]
    for code, card in progress.cards.items():
        lines += [f"{code}: {text}" for text in _besides(card)]
    if elsewhere := elsewhere_in_words(progress.elsewhere):
        lines.append(elsewhere)
    alive = sum(worker.alive for worker in progress.workers)
    lines.append(f"workers: {alive} at scenes, {progress.others} without one, {len(progress.workers) - alive} gone")
    for one in progress.workers:
        what = "gone; the next worker sets its scene free" if not one.alive else one.doing
        besides = " (once more)" if one.redo else " (not of this area, these dates, or status)"
        lines.append(
            f"  {one.worker}: {one.card} scene {one.obsid} {one.reference[:LONGEST_REFERENCE]}, attempt {one.attempt}, "
            f"{one.seconds:.0f} s: {what}{'' if one.ours else besides}"
        )
    if progress.failures:
        lines.append("last failures:")
    for failure in progress.failures:
        lines.append(
            f"  {failure.finished_at:%m-%d %H:%M} {failure.card} scene {failure.obsid} "
            f"{failure.reference[:LONGEST_REFERENCE]}: {failure.outcome}: {(failure.detail or '')[:LONGEST_DETAIL]}"
        )
    return lines


def _besides(card: CardProgress) -> list[str]:
    texts = [
        (card.waiting, "scenes wait for their next attempt"),
        (card.gone, "scenes are those of workers that have died"),
        (card.foreign, "scenes are 'inprogress' by other programs, or were left so (--adopt-foreign)"),
        (card.elsewhere, "more scenes are of other dates or areas"),
    ]
    found = [f"{number} {text}" for number, text in texts if number]
    if again := card.again.in_words():
        how = "; operations retry --redo has those that failed tried again" if card.again.failed else ""
        found.append(f"to be done again: {again}{how}")
    return found


def _duration(hours: float | None) -> str:
    if hours is None:
        return "unknown"
    if hours == 0:
        return "none"
    return f"{hours * 60:.0f} min" if hours < 2 else f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"
