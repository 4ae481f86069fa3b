"""A worker with one of its mechanisms off: `python -m tests.faults.without NAME s2 [the worker's own arguments]`.

For seeing that a test of that mechanism can fail. Nothing of this is in the package.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import socket
import sys
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from psycopg2 import sql

import download_with_boto3
from extractors import config, endings, patience, worker
from extractors import resources as session
from extractors.database import catalogue
from extractors.database import connection as database
from extractors.database import results as signatures
from extractors.database.catalogue import Catalogue, Ending, Scene
from extractors.database.sql import statement
from extractors.products.card import Card
from extractors.raster import bands, chunks, images
from extractors.runtime import signals as stopping  # fmt: skip
from extractors.runtime.options import Options

MANY = 10**9
Usage = namedtuple("Usage", "total used free")


def put(owner: object, **values: object) -> None:
    """Put something in the place of what is there."""
    for name, value in values.items():
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

    def claim(self: Catalogue, connection: Any, reference: str | None = None) -> Scene | None:
        with connection, connection.cursor() as cursor:
            cursor.execute(
                sql.SQL(
                    "SELECT id, reference, obstime FROM {} WHERE status = 'ingested' AND card = %s "
                    "AND NOT EXISTS (SELECT FROM {} r WHERE r.obsid = id AND r.retry_after > now()) "
                    "ORDER BY obstime, id LIMIT 1"
                ).format(self.table.identifier, self.log.identifier),
                (self.card,),
            )
            row = cursor.fetchone()
        if row is None:
            return None
        with connection, connection.cursor() as cursor:
            cursor.execute(
                sql.SQL("UPDATE {} SET status = 'inprogress' WHERE id = %s AND status = 'ingested'").format(
                    self.table.identifier
                ),
                (row[0],),
            )
            cursor.execute(
                statement("catalogue.open_run", log=self.log.identifier),
                {"obsid": row[0], "reference": row[1], "card": self.card, "aoi": self.args.name, "versions": "{}"}
                | {"results": str(self.results), "worker": f"{socket.gethostname()}:{os.getpid()}"},
            )
            (run_id, attempt) = cursor.fetchone()
        return Scene(row[0], row[1], row[2], run_id, attempt)

    put(Catalogue, claim=claim)
    rescue()
    fence()


def advisory_lock() -> None:
    """Nothing tells that a worker is alive."""
    _with_statements(catalogue, lock="SELECT true", lock_for_now="SELECT true")


def rescue() -> None:
    """Nobody looks after dead workers, or waits for their scenes."""
    put(Catalogue, rescue=lambda *_: None)
    wait_for_others()


def fence() -> None:
    """Finish whatever has become of the scene meanwhile."""
    _with_statements(
        catalogue,
        set_status="UPDATE {catalogue} SET status = %(status)s WHERE id = %(obsid)s",
        close_run="UPDATE {log} SET finished_at = clock_timestamp(), outcome = %(outcome)s, status = %(status)s, "
        "detail = %(detail)s WHERE run_id = %(run_id)s",
    )
    finish = Catalogue.finish

    def finished(*arguments: Any) -> bool:
        finish(*arguments)
        return True

    put(Catalogue, finish=finished)


def one_transaction() -> None:
    """Each block of rows is committed by itself."""
    original = signatures.Spool.blocks
    copy = signatures.ResultsTable.copy

    def committing(self: signatures.ResultsTable, cursor: Any, rows: signatures.Spool) -> None:
        def blocks() -> Iterator[bytes]:
            for block in original(rows):
                yield block
                cursor.connection.commit()

        put(rows, blocks=blocks)
        copy(self, cursor, rows)
        cursor.connection.commit()

    put(signatures.ResultsTable, copy=committing)


def journal_lookup() -> None:
    """An unanswered COMMIT counts as failed."""
    put(session.Session, published=lambda *_: False)


def failure_classes() -> None:
    """Whatever goes wrong, the scene has failed."""
    put(worker, ending_of=lambda *_: Ending("failed", "failed", "something"))


def attempts() -> None:
    """Try again for ever."""
    original, rescue_scene = endings.ending_of, Catalogue.rescue

    def ending(cause: BaseException, scene: Scene, extraction: Any) -> Ending:
        return original(cause, Scene(scene.id, scene.reference, scene.obstime, scene.run_id, 1 - MANY), extraction)

    put(worker, ending_of=ending)
    put(Catalogue, rescue=lambda self, connection, _: rescue_scene(self, connection, MANY))


def back_off() -> None:
    """Try again at once."""
    original = endings.ending_of

    def ending(*arguments: Any) -> Ending:
        end = original(*arguments)
        return Ending(end.status, end.outcome, end.reason, None if end.pause is None else 0)

    put(worker, ending_of=ending)
    put(patience, LONGEST_OUTAGE_PAUSE_SECONDS=0)


@contextlib.contextmanager
def _nothing(*_: object) -> Iterator[None]:
    yield


def deadline() -> None:
    """A scene may take for ever."""
    put(worker, deadline=_nothing)


def stopping_() -> None:
    """No signal handlers."""
    put(stopping, SIGNALS=())


def cancel() -> None:
    """A signal does not reach a running query."""
    put(stopping.Stopping, cancel_with=lambda *_: None)


def keepalives() -> None:
    """Neither end asks whether the other is alive, nor limits how long anything takes."""
    original = config.Connection.libpq
    put(database, CLIENT_SETTINGS={"keepalives": 0})
    put(database, SERVER_SETTINGS={"TimeZone": "UTC"})
    put(database, _configure=lambda *_: None)

    def libpq(self: config.Connection) -> dict[str, Any]:
        return {k: v for k, v in original(self).items() if not k.startswith(("keepalives", "tcp_"))}

    put(config.Connection, libpq=libpq)


def sweep() -> None:
    """What dead workers leave, stays."""
    put(session, sweep=lambda _: None)


def private_scratch() -> None:
    """All workers use one folder, and what they find there."""

    @contextlib.contextmanager
    def shared(data_dir: Path, _: int) -> Iterator[Path]:
        yield data_dir

    original = download_with_boto3.ObjectStore._download

    def download(self: Any, transfer: Any, item: Any, path: Path, shared: Any) -> None:
        if not path.exists():
            original(self, transfer, item, path, shared)

    put(worker, scratch=shared)
    put(download_with_boto3.ObjectStore, _download=download)


def free_space() -> None:
    """Download whether there is room or not."""
    put(shutil, disk_usage=lambda _: Usage(MANY, 0, MANY))


def size_check() -> None:
    """Any number of bytes will do."""
    original = download_with_boto3._difference
    put(download_with_boto3, _difference=lambda p, i: None if p.stat().st_size != i.size else original(p, i))


def md5_check() -> None:
    """Any bytes will do, if there are enough."""
    original = download_with_boto3._difference
    put(download_with_boto3, _difference=lambda p, i: original(p, i) if p.stat().st_size != i.size else None)


def wholeness() -> None:
    """Whatever GDAL opens is whole."""
    put(bands, check_whole=lambda *_: None)


def retry() -> None:
    """The store gets one chance."""

    def once(self: Any, doing: str, attempt: Callable[[], Any], _: Any = None) -> Any:
        try:
            return attempt()
        except Exception as error:
            raise self._translated(error, doing)[0] from error

    put(download_with_boto3.ObjectStore, _retrying=once)
    put(download_with_boto3, ATTEMPTS_PER_REQUEST=1)


def pooler_check() -> None:
    """Whatever answers is a database."""
    put(database, _refuse_pooling=lambda *_: None)


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
    put(session.Session, download_slot=_nothing)


def no_key_update() -> None:
    """Claim with a lock that keeps other programs' foreign keys waiting."""
    original = catalogue.__dict__["statement"]

    def changed(name: str, **identifiers: sql.Composable) -> sql.Composed:
        composed = original(name, **identifiers)
        parts = [
            sql.SQL(part.string.replace("FOR NO KEY UPDATE", "FOR UPDATE")) if isinstance(part, sql.SQL) else part
            for part in composed.seq
        ]
        return sql.Composed(parts)

    put(catalogue, statement=changed)


def short_transactions() -> None:
    """Between its statements, a worker leaves a transaction open."""
    claim, prospects = session.Session.claim, Catalogue.prospects
    select = worker.__dict__["select_parcels"]

    def look(connection: Any) -> None:
        connection.cursor().execute("SELECT count(*) FROM pg_class")

    def claimed(self: session.Session) -> Scene | None:
        scene = claim(self)
        look(self.connection)
        return scene

    def asked(self: Catalogue, connection: Any, *arguments: Any) -> Any:
        found = prospects(self, connection, *arguments)
        look(connection)
        return found

    @contextlib.contextmanager
    def selected(connection: Any, *arguments: Any) -> Iterator[Any]:
        with select(connection, *arguments) as selection:
            look(connection)
            yield selection

    put(session.Session, claim=claimed)
    put(Catalogue, prospects=asked)
    put(worker, select_parcels=selected)


def wait_for_others() -> None:
    """At the end of a burst, what other workers are at is none of our business."""
    _with_statements(catalogue, under_way="SELECT 0")


def bounded_wait() -> None:
    """Wait for other workers however long they have been at their scenes."""
    put(worker, GRACE_SECONDS=MANY)


def only_bursts() -> None:
    """Whatever a worker is to do, it waits for the others."""
    put(Options, burst=property(lambda _: True))


def decoded_limit() -> None:
    """Images may claim any size."""
    put(bands, LARGEST_DECODED_BYTES=MANY**2)


def too_large() -> None:
    """Parcels may have any size."""
    put(chunks, LARGEST_PARCEL_PIXELS=MANY**2)


MECHANISMS: dict[str, Callable[[], None]] = {
    function.__name__.rstrip("_"): function
    for function in (
        skip_locked_claim, advisory_lock, rescue, fence, one_transaction, journal_lookup, failure_classes, attempts,
        back_off, deadline, stopping_, cancel, keepalives, sweep, private_scratch, free_space, size_check, md5_check,
        wholeness, retry, pooler_check, driver, reference_check, quoting, fleet_limit, too_large,
        no_key_update, short_transactions, wait_for_others, bounded_wait, only_bursts, decoded_limit,
    )
}  # fmt: skip


if __name__ == "__main__":
    MECHANISMS[sys.argv[1]]()
    card = importlib.import_module(f"extractors.{sys.argv[2]}").CARD
    sys.exit(worker.main(card, sys.argv[3:]))
