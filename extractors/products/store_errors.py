"""Whose fault is it? The one table of what goes wrong while talking to an S3 store: configuration, outage or scene.

Unknown errors of the libraries for S3, HTTP, TLS and sockets are outages: nothing that they know of lies in a scene.
Classes are looked up by name, since versions of the libraries differ in what they have.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError
from botocore.exceptions import SSLError as HandshakeError

from extractors.config import Store
from extractors.errors import (
    NETWORK_LIBRARIES,
    ConfigurationError,
    DeliveryError,
    ExtractionError,
    ObjectNotFoundError,
    StoreUnavailableError,
    UnusableSceneError,
    one_line,
)

LONGEST_REASON = 200


class MovedError(Exception):
    """The store sends us elsewhere, and not to another region of its own; the message is where to."""


@dataclass(frozen=True)
class Meaning:
    """What an error means: which of ours it becomes, and what is said (the fields are those in `translated`).

    retryable: whether asking again, within `retry_seconds`, can help.
    """

    kind: type[ExtractionError]
    text: str
    retryable: bool = False


OUTAGE = Meaning(StoreUnavailableError, "{store} does not answer while {doing} ({reason})", retryable=True)
SLOW = Meaning(StoreUnavailableError, "{store} is too slow while {doing} ({reason})", retryable=True)
BUSY = Meaning(StoreUnavailableError, "{store} reports {code} while {doing}", retryable=True)
REPORTS = Meaning(StoreUnavailableError, "{store} reports {code} while {doing}")
REFUSED = Meaning(
    StoreUnavailableError,
    "{store} refuses access while {doing} ({code}); see whether access_key and secret_key in {config} are right, valid "
    "and allowed to read the bucket (s3.requester_pays, if it bills its readers)",
)
KEYS = Meaning(
    ConfigurationError,
    "{config}: s3.access_key, s3.secret_key: {store} does not accept them ({code}); write valid ones",
)
TOKEN = Meaning(
    ConfigurationError,
    "{config}: s3.session_token: {store} does not accept it ({code}); write the one that was made with these keys, or "
    "none with lasting keys",
)
NO_KEYS = Meaning(
    ConfigurationError,
    "{config}: s3.access_key is missing, and boto3 finds no keys elsewhere; write access_key and secret_key "
    '(or "anonymous": true for a public bucket)',
)
OTHER_KEYS = Meaning(
    ConfigurationError,
    "{config}: boto3's own sources (environment, profile) give no keys ({reason}); fix them, or write s3.access_key "
    "and s3.secret_key",
)
SETTINGS = Meaning(
    ConfigurationError,
    "{config}: s3.host, s3.bucket, s3.region: {store} cannot be used with them while {doing} ({reason}); fix them",
)
CERTIFICATE = Meaning(
    ConfigurationError,
    "{config}: s3.ca_file: the certificate of {store} cannot be verified ({reason}); name the file with the "
    "certificates of its CA there, or fix s3.host",
)
NO_TLS = Meaning(
    ConfigurationError, "{config}: s3.host: what answers at {host} does not speak TLS ({reason}); write http:// if so"
)
BUCKET = Meaning(ConfigurationError, "{config}: s3.bucket: {store} has no bucket {bucket}; write the right name{path}")
REGION = Meaning(
    ConfigurationError,
    "{config}: s3.region: {store} wants another region than {region} ({code}); write the right one",
)
MOVED = Meaning(
    ConfigurationError, "{config}: s3.host: {store} sends us on to {reason}; write that, if it is the store"
)
NO_STORE = Meaning(
    ConfigurationError, "{config}: s3.host: what answers at {host} is no S3 store ({code}); write the store's endpoint"
)
INSTALLATION = Meaning(ConfigurationError, "boto3 cannot be used ({reason}); install the package anew")
MISSING = Meaning(ObjectNotFoundError, "the object is not in bucket {bucket} (while {doing})")
ARCHIVED = Meaning(
    UnusableSceneError, "{store} has archived the object ({code}, while {doing}); have it restored, and try again"
)
UNUSABLE_KEY = Meaning(UnusableSceneError, "{store} has no such keys ({code}, while {doing}); fix the reference")
SHORTER = Meaning(DeliveryError, "{store} lists an object that is longer than what it has ({code}, while {doing})")

# By class, and by the classes that it is derived from, nearest first.
BY_CLASS: Mapping[str, Meaning] = {
    "extractors.products.store_errors.MovedError": MOVED,
    "extractors.products.source.TooSlowError": SLOW,
    "ssl.SSLCertVerificationError": CERTIFICATE,
    "urllib3.util.ssl_match_hostname.CertificateError": CERTIFICATE,
    # While talking to a store, this is the file of CA certificates that a variable of the environment names.
    "builtins.FileNotFoundError": CERTIFICATE,
    "botocore.exceptions.NoCredentialsError": NO_KEYS,
    "botocore.exceptions.PartialCredentialsError": NO_KEYS,
    **{
        f"botocore.exceptions.{name}": OTHER_KEYS
        for name in (
            "ConfigNotFound", "ConfigParseError", "InvalidConfigError", "LoginError", "NoAuthTokenError",
            "ProfileNotFound", "RefreshWithMFAUnsupportedError", "SSOError", "UnknownCredentialError",
            "UnknownTokenProviderError", "InvalidIMDSEndpointError", "InvalidIMDSEndpointModeError",
        )
    },
    **{
        f"botocore.exceptions.{name}": SETTINGS
        for name in (
            "BaseEndpointResolverError", "EndpointProviderError", "InvalidChecksumConfigError", "InvalidDNSNameError",
            "InvalidDefaultsMode", "InvalidEndpointConfigurationError", "InvalidEndpointDiscoveryConfigurationError",
            "InvalidHostLabelError", "InvalidProxiesConfigError", "InvalidRetryConfigurationError",
            "InvalidS3AddressingStyleError", "InvalidS3UsEast1RegionalEndpointConfigError",
            "InvalidSTSRegionalEndpointsConfigError", "ParamValidationError", "ServiceNotInRegionError",
            "UnknownRegionError", "UnknownSignatureVersionError", "UnsupportedOutpostResourceError",
            "UnsupportedS3AccesspointConfigurationError", "UnsupportedS3ArnError", "UnsupportedS3ConfigurationError",
            "UnsupportedS3ControlArnError", "UnsupportedS3ControlConfigurationError",
            "UnsupportedSignatureVersionError", "ValidationError",
        )
    },
    **{
        f"botocore.exceptions.{name}": INSTALLATION
        for name in (
            "ApiVersionNotFoundError", "DataNotFoundError", "MD5UnavailableError", "MissingDependencyException",
            "UnsupportedServiceProtocolsError",
        )
    },
    # What a network does.
    "builtins.OSError": OUTAGE,
}  # fmt: skip
# What a handshake fails with when the other end does not speak TLS.
NO_TLS_REASONS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"})

# By what the store reports.
BY_CODE: Mapping[str, Meaning] = {
    **dict.fromkeys(("NoSuchBucket", "InvalidBucketName"), BUCKET),
    **dict.fromkeys(("InvalidAccessKeyId", "SignatureDoesNotMatch"), KEYS),
    "InvalidToken": TOKEN,
    **dict.fromkeys(
        ("AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect"), REGION
    ),
    **dict.fromkeys(("NoSuchKey", "NotFound"), MISSING),
    "InvalidObjectState": ARCHIVED,
    "KeyTooLongError": UNUSABLE_KEY,
    "InvalidRange": SHORTER,
    **dict.fromkeys(
        (
            "BandwidthLimitExceeded", "InternalError", "RequestLimitExceeded", "RequestThrottled", "RequestTimeout",
            "ServiceUnavailable", "SlowDown", "Throttling", "ThrottlingException", "TooManyRequests",
        ),
        BUSY,
    ),
}  # fmt: skip
BY_STATUS: Mapping[int, Meaning] = {
    **dict.fromkeys((301, 302, 303, 307, 308, 405, 501), NO_STORE),
    **dict.fromkeys((401, 403), REFUSED),
    404: MISSING,
    **dict.fromkeys((408, 425, 429, 500, 502, 503, 504, 509), BUSY),
}


def meaning_of(error: BaseException) -> Meaning | None:
    """What an error that came up while talking to a store means; None: it has nothing to do with that."""
    found = _from_answer(error) if isinstance(error, ClientError) else _of_class(type(error))
    if found is None or found.kind is ConfigurationError:
        return found
    for cause in _causes(error):
        deeper = _of_class(type(cause))
        if isinstance(error, HandshakeError) and getattr(cause, "reason", "") in NO_TLS_REASONS:
            return NO_TLS
        if deeper is not None and deeper.kind is ConfigurationError:
            return deeper
    return found


def translated(error: Exception, meaning: Meaning, doing: str, settings: Store, config: str) -> ExtractionError:
    """Our error for one that has this meaning. doing: what was tried, in words. config: the configuration's name."""
    answer = error.response if isinstance(error, ClientError) else {}
    path = urlsplit(settings.host).path.strip("/")
    facts = {
        "store": f"the S3 store at {settings.host}",
        "host": settings.host,
        "bucket": settings.bucket,
        "region": settings.region,
        "config": config,
        "doing": doing,
        "code": answer.get("Error", {}).get("Code") or _status(answer),
        "reason": one_line(error)[:LONGEST_REASON],
        "path": f", or remove /{path} from s3.host if that is the bucket" if path else "",
    }
    made = meaning.kind(meaning.text.format(**facts))
    # A store that has too much to do says so of any object.
    overloaded = meaning is BUSY and _status(answer) != 500
    made.answered = isinstance(error, ClientError | MovedError) and not overloaded
    return made


def _of_class(kind: type[BaseException]) -> Meaning | None:
    rows = (BY_CLASS.get(f"{base.__module__}.{base.__qualname__}") for base in kind.__mro__)
    of_library = any(base.__module__.partition(".")[0] in NETWORK_LIBRARIES for base in kind.__mro__)
    return next(filter(None, rows), OUTAGE if of_library else None)


def _from_answer(error: ClientError) -> Meaning:
    code, status = str(error.response.get("Error", {}).get("Code", "")), _status(error.response)
    found = BY_CODE.get(code) or BY_STATUS.get(status) or (BUSY if status >= 500 else REPORTS)
    # A bucket that is not there, or no store at all: a listing has no object to miss.
    return BUCKET if found is MISSING and error.operation_name.startswith("List") else found


def _status(answer: Mapping[str, Any]) -> int:
    return int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """What an error was made from, and what that was made from, ..."""
    cause = error.__cause__ or error.__context__
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
