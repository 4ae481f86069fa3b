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
        self._iam = self._client()
        self._workers = self._user("s3:*")
        self._administrator = self._user("*")

    def give(self) -> Keys:
        """New keys, beside those that the workers have."""
        return self._key(self._workers)

    def withdraw(self, keys: Keys) -> None:
        """The store knows them no longer."""
        self._iam.delete_access_key(UserName=self._workers, AccessKeyId=keys["access_key"])

    @contextmanager
    def at_the_door(self) -> Iterator[None]:
        """For the block, the store looks at keys; clients that it makes for tests have some."""
        before = self._store.access_key, self._store.secret_key
        own = self._key(self._administrator)
        self._store.access_key, self._store.secret_key = own["access_key"], own["secret_key"]
        self._iam = self._client()
        self._look("0")
        try:
            yield
        finally:
            self._look("inf")
            self._store.access_key, self._store.secret_key = before

    def _look(self, after: str) -> None:
        """Have the store look at keys after so many requests."""
        request = urllib.request.Request(
            f"{self._store.endpoint}/moto-api/reset-auth", data=after.encode(), headers={"Content-Type": "text/plain"}
        )
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

    def _client(self) -> Any:
        return boto3.client(
            "iam", endpoint_url=self._store.endpoint, aws_access_key_id=self._store.access_key,
            aws_secret_access_key=self._store.secret_key, region_name="us-east-1", config=Config(proxies={}),
        )  # fmt: skip


@contextmanager
def key_keeper(store: S3Server) -> Iterator[KeyKeeper]:
    """For the block, whoever has other keys than those that were given is refused."""
    keeper = KeyKeeper(store)
    with keeper.at_the_door():
        yield keeper
