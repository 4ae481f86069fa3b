"""Rows of PostgreSQL's COPY, kept outside the database for as long as a scene is worked on.

COPY's binary format is rows between a header and an end mark. Both are known here; what a row holds, `copy` knows.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Self

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
END = b"\xff\xff"


# The largest block, but for a single row or rows that stay together.
BYTES_PER_BLOCK = 4_000_000


class Spool:
    """Rows in their order, given back in blocks, of so many rows and at most BYTES_PER_BLOCK: in memory up to so many
    bytes, beyond that in a nameless file in the folder. Raises OSError if that cannot be written."""

    def __init__(self, folder: Path, most_bytes: int, rows_per_block: int) -> None:
        self.total = 0
        self._file: IO[bytes] = (
            tempfile.SpooledTemporaryFile(max_size=most_bytes, dir=str(folder))  # noqa: SIM115 (closed by `close`)
            if most_bytes
            else tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        )
        self._most = rows_per_block
        self._in_block, self._bytes_in_block = rows_per_block, 0
        self._blocks: list[list[int]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, rows: bytes, number: int = 1) -> None:
        """Keep so many rows, which stay together."""
        if not number:
            return
        self._file.write(rows)
        if self._in_block + number > self._most or self._bytes_in_block + len(rows) > BYTES_PER_BLOCK:
            self._blocks.append([])
            self._in_block, self._bytes_in_block = 0, 0
        self._blocks[-1].append(len(rows))
        self._in_block += number
        self._bytes_in_block += len(rows)
        self.total += number

    def flush(self) -> None:
        """Have a full disk tell now."""
        self._file.flush()

    def blocks(self) -> Iterator[list[bytes]]:
        """All rows as they were added, as many at a time as fit into a block."""
        self._file.seek(0)
        for sizes in self._blocks:
            block, end, parts = self._file.read(sum(sizes)), 0, []
            for size in sizes:
                parts.append(block[end : end + size])
                end += size
            yield parts

    def close(self) -> None:
        """Give memory and file back."""
        with suppress(OSError):  # what could not be written, nobody needs any more
            self._file.close()


class Received:
    """What COPY ... TO STDOUT (FORMAT binary) writes into: takes its messages apart and keeps the rows. note: called
    with each row."""

    def __init__(self, spool: Spool, note: Callable[[bytes], object] = lambda _: None) -> None:
        self._spool = spool
        self._note = note
        self._begun = False
        self._error: OSError | None = None

    def write(self, message: bytes) -> None:
        """Take a message. An error is kept for `finish`: raised here, it would leave the connection amid the COPY."""
        row = message if self._begun else message[len(HEADER) :]
        self._begun = True
        if row not in (b"", END) and self._error is None:
            try:
                self._spool.add(row)
                self._note(row)
            except OSError as error:
                self._error = error

    def finish(self) -> None:
        """Say that all rows are there; raises OSError if they could not be kept."""
        if self._error is not None:
            raise self._error
        self._spool.flush()
