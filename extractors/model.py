"""What came of a scene's parcels."""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from extractors.raster.chunks import ChunkResult


@dataclass
class Account:
    """What came of a scene's parcels: for every band, parcels selected = rows written + parcels without a row."""

    bands: tuple[str, ...] = ()
    parcels_selected: int = 0
    rows_written: Counter[str] = field(default_factory=Counter)
    parcels_without_row: dict[str, Counter[str]] = field(default_factory=dict)
    chunks_recomputed: int = 0
    null_geometries: int = 0
    empty_geometries: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def add(self, result: "ChunkResult") -> None:
        """Count what a chunk of parcels gave."""
        self.parcels_selected += result.parcels
        self.chunks_recomputed += result.recomputed
        for part in result.signatures:
            self.rows_written[part.label] += len(part.pid)
        for label, without in result.without_row.items():
            self.parcels_without_row.setdefault(label, Counter()).update(without)

    def in_words(self) -> str:
        """For each band: rows, parcels, and the reasons of those without a row."""
        texts = []
        for band in self.bands:
            without = sorted(self.parcels_without_row.get(band, Counter()).items())
            reasons = ", ".join(f"{number} {reason}" for reason, number in without)
            text = f"{band}: {self.rows_written[band]} of {self.parcels_selected} parcels"
            texts.append(f"{text} ({reasons})" if reasons else text)
        return "; ".join(texts)

    def without_rows(self) -> "Account":
        """The account of an attempt that wrote nothing."""
        return Account(
            self.bands,
            null_geometries=self.null_geometries,
            empty_geometries=self.empty_geometries,
            seconds=self.seconds,
            versions=self.versions,
        )

    def as_parameters(self) -> dict[str, Any]:
        """The columns of the log row."""
        return {
            "parcels_selected": self.parcels_selected,
            "rows_written": json.dumps({band: self.rows_written[band] for band in self.bands}),
            "parcels_without_row": json.dumps({band: self.parcels_without_row.get(band, {}) for band in self.bands}),
            "chunks_recomputed": self.chunks_recomputed,
            "parcels_without_geometry": json.dumps({"null": self.null_geometries, "empty": self.empty_geometries}),
            "seconds": json.dumps({step: round(seconds, 3) for step, seconds in self.seconds.items()}),
            "versions": json.dumps(self.versions),
        }
