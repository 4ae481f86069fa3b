"""Which parts of a GeoTIFF have to be read to open it without its pixels."""

from collections.abc import Callable, Iterator
from typing import Literal

# Parts are read in blocks of this size.
BLOCK_BYTES = 65_536
# Offsets and sizes of strips or tiles: with a number for each they may be long, and nothing of them is needed.
OF_PIXELS = {273, 279, 324, 325}
BYTES_OF_TYPES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
# Real directories have some 20 tags.
MOST_TAGS = 200


def header_of(read: Callable[[int, int], bytes], size: int) -> dict[int, bytes]:
    """The blocks of a file of this size that hold its first directory, and what that refers to other than pixels: start
    -> content. What is no TIFF has its first block only.

    read: gives so many bytes from a place on, fewer where the file ends.
    """
    blocks: dict[int, bytes] = {}

    def part(start: int, length: int) -> bytes:
        end = min(start + length, size)
        wanted = range(start // BLOCK_BYTES * BLOCK_BYTES, end, BLOCK_BYTES)
        for block in wanted:
            if block not in blocks:
                blocks[block] = read(block, BLOCK_BYTES)
        return b"".join(blocks[block] for block in wanted)[start % BLOCK_BYTES :][:length]

    for start, length in _values(part):
        # What is longer says nothing of the place, such as metadata of others.
        if length <= BLOCK_BYTES:
            part(start, length)
    return blocks


def _values(part: Callable[[int, int], bytes]) -> Iterator[tuple[int, int]]:
    """Place and length of the values that the first directory refers to."""
    head = part(0, 16)
    order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
    # BigTIFF has wider numbers.
    wide, after_number = (8, 8) if int.from_bytes(head[2:4], order) == 43 else (4, 2)
    directory = int.from_bytes(head[wide : 2 * wide], order)
    number = int.from_bytes(part(directory, after_number), order)
    entry = 4 + 2 * wide
    tags = part(directory + after_number, min(number, MOST_TAGS) * entry)
    for at in range(0, len(tags) - entry + 1, entry):
        tag, kind = (int.from_bytes(tags[at + n : at + n + 2], order) for n in (0, 2))
        count, value = (int.from_bytes(tags[at + n : at + n + wide], order) for n in (4, 4 + wide))
        length = count * BYTES_OF_TYPES.get(kind, 0)
        if tag not in OF_PIXELS and length > wide:
            yield value, length
