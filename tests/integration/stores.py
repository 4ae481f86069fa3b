"""What tests of the store share: a bucket of a test's own, stores that look at it, and what is left of a download."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo.servers import S3Server
from extractors.config import Store
from extractors.model import StoredObject
from extractors.products.store import ObjectStore

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

MEGABYTE = 1_000_000
SECRET = "canary-secret-key"


class Bucket:
    """A bucket of its own, and stores that look at it."""

    def __init__(self, server: S3Server, client: S3Client, name: str) -> None:
        self.server, self.client, self.name = server, client, name

    def put(self, key: str, body: bytes = b"12345") -> bytes:
        self.client.put_object(Bucket=self.name, Key=key, Body=body)
        return body

    def put_in_parts(self, key: str, *parts: bytes) -> bytes:
        """Upload an object in parts, each of 5 MB but for the last one: its ETag is no MD5."""
        upload = self.client.create_multipart_upload(Bucket=self.name, Key=key)["UploadId"]
        names: dict[str, Any] = {"Bucket": self.name, "Key": key, "UploadId": upload}
        etags = [
            self.client.upload_part(**names, PartNumber=number, Body=part)["ETag"]
            for number, part in enumerate(parts, 1)
        ]
        listed: Any = [{"ETag": etag, "PartNumber": number} for number, etag in enumerate(etags, 1)]
        self.client.complete_multipart_upload(**names, MultipartUpload={"Parts": listed})
        return b"".join(parts)

    def settings(self, **changes: Any) -> dict[str, Any]:
        return {
            "access_key": "key", "secret_key": SECRET, "host": self.server.endpoint, "bucket": self.name,
            "connections": 2, "retry_seconds": 0,
        } | changes  # fmt: skip

    def store(self, **changes: Any) -> ObjectStore:
        return ObjectStore(Store.model_validate(self.settings(**changes)))

    def item(self, key: str) -> StoredObject:
        (item,) = [item for item in self.store().list_objects(key) if item.key == key]
        return item

    def items(self, folder: Path) -> dict[Path, StoredObject]:
        """All that is in the bucket, each to a path in the folder."""
        return {folder / item.file_name: item for item in self.store().list_objects("")}


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def noise(size: int) -> bytes:
    return (b"%032x" % uuid.uuid4().int) * (size // 32) + b"." * (size % 32)
