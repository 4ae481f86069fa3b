"""`python -m operations backup`: all that must stay together, of one moment, in one archive of `pg_dump`.

Workers go on meanwhile. Beside the archive, counts and checksums of the same moment are written.
"""

import argparse
import os
import uuid
from pathlib import Path
from typing import IO, Any

from extractors.database.connection import Database, scalar
from extractors.errors import ConfigurationError, ExtractionError
from extractors.text import say
from operations.archive import Contents, Relation, beside, extensions, hold, relations, sums, tables_of
from operations.options import add_dry_run
from operations.output import check_out, whole_file
from operations.session import Session, session
from operations.sql import statement
from operations.tools import Tools, Work, add_tools, check_room, find_tools, run_tool

TOOL = "pg_dump"
# Level 6 is three times slower, for a tenth of the size.
COMPRESSION = "1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its own options."""
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="the archive that is written")
    parser.add_argument("--replace", action="store_true", help="replace an archive that is there")
    add_tools(parser)
    add_dry_run(parser)


def run(options: argparse.Namespace) -> int:
    """Write it."""
    out: Path = options.out
    for file in (out, beside(out)):
        check_out(file)
        if file.exists() and not options.replace:
            raise ConfigurationError(f"--out: {file} is there already; write another name, or add --replace")
    with session(options) as opened:
        reader = opened.reader()
        reader.need_parcels()
        tables = tables_of(reader)
        with opened.database.transaction("saving tables") as cursor:
            cursor.execute(statement("progress.begin"))
            cursor.execute(statement("archive.endure"))
            cursor.execute(statement("archive.about"))
            about: Any = cursor.fetchone()
            tools = find_tools(options, TOOL, about[2])
            found = relations(cursor, tables, reader)
            needed = extensions(cursor, found)
            if options.dry_run:
                for one in found:
                    say(f"would save {one}: {one.size / 1e6:.1f} MB")
                return 0
            hold(cursor, found)
            cursor.execute(statement("archive.snapshot"))
            snapshot = str(scalar(cursor))
            with whole_file(out, private=True) as part:
                size = _dump(opened, tools, (found, snapshot), part)
                with_rows = [(one.schema, one.name) for one in found if one.kind in "rm"]
                contents = Contents(
                    made=str(about[0]),
                    database=about[1],
                    server=about[3],
                    encoding=about[4],
                    collation=about[5],
                    characters=about[6],
                    extensions=needed,
                    schemas=sorted({one.schema for one in found}),
                    sums=sums(cursor, with_rows),
                )
                with whole_file(beside(out), private=True) as notes:
                    notes.write(contents.text().encode())
    say(f"made {out}: {size / 1e6:.1f} MB, {contents.rows} rows of {len(contents.sums)} tables")
    return 0


def _dump(opened: Session, tools: Tools, what: tuple[list[Relation], str], part: IO[bytes]) -> int:
    """Have pg_dump write what is seen by a snapshot; returns the archive's size."""
    found, snapshot = what
    application = f"parcel-extraction backup {uuid.uuid4().hex[:8]}"
    total = sum(one.size for one in found) / 1e6

    def amount() -> str:
        return f"{os.fstat(part.fileno()).st_size / 1e6:.0f} MB written of tables of {total:.0f} MB"

    arguments = ["--format", "custom", "--compress", COMPRESSION, "--snapshot", snapshot, "--strict-names"]
    for one in found:
        arguments += ["--table", one.pattern]
    work = Work(TOOL, arguments, application, amount, stdout=part)
    try:
        run_tool(tools, opened.config.connection, work)
    except BaseException as error:
        if tools.container is not None:
            _end_session(opened, application)
        if isinstance(error, ExtractionError):
            check_room(part)
        raise
    return os.fstat(part.fileno()).st_size


def _end_session(opened: Session, application: str) -> None:
    """In its container, a tool goes on when nobody listens any more."""
    with Database(opened.config, opened.name) as another, another.transaction("ending pg_dump") as cursor:
        cursor.execute(statement("archive.end"), {"application": application})
