"""Made-up parcels in any number and size: fields side by side, each a slightly turned, uneven quadrilateral with
vertices along its sides, as cadastres have them."""

import numpy as np
import shapely
from numpy.typing import NDArray

# Part of its square that a field leaves to ways and hedges.
MARGIN = 0.04
VERTICES_PER_SIDE = 2


def fields(number: int, hectares: float, west: float, north: float, columns: int, seed: int = 0) -> NDArray[np.object_]:
    """`number` polygons of about `hectares` each, row by row from the upper left corner, `columns` in a row.

    Coordinates in metres. Deterministic.
    """
    random = np.random.default_rng(seed)
    side = (hectares * 10_000) ** 0.5
    index = np.arange(number)
    centre = np.column_stack([west + (index % columns + 0.5) * side, north - (index // columns + 0.5) * side])
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * side * (1 - MARGIN) / 2
    shape = corners * random.uniform(0.9, 1.0, (number, 4, 2))
    angle = random.uniform(-0.03, 0.03, number)
    turn = np.stack([np.stack([np.cos(angle), -np.sin(angle)], 1), np.stack([np.sin(angle), np.cos(angle)], 1)], 1)
    ring = np.einsum("nij,nkj->nki", turn, shape) + centre[:, None, :]
    following = np.roll(ring, -1, axis=1)
    steps = np.arange(VERTICES_PER_SIDE) / VERTICES_PER_SIDE
    points = ring[:, :, None, :] + (following - ring)[:, :, None, :] * steps[None, None, :, None]
    # Vertices between corners are a little off the straight line.
    points[:, :, 1:, :] += random.uniform(-0.01, 0.01, points[:, :, 1:, :].shape) * side
    closed = np.concatenate([points.reshape(number, -1, 2), points.reshape(number, -1, 2)[:, :1]], axis=1)
    return np.asarray(shapely.polygons(closed))
