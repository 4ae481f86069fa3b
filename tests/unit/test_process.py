"""What processes that hold secrets do before anything else."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from extractors import health
from extractors.config import Store
from extractors.errors import ConfigurationError
from extractors.products.store import open_source
from tests.support.environment import ROOT, environment
from tests.support.running import Running, wait_until


def core_limit(pid: int) -> list[str]:
    """Soft and hard limit of a process's core dumps."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line for line in lines if line.startswith("Max core file size")).split()[4:6]


def test_a_worker_leaves_no_core(tmp_path: Path) -> None:
    """Whatever limit it is started with: a core holds password and key."""
    gate = tmp_path / "gate"
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    script = f'ulimit -c {"unlimited" if hard == resource.RLIM_INFINITY else hard}; exec "$@"'
    worker = Running(
        ["bash", "-c", script, "bash", sys.executable, "-m", "extractors.s2"], tmp_path,
        environment(EXTRACTION_FAILPOINT="start=touch", EXTRACTION_FAILPOINT_FILE=str(gate)), tmp_path / "notes",
    )  # fmt: skip
    try:
        wait_until(gate.exists, "the worker at its fail point")
        assert core_limit(worker.process.pid) == ["0", "0"]
    finally:
        worker.kill()


def test_the_download_command_leaves_no_core(tmp_path: Path) -> None:
    program = (
        "import resource, download_with_boto3\n"
        "print(download_with_boto3.main(['--s3-config', 'nowhere', 'list', 'x']), "
        "*resource.getrlimit(resource.RLIMIT_CORE))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment(), text=True, capture_output=True, check=True
    )
    assert done.stdout.split() == ["2", "0", "0"]


# Pipes in place of other files that are read: nobody writes into them, so nobody may wait for them.


def test_a_health_file_that_is_a_pipe(tmp_path: Path) -> None:
    file = tmp_path / "health"
    os.mkfifo(file)
    program = f"from extractors.health import verdict; print(verdict({str(file)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, text=True, capture_output=True, check=True, timeout=60
    )
    assert "was not written by a worker" in done.stdout


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/full"])
def test_a_health_file_without_end(device: str) -> None:
    assert "was not written by a worker" in str(health.verdict(device))


def test_certificates_in_a_pipe(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    os.mkfifo(file)
    settings = Store(host="https://127.0.0.1:9", bucket="b", anonymous=True, ca_file=str(file))
    with pytest.raises(ConfigurationError, match=r"ca_file: .* cannot be read as certificates"):
        open_source(settings, "s3_config.json")
