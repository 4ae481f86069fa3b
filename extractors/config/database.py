"""`db_config.json`: which database, which tables, which area of interest and which dates."""

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from extractors.config.extraction import CLEAR_CLASSES, Extraction
from extractors.config.values import NO_SECRET, ColumnName, Moment, Secret, Section, Table, TableName, Text


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
