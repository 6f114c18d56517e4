"""The form for inference gives what the plain one gives."""

import pytest
import torch

import sed
from sed.config import nano
from sed.decoder import Pairs
from sed.inference import class_attention, kernels, mlp, parts
from sed.inference.model import FastSED
from sed.inference.parts import cut
from sed.inference.text import Beginnings
from sed.model import SED
from sed.rejection import Rejection
from tests.sed.policies import Survivors, Watched

CLASSES = ["red ball", "grass", "blue sky", "house, home", "tree", "traffic light at night"]
CLOSE = {"atol": 1e-5, "rtol": 0}


@pytest.fixture(scope="module")
def plain():
    """A small model whose every weight and statistic is a number of its own."""
    torch.manual_seed(3)
    model = SED(nano()).eval().requires_grad_(False)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif name.endswith("running_mean") or tensor.ndim == 1:
            tensor.add_(0.2 * torch.randn_like(tensor))
    return model


@pytest.fixture(scope="module")
def fast(plain):
    return FastSED(plain)


@pytest.fixture(scope="module")
def images():
    torch.manual_seed(4)
    return torch.rand(2, 3, 200, 256)


def test_the_encoder_gives_the_same_features(plain, fast, images):
    expected, found = plain.encode(images), fast.encode(images)
    for one, other in zip(expected.pyramid, found.pyramid, strict=True):
        torch.testing.assert_close(other, one, **CLOSE)
    torch.testing.assert_close(found.embedding_BDHW, expected.embedding_BDHW, **CLOSE)


@pytest.mark.parametrize("rejection", ["none", "topk:1", "topk:3,1,2", "prob:0.5", "fixed:2"])
def test_the_scores_are_the_same_and_the_kept_classes_exactly(plain, fast, images, rejection):
    text_NPD, policy = plain.embed_classes(CLASSES), Rejection.parse(rejection)
    for expected, found in zip(
        plain.score(images, text_NPD, policy), fast.score(images, text_NPD, policy), strict=True
    ):
        assert torch.equal(found.candidates_K, expected.candidates_K)
        torch.testing.assert_close(found.logits_KHW, expected.logits_KHW, **CLOSE)


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("counts", [(0,), (0, 0), (0, 3)])
def test_images_of_which_no_class_survives_have_no_logits(plain, fast, images, counts, level):
    text_NPD = plain.embed_classes(CLASSES)
    expected, found = (
        model.score(
            images[: len(counts)],
            text_NPD,
            Rejection((Survivors(counts, level), *Rejection.parse("topk:6+prob:0").policies)),
        )
        for model in (plain, fast)
    )
    for one, other, count in zip(expected, found, counts, strict=True):
        assert one.candidates_K.tolist() == other.candidates_K.tolist() == list(range(count))
        assert other.logits_KHW.shape == one.logits_KHW.shape == (count, 64, 64)
        torch.testing.assert_close(other.logits_KHW, one.logits_KHW, **CLOSE)


def test_a_small_cache_changes_nothing(fast, images, monkeypatch):
    text_NPD = fast.embed_classes(CLASSES)
    expected = fast(images, text_NPD)
    monkeypatch.setattr(parts, "CPU_ELEMENTS", 1)
    monkeypatch.setattr(mlp, "HIDDEN_ELEMENTS", 2**14)
    monkeypatch.setattr(class_attention, "CPU_ELEMENTS", 2**14)
    torch.testing.assert_close(fast(images, text_NPD), expected, **CLOSE)


def test_text_that_is_no_unit_vector_is_made_one(plain, fast, images):
    text_NPD = 3 * torch.randn(4, 8, 128)
    torch.testing.assert_close(fast(images, text_NPD), plain(images, text_NPD), **CLOSE)


def test_class_names_have_the_same_embeddings(plain, fast):
    names = [*CLASSES, "x", "a very long name of a class with many words, in two synonyms", "x"]
    with torch.inference_mode():
        expected, found = plain.text_encoder(names), fast.text_encoder(names)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_each_distinct_beginning_of_texts_is_there_once():
    tokens_SL = torch.tensor([[7, 1, 2, 9], [7, 1, 3, 9], [7, 1, 9, 0], [7, 1, 2, 9]])
    found = Beginnings.of(tokens_SL, tokens_SL.argmax(dim=1))
    assert found.token_T.tolist() == [7, 1, 2, 3, 9, 9, 9]
    assert found.position_T.tolist() == [0, 1, 2, 2, 2, 3, 3]
    assert torch.equal(found.row_SL[0], found.row_SL[3])
    last = found.row_SL.gather(1, tokens_SL.argmax(dim=1, keepdim=True)).squeeze(1)
    assert last.unique().numel() == 3
    text, place = found.place_T // 4, found.place_T % 4
    assert torch.equal(tokens_SL[text, place], found.token_T)
    assert torch.equal(found.row_SL[text, place], torch.arange(7))


def test_load_model_gives_either_form(plain, tmp_path, images):
    path = sed.save_model(plain, tmp_path / "model.safetensors")
    fast = sed.load_model(path, optimize=True)
    assert isinstance(fast, FastSED)
    assert not isinstance(sed.load_model(path), FastSED)
    assert not fast.training
    assert fast.digest == sed.load_model(path).digest
    text_NPD = fast.embed_classes(CLASSES)
    torch.testing.assert_close(fast(images, text_NPD), plain(images, text_NPD), **CLOSE)


def test_features_that_were_kept_serve_both_forms(plain, fast, images):
    text_NPD = plain.embed_classes(CLASSES)
    essence = plain.condense(plain.encode(images))
    for expected, found in zip(
        plain.decode(essence, text_NPD), fast.decode(essence, text_NPD), strict=True
    ):
        torch.testing.assert_close(found.logits_KHW, expected.logits_KHW, **CLOSE)


def test_it_does_not_learn_and_is_not_saved(fast, images, tmp_path):
    pairs = Pairs.all(2, len(CLASSES), torch.device("cpu"))
    with pytest.raises(RuntimeError, match="does not learn"):
        fast.train()
    with pytest.raises(RuntimeError, match="does not learn"):
        fast.levels(fast.encode(images), fast.embed_classes(CLASSES), pairs)
    with pytest.raises(RuntimeError, match="is not saved"):
        sed.save_model(fast, tmp_path / "model.safetensors")
    assert fast.eval() is fast


def test_bfloat16_is_near_and_leaves_the_plain_model_alone(plain, fast, images):
    half = FastSED(plain, torch.bfloat16)
    text_NPD = plain.embed_classes(CLASSES)
    found, expected = half(images, text_NPD), fast(images, text_NPD)
    assert found.dtype == torch.float32
    difference = (found - expected).abs()
    assert 1e-5 < difference.mean() < 0.02 * expected.abs().mean()
    assert {parameter.dtype for parameter in plain.parameters()} == {torch.float32}
    torch.testing.assert_close(fast(images, text_NPD), plain(images, text_NPD), **CLOSE)
    essence = plain.condense(plain.encode(images))
    for features in (plain.encode(images), essence):
        half.decode(features, text_NPD)
    kept = half.score(images, text_NPD, Rejection.parse("fixed:3"))
    assert all(len(one.candidates_K) == 3 for one in kept)


def test_autocast_is_near_as_on_a_gpu(plain, fast, images, monkeypatch):
    """The operators and types of a GPU, on a CPU: public operators, bfloat16 by autocast."""
    monkeypatch.setattr(kernels, "FUSED", False)
    monkeypatch.setattr(parts, "cut", cut_as_on_a_gpu)
    text_NPD = plain.embed_classes(CLASSES)
    expected = plain(images, text_NPD)
    monkeypatch.setattr(FastSED, "autocast", lambda _: torch.autocast("cpu", torch.bfloat16))
    difference = (fast(images, text_NPD) - expected).abs()
    assert 1e-5 < difference.mean() < 0.02 * expected.abs().mean()
    kept = fast.score(images, text_NPD, Rejection.parse("fixed:3+topk:1"))
    assert all(0 < len(one.candidates_K) <= 3 for one in kept)


@pytest.mark.parametrize("form", ["plain", "fast"])
def test_the_first_rejection_is_in_float32_under_autocast(form, request, images, monkeypatch):
    monkeypatch.setattr(kernels, "FUSED", False)
    model = request.getfixturevalue(form)
    features, text_NPD = model.encode(images), model.embed_classes(CLASSES)
    exact, half = Watched(), Watched()
    model.decode(features, text_NPD, Rejection((exact,)))
    monkeypatch.setattr(type(model), "autocast", lambda _: torch.autocast("cpu", torch.bfloat16))
    model.decode(features, text_NPD, Rejection((half,)))
    for image in range(2):
        assert torch.equal(half.logits[0][image], exact.logits[0][image])
        assert not torch.equal(half.logits[1][image], exact.logits[1][image])


def cut_as_on_a_gpu(counts, elements_each, _, **options):
    return cut(counts, elements_each, torch.device("cuda"), **options)


def test_pairs_of_several_images_may_go_through_a_step_together(plain, fast, images, monkeypatch):
    monkeypatch.setattr(parts, "cut", cut_as_on_a_gpu)
    text_NPD, policy = plain.embed_classes(CLASSES), Rejection.parse("topk:1")
    for expected, found in zip(
        plain.score(images, text_NPD, policy), fast.score(images, text_NPD, policy), strict=True
    ):
        assert torch.equal(found.candidates_K, expected.candidates_K)
        torch.testing.assert_close(found.logits_KHW, expected.logits_KHW, **CLOSE)


def test_bfloat16_is_refused_where_it_would_have_no_effect():
    with pytest.raises(ValueError, match=r"bfloat16 needs optimize=True"):
        sed.load_model("nano", dtype=torch.bfloat16)
