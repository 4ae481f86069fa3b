"""The integrity of local files.

GDAL reads the missing part of a truncated JPEG 2000 or ENVI file as zeros, which is nodata, without an error. So each
file is checked before its first pixel is used.
"""

import re
import struct
from pathlib import Path
from typing import IO, Any

import numpy as np

from extractors.errors import SceneError

JPEG2000 = "JP2OpenJPEG"
ENVI = "ENVI"
JPEG2000_SIGNATURE = bytes.fromhex("0000000c6a5020200d0a870a")
LONG_BOX = b"\0\0\0\1"
SIZE_MARKER, TILE_MARKER, END_OF_CODESTREAM = b"\xff\x51", b"\xff\x90", b"\xff\xd9"
SHORTEST_TILE_PART = 14
# Bytes of a marker segment that are read, marker included; and the bytes that must follow the marker.
LONGEST_READ = 38
SHORTEST_BODY = {SIZE_MARKER: 36, TILE_MARKER: 8}

# An ENVI header has one or two thousand bytes; GDAL's numbers have 31 bits.
MOST_HEADER_BYTES = 64 * 1024
MOST_DIGITS = 9
# The numbers in it that say where pixels are, and what they are where it does not say so.
ENVI_NUMBERS = {
    "samples": "", "lines": "", "data_type": "", "bands": "1", "header_offset": "0", "file_compression": "0",
}  # fmt: skip
# Boxes and marker segments of a JPEG 2000 file: some hundreds, and parts of up to 65,535 tiles.
MOST_STEPS = 1_000_000


def check_integrity(path: Path, driver: str) -> None:
    """Raise SceneError if the file is missing, truncated (JPEG 2000, ENVI) or has lost its header."""
    if not path.exists():
        raise SceneError(f"{path.name} is missing")
    if driver == JPEG2000:
        _check_jpeg2000(path)
    elif driver == ENVI:
        _check_envi(path)


def _check_jpeg2000(path: Path) -> None:
    """Walk the boxes of a JP2 file (ISO 15444-1, annex I) to the codestream, which must end with its marker."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(len(JPEG2000_SIGNATURE)) != JPEG2000_SIGNATURE:
            raise SceneError(f"{path.name} is not a JPEG 2000 file; see what the store holds under this name")
        position = len(JPEG2000_SIGNATURE)
        for _ in range(MOST_STEPS):
            if position >= size:
                break
            file.seek(position)
            header = file.read(16)
            length, kind = int.from_bytes(header[:4]), header[4:8]
            if length == 1:
                length = int.from_bytes(header[8:16])
            elif length == 0:
                length = size - position
            if length < 8 or position + length > size:
                break
            if kind == b"jp2c":
                file.seek(position + length - len(END_OF_CODESTREAM))
                if file.read(len(END_OF_CODESTREAM)) != END_OF_CODESTREAM:
                    break
                begin = position + (16 if header[:4] == LONG_BOX else 8)
                announced, present = _count_tiles(file, begin, position + length)
                if announced != present:
                    raise SceneError(
                        f"{path.name} announces {announced:,} tiles and holds {present:,}; replace the object"
                    )
                return
            position += length
    raise SceneError(
        f"{path.name} is cut short: its JPEG 2000 codestream does not end within its {size:,} bytes; replace the object"
    )


def _count_tiles(file: IO[bytes], begin: int, end: int) -> tuple[int, int]:
    """How many tiles a JPEG 2000 codestream (annex A) announces, and how many different ones it holds."""
    announced, tiles = 0, set()
    position = begin + 2  # after the marker of its start
    for _ in range(MOST_STEPS):
        if position >= end:
            break
        file.seek(position)
        found = file.read(min(LONGEST_READ, end - position))
        marker, body = found[:2], found[2:]
        if len(body) < SHORTEST_BODY.get(marker, 2):
            break  # the end, or nothing that a decoder could read
        if marker == SIZE_MARKER:
            width, height, left, top, tile_width, tile_height, tile_left, tile_top = struct.unpack(">8I", body[4:36])
            if not tile_width or not tile_height or left > width or top > height:
                return 0, -1
            announced = -(-(width - tile_left) // tile_width) * -(-(height - tile_top) // tile_height)
        elif marker == TILE_MARKER:
            number, length = struct.unpack(">HI", body[2:8])
            tiles.add(number)
            # Length 0: to the end. Otherwise it cannot be shorter than its own header.
            position = position + length if length >= SHORTEST_TILE_PART else end
            continue
        position += 2 + max(2, int.from_bytes(body[:2]))
    return announced, len(tiles)


def _check_envi(path: Path) -> None:
    """Compare an ENVI file's size with what its header announces: one band of pixels as they are."""
    header_path = path.with_suffix(".hdr")
    if not header_path.exists():
        raise SceneError(f"{header_path.name} is missing: without its header {path.name} cannot be read")
    if header_path.stat().st_size > MOST_HEADER_BYTES:
        raise SceneError(f"{header_path.name} is no ENVI header: it has over {MOST_HEADER_BYTES:,} bytes; replace it")
    text = header_path.read_bytes().decode("latin-1")
    if not text.startswith("ENVI"):
        raise SceneError(f"{header_path.name} is not an ENVI header; see what the store holds under this name")
    fields = envi_fields(text)
    numbers = {name: _number(fields.get(name, default)) for name, default in ENVI_NUMBERS.items()}
    # By data type code, only types that have statistics: byte, int16, int32, float32, float64, uint16, uint32.
    bytes_per_pixel = {1: 1, 2: 2, 3: 4, 4: 4, 5: 8, 12: 2, 13: 4}.get(numbers["data_type"])
    if bytes_per_pixel is None or min(numbers.values()) < 0:
        raise SceneError(f"{header_path.name} lacks samples, lines or a usable data type; replace the object")
    if numbers["bands"] != 1 or numbers["file_compression"]:
        form = "compressed" if numbers["file_compression"] else "uncompressed"
        raise SceneError(
            f"{header_path.name} announces {numbers['bands']} bands, {form}, and {path.name} should hold one, "
            "uncompressed; replace the object"
        )
    expected = numbers["header_offset"] + numbers["samples"] * numbers["lines"] * bytes_per_pixel
    size = path.stat().st_size
    if size != expected:
        raise SceneError(
            f"{path.name} has {size:,} bytes, but its header announces {expected:,} "
            f"({numbers['samples']} samples x {numbers['lines']} lines); replace the object"
        )


def envi_fields(text: str) -> dict[str, str]:
    """What an ENVI header says, read as GDAL reads it: names in lower case, with underscores for blanks; of several
    with the same name, the last holds; a value in braces may have several lines."""
    fields = {}
    lines = iter(re.split(r"\r\n|\n|\r", text)[1:])
    for line in lines:
        if "=" not in line:
            continue
        name, _, value = line.partition("=")
        if "{" in line and "}" not in line:
            for more in lines:
                value += more
                if "}" in more:
                    break
        fields[name.strip(" \t").replace(" ", "_").lower()] = value.strip(" \t")
    return fields


def _number(text: str) -> int:
    """A number that everybody reads in the same way; -1 for anything else."""
    return int(text) if len(text) <= MOST_DIGITS and text.isascii() and text.isdecimal() else -1


def check_reading(path: Path, dataset: Any) -> None:
    """Raise SceneError if GDAL reads an ENVI header otherwise than we do: it would take other bytes for pixels.
    dataset: the file, opened."""
    if dataset.driver != ENVI:
        return
    said = {name.lower(): value for name, value in dataset.tags(ns="ENVI").items()}
    offset = _number(said.get("header_offset", "0"))
    pixels = sum(dataset.width * dataset.height * np.dtype(dtype).itemsize for dtype in dataset.dtypes)
    if not {"samples", "lines"} <= said.keys() or offset < 0 or offset + pixels != path.stat().st_size:
        raise SceneError(
            f"{path.with_suffix('.hdr').name} is not understood by GDAL as it is written; replace the object"
        )
