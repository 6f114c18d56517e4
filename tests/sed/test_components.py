import numpy as np
import pytest
from scipy import ndimage

from sed.components import SIZES, ComponentCounts, find_components, size_index

IGNORE = 255


def label_sets(labels_HW, num_classes):
    """The components of each class by SciPy, one class at a time: sets of pixels."""
    found = []
    for index in range(num_classes):
        numbered, count = ndimage.label(labels_HW == index, structure=np.ones((3, 3)))
        found += [
            (index, frozenset(map(tuple, np.argwhere(numbered == one + 1)))) for one in range(count)
        ]
    return found


def spots(seed, num_classes=4, shape=(40, 50), sigma=2):
    rng = np.random.default_rng(seed)
    noise = [ndimage.gaussian_filter(rng.random(shape), sigma) for _ in range(num_classes)]
    return np.argmax(noise, axis=0).astype(np.uint8)


@pytest.mark.parametrize("sigma", [0, 1, 3])
def test_components_of_all_classes_in_one_pass_equal_those_of_each(sigma):
    labels = spots(0, sigma=sigma)
    found = find_components(labels)
    expected = label_sets(labels, 4)
    own = {
        (int(found.label_M[one]), frozenset(map(tuple, np.argwhere(found.index_HW == one))))
        for one in range(len(found.pixels_M))
    }
    assert own == set(expected)
    assert found.pixels_M.sum() == labels.size


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1)])
def test_a_line_or_a_point_is_an_image_too(shape):
    labels = np.arange(np.prod(shape)).reshape(shape) // 2
    assert find_components(labels).label_M.tolist() == sorted(set(labels.ravel().tolist()))


def test_sizes_are_those_of_coco():
    pixels = np.array([1, 32**2 - 1, 32**2, 96**2 - 1, 96**2, 10**6])
    names = [list(SIZES)[index] for index in size_index(pixels)]
    assert names == ["small", "small", "medium", "medium", "large", "large"]


@pytest.mark.parametrize("seed", [3, 4])
def test_scores_equal_their_definition_on_sets_of_pixels(seed):
    truth, predicted = spots(seed), spots(seed + 10)
    predicted[:, :25] = np.roll(truth, 1, axis=0)[:, :25]
    truth[10:14, 5:45] = IGNORE
    predicted_known = np.where(truth == IGNORE, IGNORE, predicted)
    true_sets, found_sets = label_sets(truth, 4), label_sets(predicted_known, 4)
    ious = [[] for _ in range(4)]
    for index, own in true_sets:
        touching = [s for other, s in found_sets if other == index and s & own]
        cover = frozenset().union(*touching)
        others = frozenset().union(*(s for i, s in true_sets if i == index and s != own))
        ious[index].append(len(own & cover) / len((own | cover) - others))
    counts = ComponentCounts(4)
    counts.update(predicted, truth, ignore=IGNORE)
    scores = counts.scores()
    assert scores["small"].components == len(true_sets)
    assert scores["small"].iou == pytest.approx(100 * np.mean([np.mean(one) for one in ious]))
    known = truth != IGNORE
    right = 100 * (truth == predicted)[known].mean()
    assert scores["small"].recall == pytest.approx(right)
    assert scores["small"].precision == pytest.approx(right)
    assert scores["large"].components == 0
    assert np.isnan(scores["large"].iou)


def test_a_small_thing_is_scored_apart_from_a_large_one_of_its_class():
    truth = np.zeros((200, 200), np.uint8)
    truth[:100, :100] = 1
    truth[150:160, 150:160] = 1
    predicted = np.zeros((200, 200), np.uint8)
    predicted[:100, :90] = 1
    scores_of = ComponentCounts(2)
    scores_of.update(predicted, truth, ignore=IGNORE)
    scores = scores_of.scores()
    assert scores["small"].iou == 0
    assert scores["small"].recall == 0
    assert scores["large"].components == 2, "the background, and the large thing"
    assert scores_of.counts[1, 2, 1] == 9 * 10**8, "90 of 100 columns are found"


def test_one_prediction_over_two_things_is_not_held_against_either():
    truth = np.zeros((10, 50), np.uint8)
    truth[:, 5:15] = truth[:, 20:30] = 1
    predicted = np.zeros((10, 50), np.uint8)
    predicted[:, 5:30] = 1
    counts = ComponentCounts(2)
    counts.update(predicted, truth, ignore=IGNORE)
    # Each thing: 100 right pixels; the 50 wrong ones between them belong to both.
    assert counts.counts[1, 0, 1] == 2 * (10**9 * 100 // 150)


def test_sums_of_workers_do_not_depend_on_who_counted_what():
    whole, parts = ComponentCounts(4), [ComponentCounts(4), ComponentCounts(4)]
    for seed in range(6):
        pair = spots(seed), spots(seed + 20)
        whole.update(*pair, ignore=IGNORE)
        parts[seed % 2].update(*pair, ignore=IGNORE)
    assert np.array_equal(parts[1].counts + parts[0].counts, whole.counts)
