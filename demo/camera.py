"""The camera: pictures of the landscape on a day, as the three CARDs hold them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from demo import products, season
from demo.landscape import Landscape
from demo.metadata import all_bands, metadata
from demo.scenes import GRID, OFFSET, SHAPE, SHAPE_20M, Scene
from demo.textures import beyond_swath, blurred, clouds, halved, smooth_noise

Floats = npt.NDArray[np.float32]
Bands = dict[str, npt.NDArray[Any]]

WRITERS = 2
SPECKLE_LOOKS = 4.4  # equivalent number of looks of a GRD product
MOST_GREEN = 1.08  # the densest spots hide the ground, and are darker in the red than leaves alone
CLOUD = (0.55, 0.60)  # reflectance of a thick cloud in B04, B08
CLOUD_SHADOW = 0.42  # remaining light
SCL_SHADOW, SCL_VEGETATION, SCL_BARE, SCL_WATER = 3, 4, 5, 6
SCL_CLOUD_MEDIUM, SCL_CLOUD_HIGH, SCL_CIRRUS = 8, 9, 10


class Camera:
    """Takes the pictures: the landscape on the pixel grids, with the differences within fields."""

    def __init__(self, landscape: Landscape, seed: int) -> None:
        self._landscape = landscape
        self._seed = seed
        self._labels = landscape.labels(GRID, SHAPE)
        self._labels_20m = landscape.labels(GRID.with_pixel(20.0), SHAPE_20M)
        rng = np.random.default_rng([seed, 2])
        self._vigour: Floats = 1 + 0.05 * smooth_noise(rng, SHAPE, 1.1) + 0.09 * smooth_noise(rng, SHAPE, 0.7)
        self._soil: Floats = 1 + 0.08 * smooth_noise(rng, SHAPE, 1.3) + 0.05 * smooth_noise(rng, SHAPE, 0.6)
        self._relief = 0.5 * smooth_noise(rng, SHAPE, 1.2)  # dB

    def take(self, scene: Scene, root: Path) -> None:
        """Write the product of a scene below `root`."""
        rng = np.random.default_rng([self._seed, 3, ord(scene.card[0]), scene.number])
        day = season.on_day(self._landscape, scene.day)
        if scene.card == "s2":
            told = metadata(
                "05.00" if scene.reprocessed else "03.00",
                all_bands(OFFSET) if scene.reprocessed else None,
                start=f"{scene.obstime:%Y-%m-%dT%H:%M:%S}.024Z",
                outline=GRID.outline(SHAPE),
            )
            collection = "L2A_N0500" if scene.reprocessed else "L2A"
            bands = self._optical(day, scene, rng)
            products.write_s2(root, scene.reference, bands, GRID, collection=collection, metadata=told)
        elif scene.card == "bs":
            products.write_bs(root, scene.reference, scene.obstime, self._gamma0(day, scene, rng), GRID)
        else:
            grid = GRID.with_pixel(20.0)
            products.write_c6(root, scene.reference, scene.obstime, self._coherence(day, scene, rng), grid)

    def _optical(self, day: season.Day, scene: Scene, rng: np.random.Generator) -> Bands:
        """B04 and B08 as DN (10 m), SCL (20 m)."""
        at = self._labels
        green = np.clip(_picture(day.green, at) * self._vigour, 0, MOST_GREEN)
        dead = np.clip(_picture(day.dead, at), 0, np.maximum(1 - green, 0))
        blossom = _picture(day.blossom, at) * self._vigour
        thick, shadow = clouds(rng, SHAPE, scene.clouds)
        bands: Bands = {}
        for index, band in enumerate(("B04", "B08")):
            ground = _picture(day.ground[:, index], at) * self._soil
            seen = ground * (1 - green - dead) + season.LEAVES[index] * green + season.STRAW[index] * dead
            if band == "B04":
                seen += season.BLOSSOM_RED * blossom
            seen = blurred(seen) * (1 - (1 - CLOUD_SHADOW) * shadow)
            seen = seen * (1 - thick) + CLOUD[index] * (0.75 + 0.5 * thick) * thick
            seen *= 1 + 0.025 * rng.standard_normal(SHAPE, dtype=np.float32)
            bands[band] = np.clip(np.rint(seen * 10_000), 1, 32_767).astype(np.uint16)
        red, infrared = (halved(bands[band].astype(np.float32)) for band in ("B04", "B08"))
        classes = np.where((infrared - red) / (infrared + red) > 0.36, SCL_VEGETATION, SCL_BARE)
        classes[(infrared < 400) & (red < 600)] = SCL_WATER
        thick_20m = halved(thick)
        classes[halved(shadow) > 0.35] = SCL_SHADOW
        for limit, cloud in ((0.08, SCL_CIRRUS), (0.3, SCL_CLOUD_MEDIUM), (0.6, SCL_CLOUD_HIGH)):
            classes[thick_20m > limit] = cloud
        if scene.reprocessed:
            bands = {band: values + np.uint16(-OFFSET) for band, values in bands.items()}
        if scene.swath_edge:
            outside = beyond_swath(SHAPE_20M, 0.14, 0.22)
            classes[outside] = 0
            for values in (bands["B04"], bands["B08"]):
                values[np.repeat(np.repeat(outside, 2, axis=0), 2, axis=1)] = 0
        return bands | {"SCL": classes.astype(np.uint8)}

    def _gamma0(self, day: season.Day, scene: Scene, rng: np.random.Generator) -> Bands:
        """Linear power with speckle; wet soil is brighter where it is not hidden."""
        moisture = rng.normal(0, 0.3) + (1.6 if scene.rain else 0.0)
        outside = beyond_swath(SHAPE, 0.055 + 0.004 * rng.standard_normal(), 0.12)
        bands: Bands = {}
        for polarisation, decibel in day.gamma0.items():
            wet = _picture(decibel + moisture * (1 - 0.85 * day.green), self._labels) + self._relief
            speckle = rng.standard_gamma(SPECKLE_LOOKS, SHAPE, dtype=np.float32) / SPECKLE_LOOKS
            bands[polarisation] = np.where(outside, 0, 10 ** (wet / 10) * speckle).astype(np.float32)
        return bands

    def _coherence(self, day: season.Day, scene: Scene, rng: np.random.Generator) -> Bands:
        """Estimated coherence: noisier where it is low."""
        weather = 0.86 if scene.rain else rng.uniform(0.96, 1.0)
        outside = beyond_swath(SHAPE_20M, 0.03 + 0.004 * rng.standard_normal(), 0.09)
        bands: Bands = {}
        for polarisation, coherence in day.coherence.items():
            expected = _picture(coherence, self._labels_20m) * weather
            noise = (1 - expected**2) * 0.12 * rng.standard_normal(SHAPE_20M, dtype=np.float32)
            bands[polarisation] = np.where(outside, 0, np.clip(expected + noise, 0.02, 0.98)).astype(np.float32)
        return bands


def write_products(landscape: Landscape, scenes: Sequence[Scene], root: Path, seed: int) -> None:
    """Write every scene's product below `root`, where its path is its key."""
    camera = Camera(landscape, seed)
    with ThreadPoolExecutor(WRITERS) as threads:  # numpy and GDAL let go of the interpreter
        list(threads.map(lambda scene: camera.take(scene, root), scenes))


def _picture(values: npt.NDArray[Any], labels: npt.NDArray[np.uint16]) -> Floats:
    return values.astype(np.float32)[labels]
