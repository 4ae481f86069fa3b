"""Whether a local file is whole.

A file that has lost its end is dangerous: GDAL reads the missing part of JPEG 2000 and ENVI files as zeros, which is
nodata, without an error. So each format is checked before the first pixel is used.
"""

import re
from pathlib import Path

from extractors.errors import SceneError

JPEG2000 = "JP2OpenJPEG"
ENVI = "ENVI"
JPEG2000_SIGNATURE = bytes.fromhex("0000000c6a5020200d0a870a")
END_OF_CODESTREAM = b"\xff\xd9"


def check_whole(path: Path, driver: str) -> None:
    """Raise SceneError if the file has lost its end (JPEG 2000, ENVI) or its header."""
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
        while position < size:
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
                if file.read(len(END_OF_CODESTREAM)) == END_OF_CODESTREAM:
                    return
                break
            position += length
    raise SceneError(
        f"{path.name} is cut short: its JPEG 2000 codestream does not end within its {size:,} bytes; replace the object"
    )


def _check_envi(path: Path) -> None:
    """Compare an ENVI file's size with what its header announces."""
    header_path = path.with_suffix(".hdr")
    if not header_path.exists():
        raise SceneError(f"{header_path.name} is missing: without its header {path.name} cannot be read")
    text = header_path.read_text(encoding="latin-1")
    if not text.startswith("ENVI"):
        raise SceneError(f"{header_path.name} is not an ENVI header; see what the store holds under this name")
    fields = {key: int(value) for key, value in re.findall(r"^\s*([a-z ]+?)\s*=\s*(\d+)\s*$", text, re.MULTILINE)}
    # Sizes of the data type codes that statistics can be made of: byte, int16, int32, float32, float64, uint16, uint32.
    bytes_per_pixel = {1: 1, 2: 2, 3: 4, 4: 4, 5: 8, 12: 2, 13: 4}.get(fields.get("data type", 0))
    if bytes_per_pixel is None or not {"samples", "lines"} <= fields.keys():
        raise SceneError(f"{header_path.name} lacks samples, lines or a usable data type; replace the object")
    expected = (
        fields.get("header offset", 0) + fields["samples"] * fields["lines"] * fields.get("bands", 1) * bytes_per_pixel
    )
    size = path.stat().st_size
    if size != expected:
        raise SceneError(
            f"{path.name} has {size:,} bytes, but its header announces {expected:,} "
            f"({fields['samples']} samples x {fields['lines']} lines); replace the object"
        )
