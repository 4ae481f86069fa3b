"""The environment in which tests run, and start commands: nothing that configures a worker comes from outside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

WORKER_VARIABLES = (
    "DB_CONFIG",
    "S3_CONFIG",
    "DATA_DIR",
    "ALL",
    "WATCH",
    "SCENE",
    "ENGINE",
    "ADOPT_FOREIGN",
    "ACCEPT_MIXED",
    "VERBOSE",
    "LOG_FORMAT",
    "HEALTH_FILE",
    "EXTRACTION_FAILPOINT",
    "EXTRACTION_FAILPOINT_FILE",
    "PROJ_LIB",
    "PROJ_DATA",
    "GDAL_SKIP",
    "GDAL_DRIVER_PATH",
    "REQUESTS_CA_BUNDLE",
)
"""All that the package reads (tests/unit/test_environment.py sees that none is missing)."""
OF_LIBRARIES = ("PG", "AWS_", "GDAL_")
"""What the variables of libpq, boto3 and GDAL begin with."""


def without_workers_variables() -> dict[str, str]:
    """This process's environment without anything that configures a worker."""
    return {name: value for name, value in os.environ.items() if name not in WORKER_VARIABLES}


def environment(**more: str) -> dict[str, str]:
    """The same without anything that configures libpq, boto3 or GDAL either, and with `more`: for commands."""
    outside = without_workers_variables()
    kept = {name: value for name, value in outside.items() if not name.startswith(OF_LIBRARIES)}
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    kept["no_proxy"] = kept["NO_PROXY"] = "127.0.0.1,localhost"
    kept["AWS_EC2_METADATA_DISABLED"] = "true"
    kept["AWS_CONFIG_FILE"] = kept["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    return kept | more


def skip_unless(reason_not: str) -> None:
    """Skip a test that cannot run here, for the given reason; in CI that is a failure, nothing may be skipped."""
    if reason_not and os.environ.get("CI"):
        pytest.fail(f"cannot run in CI: {reason_not}")
    if reason_not:
        pytest.skip(reason_not)
