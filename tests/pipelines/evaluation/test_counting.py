import itertools

import numpy as np
import pyarrow as pa
import pytest

from pipelines.evaluation.counting import WORST, Count, Shown, Worst
from pipelines.evaluation.reading import decode_mask
from pipelines.evaluation.tally import Tally
from pipelines.report.pictures import open_grey
from pipelines.results import Result
from tests.pipelines.evaluation.by_grey import evaluate_rows, halves, labelled, predict_all, row


def test_what_is_right_is_counted_and_what_is_ignored_is_not():
    image, mask = halves()
    mask = np.where(mask == 1, 2, 0).astype(np.uint8)
    mask[:10] = 255
    result = evaluate_rows([row(image, mask, 3)], 3)
    counts = result.matrix.counts
    assert counts.sum() == mask.size
    assert counts[:, 3].sum() == 10 * 100
    assert np.trace(counts[:3, :3]) > 0.9 * 50 * 100
    assert result.images == 1
    assert result.candidates == 3
    assert result.tally.images_N.tolist() == [1, 0, 1]


def test_more_than_255_classes_have_masks_of_16_bits():
    image, mask = halves()
    mask = np.where(mask == 1, 299, 0).astype(np.uint16)
    mask[:, :4] = 65535
    counts = evaluate_rows([row(image, mask, 300)], 300).matrix.counts
    assert counts[:, 300].sum() == 4 * 60
    assert counts[299, 299] > 0.9 * 50 * 60


def test_sparse_sums_add_up_to_the_whole():
    rng = np.random.default_rng(0)
    whole, summed = Tally.empty(7), Tally.empty(7)
    for _ in range(5):
        own = Tally.empty(7)
        pair = rng.integers(0, 7, (2, 30, 40)).astype(np.uint8)
        whole.update(*pair)
        own.update(*pair)
        summed.add(*own.sparse())
    for one, other in zip(summed.arrays(), whole.arrays(), strict=True):
        assert np.array_equal(one, other)
    assert whole.image_ious.sum() == 5


def test_an_image_has_the_miou_of_its_own_classes():
    tally = Tally.empty(4)
    truth = np.array([[0, 0, 1, 255]], np.uint8)
    assert tally.update(np.array([[0, 3, 1, 2]]), truth) == pytest.approx((50 + 100) / 2)
    assert tally.image_ious[15] == 1
    assert np.isnan(tally.update(np.array([[0]]), np.array([[255]], np.uint8)))


def shown(iou, name):
    return Shown(iou, name, b"", b"", b"")


def test_the_worst_do_not_depend_on_the_order():
    images = [shown(50, "b"), shown(50, "a"), shown(10, "d"), shown(90, "c"), shown(50, "b")]
    for order in itertools.permutations(images):
        worst = Worst(3)
        for image in order:
            worst.add(image)
        assert [one.image_id for one in worst.sorted()] == ["d", "a", "b"]


def noisy_rows(count, seed=0):
    """Photos of noise, so that each image has a score of its own."""
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(count):
        image, mask = halves(40, 50)
        wrong = rng.random(mask.shape) < index / count / 2
        rows.append(row(image, np.where(wrong, 1 - mask, mask).astype(np.uint8), 2, f"{index:03d}"))
    return rows


def collect(rows, batches):
    """Count the batches, and add up what was said in this order."""
    result = Result.empty(labelled(["black", "white"], len(rows)), "none")
    predicted = predict_all(rows, 2, ["none"])
    count = Count(rejections=["none"], num_classes=2)
    pictures = 0
    for batch in batches:
        for counts in count(predicted.take(pa.array(batch))).to_pylist():
            pictures += len(counts["worst"])
            result.add(counts)
    result.finish()
    return result, pictures


def test_a_result_does_not_depend_on_how_the_work_is_spread():
    rows = [*noisy_rows(30), row(*halves(), 2, "bad") | {"mask": None}]
    rng = np.random.default_rng(1)
    one, pictures = collect(rows, [list(range(31))])
    assert pictures == WORST, "of a batch only the worst travel"
    for size in (1, 4, 7):
        order = rng.permutation(31).tolist()
        other, _ = collect(rows, [order[start : start + size] for start in range(0, 31, size)])
        assert other.document() == one.document()
        assert other.worst.sorted() == one.worst.sorted()
        for a, b in zip(other.tally.arrays(), one.tally.arrays(), strict=True):
            assert np.array_equal(a, b)
    assert one.images == 30
    assert [error["image_id"] for error in one.errors] == ["bad"]


def test_the_worst_images_are_those_of_the_lowest_miou():
    result, _ = collect(noisy_rows(40), [list(range(20)), list(range(20, 40))])
    ranked = [(one.iou, one.image_id) for one in result.worst.sorted()]
    assert ranked == sorted(ranked)
    assert {name for _, name in ranked} == {f"{i:03d}" for i in range(28, 40)}


def test_pictures_are_small_and_show_photo_truth_and_prediction():
    image, mask = halves(900, 1500)
    (one,) = evaluate_rows([row(image, 1 - mask, 2)], 2).worst.sorted()
    truth, predicted = open_grey(one.truth), open_grey(one.predicted)
    assert truth.shape == predicted.shape == open_grey(one.photo).shape[:2] == (216, 360)
    assert truth[100, 10] == predicted[100, 350] == 1
    assert one.iou < 5


def test_real_masks_that_are_labelled_right_score_100_everywhere(shared_dir):
    tally, masks = Tally.empty(182), sorted((shared_dir / "samples/coco/masks").glob("*.png"))[:4]
    for path in masks:
        truth = decode_mask(path.read_bytes())
        guess = np.where(truth == 255, 7, truth).astype(np.uint16)
        assert tally.update(guess, truth) == 100
    assert tally.matrix.metrics().mean_iou == 100
    assert tally.boundary.mean_iou() == 100
    for scores in tally.components.scores().values():
        assert (scores.iou, scores.recall, scores.precision) == (100, 100, 100)
        assert scores.components > 0
