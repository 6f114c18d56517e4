"""Google Cloud Storage by the same code as S3, against a server on this machine."""

import pickle
import socket
from datetime import timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import outputs, rows, shards
from pipelines.buckets import bucket_filesystem, is_outage
from pipelines.commit import Commit
from pipelines.decoding import Decode
from pipelines.plan import LabelConfig, make_plan
from pipelines.storage import TooManyBytesError, locate, open_buckets
from tests.fakes import encoded, halves
from tests.pipelines.test_label import CLASSES, make_labeller

BUCKET = "gs://photos"


@pytest.fixture
def google(monkeypatch):
    """The address of a server that speaks Google's protocol and holds one empty bucket."""
    from gcp_storage_emulator.server import create_server

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = create_server("127.0.0.1", port, in_memory=True, default_bucket=BUCKET[5:])
    server.start()
    monkeypatch.setenv("CLOUD_STORAGE_EMULATOR_ENDPOINT", f"http://127.0.0.1:{port}")
    bucket_filesystem.cache_clear()
    yield
    server.stop()
    bucket_filesystem.cache_clear()


def test_a_bucket_is_written_listed_and_read(google):
    names = ["a.jpg", "b/c d.png", "b/e/\u00fc.png"]
    for name in names:
        locate(f"{BUCKET}/in/{name}").write(name.encode())
    found = sorted(path for paths in locate(f"{BUCKET}/in").walk() for path in paths)
    assert found == [f"photos/in/{name}" for name in names]
    assert locate(f"{BUCKET}/in/b/c d.png").read() == b"b/c d.png"
    assert not locate(f"{BUCKET}/in/none").exists()
    locate(f"{BUCKET}/out").check_writable()


def test_what_is_missing_is_no_outage(google):
    with pytest.raises(FileNotFoundError) as missing:
        locate(f"{BUCKET}/none.jpg").read()
    assert not is_outage(missing.value)
    with pytest.raises(FileNotFoundError, match="no bucket for gs://elsewhere/out"):
        locate("gs://elsewhere/out").check_writable()


def test_a_file_that_is_too_large_is_not_read_to_its_end(google):
    locate(f"{BUCKET}/a.jpg").write(b"content")
    assert locate(f"{BUCKET}/a.jpg").read_at_most(7) == b"content"
    with pytest.raises(TooManyBytesError, match="more than 6 bytes"):
        locate(f"{BUCKET}/a.jpg").read_at_most(6)


def test_a_worker_reads_with_the_filesystem_it_was_sent(google, monkeypatch):
    locate(f"{BUCKET}/a.jpg").write(b"content")
    sent = pickle.dumps(open_buckets(pa.array([f"{BUCKET}/a.jpg"])))
    monkeypatch.delenv("CLOUD_STORAGE_EMULATOR_ENDPOINT")
    bucket_filesystem.cache_clear()
    assert locate(f"{BUCKET}/a.jpg", pickle.loads(sent)).read() == b"content"


def test_a_server_that_does_not_answer_is_an_outage(monkeypatch):
    monkeypatch.setenv("CLOUD_STORAGE_EMULATOR_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("pipelines.buckets.PATIENCE", timedelta(seconds=1))
    bucket_filesystem.cache_clear()
    with pytest.raises(OSError, match="UNAVAILABLE") as outage:
        locate(f"{BUCKET}/a.jpg").read()
    bucket_filesystem.cache_clear()
    assert is_outage(outage.value)


def test_a_corpus_in_a_bucket_becomes_labels_in_it(google, random_checkpoint):
    for index in range(5):
        locate(f"{BUCKET}/in/{index}.png").write(encoded(halves("red", "blue")))
    locate(f"{BUCKET}/in/broken.png").write(b"no image")
    config = LabelConfig(
        images=f"{BUCKET}/in", output=f"{BUCKET}/out", classes=CLASSES, model=str(random_checkpoint)
    )
    plan = make_plan(config)
    stamp = {"vocabulary_id": "v", "model_id": "m", "rejection": "none", "run_id": "r"}
    commit = Commit(plan.output, CLASSES, stamp)
    decode = Decode(64, 256, filesystems=open_buckets(plan.manifest["image_uri"]))
    for shard in plan.todo.to_batches(max_chunksize=1):
        commit(make_labeller()(pa.concat_tables(decode(pa.Table.from_batches([shard])))))
    counts = {name: shards.count_rows(plan.output, name) for name in ("labels", "errors")}
    assert counts == {"labels": 5, "errors": 1}
    assert shards.done_shards(plan.output) == set(plan.todo["shard"].to_pylist())
    part = shards.parts(plan.output, shards.LABELS)[0]
    table = pq.read_table(part.path, filesystem=plan.output.fs)
    assert table.schema.names == rows.LABELS.names
    assert not plan.output.is_empty()
    outputs.start_anew(plan.output)
    assert plan.output.is_empty()
