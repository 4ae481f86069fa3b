"""Pictures as numpy makes them: noise, clouds, swath edges, and pixels that see their neighbours."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

SHADOW_SHIFT = (-34, -12)  # rows, columns: the sun stands south-south-east of the cloud


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], roughness: float) -> Floats:
    """Gaussian noise, mean 0, standard deviation 1, whose amplitude falls with frequency**`roughness`."""
    rows, columns = np.fft.fftfreq(shape[0]), np.fft.rfftfreq(shape[1])
    frequency = np.hypot(rows[:, None], columns[None, :]).astype(np.float32)
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal(shape, dtype=np.float32)) / frequency**roughness
    noise = np.fft.irfft2(spectrum, s=shape).astype(np.float32)
    scaled: Floats = (noise - noise.mean()) / noise.std()
    return scaled


def clouds(rng: np.random.Generator, shape: tuple[int, int], share: float) -> tuple[Floats, Floats]:
    """Thickness of clouds over `share` of the picture, and depth of their shadows: both 0-1."""
    if share == 0:
        return np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    noise = smooth_noise(rng, shape, 1.7)
    thick = np.clip((noise - np.quantile(noise, 1 - share)) / 0.5, 0, 1) ** 1.5
    shadow = np.roll(thick, SHADOW_SHIFT, axis=(0, 1)) * (thick < 0.08)
    return thick, shadow


def beyond_swath(shape: tuple[int, int], left: float, slope: float) -> npt.NDArray[np.bool_]:
    """The wedge left of a swath's edge, which meets the top at the share `left` + `slope` of the width."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    beyond: npt.NDArray[np.bool_] = columns / shape[1] < left + slope * (0.5 - rows / shape[0])
    return beyond


def blurred(values: Floats) -> Floats:
    """Neighbouring pixels see a little of each other."""
    for axis in (0, 1):
        values = 0.7 * values + 0.15 * (np.roll(values, 1, axis) + np.roll(values, -1, axis))
    return values


def halved(values: Floats) -> Floats:
    """Means of 2 x 2 pixels; rows and columns must be even."""
    mean: Floats = values.reshape(values.shape[0] // 2, 2, values.shape[1] // 2, 2).mean(axis=(1, 3))
    return mean
