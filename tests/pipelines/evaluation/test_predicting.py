import numpy as np
import torch

import sed
from tests.pipelines.evaluation.by_grey import ByGrey, evaluate_rows, halves, predict_all, row


def labels_of(predicted, index, shape, rejection=0):
    return np.frombuffer(predicted["labels"][index][rejection].as_py(), np.uint16).reshape(shape)


def test_images_of_different_sizes_go_through_together():
    rows = [row(*halves(60, 100), 2), row(*halves(301, 77), 2)]
    together = predict_all(rows, 2, ["none"])
    for index, one in enumerate(rows):
        assert together["labels"][index] == predict_all([one], 2, ["none"])["labels"][0]


def test_each_rejection_has_labels_of_its_own():
    predicted = predict_all([row(*halves(), 120)], 120, ["none", "fixed:3"])
    assert predicted["candidates"].to_pylist() == [[120, 3]]
    free, few = (labels_of(predicted, 0, (60, 100), rejection) for rejection in range(2))
    assert free.max() == 119
    assert few.max() == 100


def test_classes_beyond_those_of_the_masks_are_the_background():
    image = np.linspace(0, 255, 100).astype(np.uint8)[None, :, None].repeat(60, 0).repeat(3, 2)
    truth = np.minimum(np.round(np.linspace(0, 58, 100)), 20)[None].repeat(60, 0).astype(np.uint8)
    result = evaluate_rows([row(image, truth, 21)], 21, num_asked=59)
    assert result.matrix.counts.shape == (22, 22)
    assert result.matrix.metrics().pixel_accuracy > 90
    assert result.matrix.metrics().iou_N[20] > 95
    assert result.candidates == 59


class Rejecting(ByGrey):
    """Drops every class."""

    def decode(self, features, text_NPD, rejection=None):
        nothing = torch.zeros(0, 64, 64)
        return [sed.ClassScores(nothing, torch.zeros(0, dtype=torch.long)) for _ in features]


def test_where_no_class_survives_the_first_one_wins_as_in_the_published_evaluation():
    rows = [row(*halves(), 2)]
    predicted = predict_all(rows, 2, ["prob:0.9"], load_model=lambda device: Rejecting())
    assert not labels_of(predicted, 0, (60, 100)).any()
    assert predicted["candidates"].to_pylist() == [[0]]


class Small(ByGrey):
    """Has memory for one image, and for none of white."""

    def encode(self, images_B3HW):
        if len(images_B3HW) > 1 or images_B3HW.min() > 0.9:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().encode(images_B3HW)


def test_images_that_do_not_fit_into_memory_go_through_alone_or_are_errors():
    image, mask = halves()
    rows = [row(image, mask, 2), row(np.full_like(image, 255), mask, 2), row(image, mask, 2)]
    predicted = predict_all(rows, 2, ["none"], load_model=lambda device: Small())
    assert predicted["error_type"].to_pylist() == [None, "OutOfMemory", None]
    assert labels_of(predicted, 2, (60, 100)).max() == 1


def test_an_error_passes_through():
    bad = row(*halves(), 2) | {"mask": None}
    predicted = predict_all([bad, row(*halves(), 2)], 2, ["none"])
    assert predicted["error_type"].to_pylist() == ["BadMask", None]
    assert predicted["labels"][0].as_py() is None
