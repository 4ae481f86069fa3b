"""A worker process: takes scenes one after the other, waits where waiting helps, and ends with an exit code.

What happens to a scene is in `attempt.py`, what is done for it in `scene.py`.
"""

import logging
import os
import sys
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from typing import Self

from extractors import failpoints
from extractors.attempt import attempt, exit_code_of, heavy_code, outcome_of
from extractors.backoff import Backoff, spread
from extractors.config import Options
from extractors.database.attempts import this_worker
from extractors.errors import ConfigurationError, ExtractionError, OutageError, one_line
from extractors.health import report
from extractors.logs import about, configure
from extractors.model import Check, Outcome, Pending, Scene
from extractors.products.card import Card
from extractors.resources import Resources, Start
from extractors.runtime.cores import usable_cores, usable_memory
from extractors.runtime.deadline import GRACE_SECONDS
from extractors.runtime.options import read_options
from extractors.runtime.process import leave_no_core
from extractors.runtime.scratch import sweep
from extractors.runtime.signals import Signals, Stopped
from extractors.text import say

log = logging.getLogger(__name__)

NOTHING_TO_DO = "No image with status 'ingested' found"
NOTHING_TO_REDO = "No image found in the list of `operations redo`"
# Scenes named in a warning.
SHOWN_SCENES = 5
LONGEST_OUTAGE_PAUSE_SECONDS = 300.0
# While scenes wait for their next attempt, how often a worker looks whether others have turned up.
LONGEST_WAIT_SECONDS = 30.0
# While other workers are at the last scenes, how soon and how often a worker looks whether one has come free.
LOOKS = Backoff(first=0.5, longest=5.0)


def main(card: Card, arguments: Sequence[str] | None = None) -> int:
    """Run the worker's command; returns the exit code."""
    leave_no_core()
    options = read_options(card.code, arguments)
    configure(options.verbose, options.log_format, worker=this_worker(), card=card.code)
    signals = Signals()
    signals.install()
    try:
        report("starting")
        failpoints.arm()
        failpoints.reach("start")
        if options.check:
            with signals.interruptible():
                return check_all(card, options)
        with signals.interruptible():
            resources = Resources.open(card, options, usable_cores(), usable_memory())
        with resources:
            return run(resources, signals)
    except Stopped as stopped:
        log.warning("%s", stopped)
        logging.shutdown()
        sys.stdout.flush()
        # A transfer thread may hang in the network; the interpreter would wait for it.
        os._exit(stopped.exit_code)
    except Exception as error:
        return exit_code_of(error, options.verbose)


def check_all(card: Card, options: Options) -> int:
    """Make every check and say on stdout what it has seen, a line each; nothing is made or claimed. Returns the exit
    code: that of a wrong configuration if there is any, else that of an outage if there is any, else 0."""
    results = CheckResults()
    try:
        start = Start(card, options)
    except ConfigurationError as error:
        return results.failed("configuration", error).exit_code
    with closing(start):
        results.passed("configuration", f"{options.db_config} and {options.s3_config}")
        results.make(start.first_checks)
        if start.database is not None:
            results.make(start.database_checks.before_any_work())
        results.make(heavy_code().start_checks.checks(start))
        results.make(heavy_code().start_checks.advice(start))
    return results.exit_code


class CheckResults:
    """What checks have seen, said on stdout as it is seen."""

    def __init__(self) -> None:
        self.exit_code = 0
        self._without: set[str] = set()

    def make(self, checks: Sequence[Check]) -> None:
        """Make these checks, but for those that cannot be made because another one has failed."""
        for check in checks:
            lacking = self._without.intersection(check.after)
            if lacking:
                self._say("FAILED", check.name, f"not looked at, because of: {', '.join(sorted(lacking))}")
                self._without.add(check.name)
                continue
            try:
                self.passed(check.name, check.look())
            except ExtractionError as error:
                self.failed(check.name, error)

    def passed(self, name: str, seen: str) -> None:
        """Say what was seen."""
        self._say("ok", name, seen)

    def failed(self, name: str, error: ExtractionError) -> Self:
        """Say what to do."""
        self._say("FAILED", name, one_line(error))
        self._without.add(name)
        if self.exit_code != ConfigurationError.exit_code:
            self.exit_code = error.exit_code
        return self

    def _say(self, result: str, name: str, text: str) -> None:
        say(f"{result} {name}: {text}")


def run(resources: Resources, signals: Signals) -> int:
    """Take one scene, or scene after scene; returns the exit code: 1 if any of them failed, else 0.

    Outages may be temporary: with several scenes to do, pause and continue, up to `outages_in_a_row`.
    """
    options, settings = resources.options, resources.config.extraction
    signals.cancel_with(resources.database.cancel)
    with signals.interruptible():
        look_for_foreign(resources)
    most_outages = settings.outages_in_a_row if options.everything else 1
    pauses = Backoff(settings.outage_pause_seconds, LONGEST_OUTAGE_PAUSE_SECONDS)
    failed, outages, idle = False, 0, Idle(resources)
    while True:
        signals.check()
        scene, outcome = None, take(resources, signals)
        if isinstance(outcome, Pending):
            # An outage of the scenes that wait may not be over.
            outages, pause = outages if outcome.waiting else 0, idle.pause(outcome)
            if pause is None:
                return int(failed)
            sleep(pause, signals)
            continue
        if isinstance(outcome, Scene):
            scene, idle = outcome, Idle(resources)
            outcome = attempt(resources, scene, signals)
        if outcome.interrupted:
            # After a signal, an outage is the signal's: it has cancelled a query.
            signals.check()
        outages = outages + 1 if outcome.is_outage else 0
        failed |= outcome.failed
        with about(scene):
            if outcome.ends_worker or outages == most_outages:
                log.error("%s", outcome.reason)
                return outcome.exit_code
            if outages:
                pause = pauses.pause(outages)
                log.warning("%s; continuing in %.1f s (outage %d in a row)", outcome.reason, pause, outages)
                sleep(pause, signals)
        if not options.everything:
            return int(failed)


def take(resources: Resources, signals: Signals) -> Scene | Pending | Outcome:
    """Claim the next scene; if there is none, what may still come; if the database cannot be asked, that outage."""
    report("looking for a scene")
    options, queue, settings = resources.options, resources.queue, resources.config.extraction
    sweep(options.data_dir)
    try:
        scene = next_scene(resources, signals)
        if scene is not None:
            return scene
        with signals.cancellable():
            # A worker that has outlived its deadline, and that of its download, is stopped or cut off, and gives
            # nothing back.
            pending = queue.pending(2 * (settings.deadline_seconds + GRACE_SECONDS))
            if pending.without_parcels and options.watch_seconds is None:
                raise ConfigurationError(f"{resources.tables.parcels} holds no parcels any more; import them")
        if options.everything and (pending.under_way or pending.waiting):
            # A scene may come free, and is taken without delay then. What is away now may be back by that time.
            with suppress(OutageError):
                prove(resources, signals)
        # What was under way when we claimed may have been given back before we asked for that.
        scene = next_scene(resources, signals) if options.burst and not pending.under_way else None
        return scene or pending  # noqa: TRY300
    except OutageError as error:
        log.debug("while looking for a scene:", exc_info=error)
        return outcome_of(error, 1, settings)


def next_scene(resources: Resources, signals: Signals) -> Scene | None:
    """Claim a scene, if there is any."""
    if not resources.proven:
        with signals.cancellable():
            if not resources.queue.look(resources.options.scene):
                return None
        prove(resources, signals)
    with signals.cancellable():
        return resources.queue.claim(resources.options.scene)


def prove(resources: Resources, signals: Signals) -> None:
    """Make the checks that wait until there is a scene to claim, if they have not passed yet; raises what the first
    one does that fails."""
    if not resources.proven:
        with signals.interruptible():
            for check in heavy_code().start_checks.checks(resources.start):
                check.look()
        resources.proven = True


class Idle:
    """A worker that finds nothing to claim: what it waits for, and what it says."""

    def __init__(self, resources: Resources) -> None:
        self._options = resources.options
        self._queue = resources.queue
        self._looks = 0
        self._said: set[bool] = set()

    def pause(self, pending: Pending) -> float | None:
        """Seconds until the next look for scenes; None: the worker is done."""
        pause = pause_for(pending, self._looks, self._options)
        if pause is not None:
            self._looks += 1
            return pause
        if pending.without_parcels not in self._said:
            self._said.add(pending.without_parcels)
            if pending.without_parcels:
                log.warning("the parcel table is empty: nothing is claimed until it has rows")
                return self._options.watch_seconds
            if self._options.scene is not None:
                log.info("%s", self._queue.explain(self._options.scene))
            elif (reason := self._queue.why_none()) is not None:
                log.warning("%s", reason)
            say_nothing_to_do(self._options)
        return self._options.watch_seconds


def pause_for(pending: Pending, looks: int, options: Options) -> float | None:
    """At the end of a burst, seconds until the next look for scenes that may come free; None: do not wait for them.
    looks: how often the worker has looked already.

    If the last workers ended while others are still at scenes, and the machine of one of these were lost, its scene
    would wait until somebody starts a worker again.
    """
    if options.watch_seconds is not None:
        return None
    if pending.waiting:
        log.info("%d scenes wait for their next attempt, the first one for %.0f s", pending.waiting, pending.seconds)
        if options.everything:
            # Several workers need not come back at the same moment, and others may be given back meanwhile.
            return min(max(pending.seconds, 0.0) + spread(0.5, 0.1, 1.0), LONGEST_WAIT_SECONDS)
    if not options.burst or not pending.under_way:
        return None
    if not looks:
        log.info(
            "%d scenes are still being worked on by other workers; waiting in case one is given back",
            pending.under_way,
        )
    return LOOKS.pause(looks + 1)


def sleep(seconds: float, signals: Signals) -> None:
    """Wait, unless a signal comes."""
    report("pausing", seconds)
    with signals.interruptible():
        time.sleep(seconds)


def say_nothing_to_do(options: Options) -> None:
    """On stdout, where other programs look for it; among lines of JSON as one of them."""
    nothing = NOTHING_TO_REDO if options.redo else NOTHING_TO_DO
    if options.log_format == "json":
        log.info(nothing)
    else:
        say(nothing)


def look_for_foreign(resources: Resources) -> None:
    """Report scenes that other programs have left `inprogress`, or take them if that is wanted."""
    foreign = resources.queue.foreign()
    if not foreign:
        return
    if not resources.options.adopt_foreign:
        shown = ", ".join(str(obsid) for obsid, _ in foreign[:SHOWN_SCENES])
        log.warning(
            "%d scenes are 'inprogress' in %s, but not by this program (%s%s): they are left alone; take them with "
            "--adopt-foreign if no other program works on them",
            len(foreign),
            resources.tables.catalogue,
            shown,
            ", ..." if len(foreign) > SHOWN_SCENES else "",
        )
        return
    for obsid, reference in foreign:
        if resources.queue.adopt(obsid):
            other = {"scene": obsid, "reference": reference}
            log.warning("scene %d %s: taken from the program that left it 'inprogress'", *other.values(), extra=other)
