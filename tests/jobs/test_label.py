import io
import json
import os
import signal
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pycocotools import mask as coco

from jobs import label, session
from pipelines.buckets import bucket_filesystem
from pipelines.storage import Location, locate
from tests.fakes import write_photos
from tests.machines import wait_until

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def photos(tmp_path):
    write_photos(tmp_path / "photos", 3)
    return tmp_path / "photos"


@pytest.fixture
def refused(photos, tmp_path, random_checkpoint, monkeypatch, capsys):
    """Run the job in this process with wrong input; return the one sentence that it answers."""

    def connect():
        raise AssertionError("wrong input must not start a cluster")

    monkeypatch.setattr(session, "connect", connect)

    def run(**options):
        good = {
            "images": str(photos),
            "output": str(tmp_path / "out"),
            "classes": ("red", "blue"),
            "model": str(random_checkpoint),
        }
        with pytest.raises(SystemExit) as stopped:
            label.main(label.Args(**(good | options)))
        assert stopped.value.code == 2
        answer = capsys.readouterr().err.strip().splitlines()[-1]
        assert answer.startswith("error: ")
        return answer

    return run


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"classes": ()}, "no classes given"),
        ({"classes": ("sky", "sky")}, "'sky' is there more than once"),
        ({"classes": ("sky", "")}, "class 2 has no name"),
        ({"vocabulary": "ade150"}, "not both"),
        ({"classes": (), "vocabulary": "ade1500"}, "unknown vocabulary 'ade1500'"),
        ({"classes": (), "vocabulary": "no/such.txt"}, "no vocabulary file"),
        ({"rejection": "topk"}, "'topk' is not understood"),
        ({"rejection": "no.json"}, "'no.json' does not exist"),
        ({"model": "no/such.pth"}, "no model at 'no/such.pth'"),
        ({"images": "no/such/folder"}, "nothing at 'no/such/folder'"),
        ({"images": "ftp://host/photos"}, "no path, file://"),
        ({"min_confidence": -0.1}, "--min-confidence is from 0 to 1, got -0.1"),
        ({"batch_size": 0}, "--batch-size is at least 1"),
        ({"workers": -1}, "--workers is at least 1"),
        ({"gpus_per_worker": 2.5}, "--gpus-per-worker"),
        ({"gpus_per_worker": 1000}, "this machine has"),
        ({"limit": 0}, "--limit is at least 1"),
    ],
)
def test_wrong_input_is_answered_in_a_sentence_and_starts_nothing(
    refused, options, words, tmp_path
):
    assert words in refused(**options)
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_model_is_refused(refused, tmp_path):
    (tmp_path / "model.pth").write_bytes(b"not a model")
    assert "model.pth is not a PyTorch checkpoint" in refused(model=str(tmp_path / "model.pth"))


def test_folders_without_images_are_refused(refused, tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("x")
    assert "there is no image in" in refused(images=str(tmp_path / "texts"))


def test_an_unreachable_bucket_is_refused(refused, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    assert "no-such-bucket-at-all" in refused(images="s3://no-such-bucket-at-all/photos")


def test_google_without_an_answer_is_refused_in_seconds(refused, monkeypatch):
    monkeypatch.setenv("CLOUD_STORAGE_EMULATOR_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("pipelines.buckets.PATIENCE", timedelta(seconds=1))
    bucket_filesystem.cache_clear()
    assert "UNAVAILABLE" in refused(images="gs://no-such-bucket/photos")


def test_an_unreachable_bucket_in_a_list_is_refused(refused, tmp_path, monkeypatch):
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)

    def unknown(bucket):
        raise OSError(f"there is no bucket {bucket}")

    monkeypatch.setattr("pipelines.buckets.resolve_s3_region", unknown)
    (tmp_path / "list.csv").write_text("image_uri\ns3://no-such-bucket-in-a-list/a.jpg\n")
    assert "no-such-bucket-in-a-list" in refused(images=str(tmp_path / "list.csv"))


def test_an_output_that_holds_something_else_is_refused(refused, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("x")
    for overwrite in (False, True):
        answer = refused(output=str(tmp_path / "thesis"), overwrite=overwrite)
        assert "holds no labels of this tool" in answer
    assert (tmp_path / "thesis" / "chapter1.tex").exists()


def run_job(*flags, **environment):
    command = [sys.executable, "-m", "jobs.label", *map(str, flags)]
    settings = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    return subprocess.run(
        command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=600
    )


def test_help_explains_every_flag():
    text = run_job("--help").stdout
    for name in label.Args.__dataclass_fields__:
        assert f"--{name.replace('_', '-')}" in text


@pytest.mark.ray
def test_a_bucket_is_labelled_into_a_bucket(s3_bucket, tmp_path, random_checkpoint):
    """The whole command, as a person types it: run, run again, run with another rejection."""
    write_photos(tmp_path, 9)
    for path in tmp_path.glob("*.png"):
        locate(f"{s3_bucket}/in/sub/{path.name}").write(path.read_bytes())
    locate(f"{s3_bucket}/in/empty.png").write(b"")
    locate(f"{s3_bucket}/in/notes.txt").write(b"x")
    flags = ["--images", f"{s3_bucket}/in", "--output", f"{s3_bucket}/out"]
    flags += ["--classes", "red ball", "grass", "--model", random_checkpoint, "--json"]
    flags += ["--mlflow-uri", f"sqlite:///{tmp_path}/mlflow.db"]

    first = run_job(*flags)
    assert first.returncode == 0, first.stderr
    result = json.loads(first.stdout.splitlines()[-1])
    assert [result[k] for k in ("inputs", "labelled", "errors", "skipped")] == [10, 9, 1, 1]
    out = locate(f"{s3_bucket}/out")
    labels = pq.read_table(out.at("labels").path, filesystem=out.fs).to_pylist()
    assert len({row["image_uri"] for row in labels}) == 9
    assert all(row["image_uri"].startswith(f"{s3_bucket}/in/sub/") for row in labels)

    before = objects(s3_bucket)
    again = run_job(*flags)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout.splitlines()[-1]) == result | {"resumed": True}
    assert "Started a local Ray" not in again.stderr
    assert "Nothing was left to do; done before: 9 of 10 images labelled" in again.stdout
    assert "images/s" not in again.stdout
    assert objects(s3_bucket) == before

    other = run_job(*flags, "--rejection", "fixed:1")
    assert other.returncode == 2
    assert "another rejection (none, now fixed:1)" in other.stderr
    assert "Traceback" not in other.stderr
    assert objects(s3_bucket) == before


@pytest.mark.ray
def test_a_killed_job_continues(tmp_path, random_checkpoint):
    """SIGKILL of the driver after its first shard: the same command does the rest, once."""
    write_photos(tmp_path / "in", 60)
    flags = ["--images", tmp_path / "in", "--output", tmp_path / "out", "--classes", "red", "blue"]
    flags += ["--model", random_checkpoint, "--mlflow-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    flags += ["--workers", "1", "--batch-size", "1", "--json"]
    command = [sys.executable, "-m", "jobs.label", *map(str, flags)]
    job = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stderr=subprocess.DEVNULL)
    parts = tmp_path / "out" / "labels"
    wait_for_a_shard(job, parts)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    before = {path.name: path.read_bytes() for path in parts.glob("part-*.parquet")}

    again = run_job(*flags)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout.splitlines()[-1])["labelled"] == 60
    uris = pq.read_table(parts)["image_uri"].to_pylist()
    assert sorted(uris) == sorted(str(path) for path in (tmp_path / "in").iterdir())
    for name, content in before.items():
        assert (parts / name).read_bytes() == content


def test_ctrl_c_while_the_input_is_checked_is_answered_in_a_line(photos, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a tracking server without an answer
        silent.settimeout(120)
        flags = ["--images", photos, "--output", tmp_path / "out", "--classes", "red"]
        flags += ["--model", "models:/photos/1"]
        flags += ["--mlflow-uri", f"http://127.0.0.1:{silent.getsockname()[1]}"]
        job = start_job(*flags)
        connection, _ = silent.accept()  # it is being asked now
        interrupted(job, "Interrupted: nothing was started.")
        connection.close()
    assert not (tmp_path / "out").exists()


@pytest.mark.ray
@pytest.mark.parametrize("overwrite", [False, True])
def test_ctrl_c_is_answered_with_how_to_continue(tmp_path, random_checkpoint, overwrite):
    write_photos(tmp_path / "in", 60)
    flags = ["--images", tmp_path / "in", "--output", tmp_path / "out", "--classes", "red", "blue"]
    flags += ["--model", random_checkpoint, "--mlflow-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    flags += ["--workers", "1", "--batch-size", "1", *["--overwrite"][: int(overwrite)]]
    job = start_job(*flags)
    wait_for_a_shard(job, tmp_path / "out" / "labels")
    again = "the same command without --overwrite" if overwrite else "the same command"
    interrupted(job, f"Interrupted: {again} continues where this one stopped.")


def start_job(*flags):
    """Start the job as a terminal does: Ctrl-C reaches all processes of its group."""
    command = [sys.executable, "-m", "jobs.label", *map(str, flags)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        start_new_session=True,
        # Where the tests run in the background of a shell, Ctrl-C is ignored by what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_a_shard(job, parts):
    assert wait_until(lambda: list(parts.glob("part-*.parquet")), lambda: job.poll() is None)


def interrupted(job, line):
    """Press Ctrl-C; require this one line and the status of an interrupted program."""
    os.killpg(job.pid, signal.SIGINT)
    said, logged = job.communicate(timeout=120)
    assert said.splitlines()[-1:] == [line]
    assert job.returncode == 130
    assert "Traceback" not in logged


@pytest.mark.ray
def test_real_photos_become_rows_that_pycocotools_reads(shared_dir, tmp_path):
    """The bundled model knows no photo, but every row, size and RLE must be right."""
    photos, out = tmp_path / "in", tmp_path / "out"
    photos.mkdir()
    found = sorted((shared_dir / "samples").rglob("*.jpg"))
    for path in found:
        (photos / path.name).write_bytes(path.read_bytes())
    (photos / "truncated.jpg").write_bytes(found[0].read_bytes()[:5000])
    (photos / "empty.png").write_bytes(b"")
    flags = ["--images", photos, "--output", out, "--vocabulary", "ade150"]
    flags += ["--model", "nano", "--mlflow-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    done = run_job(*flags)
    assert done.returncode == 0, done.stderr
    errors = pq.read_table(out / "errors").to_pylist()
    assert {Path(row["image_uri"]).name: row["error_type"] for row in errors} == {
        "truncated.jpg": "DamagedImage",
        "empty.png": "EmptyFile",
    }
    rows = pq.read_table(out / "labels").to_pylist()
    names = sorted(path.name for path in found)
    assert sorted(Path(row["image_uri"]).name for row in rows) == names
    for row in rows:
        check_row(row)

    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    again = run_job(*flags)
    assert again.returncode == 0, again.stderr
    other = run_job(*flags, "--rejection", "topk:8")
    assert other.returncode == 2
    assert "another rejection (none, now topk:8)" in other.stderr
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def check_row(row):
    """Require that mask, sizes and run lengths fit the photo and each other."""
    with Image.open(row["image_uri"]) as photo:
        size = photo.height, photo.width
    assert (row["height"], row["width"]) == size
    labels_HW = np.array(Image.open(io.BytesIO(row["mask"]["bytes"])))
    assert labels_HW.shape == size
    assert {s["category_id"] for s in row["segments"]} == set(np.unique(labels_HW).tolist())
    for segment in row["segments"]:
        rle = {"size": segment["rle"]["size"], "counts": segment["rle"]["counts"].encode()}
        mask_HW = coco.decode(rle).astype(bool)
        np.testing.assert_array_equal(mask_HW, labels_HW == segment["category_id"])


def objects(bucket):
    """The content of every object in a bucket."""
    place = locate(bucket)
    return {info.path: Location(place.fs, info.path).read() for info in place.files(recursive=True)}
