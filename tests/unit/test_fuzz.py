"""Files and parcels that are broken at random, always the same ones: see `tests.support.fuzz`, which tries others."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fuzz import CHECKS, bounded

pytestmark = [
    pytest.mark.filterwarnings("ignore:Dataset has no geotransform"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    # rasterio fails to log what is no UTF-8.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
]


@pytest.mark.parametrize("name", CHECKS)
@given(seed=st.integers(0, 2**32 - 1))
def test_what_is_broken_is_refused_in_words(name: str, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder, bounded():
        CHECKS[name](np.random.default_rng(seed), Path(folder))


# What longer runs have found: a line and a curve where PostGIS says that there is a polygon; parcels that reach far
# beyond the image, with a hole beside their shell.
FOUND = [("WKB", 400004514), ("WKB", 400005490), ("WKB", 500043681), ("WKB", 500051506)]


@pytest.mark.parametrize(("name", "seed"), FOUND)
def test_what_was_found_once(name: str, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder, bounded():
        CHECKS[name](np.random.default_rng(seed), Path(folder))
