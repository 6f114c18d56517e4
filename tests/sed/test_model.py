"""Laws of the model, on a small one with random weights."""

import numpy as np
import pytest
import torch
from PIL import Image

from sed.config import nano
from sed.inference.model import FastSED
from sed.model import SED
from sed.rejection import Rejection

CLASSES = ["red ball", "grass", "blue sky", "house, home", "tree", "car", "sand", "fish", "mug"]


@pytest.fixture(scope="module")
def plain():
    """A small model whose scores differ from class to class."""
    torch.manual_seed(1)
    model = SED(nano()).eval()
    with torch.no_grad():
        model.text_encoder.text.token_embedding.weight.mul_(20)
        for parameter in model.image_encoder.parameters():
            if parameter.ndim > 1:
                torch.nn.init.kaiming_normal_(parameter)
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))
        model.cost_map.embed.weight.mul_(10)
    return model


@pytest.fixture(scope="module", params=["plain", "fast"])
def model(request, plain):
    """The same in both forms, one after the other."""
    return plain if request.param == "plain" else FastSED(plain)


@pytest.fixture(scope="module")
def text_NPD(plain):  # noqa: N802
    return plain.embed_classes(CLASSES)


@pytest.fixture(scope="module")
def images():
    """Three images of different content."""
    torch.manual_seed(2)
    coarse = torch.rand(3, 3, 8, 8)
    return torch.nn.functional.interpolate(coarse, size=(256, 256), mode="bilinear")


REJECTIONS = ["none", "topk:1", "topk:3,2,1", "prob:0.5", "fixed:4", "fixed:6+topk:1"]


@pytest.mark.parametrize("rejection", REJECTIONS)
def test_an_image_in_a_batch_gets_what_it_gets_alone(model, images, text_NPD, rejection):
    rejection = Rejection.parse(rejection)
    together = model(images, text_NPD, rejection)
    for image, expected in zip(images, together, strict=True):
        alone = model(image.unsqueeze(0), text_NPD, rejection)[0]
        assert torch.equal(alone.isinf(), expected.isinf())
        finite = expected.isfinite()
        torch.testing.assert_close(alone[finite], expected[finite], atol=1e-5, rtol=0)


@pytest.mark.parametrize("rejection", REJECTIONS)
def test_classes_in_another_order_give_the_same_in_that_order(model, images, text_NPD, rejection):
    rejection = Rejection.parse(rejection)
    order = torch.tensor([4, 0, 8, 2, 6, 1, 3, 7, 5])
    straight = model(images, text_NPD, rejection)[:, order]
    shuffled = model(images, text_NPD[order], rejection)
    assert torch.equal(shuffled.isinf(), straight.isinf())
    finite = straight.isfinite()
    torch.testing.assert_close(shuffled[finite], straight[finite], atol=1e-5, rtol=0)


@pytest.mark.parametrize("best", [len(CLASSES), len(CLASSES) + 5])
def test_keeping_all_classes_equals_no_rejection_exactly(model, images, text_NPD, best):
    kept = model(images, text_NPD, Rejection.parse(f"topk:{best}"))
    assert torch.equal(kept, model(images, text_NPD))


def test_rejection_keeps_a_set_for_each_image(model, images, text_NPD):
    scores = model.score(images, text_NPD, Rejection.parse("topk:1"))
    sets = [set(one.candidates_K.tolist()) for one in scores]
    assert any(one != other for one in sets for other in sets)
    assert all(0 < len(one) < len(CLASSES) for one in sets)


def test_work_is_done_for_kept_pairs_only(model, images, text_NPD, monkeypatch):
    """No block sees a pair that was rejected before it, nor a class kept for another image."""
    seen = []
    kind = type(model.decoder)
    grow = kind.grow

    def counting(self, level, x, *rest):
        seen.append(len(x))
        return grow(self, level, x, *rest)

    monkeypatch.setattr(kind, "grow", counting)
    scores = model.score(images, text_NPD, Rejection.parse("fixed:4+topk:1"))
    kept = sum(len(one.candidates_K) for one in scores)
    union = len(set().union(*(one.candidates_K.tolist() for one in scores)))
    assert seen == sorted(seen, reverse=True)
    assert seen[0] <= 4 * len(images)
    assert seen[-1] == kept < union * len(images)


def test_rejected_classes_are_minus_infinity(model, images, text_NPD):
    logits_BNHW = model(images, text_NPD, Rejection.parse("fixed:2"))
    assert logits_BNHW.shape == (3, len(CLASSES), 64, 64)
    per_class = logits_BNHW.isinf().flatten(2)
    assert torch.equal(per_class.all(dim=2), per_class.any(dim=2))
    assert ((~per_class.all(dim=2)).sum(dim=1) == 2).all()


def test_any_image_size_is_accepted(model, text_NPD):
    assert model(torch.rand(2, 3, 123, 457), text_NPD).shape == (2, len(CLASSES), 64, 64)


def test_an_empty_batch_gives_an_empty_result(model, text_NPD):
    assert model(torch.rand(0, 3, 256, 256), text_NPD).shape == (0, len(CLASSES), 64, 64)


def test_segment_labels_the_photo_at_its_own_size(model):
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 140, 3), np.uint8))
    result = model.segment(photo, CLASSES, Rejection.parse("fixed:3"))
    assert result.labels.shape == result.confidence.shape == (90, 140)
    assert set(np.unique(result.labels)) <= set(result.candidates)
    assert len(result.candidates) == 3
    assert 0 <= result.confidence.min() <= result.confidence.max() <= 1


def test_segment_takes_names_or_their_embeddings(model, text_NPD):
    photo = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    by_name, by_text = model.segment(photo, CLASSES), model.segment(photo, text_NPD)
    assert np.array_equal(by_name.labels, by_text.labels)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_segment_takes_any_pillow_mode(model, text_NPD, mode):
    assert model.segment(Image.new(mode, (50, 40)), text_NPD).labels.shape == (40, 50)


def test_segment_sees_what_a_person_sees(model, text_NPD):
    """Transparency is white, 16 bit are scaled and the camera's orientation is applied."""
    generator = np.random.default_rng(0)
    grey = generator.integers(0, 256, (40, 50), dtype=np.uint8)

    def labels(image):
        return model.segment(image, text_NPD).confidence

    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    np.testing.assert_array_equal(labels(deep), labels(Image.fromarray(grey)))
    alpha = Image.fromarray(grey).convert("RGBA")
    alpha.putalpha(0)
    np.testing.assert_array_equal(labels(alpha), labels(Image.new("RGB", (50, 40), "white")))
    sideways = Image.fromarray(grey)
    sideways.getexif()[0x0112] = 6
    turned = Image.fromarray(np.rot90(grey, -1))
    np.testing.assert_array_equal(labels(sideways), labels(turned))


def test_images_of_double_precision_are_taken(model, text_NPD):
    images = torch.rand(1, 3, 256, 256, dtype=torch.float64)
    torch.testing.assert_close(model(images, text_NPD), model(images.float(), text_NPD))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(3, 256, 256), "images must be"),
        (torch.rand(1, 4, 256, 256), "images must be"),
        (torch.zeros(1, 3, 256, 256, dtype=torch.uint8), "floats in"),
    ],
)
def test_wrong_images_are_refused(model, text_NPD, images, message):
    with pytest.raises(ValueError, match=message):
        model(images, text_NPD)


def test_text_of_another_model_is_refused(model, images):
    with pytest.raises(ValueError, match="embed_classes"):
        model(images, torch.rand(4, 80, 640))


@pytest.mark.parametrize("classes", [[], "red ball", ["red ball", " "], ["red ball", None]])
def test_wrong_class_lists_are_refused(model, classes):
    with pytest.raises(ValueError, match="class"):
        model.embed_classes(classes)


def test_early_heads_learn_without_changing_the_features(plain, images, text_NPD):
    """The gradient of an early head stops at what it looks at."""
    from sed.decoder import Pairs

    model = plain

    features = model.image_encoder(images)
    pairs = Pairs.all(3, len(text_NPD), torch.device("cpu"))
    levels = model.levels(features, text_NPD, pairs)
    model.zero_grad()
    levels[1].sum().backward()
    touched = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert touched == {"decoder.heads.0.weight", "decoder.heads.0.bias"}
    model.zero_grad()
