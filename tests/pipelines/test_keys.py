"""Listing a bucket of S3: page by page, folder by folder, with whatever names it holds."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from urllib.request import Request, urlopen

import pytest
from botocore import UNSIGNED

from pipelines import keys
from pipelines.buckets import PatientS3, bucket_filesystem
from pipelines.listing import list_images
from pipelines.storage import locate
from tests.pipelines import test_storage_faults
from tests.proc import STATUS, kilobytes

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

    def list_page(client, ask):
        asked.append((ask.prefix, ask.token is None))
        return original(client, ask)

    original = keys.list_page
    monkeypatch.setattr(keys, "list_page", list_page)
    return asked


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
    monkeypatch.setattr(keys, "PAGE", 3)
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


def test_who_has_no_keys_asks_without(s3_bucket, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    bucket_filesystem.cache_clear()
    assert keys.connect(locate(s3_bucket).fs).meta.config.signature_version is UNSIGNED


VAST = {"flat": 10**6, "deep": 50_000}


class Vast:
    """A bucket with a million keys in one folder, and many folders of one key in another."""

    def list_objects_v2(self, *, Bucket, Prefix, MaxKeys, ContinuationToken="0", **_):
        first = int(ContinuationToken)
        names = [f"{Prefix}{index:032d}" for index in range(first, first + MaxKeys)]
        more = {"NextContinuationToken": str(first + MaxKeys)}
        end = first + MaxKeys >= VAST.get(Prefix[:-1], 0)
        if Prefix == "flat/":
            return {"Contents": [{"Key": name} for name in names]} | ({} if end else more)
        if Prefix == "deep/":
            inner = [{"Prefix": f"{name}/"} for name in names]
            return {"CommonPrefixes": inner} | ({} if end else more)
        return {"Contents": [{"Key": f"{Prefix}photo.jpg"}]}


def memory_of_listing(folder):
    """Count the keys in a bucket of a million; return how many, and the bytes at the peak.

    To be called in a process of its own.
    """
    keys.connect = lambda _: Vast()
    fs = PatientS3(attempts=1, region="us-east-1")
    before = kilobytes("VmRSS")
    return sum(map(len, keys.bucket_keys(fs, folder))), 1024 * (kilobytes("VmHWM") - before)


@pytest.mark.skipif(not STATUS.exists(), reason="reads what Linux says")
@pytest.mark.parametrize("folder", VAST)
def test_a_million_keys_are_listed_in_the_memory_of_some_pages(folder):
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        found, peak = process.submit(memory_of_listing, f"bucket/{folder}").result()
    assert found == VAST[folder]
    assert peak < 32 * 2**20
