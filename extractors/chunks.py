"""One chunk of parcels in all bands of a scene."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from extractors.bands import GridBands
from extractors.parcels import ParcelChunk
from extractors.signatures import Signatures
from extractors.zonal import COUNT, OUTSIDE, reasons, verified


@dataclass(frozen=True)
class How:
    """How to compute: engine, parcels of each chunk that rasterstats computes as well, label of each band in the
    results, and the band of which histograms are wanted, if any."""

    engine: str
    verified_parcels: int
    labels: Mapping[str, str]
    histograms_of: str | None


@dataclass
class ChunkResult:
    """What a chunk gave. without_row: by label, parcels without a row by reason. hists: parcel and pixels per class."""

    parcels: int
    signatures: list[Signatures] = field(default_factory=list)
    without_row: dict[str, Counter[str]] = field(default_factory=dict)
    hists: list[tuple[int, dict[str, int]]] = field(default_factory=list)
    recomputed: bool = False


def compute(chunk: ParcelChunk, grids: Sequence[GridBands], how: How) -> ChunkResult:
    """Statistics of a chunk's parcels in every band; each parcel gives a row or is counted under a reason."""
    result = ChunkResult(len(chunk))
    pid, geometries = chunk.parcels["pid"].to_numpy(), chunk.parcels.geometry.to_numpy()
    for group in grids:
        labels = [how.labels[band.name] for band in group.bands]
        for label in labels:
            result.without_row[label] = Counter(chunk.unusable)
        for part, grid, arrays in group.parts(geometries):
            if grid is None:
                for label in labels:
                    result.without_row[label][OUTSIDE] += part.stop - part.start
                continue
            nodata = group.bands[0].nodata
            zones, tables, recomputed = verified(
                how.engine, geometries[part], grid, arrays, nodata, how.verified_parcels
            )
            result.recomputed |= recomputed
            for band, label, array, table in zip(group.bands, labels, arrays, tables, strict=True):
                counts = table[:, COUNT].astype(np.int64)
                result.signatures.append(Signatures(label, pid[part][counts > 0], table[counts > 0]))
                result.without_row[label].update(reasons(geometries[part], grid, zones, counts))
                if band.name == how.histograms_of:
                    hists = zones.histograms(array, nodata)
                    result.hists += [(int(p), hist) for p, hist in zip(pid[part], hists, strict=True) if hist]
    return result
