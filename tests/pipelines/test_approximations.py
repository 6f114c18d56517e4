"""What approximations cost, on drawn scenes."""

import pytest
import torch

import sed
from pipelines import approximations, scenes


def test_each_form_is_compared_with_the_exact_one(monkeypatch):
    monkeypatch.setattr(approximations, "COSINE_ERRORS", (0.1,))
    exact, half, low_rank = approximations.measure(2)
    assert exact["worst_iou_change"] == exact["largest_logit_change"] == 0
    assert exact["mean_iou"] > 50
    for found in (half, low_rank):
        assert 0 < found["mean_logit_change"] < found["largest_logit_change"]
        assert abs(found["mean_iou_change"]) < 5
        assert found["mean_iou_change"] == found["mean_iou"] - exact["mean_iou"]
        ratio = exact["milliseconds"] / found["milliseconds"]
        assert found["speed_up"] == pytest.approx(ratio)
    assert exact["speed_up"] == 1
    said = approximations.line(low_rank | {"milliseconds": 40.0, "speed_up": 1.25})
    assert "of 8 prompts (cosines within 0.1): 40.0 ms an image, 1.25 times as fast, mIoU" in said


class Quick:
    """A model that finds the first of two classes everywhere."""

    device = torch.device("cpu")

    def prepare(self, pixels_HW3):
        return torch.zeros(3, 4, 4)

    def score(self, images_B3HW, text_NPD):
        logits_KHW = torch.stack([torch.ones(4, 4), torch.zeros(4, 4)])
        return [sed.ClassScores(logits_KHW, torch.arange(2)) for _ in images_B3HW]


def test_the_first_call_of_a_form_is_not_timed_and_its_scene_counts_once(monkeypatch):
    times = iter([90.0, 3.0, 1.0, 2.0])
    monkeypatch.setattr(approximations, "clock", lambda work, device: (next(times), work()))
    drawn = [scenes.draw(0, index, split="seen") for index in range(3)]
    found = approximations.label(Quick(), torch.zeros(len(scenes.vocabulary()), 1, 1), drawn)
    assert (found.seconds, len(found.logits)) == (2, 3)
    assert found.matrix.counts.sum() == sum(scene.mask_HW.size for scene in drawn)


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
