"""What single values of the configuration may be (names of tables and columns, dates, secrets), and what all its
sections have in common."""

import datetime as dt
import difflib
from dataclasses import dataclass
from typing import Annotated, Any

from psycopg2 import sql
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

# PostgreSQL silently cuts longer names.
LONGEST_IDENTIFIER_BYTES = 63
# NUL is impossible in PostgreSQL; the percent sign is psycopg2's mark for values.
FORBIDDEN_IN_NAMES = {"\0", "%"}
NO_SECRET = SecretStr("")


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


Table = Annotated[TableName, BeforeValidator(parse_table_name)]
ColumnName = Annotated[str, Field(min_length=1, pattern=r"^[^%\x00]*$")]
Moment = Annotated[dt.datetime, BeforeValidator(parse_moment)]
Text = Annotated[str, Field(min_length=1)]
# `"dbpasswd": null` is how some people write that there is none.
Secret = Annotated[SecretStr, BeforeValidator(lambda value: "" if value is None else value)]


class Section(BaseModel):
    """One JSON object of a configuration file: its keys are known, its values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)


def nearest(key: str, known: list[str]) -> str:
    """The remedy for a name that is not known: the known one that is most like it, or all of them."""
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known)}"
