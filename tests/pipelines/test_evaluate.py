"""Shapes: B images, K N classes, H W the model's map."""

import json

import numpy as np
import pyarrow as pa
import pytest
import torch

import sed
from pipelines import scenes
from pipelines.cluster import Pool
from pipelines.datasets import Labelled, draw_scenes, load
from pipelines.evaluate import COUNTS, Evaluator, decode_image, evaluate
from pipelines.masks import index_png, to_png
from pipelines.results import Result, document, metrics, table
from pipelines.rows import PREPARED
from sed.config import nano
from sed.metrics import ConfusionMatrix
from tests.fakes import encoded, plain_image

REJECTIONS = ["none", "fixed:3"]


class ByGrey:
    """A model that needs no weights: the brighter a cell, the higher the class."""

    config = nano()

    def embed_classes(self, classes):
        return torch.zeros(len(classes), 1, 1)

    def encode(self, images_B3HW):
        return images_B3HW.mean(dim=1)[:, 2::4, 2::4]

    def decode(self, features, text_NPD, rejection=None):
        centres_N = torch.linspace(0, 1, len(text_NPD))
        kept_K = torch.arange(len(text_NPD))
        if str(rejection) != "none":
            kept_K = kept_K[::50]
        return [
            sed.ClassScores(-(grey_HW - centres_N[kept_K, None, None]).abs() * 20, kept_K)
            for grey_HW in features
        ]

    def score(self, images_B3HW, text_NPD, rejection=None):
        return self.decode(self.encode(images_B3HW), text_NPD, rejection)


def load_by_grey(device):
    return ByGrey()


def make_evaluator(num_classes, rejections=REJECTIONS):
    def load_text():
        return np.zeros((num_classes, 1, 1), np.float32)

    return Evaluator(load_model=load_by_grey, load_text=load_text, rejections=rejections)


def row(image_HW3, mask_HW, num_classes):
    return {
        "image": {"bytes": to_png(image_HW3), "path": "a.png"},
        "mask": {"bytes": index_png(mask_HW, num_classes), "path": "b.png"},
        "image_id": "a",
        "width": mask_HW.shape[1],
        "height": mask_HW.shape[0],
    }


def halves(height=60, width=100):
    """Black left, white right, and a mask that says so."""
    image_HW3 = np.zeros((height, width, 3), np.uint8)
    image_HW3[:, width // 2 :] = 255
    return image_HW3, (image_HW3[:, :, 0] > 0).astype(np.uint8)


def test_what_is_right_is_counted_and_what_is_ignored_is_not():
    image, mask = halves()
    mask = np.where(mask == 1, 2, 0).astype(np.uint8)
    mask[:10] = 255
    batch = pa.Table.from_pylist([row(image, mask, 3)], schema=PREPARED)
    (counted,) = make_evaluator(3, ["none"])(batch).to_pylist()
    counts = np.frombuffer(counted["counts"], np.int64).reshape(4, 4)
    assert counts.sum() == mask.size
    assert counts[:, 3].sum() == 10 * 100
    right = np.trace(counts[:3, :3])
    assert right > 0.9 * 50 * 100
    assert counted["images"] == 1
    assert counted["candidates"] == 3


def test_images_of_different_sizes_go_through_together():
    images = [halves(60, 100), halves(301, 77)]
    rows = [row(image, mask, 2) for image, mask in images]
    together = make_evaluator(2, ["none"])(pa.Table.from_pylist(rows, schema=PREPARED))
    alone = [
        make_evaluator(2, ["none"])(pa.Table.from_pylist([one], schema=PREPARED)) for one in rows
    ]
    added = sum(np.frombuffer(one["counts"][0].as_py(), np.int64) for one in alone)
    assert np.array_equal(np.frombuffer(together["counts"][0].as_py(), np.int64), added)


def test_more_than_255_classes_have_masks_of_16_bits():
    image, mask = halves()
    mask = np.where(mask == 1, 299, 0).astype(np.uint16)
    mask[:, :4] = 65535
    batch = pa.Table.from_pylist([row(image, mask, 300)], schema=PREPARED)
    (counted,) = make_evaluator(300, ["none"])(batch).to_pylist()
    counts = np.frombuffer(counted["counts"], np.int64).reshape(301, 301)
    assert counts[:, 300].sum() == 4 * 60
    assert counts[299, 299] > 0.9 * 50 * 60


def test_a_mask_with_an_impossible_label_is_an_error():
    image, mask = halves()
    batch = pa.Table.from_pylist([row(image, mask + 7, 3)], schema=PREPARED)
    with pytest.raises(ValueError, match="truth has label 8, but there are 3 classes"):
        make_evaluator(3)(batch)


def result_of(pairs, name="scenes-unseen"):
    data = Labelled(
        name=name,
        rows=None,
        num_images=1,
        classes=["sand", "red ball", "blue ball"],
        unseen=[2],
        source="",
        digest="",
    )
    matrix = ConfusionMatrix(3)
    predicted, truth = np.array(pairs).T
    matrix.update(predicted, truth, ignore=255)
    return Result(data=data, rejection="topk:8+prob:0.1", matrix=matrix, images=1, candidates=2)


def test_never_trained_classes_have_a_score_of_their_own():
    result = result_of([(0, 0), (0, 0), (2, 2), (1, 2), (0, 255)])
    assert result.summary()["mIoU"] == pytest.approx((100 + 50) / 2)
    assert result.summary()["mIoU_unseen"] == pytest.approx(50)
    assert "mIoU_unseen" not in result_of([(0, 0)], name="scenes").summary()


def test_a_result_can_be_printed_and_stored():
    results = [result_of([(0, 0), (2, 2), (1, 2)]), result_of([(0, 255)])]
    (known, nothing) = json.loads(json.dumps(document(results)))
    assert [one["class"] for one in known["per_class"]] == ["sand", "blue ball"]
    assert [one["unseen"] for one in known["per_class"]] == [False, True]
    assert nothing["mIoU"] is None
    assert "75.00" in "\n".join(table(results))
    names = metrics(results[:1])
    assert names["scenes-unseen/topk:8_prob:0.1/mIoU"] == pytest.approx(75)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_photo_can_be_used_after_its_file_is_closed(kind):
    photo = decode_image(encoded(plain_image((200, 10, 10)), kind))
    assert np.abs(np.array(photo.resize((8, 6))) - (200, 10, 10.0)).max() < 4


@pytest.mark.ray
def test_a_cluster_counts_what_a_plain_loop_counts(local_ray):
    data = load("scenes", limit=11, seed=5)
    found = evaluate(
        data,
        load_model=load_by_grey,
        rejections=REJECTIONS,
        pool=Pool(size=2, num_cpus=1, num_gpus=0, threads=1),
        batch_size=4,
    )
    expected = make_evaluator(len(scenes.vocabulary()))(
        draw_scenes(pa.table({"id": range(11)}), split="seen", seed=5)
    )
    assert expected.schema == COUNTS
    assert [one.rejection for one in found] == REJECTIONS
    for one, row_of in zip(found, expected.to_pylist(), strict=True):
        assert one.images == row_of["images"] == 11
        assert one.candidates == row_of["candidates"]
        assert one.matrix.counts.tobytes() == row_of["counts"]
    assert not np.array_equal(found[0].matrix.counts, found[1].matrix.counts)
