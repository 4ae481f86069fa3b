"""A store that lets nobody in without keys: moto's, which can be told to look at them."""

from __future__ import annotations

import json
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config

from demo.servers import S3Server

Keys = dict[str, str]
"""`access_key` and `secret_key`, as in s3_config.json."""


class KeyKeeper:
    """Gives keys to the workers, and takes them back."""

    def __init__(self, store: S3Server) -> None:
        self._store = store
        self._iam = self._client({"access_key": store.access_key, "secret_key": store.secret_key})
        self._workers = self._user("s3:*")
        own = self._key(self._user("*"))
        self._iam = self._client(own)

    def give(self) -> Keys:
        """New keys, beside those that the workers have."""
        return self._key(self._workers)

    def withdraw(self, keys: Keys) -> None:
        """The store knows them no longer."""
        self._iam.delete_access_key(UserName=self._workers, AccessKeyId=keys["access_key"])

    def look(self, *, at_keys: bool) -> None:
        """Whether the store looks at keys from now on, or lets anybody in."""
        request = urllib.request.Request(
            f"{self._store.endpoint}/moto-api/reset-auth", data=b"0" if at_keys else b"inf", method="POST",
            headers={"Content-Type": "text/plain"},
        )  # fmt: skip
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10).close()

    def _user(self, action: str) -> str:
        name = f"user{uuid.uuid4().hex[:8]}"
        policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": "*"}]}
        self._iam.create_user(UserName=name)
        self._iam.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=json.dumps(policy))
        return name

    def _key(self, user: str) -> Keys:
        made = self._iam.create_access_key(UserName=user)["AccessKey"]
        return {"access_key": made["AccessKeyId"], "secret_key": made["SecretAccessKey"]}

    def _client(self, keys: Keys) -> Any:
        return boto3.client(
            "iam", endpoint_url=self._store.endpoint, aws_access_key_id=keys["access_key"],
            aws_secret_access_key=keys["secret_key"], region_name="us-east-1", config=Config(proxies={}),
        )  # type: ignore[call-overload]  # fmt: skip


@contextmanager
def key_keeper(store: S3Server) -> Iterator[KeyKeeper]:
    """For the block, the store looks at keys: whoever has others than those that were given is refused."""
    keeper = KeyKeeper(store)
    keeper.look(at_keys=True)
    try:
        yield keeper
    finally:
        keeper.look(at_keys=False)
