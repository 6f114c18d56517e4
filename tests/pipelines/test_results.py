import json

import numpy as np
import pytest

from pipelines.evaluation.tally import Tally
from pipelines.evaluation.text import lines, table
from pipelines.results import Result, document, metrics
from tests.pipelines.evaluation.by_grey import labelled

CLASSES = ["sand", "red ball", "blue ball"]


def result_of(pairs, name="scenes-unseen"):
    """A result of one image of one row of pixels."""
    tally = Tally.empty(3)
    predicted, truth = np.array(pairs).T
    tally.update(predicted[None], truth[None].astype(np.uint8))
    data = labelled(CLASSES, name=name, unseen=[2])
    return Result(data=data, rejection="topk:8+prob:0.1", tally=tally, images=1, candidates=2)


def test_never_trained_classes_have_a_score_of_their_own():
    result = result_of([(0, 0), (0, 0), (2, 2), (1, 2), (0, 255)])
    assert result.summary()["mIoU"] == pytest.approx((100 + 50) / 2)
    assert result.summary()["mIoU_unseen"] == pytest.approx(50)
    assert "mIoU_unseen" not in result_of([(0, 0)], name="scenes").summary()


def test_the_summary_holds_what_the_contract_promises_and_what_others_leave_out():
    found = result_of([(0, 0), (0, 0), (0, 1), (2, 2), (1, 2)]).summary()
    assert {"name", "mIoU", "fwIoU", "mACC", "pACC", "images", "rejection"} <= set(found)
    assert found["pACC"] == pytest.approx(60)
    assert found["collapsed_classes"] == ["red ball"]
    assert found["sizes"]["small"]["components"] == 3
    assert found["sizes"]["large"] == {
        "components": 0,
        "iou": None,
        "recall": None,
        "precision": None,
    }
    assert 0 < found["boundary_mIoU"] < 100
    assert found["mIoU_detectron2_v0.6"] == found["mIoU"], "every predicted class is true somewhere"


def test_a_result_can_be_printed_and_stored():
    results = [result_of([(0, 0), (2, 2), (1, 2)]), result_of([(0, 255)])]
    (known, nothing) = json.loads(json.dumps(document(results), allow_nan=False))
    assert [one["class"] for one in known["per_class"]] == ["sand", "blue ball"]
    assert [one["unseen"] for one in known["per_class"]] == [False, True]
    assert [one["pixels"] for one in known["per_class"]] == [1, 2]
    assert known["confusions"] == [
        {"truth": "blue ball", "predicted": "red ball", "pixels": 1, "share_of_truth": 0.5}
    ]
    assert nothing["mIoU"] is None
    assert "75.00" in "\n".join(table(results))
    names = metrics(results[:1])
    assert names["scenes-unseen/topk:8_prob:0.1/mIoU"] == pytest.approx(75)
    assert names["scenes-unseen/topk:8_prob:0.1/small/recall"] == pytest.approx(200 / 3)
    assert names["scenes-unseen/topk:8_prob:0.1/collapsed_classes"] == 0


def test_a_lost_row_is_never_a_score():
    result = result_of([(0, 0)])
    result.data = labelled(CLASSES, 2)
    with pytest.raises(AssertionError, match="2 images, but 1 rows"):
        result.finish()


def test_broken_images_are_named_once_whatever_the_rejections():
    results = [result_of([(0, 0)]), result_of([(0, 0)])]
    errors = [{"image_id": f"photo-{i:02d}", "message": "the mask: x"} for i in range(22)]
    for result in results:
        result.errors = errors
    text = lines(results, None, None)
    assert text.count("  photo-00: the mask: x") == 1
    assert "22 images of scenes-unseen could not be evaluated, in no score:" in text
    assert text[-1] == "  and 2 more"
