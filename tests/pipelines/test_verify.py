import multiprocessing
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pycocotools import mask as coco

from pipelines import masks, outputs, rows, shards
from pipelines.buckets import bucket_filesystem, is_outage
from pipelines.commit import Commit
from pipelines.decoding import Decode
from pipelines.labeller import Labeller
from pipelines.part_check import FOUND, CheckPart
from pipelines.row_check import mask_problem, upright_size
from pipelines.storage import locate
from pipelines.verify import Output, judge, open_output, part_names, verify
from sed import Rejection
from tests.fakes import ColourModel, encoded, plain_image, write_photos
from tests.proc import STATUS, kilobytes

CLASSES = ["red", "green", "blue"]
SMALL = encoded(plain_image(0, 9, 9).convert("L"))
ELSEWHERE = {
    "size": [60, 20],
    "counts": coco.encode(np.eye(60, 20, dtype="u1", order="F"))["counts"],
}
STAMP = {"vocabulary_id": "v", "model_id": "m", "rejection": "none", "run_id": "r"}


def run_of(images, counts, **configuration):
    """What run.json says of a run."""
    return {
        "status": "done",
        "run_id": "r",
        "counts": counts,
        "classes": CLASSES,
        "identity": STAMP | {"images": str(images)},
        "configuration": {"images_column": "image_uri", "limit": None} | configuration,
    }


@pytest.fixture
def photos(tmp_path):
    write_photos(tmp_path / "photos", 4)
    (tmp_path / "photos" / "empty.png").write_bytes(b"")
    return tmp_path / "photos"


@pytest.fixture
def out(photos, tmp_path):
    """What label writes for these photos, made without a cluster."""
    place = locate(str(tmp_path / "out"))
    uris = pa.array(sorted(str(path) for path in photos.iterdir()), pa.large_string())
    todo = shards.remaining(shards.extend(shards.no_manifest(), uris), set())
    labeller = Labeller(
        load_model=ColourModel,
        load_text=lambda: ColourModel().embed_classes(CLASSES).numpy(),
        classes=CLASSES,
        rejection=Rejection.parse("none"),
    )
    decode, commit = Decode(64, 256), Commit(place, CLASSES, STAMP)
    for shard in todo.to_batches(max_chunksize=1):
        commit(labeller(pa.concat_tables(decode(pa.Table.from_batches([shard])))))
    counts = {"inputs": 5, "labelled": 4, "errors": 1, "skipped": 0}
    outputs.write_run(place, run_of(photos, counts))
    return tmp_path / "out"


def problems(out, photos):
    """What is found, without a cluster."""
    return verdict(out, photos).problems


def verdict(out, photos):
    output = open_output(str(out), str(photos))
    parts = pa.table({"part": part_names(output.place)})
    check = CheckPart(output.place, {}, output.stamp, output.run["classes"])
    return judge([check(parts)], output)


def change(path, **columns):
    """Put other values into the first row of a Parquet file."""
    table = pq.read_table(path)
    first = table.to_pylist()[0]
    changed = {name: change(first[name]) for name, change in columns.items()}
    pq.write_table(pa.Table.from_pylist([first | changed], schema=table.schema), path)


def test_a_good_output_has_no_problem(out, photos):
    found = verdict(out, photos)
    assert (found.labelled, found.errors, found.problems) == (4, 1, [])


@pytest.mark.parametrize("gone", ["labels", "photos"])
def test_a_store_that_does_not_answer_is_no_problem_of_the_output(out, monkeypatch, gone):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    bucket_filesystem.cache_clear()
    labels = locate("s3://dead/out" if gone == "labels" else str(out))
    part = first_labels(out)
    change(part, image_uri=lambda uri: f"s3://dead{uri}")
    check = CheckPart(labels, {"s3://dead": bucket_filesystem("s3://dead")}, STAMP, CLASSES)
    with pytest.raises(OSError, match="NETWORK_CONNECTION") as outage:
        list(check.check(part.name))
    assert is_outage(outage.value)


def swapped(segments, name):
    """The segments of two halves, each with something of the other."""
    first, second = segments
    assert first["pixels"] == second["pixels"]
    return [first | {name: second[name]}, second | {name: first[name]}]


def changed(segments, **values):
    return [segments[0] | values, *segments[1:]]


def first_labels(out):
    """The file of the first shard that holds a labelled image."""
    return next(p for p in sorted(Path(out, "labels").iterdir()) if pq.read_table(p).num_rows)


def test_lost_and_doubled_rows_are_found(out, photos):
    first = first_labels(out)
    uri = pq.read_table(first)["image_uri"][0].as_py()
    (out / "labels" / "part-00077.parquet").write_bytes(first.read_bytes())
    assert f"{uri}: in 2 rows" in problems(out, photos)
    (out / "labels" / "part-00077.parquet").unlink()
    first.unlink()
    found = problems(out, photos)
    assert f"{uri}: neither in labels/ nor in errors/" in found
    assert "run.json: labelled is 4, found 3" in found
    assert any(f"{first} cannot be read" in problem for problem in found)


def test_unknown_images_are_found(out, photos):
    (photos / "photo00.png").unlink()
    found = problems(out, photos)
    assert f"{photos}/photo00.png: not among the images" in found
    assert any("cannot be read any more" in problem for problem in found)


def test_an_image_in_a_bucket_that_no_input_is_in_is_found(out, photos):
    change(first_labels(out), image_uri=lambda uri: f"s3://another{uri}")
    assert problems(out, photos) == [
        f"s3://another{photos}/photo00.png: the image is in another bucket than all that should be "
        "there",
        f"{photos}/photo00.png: neither in labels/ nor in errors/",
        f"s3://another{photos}/photo00.png: not among the images",
    ]


def test_images_that_changed_are_found(out, photos):
    (photos / "photo01.png").write_bytes(encoded(plain_image("red")))
    assert problems(out, photos) == [
        f"{photos}/photo01.png: the image has changed since it was labelled"
    ]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"mask": lambda mask: mask | {"bytes": mask["bytes"][:50]}}, "the mask cannot be read"),
        ({"mask": lambda mask: mask | {"bytes": SMALL}}, "the mask is (9, 9), the image"),
        ({"mask": lambda mask: None}, "there is no mask"),
        ({"mask": lambda mask: mask | {"bytes": None}}, "there is no mask"),
        ({"segments": lambda segments: None}, "there are no segments"),
        ({"segments": lambda segments: [None, *segments]}, "a segment is null"),
        ({"segments": lambda segments: segments[1:]}, "segments are of the classes [1]"),
        ({"segments": lambda segments: [*segments, segments[0]]}, "of the classes [0, 1, 0]"),
        ({"segments": lambda segments: swapped(segments, "rle")}, "class 0 has another rle"),
        ({"segments": lambda segments: swapped(segments, "bbox")}, "class 0 has another bbox"),
        ({"segments": lambda segments: swapped(segments, "category")}, "0 is named 'green'"),
        ({"segments": lambda segments: changed(segments, rle=ELSEWHERE)}, "another rle"),
        ({"segments": lambda segments: changed(segments, rle=None)}, "another rle"),
        ({"segments": lambda segments: changed(segments, bbox=None)}, "another bbox"),
        ({"segments": lambda segments: changed(segments, pixels=599)}, "another pixels"),
        ({"width": lambda width: width + 1}, "the row says"),
        ({"model_id": lambda _: "other"}, "model_id is 'other', in run.json 'm'"),
        ({"vocabulary_id": lambda _: "other"}, "vocabulary_id is 'other', in run.json 'v'"),
        ({"rejection": lambda _: "topk:1"}, "rejection is 'topk:1', in run.json 'none'"),
        ({"run_id": lambda _: None}, "run_id is None, in run.json 'r'"),
    ],
)
def test_wrong_rows_are_found(out, photos, columns, words):
    path = first_labels(out)
    change(path, **columns)
    (problem,) = problems(out, photos)
    assert words in problem


def test_errors_of_another_run_are_found(out, photos):
    (path,) = (p for p in Path(out, "errors").iterdir() if pq.read_table(p).num_rows)
    change(path, run_id=lambda _: "other")
    assert problems(out, photos) == [f"{photos}/empty.png: run_id is 'other', in run.json 'r'"]


@pytest.mark.parametrize("metadata", [None, {"classes": '["red", "blue", "green"]'}])
def test_files_with_other_class_names_are_found(out, photos, metadata):
    path = first_labels(out)
    pq.write_table(pq.read_table(path).replace_schema_metadata(metadata), path)
    assert problems(out, photos) == [f"labels: {path} has other class names"]


def test_a_mask_without_a_class_has_no_segments():
    ignored = masks.index_png(np.full((3, 4), 255), 3)
    row = {"mask": {"bytes": ignored}, "width": 4, "height": 3, "segments": []}
    assert mask_problem(row, CLASSES) is None


@pytest.fixture
def relabelled(out, photos, tmp_path, monkeypatch):
    """The output of a run with --features whose folder was relative, of another place now."""
    shutil.copytree(out, tmp_path / "kept")
    uris = sorted(str(path) for path in photos.iterdir())
    manifest = shards.extend(shards.no_manifest(), pa.array(uris, pa.large_string()))
    shards.write_manifest(locate(str(tmp_path / "kept")), manifest)
    first = run_of(photos, {}, limit=5, keep_features=True)
    outputs.write_run(locate(str(tmp_path / "kept")), first)
    counts = {"inputs": 5, "labelled": 4, "errors": 1, "skipped": 0}
    second = run_of(tmp_path / "kept", counts, features="kept")
    outputs.write_run(locate(str(out)), second)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return out


def test_labels_of_kept_features_are_checked_against_the_inputs_of_that_run(relabelled, photos):
    (photos / "another.png").write_bytes(encoded(plain_image("red")))  # sorts before the others
    assert problems(relabelled, photos) == []
    inputs = open_output(str(relabelled), str(photos)).inputs
    assert inputs == f"images of the run whose features were kept in {photos.parent}/kept"


def test_inputs_of_kept_features_that_lie_elsewhere_are_found(relabelled, photos, tmp_path):
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "a.png").write_bytes(encoded(plain_image("red")))
    found = problems(relabelled, tmp_path / "others")
    assert found == [
        f"{path}: not where the images are said to be" for path in sorted(photos.iterdir())
    ]


def test_the_inputs_are_said(out, photos):
    assert open_output(str(out), str(photos)).inputs == f"images that are in {photos} now"
    outputs.write_run(locate(str(out)), run_of(photos, {}, limit=2))
    limited = open_output(str(out), str(photos))
    assert limited.inputs == f"images that come first in {photos} now"
    assert len(limited.image_uris) == 2


def test_files_with_other_columns_are_found(out, photos):
    path = first_labels(out)
    pq.write_table(pq.read_table(path).drop_columns(["candidates"]), path)
    assert any("other columns or types" in problem for problem in problems(out, photos))


def test_a_job_that_did_not_finish_is_found(out, photos):
    place = locate(str(out))
    outputs.write_run(place, outputs.read_run(place) | {"status": "running"})
    assert problems(out, photos) == [
        "run.json: the job did not finish; the same command continues it"
    ]


def test_what_is_no_output_is_said(tmp_path, photos):
    with pytest.raises(ValueError, match="no output of label at"):
        open_output(str(tmp_path), str(photos))


def test_the_size_of_a_photo_is_that_of_the_upright_one():
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ("JPEG", "PNG", "TIFF"):
        assert upright_size(encoded(plain_image("red", 40, 30), kind, exif=exif)) == (30, 40)


MILLION = 10**6


def uri_of(index):
    return f"/corpus/camera-{index // 1000:04d}/2024-01-01/photo-{index:09d}.jpg"


def uris_of(count):
    folders = (range(first, min(first + 1000, count)) for first in range(0, count, 1000))
    return pa.concat_arrays(pa.array(map(uri_of, one), pa.large_string()) for one in folders)


def found_in(uris):
    """What is found in each part, as they end; the second image is lost, the third there twice."""
    folder, problem = pa.array(["labels"] * 64), pa.nulls(64, pa.string())
    num_parts = len(uris) // 64
    for part in range(num_parts):
        there = uris.slice(64 * (7 * part % num_parts), 64).cast(pa.string())
        if part == 0:
            there = there.take([0, 2, *range(2, 64)])
        yield pa.table([there, folder, problem], schema=FOUND)


def memory_of_judging():
    """Compare a million images with what was found; return the verdict and the bytes at the peak.

    To be called in a process of its own.
    """
    compare(uris_of(64))
    before = kilobytes("VmRSS")
    return compare(uris_of(MILLION)), 1024 * (kilobytes("VmHWM") - before)


def compare(uris):
    counts = {"inputs": len(uris), "labelled": len(uris), "errors": 0}
    output = Output(locate("/out"), run_of("/corpus", counts), uris, "images")
    return judge(found_in(uris), output)


@pytest.mark.skipif(not STATUS.exists(), reason="reads what Linux says")
def test_a_million_images_are_compared_in_the_memory_of_their_uris():
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        found, peak = process.submit(memory_of_judging).result()
    assert found.problems == [
        f"{uri_of(2)}: in 2 rows",
        f"{uri_of(1)}: neither in labels/ nor in errors/",
    ]
    # URIs of 60 bytes, twice while they are put together; sets of Python strings take 300 more.
    assert peak < 220 * 2**20


@pytest.mark.ray
def test_an_output_is_verified_on_a_cluster(local_ray, out, photos):
    found = verify(open_output(str(out), str(photos)), connect=lambda: None)
    assert (found.labelled, found.errors, found.problems) == (4, 1, [])
    assert rows.read_classes(pq.read_schema(first_labels(out))) == CLASSES
