"""A worker with one of its mechanisms off: `python -m tests.faults.without NAME s2 [the worker's own arguments]`.

For seeing that a test of that mechanism can fail. Nothing of this is in the package.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import shutil
import sys
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from psycopg2 import sql

from extractors import attempt, config, scene, worker
from extractors.database import attempts as attempt_log
from extractors.database import connection, queue
from extractors.database.connection import Database
from extractors.database.duplicates import Duplicates
from extractors.database.publishing import Publishing
from extractors.database.queue import Queue
from extractors.database.results import ResultsTable
from extractors.database.spool import Spool
from extractors.errors import UnusableSceneError
from extractors.model import Outcome, Scene
from extractors.products import body, content, source, store
from extractors.products.card import Card
from extractors.raster import chunks, grids, images, memory, scene_bands
from extractors.runtime import deadline as runtime_deadline
from extractors.runtime import signals

MANY = 10**9
Usage = namedtuple("Usage", "total used free")


def put(owner: object, **values: object) -> None:
    """Put something in the place of what is there."""
    for name, value in values.items():
        getattr(owner, name)  # a name that is no longer there would leave the mechanism on
        setattr(owner, name, value)


def _with_statements(module: Any, **instead: str) -> None:
    """Have a module use other statements, by the last part of their names."""
    original = module.statement

    def changed(name: str, **identifiers: sql.Composable) -> sql.Composed:
        text = instead.get(name.split(".")[1])
        return original(name, **identifiers) if text is None else sql.SQL(text).format(**identifiers)

    put(module, statement=changed)


def skip_locked_claim() -> None:
    """As the established system: look for a scene, then update it, whether or not that changes a row."""

    def claim(self: Any, _: str | None = None) -> Scene | None:
        names = {"catalogue": self._tables.catalogue.identifier, "log": self._tables.log.identifier}
        with self._database.transaction("claiming") as cursor:
            cursor.execute(
                sql.SQL(
                    "SELECT id, reference, obstime FROM {catalogue} WHERE status = 'ingested' AND card = %s "
                    "AND NOT EXISTS (SELECT FROM {log} r WHERE r.obsid = id AND r.retry_after > now()) "
                    "ORDER BY obstime, id LIMIT 1"
                ).format(**names),
                (self._card,),
            )
            row = cursor.fetchone()
        if row is None:
            return None
        with self._database.transaction("claiming") as cursor:
            cursor.execute(
                sql.SQL("UPDATE {catalogue} SET status = 'inprogress' WHERE id = %s AND status = 'ingested'").format(
                    **names
                ),
                (row[0],),
            )
            run_id, number = self._attempts.begin(cursor, row[0], row[1], self._card, self._args.name)
        return Scene(row[0], row[1], row[2], run_id, number)

    put(Queue, claim=claim)
    rescue()
    fence()


def advisory_lock() -> None:
    """Nothing tells that a worker is alive."""
    _with_statements(queue, lock="SELECT true", lock_for_now="SELECT true")


def rescue() -> None:
    """Nobody looks after dead workers, or waits for their scenes."""
    put(Queue, _rescue=lambda _: None)
    wait_for_others()


def fence() -> None:
    """Finish whatever has become of the scene meanwhile."""
    _with_statements(
        attempt_log,
        set_status="UPDATE {catalogue} SET status = %(status)s WHERE id = %(obsid)s",
        end="UPDATE {log} SET finished_at = clock_timestamp(), outcome = %(outcome)s, status = %(status)s, "
        "detail = %(detail)s WHERE run_id = %(run_id)s",
    )
    finish = attempt_log.Attempts.finish

    def finished(*arguments: Any) -> bool:
        finish(*arguments)
        return True

    put(attempt_log.Attempts, finish=finished)


def one_transaction() -> None:
    """Each block of rows is committed by itself."""
    original = Spool.blocks
    copy = ResultsTable.copy

    def committing(self: ResultsTable, cursor: Any, rows: Spool) -> None:
        def blocks() -> Iterator[list[bytes]]:
            for block in original(rows):
                yield block
                cursor.connection.commit()

        put(rows, blocks=blocks)
        copy(self, cursor, rows)
        cursor.connection.commit()

    put(ResultsTable, copy=committing)


def journal_lookup() -> None:
    """An unanswered COMMIT counts as failed."""
    put(Publishing, published=lambda *_: None)


def failure_classes() -> None:
    """Whatever goes wrong, the scene has failed."""
    put(attempt, outcome_of=lambda *_: Outcome("failed", "failed", "something", 1))
    put(worker, outcome_of=lambda *_: Outcome("failed", "failed", "something", 1))


def proof() -> None:
    """Claim without looking at libraries and store before."""
    put(worker, prove=lambda *_: None)


def attempts() -> None:
    """Try again for ever."""
    original = attempt.outcome_of
    put(attempt, outcome_of=lambda error, _, *rest: original(error, 1 - MANY, *rest))
    made = Queue.__init__

    def endless(self: Any, *arguments: Any) -> None:
        made(self, *arguments)
        self._most_attempts = MANY

    put(Queue, __init__=endless)


def final() -> None:
    """Whatever is wrong with a scene's files, try again."""
    put(UnusableSceneError, retryable=True)


def back_off() -> None:
    """Try again at once."""
    original = attempt.outcome_of

    def outcome_of(*arguments: Any) -> Outcome:
        outcome = original(*arguments)
        return dataclasses.replace(outcome, retry_after=None if outcome.retry_after is None else 0)

    put(attempt, outcome_of=outcome_of)
    put(worker, LONGEST_OUTAGE_PAUSE_SECONDS=0)


@contextlib.contextmanager
def _nothing(*_: object) -> Iterator[None]:
    yield


def deadline() -> None:
    """A scene may take for ever."""
    put(runtime_deadline.Deadline, _start=lambda _: None)


def stopping_() -> None:
    """No signal handlers."""
    put(signals, SIGNALS=())


def cancel() -> None:
    """A signal does not reach a running query."""
    put(signals.Signals, cancel_with=lambda *_: None)


def keepalives() -> None:
    """Neither end asks whether the other is alive, nor limits how long anything takes."""
    original = config.Connection.libpq
    put(connection, CLIENT_SETTINGS={"keepalives": 0})
    put(connection, SERVER_SETTINGS={"TimeZone": "UTC"})
    put(connection, _configure=lambda *_: None)

    def libpq(self: config.Connection) -> dict[str, Any]:
        return {k: v for k, v in original(self).items() if not k.startswith(("keepalives", "tcp_"))}

    put(config.Connection, libpq=libpq)


def sweep() -> None:
    """What dead workers leave, stays."""
    put(worker, sweep=lambda _: None)


def private_scratch() -> None:
    """All workers use one folder, and what they find there."""

    @contextlib.contextmanager
    def shared(data_dir: Path, _: int) -> Iterator[Path]:
        yield data_dir

    original = store.ObjectStore.download

    def download(self: Any, objects: Any, description: str, arrived: Any, seconds: float) -> None:
        there = [path for path in objects if path.exists()]
        original(
            self, {path: item for path, item in objects.items() if path not in there}, description, arrived, seconds
        )
        for path in there:
            arrived(path)

    put(attempt, scratch=shared)
    put(store.ObjectStore, download=download)


def free_space() -> None:
    """Download whether there is room or not."""
    put(shutil, disk_usage=lambda _: Usage(MANY, 0, MANY))


def size_check() -> None:
    """Any number of bytes will do."""
    original, checksum = body.receive, content.checksum_difference

    def receive(answer: Any, part: Any, *rest: Any) -> None:
        original(answer, dataclasses.replace(part, length=int(answer.headers["Content-Length"])), *rest)

    put(store, check_answer=lambda *_: None, receive=receive)
    put(store, difference=lambda file, _: checksum(file) if content.has_md5(file.item) else None)


def md5_check() -> None:
    """Any bytes will do, if there are enough."""
    put(content, checksum_difference=lambda _: None)


def integrity() -> None:
    """Whatever GDAL opens is whole, and is what the header says."""
    put(scene_bands, check_integrity=lambda *_: None, check_reading=lambda *_: None)


def retry() -> None:
    """The store gets one chance."""

    def once(self: Any, doing: str, request: Callable[[], Any], _: Any) -> Any:
        try:
            return request()
        except Exception as error:
            found = self._failure(error, doing)
            if found is None:
                raise
            raise found[0] from error

    put(source.Source, _retrying=once)
    put(store, ATTEMPTS_PER_REQUEST=1)


def pooler_check() -> None:
    """Whatever answers is a database."""
    put(connection, _refuse_pooling=lambda *_: None)


def driver() -> None:
    """GDAL decides what a file is."""
    any_driver: Any = None
    original = images.ImageFile.__init__
    put(images.ImageFile, __init__=lambda self, path, _: original(self, path, any_driver))


def reference_check() -> None:
    """Any reference will do."""
    put(Card, check_reference=lambda *_: None)


def quoting() -> None:
    """Names enter statements as they are."""
    put(config.TableName, identifier=property(lambda self: sql.SQL(str(self))))


def fleet_limit() -> None:
    """Everybody downloads at once."""
    put(scene, download_slot=_nothing)


def no_key_update() -> None:
    """Claim with a lock that keeps other programs' foreign keys waiting."""
    original = queue.__dict__["statement"]

    def changed(name: str, **identifiers: sql.Composable) -> sql.Composed:
        composed = original(name, **identifiers)
        parts = [
            sql.SQL(part.string.replace("FOR NO KEY UPDATE", "FOR UPDATE")) if isinstance(part, sql.SQL) else part
            for part in composed.seq
        ]
        return sql.Composed(parts)

    put(queue, statement=changed)


def short_transactions() -> None:
    """Between its statements, a worker leaves a transaction open."""
    original = Database.transaction

    @contextlib.contextmanager
    def transaction(self: Any, doing: str) -> Iterator[Any]:
        with original(self, doing) as cursor:
            yield cursor
        self._connection.cursor().execute("SELECT count(*) FROM pg_class")

    put(Database, transaction=transaction)


def wait_for_others() -> None:
    """At the end of a burst, what other workers are at is none of our business."""
    _with_statements(queue, under_way="SELECT 0")


def bounded_wait() -> None:
    """Wait for other workers however long they have been at their scenes."""
    put(worker, GRACE_SECONDS=MANY)


def only_bursts() -> None:
    """Whatever a worker is to do, it waits for the others."""
    put(config.Options, burst=property(lambda _: True))


def decoded_limit() -> None:
    """Blocks of images may have any size."""
    put(memory.Budget, keep=lambda *_: None)


def too_large() -> None:
    """Parcels may have any size."""
    put(chunks, LARGEST_PARCEL_PIXELS=MANY**2)
    put(grids.GridBands, fit=lambda _, pixels, __: pixels >= 0)


def duplicates() -> None:
    """Products of one observation know nothing of each other."""
    put(config.Extraction, newest_only=lambda *_: False)


def siblings_lock() -> None:
    """Siblings are published side by side."""
    put(Duplicates, lock=lambda *_: None)


MECHANISMS: dict[str, Callable[[], None]] = {
    function.__name__.rstrip("_"): function
    for function in (
        skip_locked_claim, advisory_lock, rescue, fence, one_transaction, journal_lookup, failure_classes, attempts,
        back_off, deadline, stopping_, cancel, keepalives, sweep, private_scratch, free_space, size_check, md5_check,
        integrity, retry, pooler_check, driver, reference_check, quoting, fleet_limit, too_large, final,
        no_key_update, short_transactions, wait_for_others, bounded_wait, only_bursts, decoded_limit, proof,
        duplicates, siblings_lock,
    )
}  # fmt: skip


if __name__ == "__main__":
    MECHANISMS[sys.argv[1]]()
    card = importlib.import_module(f"extractors.{sys.argv[2]}").CARD
    sys.exit(worker.main(card, sys.argv[3:]))
