import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipelines import scenes
from pipelines.datasets import LATER, PREPARED, draw_scenes, load, split_spec


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
        ("scene", "unknown dataset 'scene'; this version has: scenes, scenes-unseen"),
        ("", "unknown dataset ''"),
        ("ade20k-150=/data", "'ade20k-150' is not part of this version yet; it has: scenes"),
        ("scenes=/data", "takes no URI, got '/data'"),
    ],
)
def test_a_dataset_that_cannot_be_read_is_an_error(spec, message):
    with pytest.raises(ValueError, match=message):
        split_spec(spec)


def test_every_name_is_known_or_comes_later():
    assert split_spec("scenes-unseen") == ("scenes-unseen", None)
    assert len(LATER) == 9


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
