"""The two JSON configuration files and the command line, checked once at start and then frozen.

`db_config.json` says which database, which tables, which area of interest and which dates; `s3_config.json`
says which store. Whatever is wrong with them is a `ConfigurationError` of one line: file, key, remedy.
"""

import datetime as dt
import difflib
import json
import logging
import os
import re
import stat
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args
from urllib.parse import urlsplit

import psycopg2.extensions
from psycopg2 import sql
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, model_validator

from extractors import indices, labels, signatures
from extractors.errors import ConfigurationError, one_line

log = logging.getLogger(__name__)

# PostgreSQL silently cuts longer names.
LONGEST_IDENTIFIER_BYTES = 63
# NUL is impossible in PostgreSQL; the percent sign is psycopg2's mark for values.
FORBIDDEN_IN_NAMES = {"\0", "%"}
LARGEST_FILE_BYTES = 1_000_000
# What we have is nested four times.
DEEPEST_NESTING = 20
# Of keys and values that are shown; a file may hold anything.
LONGEST_SHOWN = 120
# What makes others than its owner able to read a file, or to change where it sends our secrets.
FOR_ALL = stat.S_IROTH | stat.S_IWOTH
NO_SECRET = SecretStr("")
# What `s3_config.json` says of who asks; an empty one is an absent one.
KEYS = ("access_key", "secret_key", "session_token")
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


@dataclass(frozen=True)
class TableName:
    """A table, possibly qualified by its schema; exactly as written, case included."""

    name: str
    schema: str | None = None

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name

    @property
    def identifier(self) -> sql.Identifier:
        """The quoted name, the only form in which it enters a statement."""
        return sql.Identifier(self.schema, self.name) if self.schema else sql.Identifier(self.name)


def parse_table_name(text: Any) -> TableName:
    """Split `schema.table` or `table`; raises ValueError on more parts, empty or overlong ones."""
    if isinstance(text, TableName):
        return text
    parts = text.split(".") if isinstance(text, str) else []
    if not 1 <= len(parts) <= 2 or not all(
        part.strip() and not FORBIDDEN_IN_NAMES & set(part) and len(part.encode()) <= LONGEST_IDENTIFIER_BYTES
        for part in parts
    ):
        raise ValueError("not a table name")
    return TableName(parts[-1], parts[0] if len(parts) == 2 else None)


def parse_moment(text: Any) -> dt.datetime:
    """Read a date or a date and time (ISO 8601, UTC) into a naive UTC datetime; raises ValueError."""
    if not isinstance(text, str):
        raise ValueError("not a date")  # noqa: TRY004 (the validation library turns ValueErrors into messages)
    try:
        moment = dt.datetime.fromisoformat(text.strip())
    except ValueError:  # its words repeat the text
        raise ValueError("not a date, nor a date and time") from None
    try:
        return moment.astimezone(dt.UTC).replace(tzinfo=None) if moment.tzinfo else moment
    except OverflowError as error:
        raise ValueError("beyond the calendar in UTC") from error


def parse_host(text: Any) -> Any:
    """A server's name or address and nothing else; raises ValueError for what people write there besides."""
    if not isinstance(text, str) or text.startswith("/"):  # a socket's directory
        return text
    if "://" in text:
        raise ValueError("a host and not a URL; user, port and database have keys of their own")
    if text != text.strip():
        raise ValueError("there are blanks around it")
    if text.startswith("["):
        raise ValueError("an IPv6 address is written without brackets, and its port as `port`")
    if text.count(":") == 1:
        raise ValueError("the port has a key of its own, `port`")
    return text


def parse_database_name(text: Any) -> Any:
    """A database's name; raises ValueError for a URL, which the server would repeat with the password in it."""
    if isinstance(text, str) and "://" in text:
        raise ValueError("a name and not a URL; host, port, user and password have keys of their own")
    return text


def parse_endpoint(text: Any) -> Any:
    """A store's URL: scheme, host, perhaps port and path. Raises ValueError for whatever else a URL can hold, secrets
    above all: it is shown in log lines."""
    if not isinstance(text, str):
        return text
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:  # its words may repeat a password
        raise ValueError("not a URL, or its port is no number up to 65535") from None
    if "@" in parts.netloc:
        raise ValueError("name and password do not belong there; keys are written as access_key and secret_key")
    if "?" in text or "#" in text:
        raise ValueError("a URL without ? and #")
    if parts.scheme and not (parts.hostname and text.isprintable() and port != 0):
        raise ValueError("a URL with a host, and without what cannot be printed")
    return text


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
                raise ValueError(f"there is no band {band[:20]}; {_nearest(band, sorted(known))}")
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
            raise ValueError(
                f"there is no statistic {name[:20]} to add; {_nearest(name, list(signatures.EXTRA_NAMES))}"
            )
    return tuple(given)


Table = Annotated[TableName, BeforeValidator(parse_table_name)]
ColumnName = Annotated[str, Field(min_length=1, pattern=r"^[^%\x00]*$")]
Moment = Annotated[dt.datetime, BeforeValidator(parse_moment)]
Text = Annotated[str, Field(min_length=1)]
# `"dbpasswd": null` is how some people write that there is none.
Pairs = tuple[tuple[str, str | None], ...]
Sentinel2Bands = Annotated[Pairs | None, BeforeValidator(parse_bands("s2"))]
RadarBands = Annotated[Pairs | None, BeforeValidator(parse_bands("bs"))]
AnyBands = Annotated[Pairs | None, BeforeValidator(parse_bands(*labels.BANDS))]
Indices = Annotated[tuple[tuple[str, str], ...], BeforeValidator(parse_indices)]
Classes = Annotated[tuple[int, ...] | None, BeforeValidator(parse_classes)]
Statistics = Annotated[tuple[str, ...] | None, BeforeValidator(parse_statistics)]
Secret = Annotated[SecretStr, BeforeValidator(lambda value: "" if value is None else value)]


class Section(BaseModel):
    """One JSON object of a configuration file: its keys are known, its values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)


class Connection(Section):
    """How to reach the database; further libpq parameters (`sslmode`, ...) are handed on as they are."""

    model_config = ConfigDict(extra="allow")

    host: Annotated[Text, BeforeValidator(parse_host)] = Field(examples=["ip.of.the.dbserver"])
    dbname: Annotated[Text, BeforeValidator(parse_database_name)] = Field(examples=["database_name"])
    dbuser: Text = Field(examples=["database_user"])
    dbpasswd: Secret = Field(default=NO_SECRET, examples=["database_passwd"])
    port: Annotated[int, Field(ge=1, le=65535)] = Field(default=5432, examples=[5432])

    def libpq(self) -> dict[str, Any]:
        """Keywords for `psycopg2.connect`; without a password libpq looks for one itself (`PGPASSWORD`,
        `~/.pgpass`)."""
        keywords: dict[str, Any] = {"host": self.host, "dbname": self.dbname, "user": self.dbuser, "port": self.port}
        if self.dbpasswd.get_secret_value():
            keywords["password"] = self.dbpasswd.get_secret_value()
        return keywords | (self.model_extra or {})

    @property
    def holds_secrets(self) -> bool:
        """Whether a password is in it; `sslpassword` is one, too."""
        return bool(self.dbpasswd.get_secret_value()) or any("pass" in key for key in self.model_extra or {})

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        """Without libpq's further parameters, some of which are secrets."""
        return [(name, getattr(self, name)) for name in type(self).model_fields]


class Tables(Section):
    """The tables that a worker reads and writes."""

    aoi_table: Table = Field(examples=["tables_with_aois"])
    parcel_table: Table = Field(examples=["table_with_parcels"])
    results_table: Table = Field(examples=["table_with_extracted_signatures"])
    catalogue_table: Table = Field(default=TableName("dias_catalogue"), examples=["dias_catalogue"])
    clear_results_table: Table | None = Field(default=None, examples=["table_with_signatures_of_clear_pixels"])
    hists_table: Table | None = Field(default=None, examples=["table_with_scl_histograms"])
    gaps_table: Table | None = Field(default=None, examples=["table_with_reasons"])
    parcel_id: ColumnName = Field(default="ogc_fid", examples=["ogc_fid"])
    parcel_geometry: ColumnName = Field(default="wkb_geometry", examples=["wkb_geometry"])


class Args(Section):
    """What to extract: the area of interest (AOI) and the half-open range startdate <= obstime < enddate."""

    aoi_field: ColumnName = Field(examples=["name"])
    name: Text = Field(examples=["my_aoi"])
    startdate: Moment = Field(examples=["2018-01-01"])
    enddate: Moment = Field(examples=["2019-01-01"])

    @model_validator(mode="after")
    def _dates_in_order(self) -> Self:
        if self.startdate >= self.enddate:
            raise ValueError(
                f"startdate {self.startdate:%Y-%m-%d} is not before enddate {self.enddate:%Y-%m-%d}; write an enddate "
                "after it (the enddate itself is not included)"
            )
        return self


class Database(Section):
    """The object `database` of `db_config.json`."""

    connection: Connection
    tables: Tables
    args: Args


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


class Store(Section):
    """The object `s3` of `s3_config.json`; without keys, boto3's own chain (environment, profile) holds."""

    access_key: Text | None = Field(default=None, examples=["s3_access_key"])
    secret_key: SecretStr | None = Field(default=None, examples=["s3_secret_key"])
    session_token: SecretStr | None = Field(default=None, examples=["token_of_temporary_keys"])
    anonymous: bool = Field(default=False, examples=[True])
    host: Annotated[str, Field(pattern=r"^https?://\S+$"), BeforeValidator(parse_endpoint)] = Field(
        examples=["https://eodata.dataspace.copernicus.eu"]
    )
    # With Ceph, `tenant:bucket` is another tenant's.
    bucket: Text = Field(examples=["eodata"])
    addressing: Literal["path", "virtual"] = Field(default="path", examples=["path"])
    requester_pays: bool = Field(default=False, examples=[True])
    ca_file: Text | None = Field(default=None, examples=["/etc/ssl/certs/ca-certificates.crt"])
    region: Text = Field(default="default", examples=["default"])
    # Some stores announce other checksums that look like MD5s.
    etag_is_md5: bool = Field(default=True, examples=[False])
    # The public Copernicus store allows one user four connections.
    connections: Annotated[int, Field(ge=1, le=64)] = Field(default=4, examples=[4])
    retry_seconds: Annotated[float, Field(ge=0)] = Field(default=300, examples=[300])
    least_bytes_per_second: Annotated[float, Field(ge=0)] = Field(default=1000, examples=[1000])
    # How many workers of one database may download at once, whatever machine they are on.
    fleet_downloads: Annotated[int, Field(ge=1, le=10_000)] | None = Field(default=None, examples=[4])


class Directory(Section):
    """The object `s3` of `s3_config.json` where a directory takes the place of host and bucket: the same keys, as paths
    below it."""

    directory: Text = Field(examples=["/eodata"])
    retry_seconds: Annotated[float, Field(ge=0)] = Field(default=300, examples=[300])

    @property
    def fleet_downloads(self) -> None:
        """Nothing is downloaded: no limit."""
        return


class DatabaseFile(Section):
    """`db_config.json` as a whole."""

    database: Database
    extraction: Extraction = Extraction()

    def for_card(self, code: str) -> Self:
        """The same with the settings of one CARD as those of `extraction`; with classes that count as clear if there is
        a table for them."""
        extraction = self.extraction.for_card(code)
        clear = code == "s2" and self.tables.clear_results_table is not None
        classes = (extraction.clear_classes or CLEAR_CLASSES) if clear else None
        return self.model_copy(update={"extraction": extraction.model_copy(update={"clear_classes": classes})})

    @property
    def connection(self) -> Connection:
        """How to reach the database."""
        return self.database.connection

    @property
    def tables(self) -> Tables:
        """The tables that a worker reads and writes."""
        return self.database.tables

    @property
    def args(self) -> Args:
        """Area of interest and dates."""
        return self.database.args


class StoreFile(Section):
    """`s3_config.json` as a whole."""

    s3: Store


class DirectoryFile(Section):
    """`s3_config.json` as a whole, with a directory as the store."""

    s3: Directory


@dataclass(frozen=True)
class Options:
    """A worker's command line, completed from the environment."""

    db_config: Path
    s3_config: Path
    data_dir: Path
    everything: bool
    watch_seconds: float | None
    scene: str | None
    engine: str | None
    adopt_foreign: bool
    verbose: bool
    log_format: str
    check: bool = False
    accept_mixed: bool = False
    redo: bool = False

    @property
    def burst(self) -> bool:
        """Whether to extract everything that is there, and then end."""
        return self.everything and self.watch_seconds is None and self.scene is None


File = TypeVar("File", DatabaseFile, StoreFile, DirectoryFile)


def read_database_config(path: Path) -> DatabaseFile:
    """Read and check `db_config.json`; raises ConfigurationError."""
    document, mode = _document(path, "db")
    config = _validated(path, document, DatabaseFile)
    for key, value in (config.connection.model_extra or {}).items():
        where = f"{path}: database.connection.{_named(key)}"
        if key in {"user", "password"}:
            raise ConfigurationError(f"{where}: write `db{key.replace('password', 'passwd')}` instead of `{key}`")
        try:
            # What psycopg2 would swallow without a word: `database` for `dbname`, any key without a value, a key that
            # holds another one with its value.
            if key == "database" or not re.fullmatch(r"\w+", key):
                raise psycopg2.ProgrammingError(key)  # noqa: TRY301
            psycopg2.extensions.make_dsn(**{key: "" if value is None else str(value)})
        except psycopg2.ProgrammingError as error:
            nearest = _nearest(key, list(Connection.model_fields))
            raise ConfigurationError(
                f"{where}: unknown key, neither ours nor one of libpq's connection parameters; {nearest}"
            ) from error
        if isinstance(value, dict | list):
            raise ConfigurationError(f"{where}: this {_KINDS[type(value)]} cannot be used; write a text or a number")
    if config.connection.holds_secrets:
        _warn_of_readers(path, mode)
    return config


def read_store_config(path: Path) -> StoreFile | DirectoryFile:
    """Read and check `s3_config.json`; raises ConfigurationError."""
    document, mode = _document(path, "s3")
    document = _without_empty_keys(document)
    section = document.get("s3") if isinstance(document, dict) else None
    if isinstance(section, dict) and "directory" in section:
        others = [key for key in Store.model_fields if key in section and key not in Directory.model_fields]
        if others:
            raise ConfigurationError(
                f"{path}: s3.directory: a directory has no {', '.join(others)}; remove them, or remove directory"
            )
        return _validated(path, document, DirectoryFile)
    config = _validated(path, document, StoreFile)
    problem = _contradiction(config.s3)
    if problem is not None:
        raise ConfigurationError(f"{path}: {problem}")
    if config.s3.secret_key is not None:
        _warn_of_readers(path, mode)
    return config


@cache
def _warn_of_readers(path: Path, mode: int) -> None:
    """Say once that others than its owner may read or change a file with secrets in it."""
    if mode & FOR_ALL:
        log.warning(
            "%s: secrets are in it, and every user of this machine may read or change it (mode %o); chmod 600 it, and "
            'run as its owner (a container with --user "$(id -u):$(id -g)")',
            path,
            mode,
        )


def _contradiction(store: Store) -> str | None:
    """What does not go together in the settings of a store, and how to fix it."""
    if (store.access_key is None) != (store.secret_key is None):
        return (
            "s3.access_key and s3.secret_key belong together; write both, or neither to use boto3's own sources "
            "(environment, profile)"
        )
    if store.session_token is not None and store.access_key is None:
        return "s3.session_token belongs to temporary keys; write their access_key and secret_key as well"
    if store.anonymous and store.access_key is not None:
        return "s3.anonymous: nobody is asked for keys then; remove access_key and secret_key, or write false"
    if store.addressing == "virtual" and ":" in store.bucket:
        return 's3.addressing: the bucket of another tenant cannot be part of a host\'s name; write "path"'
    return None


class _UnusableError(Exception):
    """What is wrong with a file, and how to fix it."""


def _document(path: Path, option: str) -> tuple[Any, int]:
    """What a file says, and its mode."""
    try:
        content, mode = _content(path)
        document = json.loads(content.decode("utf-8-sig"), object_pairs_hook=_object, parse_constant=_no_number)
        _check_texts(document)
        return document, mode  # noqa: TRY300
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{path}: no such file; copy {path.name}.example to it and fill it in, or name another with "
            f"--{option}-config"
        ) from error
    except PermissionError as error:
        raise ConfigurationError(
            f"{path}: cannot be read by user {os.geteuid()}; change its permissions, or run as its owner (a container "
            'with --user "$(id -u):$(id -g)")'
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path}: cannot be read: {error}; see its permissions and encoding (UTF-8)"
        ) from error
    except json.JSONDecodeError as error:
        raise ConfigurationError(
            f"{path}: not valid JSON at line {error.lineno}, column {error.colno} ({error.msg}); fix it there"
        ) from error
    except RecursionError as error:
        raise ConfigurationError(f"{path}: nested too deeply; remove what does not belong there") from error
    except ValueError as error:
        raise ConfigurationError(f"{path}: a number in it has too many digits ({one_line(error)}); fix it") from error
    except _UnusableError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _content(path: Path) -> tuple[bytes, int]:
    """A regular file's content and mode. Nothing else is read: a pipe might never say anything, a device never end."""
    with open(path, "rb", opener=_at_once) as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise _UnusableError(
                f"cannot be read: it is {'a pipe' if stat.S_ISFIFO(mode) else 'a device'}; name a file"
            )
        content = file.read(LARGEST_FILE_BYTES + 1)
    if len(content) > LARGEST_FILE_BYTES:
        raise _UnusableError("cannot be read: it is larger than 1 MB; name the file that is meant")
    return content, stat.S_IMODE(mode)


def _at_once(file: str, flags: int) -> int:
    return os.open(file, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Of equal keys its readers take the last, people the first."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _UnusableError(f"the key {_named(key)} is written twice; remove one of them")
        found[key] = value
    return found


def _no_number(name: str) -> None:
    """NaN and Infinity, which Python's reader takes and JSON has not."""
    raise _UnusableError(f"not valid JSON: {name} is no number; write one")


def _check_texts(document: Any) -> None:
    """Refuse what neither database nor store could be sent: NUL, and halves of characters."""
    remaining: list[tuple[tuple[str, ...], Any]] = [((), document)]
    while remaining:
        where, value = remaining.pop()
        if len(where) > DEEPEST_NESTING:
            raise RecursionError
        if isinstance(value, dict):
            remaining += [((*where, key), below) for key, below in value.items()]
            value = "".join(value)
        elif isinstance(value, list):
            remaining += [((*where, str(number)), below) for number, below in enumerate(value)]
        if isinstance(value, str) and re.search("[\0\ud800-\udfff]", value):
            key = _named(*where) or "the file"
            raise _UnusableError(f"{key}: a character in it cannot be used (NUL, or half a one); remove it")


def _validated(path: Path, document: Any, model: type[File]) -> File:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {_one_line(error, model, document)}") from error


def _without_empty_keys(document: Any) -> Any:
    """Empty S3 keys mean the same as absent ones."""
    store = document.get("s3") if isinstance(document, dict) else None
    if not isinstance(store, dict):
        return document
    kept = {key: value for key, value in store.items() if key not in KEYS or value}
    return document | {"s3": kept}


def _one_line(error: ValidationError, model: type[BaseModel], document: Any) -> str:
    """The first problem in words: key, what is wrong, what to write. Never the value of a secret."""
    # An unknown key says more than the missing key that it was meant to be.
    first = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    location = [part for part in first["loc"] if isinstance(part, str)]
    key = _named(*location) or "the file"
    owner, field = _field(model, location)
    example = json.dumps(field.examples[0]) if field is not None and field.examples else "an object {...}"
    if first["type"] == "extra_forbidden":
        elsewhere = ["directory"] if owner is Store else []
        return f"{key}: unknown key; {_nearest(location[-1], [*owner.model_fields, *elsewhere])}"
    if first["type"] == "missing":
        return f"{key} is missing; add it, for example {json.dumps(location[-1])}: {example}"
    if first["type"] == "value_error" and not (field is not None and field.examples):  # a rule over several keys
        return f"{key}: {first['msg'].removeprefix('Value error, ')}"
    value: Any = document
    for part in location:
        value = value.get(part) if isinstance(value, dict) else None
    # Whole objects may hold secrets, and so may whatever stands where one is expected.
    showable = field is not None and field.examples and not _is_secret(location) and not isinstance(value, dict | list)
    # A URL may have a password in it, and so may a string of parameters.
    showable = showable and not (isinstance(value, str) and re.search("[@?#=]|://", value))
    shown = _short(json.dumps(value)) if showable else f"this {_KINDS.get(type(value), 'value')}"
    return (
        f"{key}: {shown} cannot be used ({first['msg'].removeprefix('Value error, ')}); write, for example, {example}"
    )


def _field(model: type[BaseModel], location: list[str]) -> tuple[type[BaseModel], Any]:
    """The section that holds the key at `location`, and the key's field (None where there is none)."""
    owner: type[BaseModel] = model
    field = None
    for part in location:
        if field is not None and isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            owner = field.annotation
        field = owner.model_fields.get(part)
    if field is not None and isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
        owner = field.annotation
    return owner, field


def _nearest(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known)}"


def _named(*keys: str) -> str:
    """Keys as they are shown, from the outermost to the innermost. Where a name should be, there may be a URL with a
    password in it, or a book."""
    return ".".join(key if re.fullmatch(r"[\w .-]{1,63}", key) else "(no name)" for key in keys)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


_KINDS = {dict: "object", list: "list", str: "text", bool: "value", int: "number", float: "number"}


def _is_secret(location: list[str]) -> bool:
    return any(part in {"dbpasswd", *KEYS} for part in location)
