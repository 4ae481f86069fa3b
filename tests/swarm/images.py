"""Images without a registry: a Debian from debootstrap takes the place of the Dockerfile's base image."""

from __future__ import annotations

import os
import ssl
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from extractors import __version__
from tests.support.environment import ROOT

BASE = "debian:trixie-slim"
PROJECT = f"parcel-extraction:{__version__}"
POSTGIS = "postgis/postgis:18-3.6"
"""Names as the Dockerfile and the stack files have them, so that these are used as they are."""
CERTIFICATES = "/etc/builder.crt"
POSTGIS_FOLDER = Path(__file__).with_name("postgis")

Docker = Callable[..., str]


def build(docker: Docker) -> None:
    """The base image, the project's and one with PostGIS, on this daemon, whose builds use this machine's network."""
    import_base(docker)
    with ThreadPoolExecutor(2) as pool:
        building = [
            pool.submit(docker, "build", "--network", "host", "--tag", PROJECT, str(ROOT)),
            pool.submit(
                docker, "build", "--network", "host", "--tag", POSTGIS, "--build-arg", f"BASE_IMAGE={BASE}",
                str(POSTGIS_FOLDER),
            ),
        ]  # fmt: skip
        for one in building:
            one.result()


def import_base(docker: Docker) -> None:
    """A minimal Debian of the release that the Dockerfile names, with the certificates that this machine trusts."""
    release = BASE.removeprefix("debian:").removesuffix("-slim")
    with tempfile.TemporaryDirectory(prefix="base-") as folder:
        made = subprocess.run(
            ["debootstrap", "--variant=minbase", release, folder], capture_output=True, text=True, check=False
        )
        assert made.returncode == 0, made.stdout[-2000:] + made.stderr
        trusted = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
        assert trusted is not None, "this machine has no certificates"
        (Path(folder) / CERTIFICATES.lstrip("/")).write_bytes(Path(trusted).read_bytes())
        with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
            subprocess.run(["tar", "-C", folder, "-cf", archive.name, "."], check=True)
            docker("import", "--change", f"ENV PIP_CERT={CERTIFICATES}", archive.name, BASE)
