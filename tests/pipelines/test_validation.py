"""How good a model is while it trains: what an evaluation would say of it."""

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import sed
from pipelines import scenes
from pipelines.datasets import Labelled, draw_scenes
from pipelines.masks import to_png
from pipelines.rows import PREPARED
from pipelines.validation import picture, sheet, summary, validate


def dataset(name="scenes"):
    return Labelled(
        name=name,
        rows=None,
        num_images=3,
        classes=scenes.vocabulary(),
        unseen=scenes.unseen_classes(),
        source="",
        digest="",
    )


@pytest.fixture(scope="module")
def model():
    return sed.load_model("nano")


@pytest.fixture(scope="module")
def table():
    return draw_scenes(pa.table({"id": [0, 1, 2]}), split="seen", seed=5)


def test_scores_are_those_of_each_image_labelled_by_itself(model, table):
    tally = validate(model, dataset(), [table.slice(0, 2), table.slice(2)])
    matrix = sed.metrics.ConfusionMatrix(len(scenes.vocabulary()))
    for number in range(3):
        scene = scenes.draw(5, number, split="seen")
        labels = model.segment(scene.image_HW3, scenes.vocabulary()).labels
        matrix.update(labels, scene.mask_HW, ignore=255)
    assert (tally.matrix.counts == matrix.counts).all()
    found = summary(dataset(), tally)
    assert found["mIoU"] == pytest.approx(matrix.metrics().mean_iou)
    assert found["images"] == 3
    assert found["errors"] == 0
    assert "mIoU_unseen" in summary(dataset("scenes-unseen"), tally)


def test_a_damaged_image_is_counted_and_left_out(model, table):
    rows = table.to_pylist()
    rows[1]["image"]["bytes"] = b"no image"
    tally = validate(model, dataset(), [pa.Table.from_pylist(rows, PREPARED)])
    assert (tally.images, tally.errors) == (2, 1)


def test_a_picture_shows_photo_mask_and_labels_side_by_side():
    photo = Image.new("RGB", (40, 20), (9, 9, 9))
    mask_HW = np.zeros((20, 40), np.uint8)
    mask_HW[:, 20:] = 255
    labels_HW = np.ones((20, 40), np.int64)
    image = picture(photo, mask_HW, labels_HW, 2)
    height, width = image.shape[:2]
    part = (width - 8) // 3
    assert (image[:, :part] == 9).all()
    assert (image[:, part + 4 + part * 3 // 4 : 2 * part + 4] == 255).all(), "ignored"
    known, guessed = image[5, part + 8], image[5, -5]
    assert (known != guessed).any()
    both = sheet([image, image[:, :100]])
    assert both.size == (width, 2 * height + 8)
    assert to_png(np.asarray(both))
