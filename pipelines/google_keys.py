"""Pages of the keys in a bucket of Google Cloud Storage."""

from typing import TYPE_CHECKING, Any

from pipelines.buckets import CONNECT_TIMEOUT, PATIENCE, REQUEST_TIMEOUT, google_emulator
from pipelines.keys import LISTINGS, PAGE, Ask, Page

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.auth.transport.requests import AuthorizedSession
    from google.cloud.storage import Client

FIELDS = "items(name),prefixes,nextPageToken"
"""All that is asked of Google about an object: its name."""


def connect() -> "Client":
    """Return a client that asks where and as whom `pipelines.buckets.google` does.

    Raises:
        PermissionError: Nothing says who asks.
    """
    import google.auth
    from google.auth.credentials import AnonymousCredentials
    from google.auth.exceptions import DefaultCredentialsError
    from google.cloud.storage import Client  # takes a second

    endpoint = google_emulator()
    try:
        credentials = (
            AnonymousCredentials() if endpoint else google.auth.default(scopes=Client.SCOPE)[0]
        )
    except DefaultCredentialsError as error:
        raise PermissionError(f"Google does not know who asks: {error}") from error
    return Client(
        project="none",  # listing needs none, and a machine need not have one
        credentials=credentials,
        _http=make_session(credentials),
        client_options={"api_endpoint": endpoint} if endpoint else None,
    )


def make_session(credentials: "Credentials") -> "AuthorizedSession":
    """Return what keeps a connection open for each of the listings; by itself it keeps ten."""
    from google.auth.transport.requests import AuthorizedSession
    from requests.adapters import HTTPAdapter

    session = AuthorizedSession(credentials)
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=LISTINGS))
    session.configure_mtls_channel()  # puts one of its own there where it has a certificate
    return session


def list_page(ask: Ask, *, client: "Client") -> Page:
    """List one page of a folder.

    Raises:
        PermissionError: The bucket may not be listed.
        OSError: It cannot be, after `PATIENCE`.
    """
    from google.api_core.exceptions import Forbidden, GoogleAPIError, Unauthorized
    from google.auth.exceptions import GoogleAuthError
    from google.cloud.storage.retry import DEFAULT_RETRY
    from requests import RequestException

    found: Any = client.list_blobs(
        ask.bucket,
        prefix=ask.prefix,
        delimiter="/",
        page_size=PAGE,
        page_token=ask.token,
        fields=FIELDS,
        timeout=(CONNECT_TIMEOUT, REQUEST_TIMEOUT),  # pyright: ignore[reportArgumentType]
        retry=DEFAULT_RETRY.with_timeout(PATIENCE.total_seconds()),
    )
    try:
        keys = [blob.name for blob in next(found.pages, ())]
    except (GoogleAPIError, GoogleAuthError, RequestException) as error:
        kind = PermissionError if isinstance(error, (Forbidden, Unauthorized)) else OSError
        raise kind(f"gs://{ask.bucket}/{ask.prefix} cannot be listed: {error}") from error
    return ask.answered(keys, sorted(found.prefixes), found.next_page_token)
