"""`extraction` in `db_config.json`: how to extract, for all CARDs and for each, and what the numbers then mean."""

import re
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, model_validator

from extractors import indices, labels, signatures
from extractors.config.values import Section, nearest

EngineName = Literal["scanline", "rasterstats"]
ENGINE_NAMES: tuple[str, ...] = get_args(EngineName)
PixelRule = Literal["centre", "all_touched", "fraction"]
# No comma: a table of gaps lists labels.
LABEL = rf"[!-+\--~]{{1,{labels.LONGEST_LABEL}}}"
# Settings that change the numbers of a CARD; and which band each label stands for.
SOURCES = "sources"
NUMBERS_DEPEND_ON = {
    "s2": ("radiometry",),
    "bs": ("backscatter_unit",),
    "c6": ("coherence_band_order",),
    "c1": ("coherence_band_order",),
}
# Classes of SCL, and those that count as clear unless others are named: vegetation, bare soil, water, unclassified.
MOST_CLASSES = 12
CLEAR_CLASSES = (4, 5, 6, 7)
# Those that say which parcels have numbers at all, and which part or pixels of them: of every CARD, and of histograms
# as well.
PARCEL_RULES = ("pixel_rule", "inward_buffer_m", "min_area_m2", "min_pixels")
# Those of clear pixels only.
OF_CLEAR_ROWS = ("clear_classes",)


def parse_bands(*codes: str) -> Any:
    """A validator of `bands`: a list of bands of one of these CARDs, or an object band -> label, into pairs of a band
    and its label or None; ValueError."""
    known = {band for code in codes for band in labels.BANDS[code]}

    def parse(given: Any) -> Any:
        if isinstance(given, list) and all(isinstance(band, str) for band in given):
            pairs: list[tuple[str, Any]] = [(band, None) for band in given]
        elif isinstance(given, dict):
            pairs = [(band, "" if label is None else label) for band, label in given.items()]
        elif given is None:
            return None
        else:
            raise ValueError("neither a list of bands nor an object band -> label")
        for band, label in pairs:
            if band not in known:
                raise ValueError(f"there is no band {band[:20]}; {nearest(band, sorted(known))}")
            if label is not None and not (isinstance(label, str) and re.fullmatch(LABEL, label)):
                raise ValueError(
                    f"the label of {band} must be 1 to {labels.LONGEST_LABEL} characters, no blanks or commas"
                )
        if not pairs:
            raise ValueError("there is no band in it")
        return tuple(pairs)

    return parse


def parse_indices(given: Any) -> Any:
    """A validator of `indices`: an object label -> formula, into pairs; ValueError. The formulas are read when it is
    known of which CARD they are."""
    if not isinstance(given, dict) or not all(isinstance(text, str) for text in given.values()):
        raise ValueError("not an object label -> formula")
    for label in given:
        if not re.fullmatch(LABEL, label):
            raise ValueError(
                f"the label {label[:20]!a} must be 1 to {labels.LONGEST_LABEL} characters, no blanks or commas"
            )
    return tuple(given.items())


def parse_classes(given: Any) -> Any:
    """A validator of `clear_classes`: a list of numbers of classes, into these in their order; ValueError."""
    if given is None:
        return None
    if not isinstance(given, list) or not given:
        raise ValueError("not a list of classes")
    if not all(type(number) is int and 0 <= number < MOST_CLASSES for number in given):
        raise ValueError(f"SCL has the classes 0 to {MOST_CLASSES - 1}")
    return tuple(sorted(set(given)))


def parse_statistics(given: Any) -> Any:
    """Names of statistics that can be added; raises ValueError for others."""
    if given is None:
        return None
    if not isinstance(given, list | tuple) or not all(isinstance(name, str) for name in given):
        raise ValueError("not a list of names")
    for name in given:
        if name not in signatures.EXTRA_NAMES:
            raise ValueError(f"there is no statistic {name[:20]} to add; {nearest(name, list(signatures.EXTRA_NAMES))}")
    return tuple(given)


Pairs = tuple[tuple[str, str | None], ...]
Sentinel2Bands = Annotated[Pairs | None, BeforeValidator(parse_bands("s2"))]
RadarBands = Annotated[Pairs | None, BeforeValidator(parse_bands("bs"))]
AnyBands = Annotated[Pairs | None, BeforeValidator(parse_bands(*labels.BANDS))]
Indices = Annotated[tuple[tuple[str, str], ...], BeforeValidator(parse_indices)]
Classes = Annotated[tuple[int, ...] | None, BeforeValidator(parse_classes)]
Statistics = Annotated[tuple[str, ...] | None, BeforeValidator(parse_statistics)]


class CardSettings(Section):
    """How to extract: all optional; the defaults give what the established system gave."""

    chunk_size: Annotated[int, Field(ge=1, le=1_000_000)] = Field(default=2000, examples=[2000])
    engine: EngineName = Field(default="scanline", examples=["scanline"])
    verified_parcels: Annotated[int, Field(ge=0)] = Field(default=5, examples=[5])
    cores: Annotated[int, Field(ge=1, le=1024)] | None = Field(default=None, examples=[4])
    band_labels: Literal["classic", "api"] = Field(default="classic", examples=["classic"])
    # Beside the established eight.
    extra_statistics: Statistics = Field(default=None, examples=[["p10", "p90", "pixels"]])
    pixel_rule: PixelRule = Field(default="centre", examples=["all_touched"])
    coherence_band_order: Literal["product", "historical"] = Field(default="product", examples=["product"])
    # Parcel rules, of which parcels count and which part of them; 0: all, and as they are.
    inward_buffer_m: Annotated[float, Field(ge=0, le=10_000)] = Field(default=0, examples=[10])
    min_area_m2: Annotated[float, Field(ge=0)] = Field(default=0, examples=[3000])
    min_pixels: Annotated[int, Field(ge=0)] = Field(default=0, examples=[8])
    database_wait_seconds: Annotated[float, Field(ge=0)] = Field(default=60, examples=[60])
    max_attempts: Annotated[int, Field(ge=1)] = Field(default=5, examples=[5])
    retry_pause_seconds: Annotated[float, Field(ge=0)] = Field(default=30, examples=[30])
    outages_in_a_row: Annotated[int, Field(ge=1)] = Field(default=5, examples=[5])
    outage_pause_seconds: Annotated[float, Field(ge=0)] = Field(default=5, examples=[5])
    # How long a product is looked for again that the store does not have yet; 72 for workers that watch.
    absent_retry_hours: Annotated[float, Field(ge=0)] | None = Field(default=None, examples=[72])
    deadline_seconds: Annotated[float, Field(gt=0, le=1_000_000)] = Field(default=7200, examples=[7200])
    spool_megabytes: Annotated[int, Field(ge=0)] = Field(default=256, examples=[256])
    # None: by the number of cores, and no more than the container's or the machine's memory allows.
    memory_megabytes: Annotated[int, Field(ge=100, le=1_000_000)] | None = Field(default=None, examples=[1100])
    # PostgreSQL's settings for the worker's session, in addition to and in place of `database.SERVER_SETTINGS`.
    server_settings: dict[str, str | int | float | bool] = Field(default={}, examples=[{"lock_timeout": "30s"}])


class RadarSettings(CardSettings):
    """How to extract Sentinel-1 scenes."""

    bands: RadarBands = Field(default=None, examples=[["VV"]])
    indices: Indices = Field(default=(), examples=[{"CR": "VH / VV"}])


class BackscatterSettings(RadarSettings):
    """How to extract Sentinel-1 backscatter."""

    backscatter_unit: Literal["linear", "db"] = Field(default="linear", examples=["db"])


class Sentinel2Settings(CardSettings):
    """How to extract Sentinel-2 scenes."""

    bands: Sentinel2Bands = Field(default=None, examples=[["B02", "B04", "B08", "SCL"]])
    indices: Indices = Field(default=(), examples=[{"NDV": "ndvi", "NDR": "nd(B8A, B05)"}])
    # CLEAR_CLASSES where there is a table for them.
    clear_classes: Classes = Field(default=None, examples=[[4, 5, 6, 7]])
    radiometry: Literal["raw", "harmonised"] = Field(default="raw", examples=["harmonised"])
    radiometry_fallback: Literal["baseline"] | None = Field(default=None, examples=["baseline"])
    duplicates: Literal["all", "newest"] = Field(default="all", examples=["newest"])


class Extraction(Sentinel2Settings):
    """The object `extraction` of `db_config.json`: settings for all CARDs, and for each of them its own."""

    bands: AnyBands = Field(default=None, examples=[["B02", "B04", "B08", "SCL"]])
    backscatter_unit: Literal["linear", "db"] = Field(default="linear", examples=["db"])
    s2: Sentinel2Settings = Sentinel2Settings()
    bs: BackscatterSettings = BackscatterSettings()
    c6: RadarSettings = RadarSettings()
    c1: RadarSettings = RadarSettings()

    @model_validator(mode="after")
    def _labels_differ(self) -> Self:
        """Of each CARD that has bands of its own, whether it runs or not."""
        for code in labels.BANDS:
            own: CardSettings = getattr(self, code)
            for key in ("bands", "indices") if {"bands", "indices"} & own.model_fields_set else ():
                settings = self.for_card(code)
                try:
                    _ = settings.layers(code) if key == "bands" else settings.formulas(code)
                except ValueError as error:
                    raise ValueError(f"{code}.{key}: {error}") from error
        return self

    @property
    def statistics(self) -> tuple[signatures.Statistic, ...]:
        """What is computed of every parcel and band, in the order of the results."""
        return signatures.with_extra(self.extra_statistics or ())

    def layers(self, code: str) -> labels.Layers:
        """What is extracted of a CARD: bands and their labels, in the order of the results. ValueError for a band that
        the CARD cannot have, and for two with one label."""
        return labels.layers(code, self.band_labels, self.bands)

    def formulas(self, code: str) -> tuple[tuple[str, indices.Formula], ...]:
        """The indices that are computed of a CARD: labels and formulas. ValueError for what is none, and for a label
        that a band has."""
        taken = {label: band for band, label in self.layers(code)}
        found = []
        for label, text in self.indices:
            if label in taken:
                raise ValueError(f"{taken[label]} has the label {label} as well; give the index another")
            try:
                found.append((label, indices.parse(code, text)))
            except ValueError as error:
                raise ValueError(f"{label}: {error}") from error
        return tuple(found)

    def bands_needed(self, code: str) -> tuple[str, ...]:
        """All bands of a CARD that pixels are needed of, each once: those extracted first."""
        bands = [band for band, _ in self.layers(code)]
        bands += [band for _, formula in self.formulas(code) for band in formula.bands]
        return tuple(dict.fromkeys([*bands, *([indices.CLASSES] if self.clear_classes else [])]))

    def meaning(self, code: str) -> dict[str, Any]:
        """The settings that the numbers of a CARD depend on, as JSON takes them. Numbers with different ones do not
        belong into one table."""
        sources = {label: band for band, label in self.layers(code)}
        sources |= {label: str(formula) for label, formula in self.formulas(code)}
        clear = {"clear_classes": list(self.clear_classes)} if self.clear_classes else {}
        names = (*NUMBERS_DEPEND_ON.get(code, ()), *PARCEL_RULES)
        return {name: getattr(self, name) for name in names} | clear | {SOURCES: sources}

    def newest_only(self, code: str) -> bool:
        """Whether of several products of one observation only the newest is to stay."""
        return code == "s2" and self.duplicates == "newest"

    def for_card(self, code: str) -> Self:
        """The settings of one CARD: its own, which go before those for all; an object counts as a whole."""
        own: CardSettings = getattr(self, code)
        return self.model_copy(update={key: getattr(own, key) for key in own.model_fields_set})
