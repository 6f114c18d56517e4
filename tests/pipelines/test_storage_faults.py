"""An object store that throttles, hangs up or refuses, as seen through a proxy that misbehaves."""

import errno
import http.client
import multiprocessing
import os
import pickle
import resource
import signal
import threading
from contextlib import ExitStack, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pyarrow as pa
import pytest

from pipelines.access import check_readable
from pipelines.buckets import bucket_filesystem, is_outage
from pipelines.decoding import Decode
from pipelines.faults import surroundings
from pipelines.listing import list_images
from pipelines.plan import LabelConfig, make_plan
from pipelines.storage import PROBE, locate, open_buckets
from tests.fakes import encoded
from tests.nasty import noise
from tests.servers import serving

ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>not now</Message></Error>"
HANG_UP = 0

HOP = ("connection", "content-length", "date", "expect", "server", "transfer-encoding")
"""Headers of one connection, which the proxy makes for itself."""


class Faulty(BaseHTTPRequestHandler):
    """Answers the first requests for a key as it was told to, and hands on the others."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        self.content = b"".join(self.received())
        key = self.path.partition("?")[0].rpartition("/")[2]
        with self.server.lock:
            self.server.seen.append((self.command, key))
            status, code, left = self.server.faults.get((self.command, key), (0, "", 0))
            self.server.faults[self.command, key] = (status, code, left - 1)
        if left <= 0:
            self.hand_on()
        elif status == HANG_UP:
            self.close_connection = True
        else:
            self.reply(status, ERROR.format(code).encode(), {"Content-Type": "application/xml"})

    def received(self):
        """The content of the request, which may come in chunks."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            yield self.rfile.read(int(self.headers.get("Content-Length", 0)))
            return
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def hand_on(self):
        server = http.client.HTTPConnection(self.server.behind)
        headers = {name: self.headers[name] for name in self.headers if name.lower() not in HOP}
        server.request(self.command, self.path, self.content, headers)
        response = server.getresponse()
        self.reply(response.status, response.read(), dict(response.headers))
        server.close()

    def reply(self, status, content, headers):
        length = str(len(content))
        if self.command == "HEAD":
            length = headers.get("Content-Length", length)
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

    def log_message(self, *_):
        pass


class Proxy(ThreadingHTTPServer):
    """Stands before an object store."""

    daemon_threads = True

    def __init__(self, behind):
        super().__init__(("127.0.0.1", 0), Faulty)
        self.behind = urlsplit(behind).netloc
        self.lock = threading.Lock()
        self.faults, self.seen = {}, []

    def fail(self, command, key, status, code="", *, times=10**6):
        """Answer the next requests of a key with an error, or not at all."""
        self.faults[command, key] = (status, code, times)

    def count(self, command, key):
        return self.seen.count((command, key))


@pytest.fixture
def proxy(s3_server, s3_bucket, monkeypatch):
    """What stands before the object store from now on."""
    proxy = Proxy(s3_server)
    with serving(proxy) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        bucket_filesystem.cache_clear()
        yield proxy


PHOTO = encoded(noise())


@pytest.fixture
def photos(proxy, s3_bucket):
    """The URIs of three photos behind the proxy."""
    uris = [f"{s3_bucket}/in/{name}.png" for name in "abc"]
    for uri in uris:
        locate(uri).write(PHOTO)
    proxy.seen.clear()
    return uris


def decoder(uris):
    """The first step of a job, as a worker gets it."""
    step = Decode(64, 256, filesystems=open_buckets(pa.array(uris)))
    return pickle.loads(pickle.dumps(step))


def as_shard(uris):
    return pa.Table.from_pylist([{"shard": 0, "image_uris": uris}])


@pytest.mark.parametrize("command", ["HEAD", "GET"])
@pytest.mark.parametrize(
    ("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (HANG_UP, "")]
)
def test_a_read_that_is_throttled_or_cut_off_is_tried_again(proxy, photos, command, status, code):
    proxy.fail(command, "a.png", status, code, times=2)
    assert locate(photos[0]).read() == PHOTO
    assert proxy.count(command, "a.png") == 3


def test_a_worker_tries_as_often_as_the_driver(proxy, photos, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    bucket_filesystem.cache_clear()
    proxy.fail("HEAD", "a.png", 503, "SlowDown", times=2)
    for read in (decoder(photos).fetch, lambda uri: locate(uri).read()):
        with pytest.raises(OSError, match="HTTP status 503"):
            read(photos[0])
    assert proxy.count("HEAD", "a.png") == 2


@pytest.mark.parametrize("number", ["many", "0", "-1"])
def test_a_wrong_number_of_attempts_is_said(s3_bucket, monkeypatch, number):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", number)
    with pytest.raises(ValueError, match=f"AWS_MAX_ATTEMPTS is a number from 1, got '{number}'"):
        locate(s3_bucket)


def test_listing_and_writing_are_tried_again(proxy, photos, s3_bucket):
    proxy.fail("POST", "new.png", 503, "SlowDown", times=1)
    proxy.fail("PUT", "new.png", 503, "SlowDown", times=1)
    locate(f"{s3_bucket}/in/new.png").write(PHOTO)
    assert locate(f"{s3_bucket}/in/new.png").read() == PHOTO
    proxy.fail("GET", s3_bucket[5:], 503, "SlowDown", times=1)
    listing = list_images(f"{s3_bucket}/in", column="")
    assert listing.image_uris.to_pylist() == [*photos, f"{s3_bucket}/in/new.png"]


@pytest.mark.parametrize("command", ["HEAD", "GET"])
@pytest.mark.parametrize(
    ("status", "code"),
    [(503, "SlowDown"), (503, "ServiceUnavailable"), (502, "BadGateway"), (HANG_UP, "")],
)
def test_an_outage_ends_the_job_instead_of_marking_images(
    proxy, photos, monkeypatch, command, status, code
):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    bucket_filesystem.cache_clear()
    proxy.fail(command, "b.png", status, code)
    step = decoder(photos)
    with pytest.raises(OSError, match="AWS Error") as outage:
        list(step(as_shard(photos)))
    assert is_outage(outage.value)


@pytest.mark.parametrize("command", ["HEAD", "GET"])
def test_a_store_that_fails_with_every_object_ends_the_job(proxy, photos, monkeypatch, command):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    bucket_filesystem.cache_clear()
    for name in "abc":
        proxy.fail(command, f"{name}.png", 500, "InternalError")
    with pytest.raises(OSError, match=r"INTERNAL_FAILURE|HTTP status 500"):
        list(decoder(photos)(as_shard(photos)))


@pytest.mark.parametrize("command", ["HEAD", "GET"])
@pytest.mark.parametrize("beside", ["in the shard", "elsewhere"])
def test_one_object_with_which_the_store_fails_costs_one_row(
    proxy, photos, monkeypatch, command, beside
):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    bucket_filesystem.cache_clear()
    proxy.fail(command, "b.png", 500, "InternalError")
    step, shard = decoder(photos), photos
    if beside == "elsewhere":
        step, shard = replace(step, around=surroundings(pa.array(photos))), photos[1:2]
    rows = pa.concat_tables(step(as_shard(shard))).to_pylist()
    assert {row["image_uri"]: row["error_type"] for row in rows} == {
        uri: "Unreadable" if uri == photos[1] else None for uri in shard
    }


def test_an_object_that_fails_once_is_read_again(proxy, photos, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    bucket_filesystem.cache_clear()
    proxy.fail("GET", "b.png", 500, "InternalError", times=1)
    assert decoder(photos).fetch(photos[1], photos) == PHOTO


def test_an_object_with_which_the_store_fails_keeps_no_job_from_starting(
    proxy, photos, s3_bucket, random_checkpoint, monkeypatch
):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    bucket_filesystem.cache_clear()
    proxy.fail("GET", "a.png", 500, "InternalError")
    plan = make_plan(label_config(s3_bucket, random_checkpoint))
    assert plan.num_images == 3
    assert plan.around.samples == photos


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [(403, "AccessDenied", "Unreadable"), (404, "NoSuchKey", "NotFound")],
)
def test_one_object_that_is_refused_costs_one_row(proxy, photos, status, code, kind):
    proxy.fail("HEAD", "b.png", status, code)
    rows = pa.concat_tables(decoder(photos)(as_shard(photos))).to_pylist()
    assert [row["error_type"] for row in rows] == [None, kind, None]
    assert proxy.count("HEAD", "b.png") == 1


def test_a_name_like_an_outage_is_none(proxy, s3_bucket):
    name = "SLOW_DOWN NETWORK_CONNECTION 503.png"
    proxy.fail("HEAD", "SLOW_DOWN%20NETWORK_CONNECTION%20503.png", 403, "AccessDenied")
    with pytest.raises(OSError, match="ACCESS_DENIED") as refused:
        locate(f"{s3_bucket}/{name}").read()
    assert not is_outage(refused.value)


EXPIRED = [
    (400, "ExpiredToken"),
    (400, "InvalidToken"),
    (403, "InvalidAccessKeyId"),
    (403, "SignatureDoesNotMatch"),
    (403, "RequestTimeTooSkewed"),
]


@pytest.mark.parametrize("command", ["HEAD", "GET"])
@pytest.mark.parametrize(("status", "code"), EXPIRED)
def test_keys_that_have_expired_end_the_job_instead_of_marking_images(
    proxy, photos, s3_bucket, monkeypatch, command, status, code
):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    bucket_filesystem.cache_clear()
    step = decoder(photos)
    for key in ("b.png", s3_bucket[5:]):
        proxy.fail(command, key, status, code)
        proxy.fail("GET", key, status, code)
    with pytest.raises(OSError, match=f"{code}|[A-Z]+_[A-Z_]+ during") as refused:
        list(step(as_shard(photos)))
    assert is_outage(refused.value)


def test_one_object_whose_head_says_nothing_costs_one_row(proxy, photos):
    proxy.fail("HEAD", "b.png", 400)  # as S3 answers for an object under a key of its owner's
    rows = pa.concat_tables(decoder(photos)(as_shard(photos))).to_pylist()
    assert [row["error_type"] for row in rows] == [None, "Unreadable", None]


def label_config(s3_bucket, checkpoint):
    return LabelConfig(
        images=f"{s3_bucket}/in",
        output=f"{s3_bucket}/out",
        classes=["red", "green"],
        model=str(checkpoint),
    )


@pytest.mark.parametrize("count", [1, 3])
def test_a_bucket_that_can_be_listed_but_not_read_is_said_before_the_job(
    proxy, photos, s3_bucket, random_checkpoint, count
):
    for uri in photos[count:]:
        locate(uri).remove()
    for name in "abc":
        proxy.fail("HEAD", f"{name}.png", 403, "AccessDenied")
    with pytest.raises(PermissionError, match=r"can be listed but not read: .*a\.png is"):
        make_plan(label_config(s3_bucket, random_checkpoint))


def test_a_bucket_of_which_one_object_can_be_read_is_labelled(proxy, photos):
    uris = pa.array(["/local.png", *photos])
    for name in "ab":
        proxy.fail("HEAD", f"{name}.png", 403, "AccessDenied")
    check_readable(uris, open_buckets(uris))
    proxy.fail("HEAD", "c.png", 403, "AccessDenied")
    check_readable(uris[:3], open_buckets(uris))  # two of three inputs are rows of errors/
    with pytest.raises(PermissionError):
        check_readable(uris, open_buckets(uris))


def test_a_store_that_does_not_know_who_asks_is_said_before_the_job(proxy, photos, s3_bucket):
    for key in ("a.png", s3_bucket[5:]):  # an answer to the first may come without its body
        proxy.fail("GET", key, 400, "ExpiredToken")
    with pytest.raises(OSError, match="ExpiredToken"):
        check_readable(pa.array(photos), open_buckets(pa.array(photos)))


@pytest.mark.parametrize(
    "name", ["EIO", "ESTALE", "ENOTCONN", "ENOMEM", "ENFILE", "ETIMEDOUT", "EHOSTDOWN"]
)
def test_a_disk_or_mount_that_fails_is_an_outage(name):
    number = getattr(errno, name)
    assert is_outage(OSError(number, os.strerror(number)))


@pytest.mark.parametrize("name", ["EACCES", "ENOENT", "ENAMETOOLONG", "ELOOP", "EISDIR"])
def test_a_file_that_cannot_be_opened_is_no_outage(name):
    number = getattr(errno, name)
    assert not is_outage(OSError(number, os.strerror(number)))


def test_google_that_does_not_know_who_asks_is_an_outage():
    words = "google::cloud::Status(UNAUTHENTICATED: Permanent error GetObjectMetadata: 401)"
    assert is_outage(OSError(words))
    assert not is_outage(OSError(f"no such object: {words}"))


def read_without_descriptors(path):
    """Read a file where no more can be opened; in a process of its own, whose threads open none."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))  # noqa: PTH208
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 8, hard))
    with ExitStack() as held:
        with suppress(OSError):
            while True:
                held.enter_context(path.open())
        with pytest.raises(OSError, match="Too many open files"):
            Decode(64, 256).fetch(str(path))


def test_a_process_without_free_file_descriptors_ends_instead_of_marking_images(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(PHOTO)
    process = multiprocessing.get_context("spawn").Process(
        target=read_without_descriptors, args=(path,)
    )
    process.start()
    process.join()
    assert process.exitcode == 0


def test_an_output_that_denies_writing_is_said_before_the_job(
    proxy, photos, s3_bucket, random_checkpoint
):
    for command in ("POST", "PUT"):
        proxy.fail(command, PROBE, 403, "AccessDenied")
    with pytest.raises(PermissionError, match=r"/out cannot be written to: .*ACCESS_DENIED"):
        make_plan(label_config(s3_bucket, random_checkpoint))


def test_what_shows_that_a_bucket_can_be_written_to_is_deleted_or_does_not_count(proxy, s3_bucket):
    place = locate(f"{s3_bucket}/out")
    place.check_writable()
    assert proxy.count("DELETE", PROBE) == 1
    assert not place.at(PROBE).exists()
    proxy.fail("DELETE", PROBE, 403, "AccessDenied")
    place.check_writable()
    assert place.at(PROBE).exists()
    assert place.is_empty()


def test_a_file_that_is_too_large_is_refused_without_another_request(proxy, photos, monkeypatch):
    proxy.seen.clear()
    assert decoder(photos).fetch(photos[0]) == PHOTO
    assert [command for command, key in proxy.seen if key == "a.png"] == ["HEAD", "GET"]
    proxy.seen.clear()
    monkeypatch.setattr("pipelines.decoding.MAX_BYTES", len(PHOTO) - 1)
    rows = pa.concat_tables(decoder(photos)(as_shard(photos[:1]))).to_pylist()
    assert rows[0]["error_type"] == "TooLarge"
    assert f"{len(PHOTO)} bytes" in rows[0]["message"]
    assert [command for command, key in proxy.seen if key == "a.png"] == ["HEAD"]


class Interrupting:
    """A bucket; as soon as an object is begun this process gets a signal."""

    def __init__(self, fs):
        self.fs = fs

    def open_output_stream(self, *args, **options):
        stream = self.fs.open_output_stream(*args, **options)
        os.kill(os.getpid(), signal.SIGUSR1)
        return stream


def test_an_object_is_never_half_there_whenever_a_signal_ends_its_writer(s3_bucket):
    def end(*_):
        raise SystemExit

    place = locate(f"{s3_bucket}/out/part-00001.parquet")
    before = signal.signal(signal.SIGUSR1, end)
    try:
        with pytest.raises(SystemExit):
            replace(place, fs=Interrupting(place.fs)).write(b"all of it")
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert place.read() == b"all of it"
