"""The keys of a bucket of S3, page after page, several folders at a time.

pyarrow lists a folder only as a whole, so this asks S3 itself.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pipelines.buckets import CONNECT_TIMEOUT, REQUEST_TIMEOUT, PatientS3

PAGE = 1000
"""Keys and folders on a page: the most that S3 gives."""

LISTINGS = 16
"""Pages that are asked for at a time, each of another folder."""

DENIED = ("AccessDenied", "AllAccessDisabled", "403")
"""How S3 says that the caller may not."""


@dataclass(frozen=True)
class Ask:
    """What to list: a page of the keys and folders that begin with a prefix."""

    bucket: str
    prefix: str
    token: str | None = None
    """Where the page before ended; None: the first page."""


@dataclass(frozen=True)
class Page:
    """Up to `PAGE` keys and folders."""

    paths: list[str]
    """Of the files, as pyarrow writes them: "bucket/key"."""

    rest: list[Ask]
    """The page that follows and, after it, the folders on this one."""


def bucket_keys(fs: PatientS3, folder: str) -> Iterator[list[str]]:
    """Yield the paths of all files below a folder of a bucket, in no order, a page together.

    Folders come before the page that follows theirs: what waits to be listed is at most a page of
    folders of each level, for each of the `LISTINGS`.

    Args:
        fs: Where the bucket is.
        folder: "bucket" or "bucket/prefix".

    Raises:
        PermissionError: The bucket may not be listed.
        OSError: It cannot be, after as many attempts as the filesystem makes.
    """
    bucket, _, prefix = folder.rstrip("/").partition("/")
    waiting = [Ask(bucket, f"{prefix}/" if prefix else "")]
    running: deque[Future[Page]] = deque()
    client = connect(fs)
    with ThreadPoolExecutor(LISTINGS) as pool:
        while waiting or running:
            while waiting and len(running) < LISTINGS:
                running.append(pool.submit(list_page, client, waiting.pop()))
            page = running.popleft().result()
            waiting += page.rest
            yield page.paths


def connect(fs: PatientS3) -> Any:  # noqa: ANN401  its class is made at run time
    """Return a client that asks where, as whom and as often as the filesystem does."""
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
        signature_version=None if session.get_credentials() else UNSIGNED,
    )
    return session.client("s3", endpoint_url=endpoint or None, config=config)


def list_page(client: Any, ask: Ask) -> Page:  # noqa: ANN401
    """List one page of a folder.

    Raises:
        PermissionError: The bucket may not be listed.
        OSError: It cannot be.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    place: Any = {"Bucket": ask.bucket, "Prefix": ask.prefix, "Delimiter": "/", "MaxKeys": PAGE}
    if ask.token is not None:
        place["ContinuationToken"] = ask.token
    try:
        found = client.list_objects_v2(**place)
    except (BotoCoreError, ClientError) as error:
        code = getattr(error, "response", {}).get("Error", {}).get("Code")
        kind = PermissionError if code in DENIED else OSError
        raise kind(f"s3://{ask.bucket}/{ask.prefix} cannot be listed: {error}") from error
    keys = [entry["Key"] for entry in found.get("Contents", [])]
    token = found.get("NextContinuationToken")
    rest = [] if token is None else [Ask(ask.bucket, ask.prefix, token)]
    rest += [Ask(ask.bucket, entry["Prefix"]) for entry in found.get("CommonPrefixes", [])]
    # A key that ends so stands for a folder.
    return Page([f"{ask.bucket}/{key}" for key in keys if not key.endswith("/")], rest)
