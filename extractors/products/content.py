"""Whether what arrives is what the store has listed."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from extractors.model import StoredObject
from extractors.products.parts import Difference, DifferenceError, File, Part

PLAIN_MD5 = re.compile(r"[0-9a-f]{32}")


def has_md5(item: StoredObject) -> bool:
    """Whether an object's ETag looks like an MD5: not that of an object which was uploaded in parts."""
    return PLAIN_MD5.fullmatch(item.etag) is not None


def check_answer(answer: Mapping[str, Any], part: Part) -> None:
    """Compare what an answer announces with the listing, and with the answers for the file's other parts; raises
    DifferenceError."""
    if part.range is not None:
        # "bytes 0-9/100"
        total = str(answer.get("ContentRange", "")).rpartition("/")[2]
        check_size(int(total) if total.isdecimal() else None, part.file.item.size)
    check_size(answer.get("ContentLength"), part.length)
    etag = answer.get("ETag", "")
    with part.file.lock:
        if part.file.etag is None:
            part.file.etag = etag
            # Its ETag looks like an MD5 then, but is not that of the content.
            part.file.encrypted = "kms" in answer.get("ServerSideEncryption", "") or "SSECustomerAlgorithm" in answer
        elif part.file.etag != etag:
            raise DifferenceError("it was replaced while it was downloaded")


def check_size(size: int | None, expected: int) -> None:
    """Raise DifferenceError if a size, as far as it is known, is not the expected one."""
    if size is not None and size != expected:
        raise DifferenceError(f"{size:,} bytes arrived of {expected:,}")


def difference(file: File, etag_is_md5: bool) -> Difference | None:
    """How a file of which all parts are here differs from what the store has listed; None if it does not."""
    if file.difference is not None:
        return file.difference
    size = file.partial.stat().st_size
    if size != file.item.size:
        return Difference(f"{size:,} bytes arrived of {file.item.size:,}")
    return checksum_difference(file) if etag_is_md5 and has_md5(file.item) and not file.encrypted else None


def checksum_difference(file: File) -> Difference | None:
    """The same for a file that has the listed size, and an MD5 as its ETag."""
    with file.partial.open("rb") as content:
        digest = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if digest == file.item.etag:
        return None
    return Difference(f"the content's MD5 is {digest}, the store announces {file.item.etag}", by_checksum=True)
