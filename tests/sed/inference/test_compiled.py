"""A compiled model gives what the model gives, whatever survives and whatever it saw before."""

import pytest
import torch

import sed
from sed.inference import kernels, parts
from sed.inference.buckets import compile_model
from sed.inference.model import FastSED
from sed.rejection import Rejection
from tests.sed.inference.test_model import cut_as_on_a_gpu

CLASSES = [
    *sed.vocabulary("voc20b")[:16],
    *["red ball", "grass", "blue sky", "house", "tree", "car", "sand", "fish"],
]
TOPK = Rejection.parse("topk:6,3,1")
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture
def plain():
    torch._dynamo.reset()
    return sed.load_model("nano")


@pytest.fixture
def batches():
    """Two batches of images of which unequal numbers of classes survive.

    No logit is nearer than 1e-3 to where another class would be kept.
    """
    torch.manual_seed(2)
    coarse = torch.rand(4, 3, 4, 4)
    images = torch.nn.functional.interpolate(coarse, size=(256, 256), mode="bilinear")
    return images.split(2)


def check_in_turn(model, expected, batches, text_NPD, tolerance):
    """Score the batches in turn, thrice, and only then look at what came back.

    A CUDA graph is recorded at the second call and replayed from then on; what a replay would
    overwrite, an earlier result would show.
    """
    found = [model.score(images, text_NPD, TOPK) for _ in range(3) for images in batches]
    for scores, wanted in zip(found, 3 * expected, strict=True):
        for one, other in zip(scores, wanted, strict=True):
            assert one.candidates_K.tolist() == other.candidates_K.tolist()
            torch.testing.assert_close(one.logits_KHW, other.logits_KHW, atol=tolerance, rtol=0)


def unequal(expected):
    """Say whether each image of a batch has another number of survivors."""
    return all(len({len(one.candidates_K) for one in scores}) == len(scores) for scores in expected)


def test_a_compiled_model_gives_the_same_for_one_batch_after_another(plain, batches, monkeypatch):
    monkeypatch.setattr(kernels, "FUSED", False)
    monkeypatch.setattr(parts, "cut", cut_as_on_a_gpu)
    text_NPD = plain.embed_classes(CLASSES)
    expected = [FastSED(plain).score(images, text_NPD, TOPK) for images in batches]
    assert unequal(expected)
    compiled = FastSED(plain)
    compile_model(compiled, backend="aot_eager")
    check_in_turn(compiled, expected, batches, text_NPD, 2e-5)


@pytest.mark.gpu
@NO_GPU
@pytest.mark.parametrize("form", ["optimized", "compiled", "graphs"])
def test_every_form_gives_the_same_on_a_gpu_in_float32(plain, batches, monkeypatch, form):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    plain.mixed_precision = False
    plain.cuda()
    text_NPD = plain.embed_classes(CLASSES)
    expected = [plain.score(images, text_NPD, TOPK) for images in batches]
    assert unequal(expected)
    fast = FastSED(plain)
    if form != "optimized":
        compile_model(fast, graphs=form == "graphs")
    check_in_turn(fast, expected, batches, text_NPD, 2e-4)


@pytest.mark.gpu
@NO_GPU
@pytest.mark.parametrize("form", ["plain", "optimized", "compiled", "graphs"])
def test_bfloat16_moves_logits_by_a_fiftieth_on_a_gpu(plain, batches, form):
    plain.cuda()
    images, text_NPD = batches[0], plain.embed_classes(CLASSES)
    plain.mixed_precision = False
    expected = plain(images, text_NPD)
    plain.mixed_precision = True
    half = plain if form == "plain" else FastSED(plain)
    if form in ("compiled", "graphs"):
        compile_model(half, graphs=form == "graphs")
    for _ in range(3):
        difference = (half(images, text_NPD) - expected).abs()
        assert 0 < difference.mean() < 0.02 * expected.abs().mean()
