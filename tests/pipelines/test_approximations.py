"""What approximations cost, on drawn scenes."""

from pipelines import approximations


def test_each_form_is_compared_with_the_exact_one(monkeypatch):
    monkeypatch.setattr(approximations, "COSINE_ERRORS", (0.1,))
    exact, half, low_rank = approximations.measure(2)
    assert exact["worst_iou_change"] == exact["largest_logit_change"] == 0
    assert exact["mean_iou"] > 50
    for found in (half, low_rank):
        assert 0 < found["mean_logit_change"] < found["largest_logit_change"]
        assert abs(found["mean_iou"] - exact["mean_iou"]) < 5
    assert "of 8 prompts (cosines within 0.1): mIoU" in approximations.line(low_rank)
