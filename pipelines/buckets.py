"""Buckets of S3 and of Google Cloud Storage: how they are reached, and with how much patience."""

import errno
import os
import re
from datetime import timedelta
from functools import lru_cache
from typing import Any

from pyarrow.fs import (
    AwsStandardS3RetryStrategy,
    FileSelector,
    FileSystem,
    GcsFileSystem,
    S3FileSystem,
    resolve_s3_region,
)

CONNECT_TIMEOUT = 5.0
REQUEST_TIMEOUT = 60.0

PATIENCE = timedelta(seconds=20)
"""For how long a request to Google is repeated before it has failed; its own default is 15 minutes,
which a machine without credentials would wait."""

ATTEMPTS = 6
"""Tries of a request to S3 before it has failed, some 15 seconds of waiting between them."""

OUTAGE = re.compile(
    r"AWS Error (?:NETWORK_CONNECTION|SLOW_DOWN|THROTTLING|SERVICE_UNAVAILABLE|INTERNAL_FAILURE"
    r"|REQUEST_TIMEOUT|\w+ \(HTTP status (?:429|5\d\d)\))"
    r"|^google::cloud::Status\((?:UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED|INTERNAL)\b"
)
"""In the messages of pyarrow, which has tried several times by then.

The answer to a HEAD has no body that would name the error: its status says it.
"""

OF_ONE_OBJECT = re.compile(r"AWS Error (?:INTERNAL_FAILURE|\w+ \(HTTP status 500\)) during ")
"""In the messages of pyarrow where S3 has failed, be it with this object alone."""

NO_CREDENTIALS = re.compile(
    r"AWS Error (?:INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|REQUEST_TIME_TOO_SKEWED"
    r"|REQUEST_EXPIRED|INVALID_CLIENT_TOKEN_ID|UNRECOGNIZED_CLIENT|MISSING_AUTHENTICATION_TOKEN"
    r"|INVALID_SIGNATURE|INCOMPLETE_SIGNATURE|OPT_IN_REQUIRED) during "
    r"|Unable to parse ExceptionName: (?:ExpiredToken|InvalidToken|TokenRefreshRequired)\b"
    r"|^google::cloud::Status\(UNAUTHENTICATED\b"
)
"""In the messages of pyarrow where it is the caller that is refused, whatever the object."""

DENIED = re.compile(r"AWS Error ACCESS_DENIED during |^google::cloud::Status\(PERMISSION_DENIED\b")
"""In the messages of pyarrow where the caller is known and may not."""

MUTE = re.compile(
    r"AWS Error (?:ACCESS_DENIED|\w+ \(HTTP status 40[03]\)) during (?:Head|Get)Object operation"
)
"""A refusal of this object, or of keys that have expired: a HEAD says no more, a GET not always."""

HOST_FAILURES = frozenset(
    getattr(errno, name)
    for name in (
        *("EIO", "ENXIO", "ENODEV", "EREMOTEIO", "ESTALE", "ENOTCONN", "ENOLINK", "ESHUTDOWN"),
        *("EMFILE", "ENFILE", "ENOMEM", "ENOBUFS", "EAGAIN", "ETIMEDOUT", "ECONNREFUSED"),
        *("ECONNRESET", "ECONNABORTED", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH"),
        *("EKEYEXPIRED", "EKEYREVOKED", "EKEYREJECTED", "ENOKEY"),
    )
    if hasattr(errno, name)
)
"""What the system says when a disk, a mount or this process itself cannot read any more."""


OF_ONE_FILE = frozenset(getattr(errno, name) for name in ("EIO", "ESTALE") if hasattr(errno, name))
"""Of the failures of a host, those that a single damaged file has too."""


class PatientS3(S3FileSystem):
    """An S3 that is asked again, after a growing pause, when it is throttled or does not answer.

    pyarrow's own forgets how often on its way to another process.
    """

    def __init__(self, *, attempts: int, **options: Any) -> None:  # noqa: ANN401
        super().__init__(**options, retry_strategy=AwsStandardS3RetryStrategy(attempts))
        self.attempts = attempts

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel with the number of attempts."""
        return again, ({**self.options(), "attempts": self.attempts},)

    def options(self) -> dict[str, Any]:
        """Return what the filesystem was made with, the number of attempts left out."""
        _, (options,) = super().__reduce__()
        return options


def again(options: dict[str, Any]) -> PatientS3:
    """Return the filesystem that has travelled as its options."""
    return PatientS3(**options)


@lru_cache(maxsize=256)
def bucket_filesystem(bucket: str) -> FileSystem:
    """Return the filesystem of "s3://bucket" or "gs://bucket", as its vendor's variables say."""
    return google() if bucket.startswith("gs://") else amazon(bucket[5:])


def amazon(bucket: str) -> PatientS3:
    """Return the S3 that a bucket is in, or what AWS_ENDPOINT_URL names in its place."""
    env = os.environ
    endpoint = env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL")
    region = env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION")
    keys = {}
    if "AWS_ACCESS_KEY_ID" in env and "AWS_SECRET_ACCESS_KEY" in env:
        keys["access_key"] = env["AWS_ACCESS_KEY_ID"]
        keys["secret_key"] = env["AWS_SECRET_ACCESS_KEY"]
        keys["session_token"] = env.get("AWS_SESSION_TOKEN")
    return PatientS3(
        **keys,
        attempts=max_attempts(env.get("AWS_MAX_ATTEMPTS") or str(ATTEMPTS)),
        endpoint_override=endpoint,
        region=region or ("us-east-1" if endpoint else resolve_s3_region(bucket)),
        connect_timeout=CONNECT_TIMEOUT,
        request_timeout=REQUEST_TIMEOUT,
    )


def google() -> GcsFileSystem:
    """Return Google Cloud Storage, or the emulator that CLOUD_STORAGE_EMULATOR_ENDPOINT names."""
    scheme, _, host = google_emulator().partition("://")
    emulator = {"anonymous": True, "scheme": scheme, "endpoint_override": host} if host else {}
    return GcsFileSystem(retry_time_limit=PATIENCE, **emulator)


def google_emulator() -> str:
    """Return the address of an emulator in Google's place; "": there is none."""
    return os.environ.get("CLOUD_STORAGE_EMULATOR_ENDPOINT", "")


def max_attempts(text: str) -> int:
    """Read the number of tries of a request."""
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"AWS_MAX_ATTEMPTS is a number from 1, got {text!r}")
    return int(text)


def is_outage(error: OSError) -> bool:
    """Say whether nothing can be read now, rather than this one file or object.

    An object store does not answer, or no longer knows who asks; a disk, a mount or the process
    has failed.
    """
    if isinstance(error, FileNotFoundError):
        return False
    words = str(error)
    return (
        error.errno in HOST_FAILURES
        or OUTAGE.search(words) is not None
        or NO_CREDENTIALS.search(words) is not None
    )


def may_be_of_one(error: OSError) -> bool:
    """Say whether an outage may be the fault of one file or object after all."""
    return error.errno in OF_ONE_FILE or OF_ONE_OBJECT.search(str(error)) is not None


def is_denied(error: OSError) -> bool:
    """Say whether reading or writing is forbidden to who asks."""
    return isinstance(error, PermissionError) or DENIED.search(str(error)) is not None


def raise_outage_of_all(error: OSError, fs: FileSystem, path: str) -> None:
    """Raise what kept a file from being read where that cannot be the fault of this file."""
    if not may_be_of_one(error):
        raise_outage(error, fs, path)


def raise_outage(error: OSError, fs: FileSystem, path: str) -> None:
    """Raise what kept a file from being read where that is not the fault of this file.

    S3 does not tell a HEAD that keys have expired or are unknown: it is asked once more, by a
    listing of nothing, whose answer has a body.
    """
    if is_outage(error):
        raise error
    if isinstance(fs, S3FileSystem) and MUTE.search(str(error)):
        try:
            fs.get_file_info(FileSelector(path, allow_not_found=True))
        except OSError as reason:
            if is_outage(reason):
                raise reason from error
