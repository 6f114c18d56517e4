from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines import outputs, rows, shards
from pipelines.commit import Commit
from pipelines.decoding import Decode
from pipelines.labeller import Labeller
from pipelines.storage import locate
from pipelines.verify import CheckPart, judge, open_output, part_names, upright_size, verify
from sed import Rejection
from tests.fakes import ColourModel, encoded, plain_image, write_photos

CLASSES = ["red", "green", "blue"]
SMALL = encoded(plain_image(0, 9, 9).convert("L"))
STAMP = {"vocabulary_id": "v", "model_id": "m", "rejection": "none", "run_id": "r"}


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
    configuration = {"images_column": "image_uri", "limit": None}
    run = {"status": "done", "counts": counts, "configuration": configuration}
    outputs.write_run(place, run)
    return tmp_path / "out"


def problems(out, photos):
    """What is found, without a cluster."""
    output = open_output(str(out), str(photos))
    parts = pa.table({"part": part_names(output.place)})
    found = CheckPart(output.place, {})(parts).to_pylist()
    return judge(found, output.image_uris, output.run).problems


def change(path, **columns):
    """Put other values into the first row of a Parquet file."""
    table = pq.read_table(path)
    first = table.to_pylist()[0]
    changed = {name: change(first[name]) for name, change in columns.items()}
    pq.write_table(pa.Table.from_pylist([first | changed], schema=table.schema), path)


def test_a_good_output_has_no_problem(out, photos):
    output = open_output(str(out), str(photos))
    found = CheckPart(output.place, {})(pa.table({"part": part_names(output.place)})).to_pylist()
    verdict = judge(found, output.image_uris, output.run)
    assert (verdict.labelled, verdict.errors, verdict.problems) == (4, 1, [])


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
        ({"segments": lambda segments: segments[1:]}, "segments do not count"),
        ({"width": lambda width: width + 1}, "the row says"),
    ],
)
def test_wrong_rows_are_found(out, photos, columns, words):
    path = first_labels(out)
    change(path, **columns)
    (problem,) = problems(out, photos)
    assert words in problem


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


@pytest.mark.ray
def test_an_output_is_verified_on_a_cluster(local_ray, out, photos):
    verdict = verify(open_output(str(out), str(photos)), connect=lambda: None)
    assert (verdict.labelled, verdict.errors, verdict.problems) == (4, 1, [])
    assert rows.read_classes(pq.read_schema(first_labels(out))) == CLASSES
