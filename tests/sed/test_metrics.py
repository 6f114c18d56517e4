import json

import numpy as np
import pytest

from sed.metrics import ConfusionMatrix, background_rule

IGNORE = 255
GOLDENS = ["plain", "absent", "ig16", "pc459ig", "vocb"]


def images(golden):
    """The golden's pixels are concatenated: cut them back into images."""
    ends = np.cumsum([height * width for height, width in golden["shapes"]])[:-1]
    shapes = golden["shapes"]
    for *pair, shape in zip(
        np.split(golden["pred"], ends), np.split(golden["gt"], ends), shapes, strict=True
    ):
        yield [part.reshape(shape) for part in pair]


@pytest.mark.weights
@pytest.mark.parametrize("name", GOLDENS)
def test_metrics_equal_the_official_evaluator(shared_dir, name):
    golden = np.load(shared_dir / f"spec/goldens/metric_{name}.npz")
    meta = json.loads(str(golden["meta"]))
    matrix = ConfusionMatrix(meta["num_classes"])
    for predicted, truth in images(golden):
        if meta["background_rule"]:
            predicted = background_rule(predicted, num_kept=meta["num_classes"] - 1)
        matrix.update(predicted, truth, ignore=meta["ignore"])
    stored = golden["conf"]
    if len(stored) == meta["num_classes"] + 1:
        assert np.array_equal(matrix.counts, stored)
    else:
        assert np.array_equal(matrix.counts[:20, :20], stored)
    metrics = matrix.metrics()
    assert metrics.named() == pytest.approx(meta["results"], abs=1e-9)
    np.testing.assert_allclose(metrics.iou_N, golden["f64_iou"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(metrics.accuracy_N, golden["f64_acc"], rtol=0, atol=1e-9)


def test_a_known_matrix_gives_known_scores():
    matrix = ConfusionMatrix(3)
    truth = np.array([[0, 0, 0, 0], [1, 1, 255, 255]], dtype=np.uint8)
    predicted = np.array([[0, 0, 0, 1], [1, 2, 0, 2]], dtype=np.int32)
    matrix.update(predicted, truth, ignore=IGNORE)
    metrics = matrix.metrics()
    assert matrix.counts[:, -1].sum() == 2, "ignored pixels stand in the last column"
    assert metrics.iou_N[:2] == pytest.approx([100 * 3 / 4, 100 * 1 / 3])
    assert np.isnan(metrics.iou_N[2]), "the truth has no such class"
    assert metrics.mean_iou == pytest.approx((75 + 100 / 3) / 2)
    assert metrics.weighted_iou == pytest.approx((75 * 4 + 100 / 3 * 2) / 6)
    assert metrics.mean_accuracy == pytest.approx((75 + 50) / 2)
    assert metrics.pixel_accuracy == pytest.approx(100 * 4 / 6)


def test_the_older_mean_counts_classes_that_are_only_predicted():
    matrix = ConfusionMatrix(4)
    matrix.update(np.array([0, 0, 1, 2]), np.array([0, 0, 1, 1]), ignore=IGNORE)
    metrics = matrix.metrics()
    assert metrics.mean_iou == pytest.approx((100 + 50) / 2)
    assert metrics.mean_iou_v06 == pytest.approx((100 + 50 + 0) / 3)


def test_a_class_of_which_nothing_is_found_has_collapsed():
    matrix = ConfusionMatrix(4)
    matrix.update(np.array([0, 2, 2, 3]), np.array([0, 1, 2, IGNORE]), ignore=IGNORE)
    assert matrix.collapsed() == [1], "3 is predicted, but the truth has none of it"


def test_counts_of_workers_add_up():
    rng = np.random.default_rng(0)
    whole, parts = ConfusionMatrix(5), [ConfusionMatrix(5), ConfusionMatrix(5)]
    for index in range(6):
        predicted, truth = rng.integers(0, 5, (2, 7, 9))
        truth[0, :3] = IGNORE
        whole.update(predicted, truth, ignore=IGNORE)
        parts[index % 2].update(predicted, truth, ignore=IGNORE)
    assert np.array_equal((parts[0] + parts[1]).counts, whole.counts)
    with pytest.raises(ValueError, match="4 and 5"):
        whole + ConfusionMatrix(4)


def test_means_over_some_classes_still_count_what_other_classes_took():
    matrix = ConfusionMatrix(3)
    matrix.update(np.array([0, 2, 2, 2]), np.array([0, 1, 2, 2]), ignore=IGNORE)
    assert matrix.metrics().mean_iou == pytest.approx((100 + 0 + 200 / 3) / 3)
    some = matrix.metrics(classes=[2])
    assert some.mean_iou == pytest.approx(200 / 3)
    assert some.pixel_accuracy == pytest.approx(100)
    assert np.isnan(some.iou_N[:2]).all()


def test_nothing_counted_gives_no_score():
    matrix = ConfusionMatrix(2)
    matrix.update(np.zeros((3, 3), int), np.full((3, 3), IGNORE), ignore=IGNORE)
    assert all(np.isnan(value) for value in matrix.metrics().named().values())


@pytest.mark.parametrize(
    ("predicted", "truth", "message"),
    [
        ([[0, 4]], [[0, 1]], "prediction has label 4, but there are 4 classes"),
        ([[0, -1]], [[0, 1]], "prediction has label -1"),
        ([[0, 1]], [[0, 7]], "truth has label 7, but there are 4 classes"),
        ([[0, 1]], [[0, 65535]], "truth has label 65535"),
        ([[0, 1, 2]], [[0, 1]], r"prediction is \(1, 3\) but truth is \(1, 2\)"),
    ],
)
def test_labels_that_cannot_be_counted_are_an_error(predicted, truth, message):
    matrix = ConfusionMatrix(4)
    with pytest.raises(ValueError, match=message):
        matrix.update(np.array(predicted), np.array(truth, dtype=np.uint16), ignore=IGNORE)
    assert not matrix.counts.any(), "a rejected image leaves nothing behind"
