"""A bucket of a test's own."""

from __future__ import annotations

from pathlib import Path

from demo import products
from demo.servers import S3Server


class Bucket:
    """An S3 bucket, empty at first; `bucket` is its name."""

    def __init__(self, store: S3Server, name: str) -> None:
        self.store, self.bucket = store, name
        self._client = store.client()
        self._client.create_bucket(Bucket=name)

    def read(self, key: str) -> bytes:
        return self._client.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def write(self, key: str, body: bytes) -> None:
        self._client.put_object(Bucket=self.bucket, Key=key, Body=body)

    def write_others(self) -> None:
        """Products of others, without which a store seems to be the wrong one."""
        for folder in ("Sentinel-1/", "Sentinel-2/"):
            self.write(f"{folder}others", b"of others")

    def remove(self, key: str) -> None:
        self._client.delete_object(Bucket=self.bucket, Key=key)

    def stored(self, prefix: str = "") -> list[str]:
        """The keys that begin so, in order."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return sorted(item["Key"] for page in pages for item in page.get("Contents", []))

    def upload(self, folder: Path) -> None:
        """All files of a folder, each under its path."""
        products.upload(folder, self._client, self.bucket)

    def drop_bucket(self) -> None:
        for key in self.stored():
            self.remove(key)
        self._client.delete_bucket(Bucket=self.bucket)
        self._client.close()
