import numpy as np
import pytest
from scipy import ndimage

from sed.boundary import BoundaryCounts, boundary_reach, boundary_region

IGNORE = 255


def eroded_as_published(mask_HW, reach):
    """Cheng et al.: pad by zeros, erode by a 3 x 3 square, `reach` times; the rest is boundary."""
    padded = np.pad(mask_HW, 1)
    kernel = np.ones((3, 3), bool)
    inner = ndimage.binary_erosion(padded, kernel, iterations=reach, border_value=1)
    return mask_HW & ~inner[1:-1, 1:-1]


def blobs(seed, num_classes=5, shape=(70, 90)):
    rng = np.random.default_rng(seed)
    noise = [ndimage.gaussian_filter(rng.random(shape), 5) for _ in range(num_classes)]
    return np.argmax(noise, axis=0).astype(np.uint8)


def test_the_reach_is_two_percent_of_the_diagonal_and_at_least_a_pixel():
    assert boundary_reach(480, 640) == 16
    assert boundary_reach(30, 40) == 1
    assert boundary_reach(3, 4) == 1


@pytest.mark.parametrize("reach", [1, 2, 5])
def test_all_classes_at_once_equal_the_published_erosion_of_each(reach):
    labels = blobs(0)
    region = boundary_region(labels, reach)
    for index in range(5):
        own = labels == index
        assert np.array_equal(region & own, eroded_as_published(own, reach))


@pytest.mark.parametrize("seed", [1, 2])
def test_boundary_iou_equals_its_definition(seed):
    truth, predicted = blobs(seed), np.roll(blobs(seed), 2, axis=1)
    counts = BoundaryCounts(5)
    counts.update(predicted, truth, ignore=IGNORE)
    reach = boundary_reach(*truth.shape)
    assert reach == 2
    expected = []
    for index in range(5):
        true = eroded_as_published(truth == index, reach)
        near = eroded_as_published(predicted == index, reach)
        expected.append(100 * (true & near).sum() / (true | near).sum())
    assert counts.iou() == pytest.approx(expected)
    assert counts.mean_iou() == pytest.approx(np.mean(expected))
    assert 5 < counts.mean_iou() < 95


def test_where_the_truth_is_unknown_no_contour_is_wrong():
    truth = np.zeros((60, 60), np.uint8)
    truth[:, 30:] = 1
    truth[:, 27:33] = IGNORE
    for contour in range(27, 34):
        predicted = np.zeros((60, 60), np.int32)
        predicted[:, contour:] = 1
        counts = BoundaryCounts(2)
        counts.update(predicted, truth, ignore=IGNORE)
        assert counts.iou() == pytest.approx([100, 100])
        assert counts.counts[1].sum() == counts.counts[2].sum() <= (truth != IGNORE).sum()
    predicted[:, 36:] = 0
    counts.update(predicted, truth, ignore=IGNORE)
    assert (counts.iou() < 90).all()


def test_16_bit_masks_have_contours_too():
    truth = np.zeros((40, 40), np.uint16)
    truth[:, 20:] = 700
    truth[:5] = 65535
    counts = BoundaryCounts(701)
    counts.update(
        np.where(np.arange(40) < 20, 0, 700) + np.zeros((40, 1), int), truth, ignore=65535
    )
    assert counts.iou()[[0, 700]] == pytest.approx([100, 100])


def test_a_wrong_contour_costs_a_large_object_more_than_its_iou_says():
    truth = np.zeros((200, 200), np.uint8)
    truth[20:180, 20:180] = 1
    predicted = np.zeros((200, 200), np.uint8)
    predicted[24:176, 24:176] = 1
    counts = BoundaryCounts(2)
    counts.update(predicted, truth, ignore=IGNORE)
    iou = 100 * 152**2 / 160**2
    assert counts.iou()[1] < iou - 50


def test_a_class_without_a_true_boundary_has_no_score():
    counts = BoundaryCounts(3)
    counts.update(np.full((40, 40), 2), np.full((40, 40), 1, np.uint8), ignore=IGNORE)
    assert np.isnan(counts.iou()[[0, 2]]).all()
    assert counts.iou()[1] == 0
    assert np.isnan(BoundaryCounts(2).mean_iou())
