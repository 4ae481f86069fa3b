"""Reaching a database that speaks TLS: what is refused, by either end, is not waited for."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from demo.servers import Postgis
from extractors.config import DatabaseFile
from extractors.database.connection import Database
from extractors.errors import ConfigurationError
from tests.support.environment import skip_unless

OPENSSL = shutil.which("openssl") or ""
NAME = "db.example.org"


def openssl(*arguments: str | Path) -> None:
    subprocess.run([OPENSSL, *arguments], check=True, capture_output=True)


@dataclass(frozen=True)
class Certificates:
    """A folder with two authorities, `ours` and `other`, and what they have signed."""

    folder: Path

    def authority(self, name: str) -> Path:
        """Its certificate."""
        path, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        if not path.exists():
            openssl(
                *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name} authority"),
                *("-keyout", key, "-out", path),
            )
        return path

    def signed(self, name: str, subject: str, authority: str) -> tuple[Path, Path]:
        """A certificate for a server or a user, and its key."""
        request, path, key = (self.folder / f"{name}.{kind}" for kind in ("csr", "crt", "key"))
        names = self.folder / f"{name}.names"
        names.write_text(f"subjectAltName=DNS:{subject}\n")
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={subject}", "-keyout", key, "-out", request)
        openssl(
            *("x509", "-req", "-in", request, "-CA", self.authority(authority)),
            *("-CAkey", self.folder / f"{authority}.key", "-CAcreateserial", "-days", "2", "-out", path),
            *("-extfile", names),
        )
        key.chmod(0o600)
        return path, key


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    skip_unless("" if OPENSSL else "there is no openssl")
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def server(certificates: Certificates) -> Iterator[Postgis]:
    """A server that takes encrypted connections only, users with a certificate of ours among them."""
    folder = Path(tempfile.mkdtemp(prefix="tls-postgis-"))
    folder.chmod(0o755)
    try:
        with Postgis(folder / "cluster") as server:
            data = server.room / "data"
            files = {"server.crt": certificates.signed("server", NAME, "ours")[0]}
            files |= {"server.key": certificates.folder / "server.key", "root.crt": certificates.authority("ours")}
            for name, source in files.items():
                shutil.copy(source, data / name)
                (data / name).chmod(0o600)
                if os.geteuid() == 0:
                    owner = pwd.getpwnam("postgres")
                    os.chown(data / name, owner.pw_uid, owner.pw_gid)
            with (data / "postgresql.conf").open("a") as settings:
                settings.write("ssl = on\nssl_ca_file = 'root.crt'\n")
            (data / "pg_hba.conf").write_text("hostssl all strict all cert\nhostssl all all all scram-sha-256\n")
            server.room.joinpath("data").chmod(0o700)
            # `start` would connect without TLS as well: libpq prefers it.
            server.restart()
            server.create_database("tls")
            session = server.connect("tls")
            with session, session.cursor() as cursor:
                cursor.execute("CREATE ROLE strict LOGIN")
            session.close()
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def connect(server: Postgis, **parameters: Any) -> Database:
    """A session with these parameters of libpq."""
    tables = {"aoi_table": "a", "parcel_table": "p", "results_table": "r"}
    args = {"aoi_field": "name", "name": "x", "startdate": "2020-01-01", "enddate": "2021-01-01"}
    connection = server.connection_config("tls") | parameters
    document = {
        "database": {"connection": connection, "tables": tables, "args": args},
        "extraction": {"database_wait_seconds": 600},
    }
    return Database(DatabaseFile.model_validate(document), "db_config.json")


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(seconds: float) -> None:
        pytest.fail(f"waited {seconds} s")

    monkeypatch.setattr("extractors.database.connection.time.sleep", never)


def test_a_server_that_is_what_it_says(server: Postgis, certificates: Certificates) -> None:
    root = str(certificates.authority("ours"))
    connect(server, sslmode="verify-ca", sslrootcert=root).close()
    connect(server, host=NAME, hostaddr=server.host, sslmode="verify-full", sslrootcert=root).close()
    certificate, key = certificates.signed("strict", "strict", "ours")
    connect(server, dbuser="strict", dbpasswd="", sslcert=str(certificate), sslkey=str(key)).close()


REFUSED: dict[str, dict[str, Any]] = {
    "another authority": {"sslmode": "verify-ca", "sslrootcert": "other.crt"},
    "another host name": {"sslmode": "verify-full", "sslrootcert": "ours.crt"},
    "no authority's certificate": {"sslmode": "verify-full", "sslrootcert": "nowhere.crt"},
    "an authority's certificate that is none": {"sslmode": "verify-ca", "sslrootcert": "server.names"},
    "a key that all may read": {"sslcert": "open.crt", "sslkey": "open.key"},
    "a key that is not there": {"sslcert": "open.crt", "sslkey": "nowhere.key"},
    "a user's certificate of another authority": {
        "dbuser": "strict",
        "sslcert": "foreign.crt",
        "sslkey": "foreign.key",
    },
    "no certificate where one is asked for": {"dbuser": "strict", "dbpasswd": ""},
    "another user's certificate": {"dbuser": "strict", "sslcert": "mine.crt", "sslkey": "mine.key"},
    "no encryption": {"sslmode": "disable"},
    "a version of TLS that nobody speaks": {"ssl_min_protocol_version": "TLSv1.4"},
    "a way to encrypt that the server has not": {"gssencmode": "require"},
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str, server: Postgis, certificates: Certificates) -> None:
    certificates.authority("other")
    certificates.signed("open", "postgres", "ours")[1].chmod(0o644)
    certificates.signed("foreign", "strict", "other")
    certificates.signed("mine", "somebody", "ours")
    parameters = {
        key: str(certificates.folder / value)
        if "." in value and key.startswith("ssl") and "version" not in key
        else value
        for key, value in REFUSED[name].items()
    }
    with pytest.raises(ConfigurationError) as caught:
        connect(server, **parameters)
    message = str(caught.value)
    assert message.startswith("db_config.json: database.connection: ")
    assert f"{server.host}:{server.port}" in message
    assert "\n" not in message
    assert server.password not in message
