"""Pages of the keys in a bucket of S3."""

from typing import Any

from pipelines.buckets import CONNECT_TIMEOUT, REQUEST_TIMEOUT, PatientS3
from pipelines.keys import LISTINGS, PAGE, Ask, Page

DENIED = ("AccessDenied", "AllAccessDisabled", "403")
"""How S3 says that the caller may not."""


def connect(fs: PatientS3) -> Any:  # noqa: ANN401  its class is made at run time
    """Return a client that asks where, as whom and as often as the filesystem does.

    Raises:
        PermissionError: What says who asks is wrong or not complete.
    """
    from botocore.exceptions import BotoCoreError

    try:
        return make_client(fs)
    except BotoCoreError as error:
        raise PermissionError(f"it is not clear who asks S3: {error}") from error


def make_client(fs: PatientS3) -> Any:  # noqa: ANN401
    """Return a client of boto3."""
    import boto3  # takes a quarter of a second
    from botocore import UNSIGNED
    from botocore.config import Config

    options = fs.options()
    endpoint = options["endpoint_override"]
    session = boto3.Session(
        aws_access_key_id=options["access_key"] or None,
        aws_secret_access_key=options["secret_key"] or None,
        aws_session_token=options["session_token"] or None,
        region_name=fs.region,
    )
    config = Config(
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=REQUEST_TIMEOUT,
        max_pool_connections=LISTINGS,
        retries={"mode": "standard", "total_max_attempts": fs.attempts},
        s3={"addressing_style": "path" if endpoint else "auto"},
        # pyarrow does not look for an endpoint in ~/.aws/config.
        ignore_configured_endpoint_urls=not endpoint,
        signature_version=None if session.get_credentials() else UNSIGNED,
    )
    return session.client("s3", endpoint_url=endpoint or None, config=config)


def list_page(ask: Ask, *, client: Any) -> Page:  # noqa: ANN401
    """List one page of a folder.

    Raises:
        PermissionError: The bucket may not be listed.
        OSError: It cannot be, or not to its end.
    """
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    place: Any = {"Bucket": ask.bucket, "Prefix": ask.prefix, "Delimiter": "/", "MaxKeys": PAGE}
    if ask.token is not None:
        place["ContinuationToken"] = ask.token
    try:
        found = client.list_objects_v2(**place)
    except (BotoCoreError, ClientError, ResponseParserError) as error:
        code = getattr(error, "response", {}).get("Error", {}).get("Code")
        kind = PermissionError if code in DENIED else OSError
        raise kind(f"s3://{ask.bucket}/{ask.prefix} cannot be listed: {error}") from error
    if found.get("IsTruncated") and not found.get("NextContinuationToken"):
        raise OSError(
            f"s3://{ask.bucket}/{ask.prefix} cannot be listed: the store says that a page is not "
            "the last one, and not how to ask for the next"
        )
    return ask.answered(
        [entry["Key"] for entry in found.get("Contents", [])],
        [entry["Prefix"] for entry in found.get("CommonPrefixes", [])],
        found.get("NextContinuationToken"),
    )
