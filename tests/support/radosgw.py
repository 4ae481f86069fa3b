"""A Ceph object gateway of one's own on loopback: a monitor, a storage daemon that keeps everything in memory, and the
gateway. What other S3 servers for tests are too kind to refuse, it refuses.

Debian: `apt-get install ceph-mon ceph-osd radosgw`. It starts in a quarter of a minute.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import boto3
from botocore.config import Config

from demo.servers import free_port, wait_for
from extractors.config import Store
from extractors.products.store import ObjectStore

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
START_SECONDS = 120.0
STOP_SECONDS = 10.0
DOMAIN = "s3.localhost"
"""The gateway takes what stands before it in a host's name for the bucket."""

# Nobody asks who is there, one copy of everything, and nothing is written to a disk but a few MB of the monitor's.
SETTINGS = """
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{monitor}/0]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
ms bind msgr1 = false
ms mon client mode = crc
auth cluster required = none
auth service required = none
auth client required = none
auth allow insecure global id reclaim = false
keyring = /dev/null
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail crit = 1
osd objectstore = memstore
memstore device bytes = 1073741824
run dir = {folder}
admin socket = {folder}/$name.socket
pid file = {folder}/$name.pid
log file = {folder}/$name.log
mon cluster log file = {folder}/cluster.log
mon data = {folder}/mon
osd data = {folder}/osd
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{gateway}
rgw dns name = {domain}
rgw run sync thread = false
rgw enable gc threads = false
rgw enable lc threads = false
rgw enable quota threads = false
rgw sts key = 0123456789abcdef
rgw s3 auth use sts = true
"""


def missing() -> str:
    """The programs that are not installed here."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return " ".join(program for program in PROGRAMS if shutil.which(program, path=path) is None)


@dataclass(frozen=True)
class User:
    """Somebody with keys."""

    access_key: str
    secret_key: str


class RadosGateway:
    """The three daemons; a context manager."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self._fsid = str(uuid.uuid4())
        self._monitor = free_port()
        for name in ("mon", "osd", "rgw"):
            (folder / name).mkdir(parents=True)
        self._config = folder / "ceph.conf"
        self._config.write_text(
            SETTINGS.format(fsid=self._fsid, monitor=self._monitor, gateway=self.port, folder=folder, domain=DOMAIN)
        )
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def user(self, name: str, tenant: str | None = None) -> User:
        """A new user."""
        user = User(f"access{uuid.uuid4().hex[:12]}", f"secret{uuid.uuid4().hex}")
        uid = name if tenant is None else f"{tenant}${name}"
        keys = ("--access-key", user.access_key, "--secret", user.secret_key)
        self._run("radosgw-admin", "user", "create", "--uid", uid, "--display-name", name, *keys)
        return user

    def temporary_keys(self, user: User, uid: str) -> tuple[User, str]:
        """Keys of this user's that end some time, and their session token."""
        self._run("radosgw-admin", "caps", "add", "--uid", uid, "--caps", "user-policy=*")
        may = {"Effect": "Allow", "Action": "sts:GetSessionToken", "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [may]})
        self.client(user, "iam").put_user_policy(UserName=uid, PolicyName="temporary", PolicyDocument=policy)
        made = self.client(user, "sts").get_session_token()["Credentials"]
        return User(made["AccessKeyId"], made["SecretAccessKey"]), made["SessionToken"]

    def client(self, user: User, service: str = "s3") -> Any:
        return boto3.client(
            service,  # type: ignore[call-overload]
            endpoint_url=self.endpoint,
            aws_access_key_id=user.access_key,
            aws_secret_access_key=user.secret_key,
            region_name="default",
            config=Config(s3={"addressing_style": "path"}, proxies={}),
        )

    def bucket(self, owner: User, name: str, *, public: bool = False) -> S3Client:
        """A bucket of this user's, which anybody may read if it is public; its owner's client."""
        client: S3Client = self.client(owner)
        client.create_bucket(Bucket=name)
        if public:
            statement = {
                "Effect": "Allow", "Principal": "*", "Action": ["s3:GetObject", "s3:ListBucket"],
                "Resource": [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"],
            }  # fmt: skip
            policy = {"Version": "2012-10-17", "Statement": [statement]}
            client.put_bucket_policy(Bucket=name, Policy=json.dumps(policy))
        return client

    def settings(self, user: User | None, bucket: str, **changes: Any) -> dict[str, Any]:
        """What a configuration says."""
        keys = {"access_key": user.access_key, "secret_key": user.secret_key} if user else {"anonymous": True}
        return keys | {"host": self.endpoint, "bucket": bucket, "retry_seconds": 0} | changes

    def store(self, user: User | None, bucket: str, **changes: Any) -> ObjectStore:
        return ObjectStore(Store.model_validate(self.settings(user, bucket, **changes)))

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self) -> None:
        map_file = self._folder / "monmap"
        address = f"[v2:127.0.0.1:{self._monitor}/0]"
        made = ("--create", "--enable-all-features", "--set-min-mon-release", "16", "--fsid", self._fsid)
        self._run("monmaptool", *made, "--addv", "a", address, str(map_file), configured=False)
        self._run("ceph-mon", "-i", "a", "--mkfs", "--monmap", str(map_file))
        self._daemon("ceph-mon", "-i", "a")
        self._run("ceph", "--connect-timeout", "60", "osd", "new", self._fsid)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", self._fsid)
        self._daemon("ceph-osd", "-i", "0")
        gateway = self._daemon("radosgw", "-n", "client.rgw")
        try:
            wait_for(self.endpoint, gateway, START_SECONDS)
        except OSError as error:
            log = self._folder / "client.rgw.log"
            said = log.read_text(errors="replace")[-2000:] if log.exists() else ""
            raise RuntimeError(f"the gateway did not start: {error}\n{said}") from error

    def _command(self, *arguments: str, configured: bool = True) -> list[str]:
        return [*arguments, *(("-c", str(self._config)) if configured else ())]

    def _run(self, *arguments: str, configured: bool = True) -> str:
        command = self._command(*arguments, configured=configured)
        ended = subprocess.run(command, capture_output=True, text=True, check=False, env=self._environment)
        if ended.returncode:
            raise RuntimeError(f"{' '.join(command)}: {ended.stdout[-1000:]}{ended.stderr[-1000:]}")
        return ended.stdout

    def _daemon(self, *arguments: str) -> subprocess.Popen[bytes]:
        with (self._folder / f"{arguments[0]}.output").open("wb") as output:
            process = subprocess.Popen(
                self._command(*arguments, "-f"), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True, env=self._environment,
            )  # fmt: skip
        self._processes.append(process)
        return process

    @property
    def _environment(self) -> dict[str, str]:
        return os.environ | {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin", "CEPH_CONF": str(self._config)}
