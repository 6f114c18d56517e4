"""The whole base model gives the numbers of the official implementation."""

import dataclasses

import pytest
import torch
from PIL import Image

from sed.decoder import Pairs
from sed.inference.cost_map import Comparison
from sed.rejection import Rejection, TopK
from tests.sed.official import Golden
from tests.sed.policies import Watched

pytestmark = pytest.mark.weights

FEATURES = {"atol": 3e-5, "rtol": 0}
DECODER = {"atol": 2e-5, "rtol": 0}
COSINES = {"atol": 1e-6, "rtol": 0}
PROBABILITIES = {"atol": 5e-6, "rtol": 0}

FULL = [
    "full_B_256x256_T20_norej",
    "full_B_192x256_T150_norej",
    "full_B_192x256_T20_pool2",
    "full_B_native768_300x400_T8_norej",
]
REJECTING = [
    *(f"full_B_256x256_T20_k{k}" for k in (1, 2, 4, 8)),
    *(f"full_B_192x256_T150_k{k}" for k in (1, 2, 4, 8)),
    "full_B_native768_300x400_T40_k1",
]


def encode(model, golden: Golden):
    """Features at the stored result's working size, which need not be the model's own."""
    image = golden["image"].unsqueeze(0).float() / 255
    if golden.meta["clip_resolution"] == [768, 768]:
        return model.encode(image)
    return model.image_encoder(image)


@pytest.mark.parametrize("name", FULL)
def test_every_stage(goldens, base_model, texts, name):
    golden = goldens(name)
    text_NPD = texts(golden.meta)
    assert torch.equal(text_NPD[:3, :4, :8], golden["text_slice"])
    pool = golden.meta["pooling"][0]
    with torch.inference_mode():
        features = encode(base_model, golden)
        pairs = Pairs.all(1, len(text_NPD), torch.device("cpu"))
        scores_MPHW, cost_MCHW = base_model.embed_costs(features, text_NPD, pairs)
        guidance = base_model.decoder.guide_by_image(features.pyramid)
        embedded = cost_MCHW.clone()  # the decoder works in its memory
        levels = base_model.decoder.levels(cost_MCHW, scores_MPHW, features.pyramid, pairs, pool)
    for key, value in zip(("res2", "res3", "res4"), features.pyramid, strict=True):
        torch.testing.assert_close(golden.sliced(key, value), golden[key], **FEATURES)
    for key, value in zip(("guid0", "guid1", "guid2"), guidance, strict=True):
        torch.testing.assert_close(golden.sliced(key, value), golden[key], **FEATURES)
    dense = golden.sliced("clip_vis_dense", features.embedding_BDHW)
    torch.testing.assert_close(dense, golden["clip_vis_dense"], **FEATURES)
    corr_BPNHW = scores_MPHW.transpose(0, 1).unsqueeze(0)
    torch.testing.assert_close(golden.sliced("corr", corr_BPNHW), golden["corr"], **COSINES)
    torch.testing.assert_close(golden.sliced("conv1", embedded), golden["conv1"], **DECODER)
    for key, value in zip(("final_logits", "aux0", "aux1", "aux2"), levels, strict=True):
        sliced = golden.sliced(key, value.unsqueeze(0))
        torch.testing.assert_close(sliced, golden[key], **DECODER)


@pytest.mark.parametrize("name", FULL)
def test_every_stage_of_the_fast_form(goldens, fast_base_model, texts, name):
    golden, model = goldens(name), fast_base_model
    with torch.inference_mode():
        features = encode(model, golden)
        essence = model.condense(features)
        comparison = Comparison(features.embedding_BDHW, texts(golden.meta))
        pairs = Pairs.all(1, golden.meta["T"], torch.device("cpu"))
        scores_MHWP = comparison.scores(pairs)
        embedded = model.decoder.embed(scores_MHWP.permute(0, 3, 1, 2))
        early = [comparison.each(pairs, model.first_head)]
        if golden.meta["pooling"][0] == 1:  # it has no other
            watched = Watched()
            model.decode(essence, texts(golden.meta), Rejection((watched,)))
            early = [logits_NHW for (logits_NHW,) in watched.logits]
        guided, costs = scores_MHWP, []
        for guide in model.decoder.cost_guidance:
            guided = guide(guided)
            costs.append(guided.permute(0, 3, 1, 2))
    for key, value in zip(("res2", "res3", "res4"), features.pyramid, strict=True):
        torch.testing.assert_close(golden.sliced(key, value), golden[key], **FEATURES)
    for key, value in zip(("guid0", "guid1", "guid2"), essence.guidance, strict=True):
        torch.testing.assert_close(golden.sliced(key, value), golden[key], **FEATURES)
    dense = golden.sliced("clip_vis_dense", features.embedding_BDHW)
    torch.testing.assert_close(dense, golden["clip_vis_dense"], **FEATURES)
    corr_BPNHW = scores_MHWP.permute(3, 0, 1, 2).unsqueeze(0)
    torch.testing.assert_close(golden.sliced("corr", corr_BPNHW), golden["corr"], **COSINES)
    torch.testing.assert_close(golden.sliced("conv1", embedded), golden["conv1"], **DECODER)
    for key, value in zip(("corrg0", "corrg1", "corrg2"), costs, strict=True):
        torch.testing.assert_close(golden.sliced(key, value), golden[key], **DECODER)
    for key, value in zip(("aux0", "aux1", "aux2"), early, strict=False):
        sliced = golden.sliced(key, value.unsqueeze(0))
        torch.testing.assert_close(sliced, golden[key], **DECODER)


@pytest.mark.parametrize("name", [name for name in FULL if "pool2" not in name])
def test_final_output(goldens, either_base_model, texts, name):
    golden = goldens(name)
    with torch.inference_mode():
        features = encode(either_base_model, golden)
        (scores,) = either_base_model.decode(features, texts(golden.meta))
    sliced = golden.sliced("final_logits", scores.logits_KHW.unsqueeze(0))
    torch.testing.assert_close(sliced.clone(), golden["final_logits"], **DECODER)
    check_output(golden, scores)


@pytest.mark.parametrize("name", REJECTING)
def test_early_rejection(goldens, either_base_model, texts, name):
    golden = goldens(name)
    watched = Watched(TopK((golden.meta["rejection"],)))
    with torch.inference_mode():
        features = encode(either_base_model, golden)
        (scores,) = either_base_model.decode(features, texts(golden.meta), Rejection((watched,)))
    assert scores.candidates_K.tolist() == golden["kept2"].tolist()
    for level in range(3):
        assert watched.classes(level) == golden[f"kept{level}"].tolist()
    for level, key in enumerate(("head0", "head1")):
        (logits_NHW,), expected = watched.logits[level], golden[key].squeeze(1)
        every = logits_NHW.shape[-1] // expected.shape[-1]
        torch.testing.assert_close(logits_NHW[:, ::every, ::every], expected, **DECODER)
    every = scores.logits_KHW.shape[-1] // golden["prob_kept"].shape[-1]
    kept = scores.logits_KHW.sigmoid()[:, ::every, ::every]
    torch.testing.assert_close(kept.clone(), golden["prob_kept"], **PROBABILITIES)
    check_output(golden, scores)


def check_output(golden, scores):
    """Compare the resized probabilities of all classes, rejected ones at zero."""
    height, width = golden.meta["out_hw"]
    with torch.inference_mode():
        resized = torch.nn.functional.interpolate(
            scores.logits_KHW.sigmoid().unsqueeze(0),
            size=(height, width),
            mode="bilinear",
            align_corners=False,
        )[0]
        output = torch.zeros(golden.meta["T"], height, width)
        output[scores.candidates_K] = resized
    sliced = golden.sliced("sem_seg", output)
    torch.testing.assert_close(sliced, golden["sem_seg"], **PROBABILITIES)


def test_segment_gives_the_stored_labels_end_to_end(goldens, either_base_model, texts, monkeypatch):
    """The public way, photo in and labels out."""
    golden = goldens("full_B_native768_300x400_T8_norej")
    image_3HW = golden["image"].unsqueeze(0).float() / 255
    logits_BNHW = either_base_model(image_3HW, texts(golden.meta))
    expected = golden["final_logits"]
    sliced = golden.sliced("final_logits", logits_BNHW)
    torch.testing.assert_close(sliced.clone(), expected, **DECODER)
    photo = Image.fromarray(golden["image"].permute(1, 2, 0).numpy())
    config = dataclasses.replace(
        either_base_model.config, short_side=300
    )  # the stored one is not resized
    monkeypatch.setattr(either_base_model, "config", config)
    result = either_base_model.segment(photo, texts(golden.meta))
    probabilities_NHW = torch.nn.functional.interpolate(
        logits_BNHW.clone().sigmoid(), size=(300, 400), mode="bilinear", align_corners=False
    )[0]
    confidence_HW, labels_HW = probabilities_NHW.max(dim=0)
    assert (result.labels == labels_HW.numpy()).mean() > 0.9999  # all but ties within rounding
    torch.testing.assert_close(torch.from_numpy(result.confidence), confidence_HW, **PROBABILITIES)
    assert result.candidates == list(range(8))
