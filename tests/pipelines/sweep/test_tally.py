"""Counts of images: scores, intervals and costs that follow from them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipelines.sweep.survivors import Recorder
from pipelines.sweep.tally import Tally, add, drop
from sed import Rejection
from sed.metrics import ConfusionMatrix

RNG = np.random.default_rng(0)


def tally_of(images, num_classes, kept=(4, 2, 1)):
    """The tally of pairs of predicted and true label maps; a label over the classes is another."""
    hits, truth, predicted = [], [], []
    for labels, mask in images:
        hits.append(np.bincount(mask[labels == mask], minlength=num_classes))
        truth.append(np.bincount(mask, minlength=num_classes))
        predicted.append(np.bincount(labels, minlength=num_classes)[:num_classes])
    count = len(images)
    levels = np.tile(kept, (count, 1))
    seconds = np.ones(count)
    return Tally(*map(np.array, (hits, truth, predicted)), levels, levels * 0 + 1, *[seconds] * 3)


def random_images(count, num_classes, wrong):
    images = []
    for _ in range(count):
        mask = RNG.integers(num_classes - 1, size=200)
        noise = RNG.random(200) < wrong
        images.append((np.where(noise, RNG.integers(num_classes, size=200), mask), mask))
    return images


def test_the_mean_iou_is_that_of_the_confusion_matrix():
    images = random_images(7, 5, wrong=0.3)
    matrix = ConfusionMatrix(5)
    for labels, mask in images:
        matrix.update(labels, mask, ignore=255)
    assert tally_of(images, 5).mean_iou() == pytest.approx(matrix.metrics().mean_iou)


def test_a_name_that_no_mask_holds_is_a_wrong_answer():
    mask = np.zeros(100, np.int64)
    labels = np.where(np.arange(100) < 25, 7, 0)
    assert tally_of([(labels, mask)], 2).mean_iou() == pytest.approx(75)


def test_nothing_is_lost_against_itself():
    one = tally_of(random_images(20, 4, wrong=0.3), 4)
    found = drop(one, one)
    assert (found.points, found.low, found.high) == (0, 0, 0)


def test_the_interval_holds_the_difference_and_is_the_same_every_time():
    good, bad = random_images(60, 4, wrong=0.1), random_images(60, 4, wrong=0.4)
    found = drop(tally_of(good, 4), tally_of(bad, 4))
    assert 0 < found.low < found.points < found.high
    assert found == drop(tally_of(good, 4), tally_of(bad, 4))


def test_drawing_images_together_gives_a_narrower_interval():
    hard = [(labels, mask) for labels, mask in random_images(30, 4, wrong=0.8)]
    easy = [(mask, mask) for _, mask in random_images(30, 4, wrong=0)]
    slightly = [(np.where(np.arange(200) < 2, 3, labels), mask) for labels, mask in hard]
    reference, other = tally_of(hard + easy, 4), tally_of(slightly + easy, 4)
    shuffled = Tally(*(getattr(other, name)[::-1] for name in Tally.__dataclass_fields__))
    paired, unpaired = drop(reference, other), drop(reference, shuffled)
    assert paired.points == pytest.approx(unpaired.points)
    assert paired.high - paired.low < 0.3 * (unpaired.high - unpaired.low)


def test_cost_counts_cells_of_each_level():
    images = random_images(3, 4, wrong=0)
    assert tally_of(images, 4, kept=(10, 10, 10)).cost(10) == 1
    assert tally_of(images, 4, kept=(10, 5, 1)).cost(10) == pytest.approx((10 + 20 + 16) / 210)


def test_tallies_are_cut_joined_and_stored():
    whole = tally_of(random_images(5, 4, wrong=0.2), 4)
    again = Tally.from_bytes(add([whole[:2], whole[2:]]).to_bytes())
    assert len(again) == 5
    for name in Tally.__dataclass_fields__:
        assert np.array_equal(getattr(again, name), getattr(whole, name))


def test_the_peak_is_that_of_the_batch_that_took_most():
    one = tally_of(random_images(3, 4, wrong=0), 4)
    assert replace(one, memory_I=np.array([1e9, 3e9, np.nan])).peak_memory_gb() == 3
    assert replace(one, memory_I=np.full(3, np.nan)).peak_memory_gb() is None


def test_recall_is_of_the_classes_in_the_masks():
    one = tally_of([(np.zeros(4, np.int64), np.array([0, 0, 1, 2]))], 4)
    assert one.recall() == pytest.approx([1 / 3] * 3)


def test_a_recorder_keeps_what_the_rejection_keeps_and_remembers_it():
    recorder = Recorder(Rejection.parse("fixed:3+topk:1"))
    first, second = torch.randn(5, 2, 2), torch.randn(5, 2, 2)
    kept = [Rejection.parse("fixed:3+topk:1").keep(one, 0) for one in (first, second)]
    asked = [recorder.keep(one, 0) for one in (first, second)]
    assert all(torch.equal(a, b) for a, b in zip(kept, asked, strict=True))
    left = [int(keep.sum()) for keep in kept]
    for count in left:
        recorder.keep(torch.arange(float(count)).view(-1, 1, 1), 2)
    survivors = recorder.survivors(2, 5)
    assert [levels[0].tolist() for levels in survivors] == [
        k.nonzero().flatten().tolist() for k in kept
    ]
    assert [len(levels[1]) for levels in survivors] == left
    assert [levels[2].tolist() for levels in survivors] == [[levels[0][-1]] for levels in survivors]
