"""Listing a bucket of S3 or Google: page by page, folder by folder, whatever names it holds."""

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from datetime import timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import parse_qs
from urllib.request import Request, urlopen

import pytest
from botocore import UNSIGNED
from botocore.parsers import ResponseParserError
from google.api_core.page_iterator import HTTPIterator
from google.auth.credentials import AnonymousCredentials

from pipelines import amazon_keys, google_keys, keys
from pipelines.buckets import bucket_filesystem
from pipelines.listing import list_images
from pipelines.storage import locate
from tests.pipelines import test_storage_faults
from tests.proc import STATUS, kilobytes
from tests.servers import serving

proxy = test_storage_faults.proxy


def put_key(server, bucket, key):
    """Write an object under a key that pyarrow would not take."""
    signed = "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request"
    headers = {"Authorization": f"{signed}, SignedHeaders=host, Signature=0"}
    url = f"{server}/{bucket[5:]}/{key}"
    urlopen(Request(url, data=b"x", method="PUT", headers=headers)).close()


@pytest.fixture
def asked(monkeypatch):
    """Which pages were asked for: the prefix, and whether it is the first page of it."""
    asked = []

    def list_page(ask, *, client):
        asked.append((ask.prefix, ask.token is None))
        return original(ask, client=client)

    original = amazon_keys.list_page
    monkeypatch.setattr(amazon_keys, "list_page", list_page)
    return asked


class Google(BaseHTTPRequestHandler):
    """Lists a bucket as Google does, a page at a time; pages end between keys or folders."""

    def do_GET(self):
        place, _, query = self.path.partition("?")
        asked = {name: values[0] for name, values in parse_qs(query).items()}
        assert place == "/storage/v1/b/photos/o"
        if self.server.faults:
            return self.reply(self.server.faults.pop(), {"error": {"message": "not now"}})
        prefix, size = asked.get("prefix", ""), int(asked["maxResults"])
        first = int(asked.get("pageToken", 0))
        self.server.asked.append((prefix, first))
        inside = [key for key in self.server.keys if key.startswith(prefix)]
        found = sorted({prefix + "".join(key[len(prefix) :].partition("/")[:2]) for key in inside})
        page = found[first : first + size]
        # A key that ends in "/" is an object in its own folder, and a folder in the one around it.
        folders = [name for name in page if name.endswith("/") and name != prefix]
        answer = {"items": [{"name": name} for name in page if name not in folders]}
        answer |= {"prefixes": folders} if folders else {}
        answer |= {"nextPageToken": str(first + size)} if len(found) > first + size else {}
        return self.reply(200, answer)

    def reply(self, status, answer):
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def google(monkeypatch):
    """A server that lists one bucket as Google does."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Google)
    server.keys, server.faults, server.asked = [], [], []
    with serving(server) as address:
        monkeypatch.setenv("CLOUD_STORAGE_EMULATOR_ENDPOINT", address)
        bucket_filesystem.cache_clear()
        yield server
        bucket_filesystem.cache_clear()


def walked(uri):
    return sorted(path for paths in locate(uri).walk() for path in paths)


def test_a_bucket_is_listed_folder_by_folder_with_names_that_are_empty(s3_server, s3_bucket, asked):
    names = ["top.png", "in/a.png", "in/b/c.png", "in/b/d/e.png", "in/f//g.png", "in/f/h.png"]
    for key in [*names, "in/marker/"]:
        put_key(s3_server, s3_bucket, key)
    assert walked(s3_bucket) == sorted(f"{s3_bucket[5:]}/{key}" for key in names)
    folders = ["", "in/", "in/b/", "in/b/d/", "in/f/", "in/f//", "in/marker/"]
    assert sorted(asked) == sorted((folder, True) for folder in folders)
    listing = list_images(s3_bucket, column="")
    assert listing.image_uris.to_pylist() == sorted(f"{s3_bucket}/{key}" for key in names)


def test_a_folder_of_many_keys_is_listed_page_by_page(s3_bucket, asked, monkeypatch):
    monkeypatch.setattr(amazon_keys, "PAGE", 3)
    names = [f"photo {index} ü#%+&?.png" for index in range(8)]
    for name in names:
        locate(f"{s3_bucket}/in/{name}").write(b"x")
    locate(f"{s3_bucket}/in2/other.png").write(b"x")
    assert walked(f"{s3_bucket}/in") == [f"{s3_bucket[5:]}/in/{name}" for name in names]
    assert asked == [("in/", True), ("in/", False), ("in/", False)]
    assert [locate(f"s3://{path}").read() for path in walked(f"{s3_bucket}/in")] == [b"x"] * 8


def test_listing_is_tried_again_and_what_stops_it_is_said(proxy, s3_bucket, monkeypatch):
    locate(f"{s3_bucket}/in/a.png").write(b"x")
    name = s3_bucket[5:]
    proxy.fail("GET", name, 503, "SlowDown", times=2)
    assert walked(f"{s3_bucket}/in") == [f"{name}/in/a.png"]
    proxy.fail("GET", name, 403, "AccessDenied")
    with pytest.raises(PermissionError, match=f"{s3_bucket}/in/ cannot be listed: .*not now"):
        walked(f"{s3_bucket}/in")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    bucket_filesystem.cache_clear()
    proxy.fail("GET", name, 500, "InternalError")
    seen = proxy.count("GET", name)
    with pytest.raises(OSError, match=r"cannot be listed: .*InternalError"):
        walked(f"{s3_bucket}/in")
    assert proxy.count("GET", name) == seen + 2


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"AWS_PROFILE": "nope"}, r"profile \(nope\) could not be found"),
        ({"AWS_ACCESS_KEY_ID": "testing"}, "missing: AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_keys_that_are_not_complete_are_said(s3_bucket, monkeypatch, variables, words):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    bucket_filesystem.cache_clear()
    with pytest.raises(PermissionError, match=f"not clear who asks S3: .*{words}"):
        amazon_keys.connect(locate(s3_bucket).fs)


def test_an_answer_that_cannot_be_parsed_is_said():
    class Garbled:
        def list_objects_v2(self, **_):
            raise ResponseParserError("no element found")

    with pytest.raises(OSError, match="s3://b/in/ cannot be listed: no element found"):
        amazon_keys.list_page(keys.Ask("b", "in/"), client=Garbled())


def test_a_page_that_does_not_say_how_to_go_on_is_an_error():
    class Vague:
        def list_objects_v2(self, **_):
            return {"Contents": [{"Key": "in/a.png"}], "IsTruncated": True}

    with pytest.raises(OSError, match=r"s3://b/in/ cannot be listed: .*not the last one"):
        list(keys.bucket_keys(partial(amazon_keys.list_page, client=Vague()), "b/in"))


def test_an_endpoint_that_pyarrow_does_not_know_of_is_not_asked(
    s3_server, s3_bucket, monkeypatch, tmp_path
):
    (tmp_path / "config").write_text("[default]\nendpoint_url = http://elsewhere:9\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    assert amazon_keys.connect(locate(s3_bucket).fs).meta.endpoint_url == s3_server
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")  # else Amazon is asked for it
    bucket_filesystem.cache_clear()
    amazon = amazon_keys.connect(locate(s3_bucket).fs).meta.endpoint_url
    assert amazon == "https://s3.eu-west-1.amazonaws.com"


def test_who_has_no_keys_asks_without(s3_bucket, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    bucket_filesystem.cache_clear()
    assert amazon_keys.connect(locate(s3_bucket).fs).meta.config.signature_version is UNSIGNED


def test_a_bucket_of_google_is_listed_folder_by_folder_and_page_by_page(google, monkeypatch):
    monkeypatch.setattr(google_keys, "PAGE", 3)
    names = [f"photo {index} \u00fc#%+&?.png" for index in range(8)]
    google.keys = ["other.png", "in2/other.png", "in/", "in/marker/", "in/b//c.png", "in/b/d/e.png"]
    google.keys += [f"in/{name}" for name in names]
    inside = ["in/b//c.png", "in/b/d/e.png", *(f"in/{name}" for name in names)]
    assert walked("gs://photos/in") == sorted(f"photos/{key}" for key in inside)
    folders = [prefix for prefix, token in google.asked if not token]
    assert sorted(folders) == ["in/", "in/b/", "in/b//", "in/b/d/", "in/marker/"]
    assert len(google.asked) == len(folders) + 3  # eleven names in four pages
    assert len(walked("gs://photos")) == len(inside) + 2


def test_google_is_asked_again_and_what_stops_it_is_said(google, monkeypatch):
    google.keys, google.faults = ["in/a.png"], [503, 429]
    assert walked("gs://photos/in") == ["photos/in/a.png"]
    google.faults = [403]
    with pytest.raises(PermissionError, match=r"gs://photos/in/ cannot be listed: .*not now"):
        walked("gs://photos/in")
    monkeypatch.setattr(google_keys, "PATIENCE", timedelta(seconds=1))
    google.faults = [503] * 99
    with pytest.raises(OSError, match=r"gs://photos/in/ cannot be listed: .*not now"):
        walked("gs://photos/in")


@pytest.mark.parametrize("address", ["https://storage.googleapis.com", "http://127.0.0.1:9"])
def test_a_connection_to_google_is_kept_for_each_listing(address):
    pool = google_keys.make_session(AnonymousCredentials()).get_adapter(address).poolmanager
    assert pool.connection_from_url(address).pool.maxsize == keys.LISTINGS


def test_who_is_unknown_to_google_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(PermissionError, match=r"Google does not know who asks: .*none\.json"):
        google_keys.connect()


VAST = {"flat": 10**6, "deep": 50_000}


class Vast:
    """A bucket with a million keys in one folder, and many folders of one key in another."""

    def list_objects_v2(self, *, Bucket, Prefix, MaxKeys, ContinuationToken="0", **_):
        found, folders, token = vast_page(Prefix, MaxKeys, int(ContinuationToken))
        return {
            "Contents": [{"Key": name} for name in found],
            "CommonPrefixes": [{"Prefix": folder} for folder in folders],
        } | ({} if token is None else {"NextContinuationToken": token})

    def list_blobs(self, bucket, *, prefix, page_size, page_token, **_):
        return HTTPIterator(
            client=None,
            api_request=partial(self.answer, prefix, page_size),
            path="",
            item_to_value=lambda _, item: SimpleNamespace(name=item["name"]),
            page_start=lambda found, _, answer: setattr(found, "prefixes", answer["prefixes"]),
            page_token=page_token,
        )

    def answer(self, prefix, size, *, query_params, **_):
        found, folders, token = vast_page(prefix, size, int(query_params.get("pageToken", 0)))
        items = [{"name": name} for name in found]
        return {"items": items, "prefixes": folders, "nextPageToken": token}


def vast_page(prefix, size, first):
    """Keys, folders and what asks for the next page."""
    names = [f"{prefix}{index:032d}" for index in range(first, first + size)]
    token = None if first + size >= VAST.get(prefix[:-1], 0) else str(first + size)
    if prefix == "flat/":
        return names, [], token
    if prefix == "deep/":
        return [], [f"{name}/" for name in names], token
    return [f"{prefix}photo.jpg"], [], None


def memory_of_listing(store, folder):
    """Count the keys in a bucket of a million; return how many, and the bytes at the peak.

    To be called in a process of its own.
    """
    list_page = {"s3": amazon_keys.list_page, "gs": google_keys.list_page}[store]
    list_page = partial(list_page, client=Vast())
    sum(map(len, keys.bucket_keys(list_page, "bucket/small")))  # imports what it needs
    before = kilobytes("VmRSS")
    found = sum(map(len, keys.bucket_keys(list_page, f"bucket/{folder}")))
    return found, 1024 * (kilobytes("VmHWM") - before)


@pytest.mark.skipif(not STATUS.exists(), reason="reads what Linux says")
@pytest.mark.parametrize("store", ["s3", "gs"])
@pytest.mark.parametrize("folder", VAST)
def test_a_million_keys_are_listed_in_the_memory_of_some_pages(store, folder):
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        found, peak = process.submit(memory_of_listing, store, folder).result()
    assert found == VAST[folder]
    assert peak < 32 * 2**20
