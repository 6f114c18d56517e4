"""What approximations cost, on drawn scenes."""

import pytest
import torch

import sed
from pipelines import approximations


def test_each_form_is_compared_with_the_exact_one(monkeypatch):
    monkeypatch.setattr(approximations, "COSINE_ERRORS", (0.1,))
    exact, half, low_rank = approximations.measure(2)
    assert exact["worst_iou_change"] == exact["largest_logit_change"] == 0
    assert exact["mean_iou"] > 50
    for found in (half, low_rank):
        assert 0 < found["mean_logit_change"] < found["largest_logit_change"]
        assert abs(found["mean_iou_change"]) < 5
        assert found["mean_iou_change"] == found["mean_iou"] - exact["mean_iou"]
    assert "of 8 prompts (cosines within 0.1): mIoU" in approximations.line(low_rank)


def test_half_precision_is_by_autocast_on_a_gpu_and_in_the_weights_on_a_cpu(monkeypatch):
    plain = sed.load_model("nano")
    plain.mixed_precision = False
    on_cpu = approximations.in_bfloat16(plain)
    assert on_cpu.decoder.embed.weight.dtype == torch.bfloat16
    monkeypatch.setattr(type(plain), "device", torch.device("cuda"))
    on_gpu = approximations.in_bfloat16(plain)
    assert on_gpu.decoder.embed.weight.dtype == torch.float32
    assert on_gpu.mixed_precision
    assert not plain.mixed_precision


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_forms_are_compared_on_a_gpu(monkeypatch):
    monkeypatch.setattr(approximations, "COSINE_ERRORS", ())
    exact, half = approximations.measure(2, device="cuda")
    assert exact["mean_iou"] > 50
    assert half["mean_logit_change"] > 0
