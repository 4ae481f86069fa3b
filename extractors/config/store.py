"""`s3_config.json`: which store, or the directory that takes its place."""

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr

from extractors.config.values import Section, Text

# What `s3_config.json` says of who asks; an empty one is an absent one.
KEYS = ("access_key", "secret_key", "session_token")


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


class StoreFile(Section):
    """`s3_config.json` as a whole."""

    s3: Store


class DirectoryFile(Section):
    """`s3_config.json` as a whole, with a directory as the store."""

    s3: Directory


def contradiction(store: Store) -> str | None:
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


def without_empty_keys(document: Any) -> Any:
    """Empty S3 keys mean the same as absent ones."""
    store = document.get("s3") if isinstance(document, dict) else None
    if not isinstance(store, dict):
        return document
    kept = {key: value for key, value in store.items() if key not in KEYS or value}
    return document | {"s3": kept}
