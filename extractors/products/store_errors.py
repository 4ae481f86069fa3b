"""What boto3's errors mean: which of ours each of them becomes, and whether trying again may help."""

from boto3.exceptions import Boto3Error
from botocore import exceptions as boto

from extractors.config import Store
from extractors.errors import (
    ConfigurationError,
    ExtractionError,
    ObjectNotFoundError,
    StoreUnavailableError,
    one_line,
)

# RecursionError: what botocore makes of a server that redirects for ever.
STORE_ERRORS = (boto.BotoCoreError, boto.ClientError, Boto3Error, RecursionError)
MISSING_KEY = {"NoSuchKey", "404", "NotFound"}
WRONG_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken"}
WRONG_REGION = {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect"}
RETRYABLE = {"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "Throttling", "TooManyRequests"}
LONGEST_REASON = 200


def translated(error: Exception, doing: str, settings: Store, config_name: str) -> tuple[ExtractionError, bool]:
    """Our error for one of STORE_ERRORS, and whether it is retryable. doing: what was tried, in words."""
    store = f"the S3 store at {settings.host}"
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
        return ConfigurationError(
            f"{config_name}: s3.access_key is missing, and boto3 finds no keys elsewhere; write access_key and "
            "secret_key"
        ), False
    if isinstance(error, RecursionError | boto.ParamValidationError | boto.SSLError | boto.ProfileNotFound):
        return ConfigurationError(
            f"{config_name}: s3.host, s3.bucket, s3.region: {store} cannot be used with them while {doing} "
            f"({one_line(error)[:LONGEST_REASON]}); fix them"
        ), False
    if not isinstance(error, boto.ClientError):
        return StoreUnavailableError(f"{store} does not answer while {doing} ({one_line(error)})"), True
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in WRONG_REGION:
        return ConfigurationError(
            f"{config_name}: s3.region: {store} wants another region than {settings.region} ({code}); write the right "
            "one"
        ), False
    if code == "NoSuchBucket" or (status == 404 and doing.startswith("listing")):
        return ConfigurationError(
            f"{config_name}: s3.bucket: {store} has no bucket {settings.bucket}; write the right name"
        ), False
    if code in WRONG_KEYS:
        return ConfigurationError(
            f"{config_name}: s3.access_key, s3.secret_key: {store} does not accept them ({code}); write valid ones"
        ), False
    if code in MISSING_KEY:
        return ObjectNotFoundError(f"the object is not in bucket {settings.bucket} (while {doing})"), False
    if status in {401, 403}:
        return StoreUnavailableError(
            f"{store} refuses access while {doing} ({code}); see whether access_key and secret_key in {config_name} "
            "are right, valid and allowed to read the bucket"
        ), False
    retryable = status >= 500 or status in {408, 429} or code in RETRYABLE
    return StoreUnavailableError(f"{store} reports {code or status} while {doing}"), retryable
