import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipelines import scenes
from pipelines.datasets import NAMES, check, draw_scenes, load, split_spec
from pipelines.outputs import write_run
from pipelines.rows import MANIFEST, PREPARED
from pipelines.shards import write_manifest
from pipelines.storage import locate
from tests.pipelines.labelled_scenes import RUN, open_mask, read_rows, write_output


def decoded(file):
    return np.array(Image.open(io.BytesIO(file["bytes"])))


@pytest.mark.parametrize("split", ["seen", "unseen"])
def test_rows_hold_the_drawn_scenes(split):
    table = draw_scenes(pa.table({"id": [3, 5]}), split=split, seed=7)
    assert table.schema == PREPARED
    for row, index in zip(table.to_pylist(), [3, 5], strict=True):
        scene = scenes.draw(7, index, split=split)
        assert np.array_equal(decoded(row["image"]), scene.image_HW3)
        assert np.array_equal(decoded(row["mask"]), scene.mask_HW)
        assert (row["height"], row["width"]) == scene.mask_HW.shape


def test_rows_have_names_of_their_own():
    table = draw_scenes(pa.table({"id": range(4)}), split="seen", seed=0)
    assert len(set(table["image_id"].to_pylist())) == 4


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("scene", "unknown dataset 'scene'; there are: coco-stuff, ade20k-150"),
        ("", "unknown dataset ''"),
        ("ade20k-150", "needs the URI of its folder, as it is shipped or prepared: ade20k-150=URI"),
        ("folder=", "needs the URI of its folder"),
        ("scenes=/data", "takes no URI: '/data'"),
    ],
)
def test_a_dataset_that_cannot_be_read_is_an_error(spec, message):
    with pytest.raises(ValueError, match=message):
        split_spec(spec)


def test_every_name_of_the_contract_is_known():
    assert split_spec("scenes-unseen") == ("scenes-unseen", None)
    assert split_spec("labels=s3://bucket/a=b") == ("labels", "s3://bucket/a=b")
    assert split_spec("pascal-voc-20b=/data") == ("pascal-voc-20b", "/data")
    assert len(NAMES) == 11


def test_labels_that_are_not_there_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="needs the URI of a label output"):
        split_spec("labels")
    with pytest.raises(ValueError, match="no output of label at"):
        check("labels", str(tmp_path))
    write_run(locate(str(tmp_path)), RUN)
    with pytest.raises(ValueError, match="holds no labelled image"):
        check("labels", str(tmp_path))


@pytest.mark.ray
def test_what_label_wrote_is_a_dataset(local_ray, tmp_path):
    output = write_output(tmp_path, num_images=7)
    wanted = {row["image_uri"]: row for row in read_rows(output)}
    write_run(output, RUN | {"classes": scenes.vocabulary(), "fingerprint": "sha256:1"})
    shards = [{"image_uri": uri, "shard": 0} for uri in wanted]
    write_manifest(output, pa.Table.from_pylist(shards, schema=MANIFEST))
    data = load("labels", output.uri)
    assert (data.num_images, data.classes) == (7, scenes.vocabulary())
    rows = {row["image_id"]: row for row in data.rows.take_all()}
    assert rows.keys() == wanted.keys()
    for uri, row in rows.items():
        assert np.array_equal(decoded(row["mask"]), open_mask(wanted[uri]))
        assert decoded(row["image"]).shape == (row["height"], row["width"], 3)
    assert load("labels", output.uri, limit=3).rows.count() == 3


@pytest.mark.ray
def test_a_dataset_draws_each_scene_once_and_as_many_as_asked_for(local_ray):
    data = load("scenes-unseen", limit=21, seed=3)
    rows = data.rows.take_all()
    assert len(rows) == len({row["image_id"] for row in rows}) == data.num_images == 21
    assert data.classes == scenes.vocabulary()
    unseen, grounds = set(data.unseen), set(range(12))
    values = {int(value) for row in rows for value in np.unique(decoded(row["mask"]))}
    assert values <= unseen | grounds
    with pytest.raises(ValueError, match="limit must be at least 1"):
        load("scenes", limit=0)
    assert data.asked == data.classes
