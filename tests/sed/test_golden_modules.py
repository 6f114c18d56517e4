"""Each part by itself gives the numbers of the official implementation."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from sed.class_attention import ClassAttention, linear_attention
from sed.config import nano
from sed.cost_map import CostMap, cosine_scores
from sed.decoder import Decoder, DecoderBlock, Fuse, Pairs, SpatialMix
from sed.features import Essence
from sed.inference.class_attention import FastClassAttention
from sed.inference.cost_map import Comparison, FirstHead
from sed.inference.decoder import FastBlock, FastDecoder, fast_space
from sed.inference.model import FastSED
from sed.loss import level_losses
from sed.rejection import Rejection, TopK
from sed.resize import fit_square, to_model_input
from sed.shortest_edge import resize_shortest_edge
from tests.sed.official import fill
from tests.sed.policies import Watched

pytestmark = pytest.mark.weights

CLOSE = {"atol": 1e-5, "rtol": 0}
SMALL = dataclasses.replace(
    nano(),
    hidden_dim=32,
    decoder_dims=(32, 16, 16),
    image_guidance_dims=(8, 4, 4),
    cost_guidance_dims=(8, 4, 4),
)


@pytest.fixture
def no_gradients():
    with torch.inference_mode():
        yield


def test_linear_attention(goldens):
    golden = goldens("mod_linear_attention")
    out = linear_attention(golden["q"], golden["k"], golden["v"])
    torch.testing.assert_close(out, golden["out"], **CLOSE)


def test_attention_layer(goldens, recipe):
    golden = goldens("mod_attention_layer")
    layer = ClassAttention(16, num_heads=4)
    names = {"query": "q", "key": "k", "value": "v"}
    for ours, theirs in names.items():
        fill(
            getattr(layer, ours), recipe, f"attn_layer.{theirs}.", 11, ours=f"x.classes.{ours}.",
            theirs=f"x.attention.attention.{theirs}.",
        )  # fmt: skip
    for form in (layer, FastClassAttention(layer)):
        torch.testing.assert_close(form.attend(golden["x"]), golden["out"], **CLOSE)


@pytest.mark.parametrize("name", ["p1", "p2", "p2odd"])
@pytest.mark.parametrize("chunked", [False, True])
def test_class_attention_with_and_without_pooling(goldens, recipe, name, chunked):
    golden = goldens(f"mod_class_layer_{name}")
    layer = fill(
        ClassAttention(16, num_heads=4), recipe, "class_layer.", 11, ours="x.classes.",
        theirs="x.attention.",
    )  # fmt: skip
    num_images, _, num_classes = golden["x"].shape[:3]
    x_MCHW = golden["x"].transpose(1, 2).flatten(0, 1)
    with torch.set_grad_enabled(not chunked):
        out = layer(x_MCHW, (num_classes,) * num_images, golden.meta["pool"][0])
    out_BCNHW = out.unflatten(0, (num_images, num_classes)).transpose(1, 2)
    torch.testing.assert_close(out_BCNHW, golden["out"], **CLOSE)


def test_class_attention_of_the_fast_form(goldens, recipe, no_gradients):
    golden = goldens("mod_class_layer_p1")
    layer = fill(
        ClassAttention(16, num_heads=4), recipe, "class_layer.", 11, ours="x.classes.",
        theirs="x.attention.",
    )  # fmt: skip
    x_MHWC = golden["x"].permute(0, 2, 3, 4, 1).flatten(0, 1).contiguous()
    FastClassAttention(layer)(x_MHWC, (golden["x"].shape[2],) * len(golden["x"]))
    expected = golden["out"].permute(0, 2, 3, 4, 1).flatten(0, 1)
    torch.testing.assert_close(x_MHWC, expected, **CLOSE)


def test_spatial_mix(goldens, recipe, no_gradients):
    golden = goldens("mod_convnext_block")
    block = fill(
        SpatialMix(12, kernel_size=9), recipe, "cnext.", 11, ours="x.space.", theirs="x.cnext."
    )
    torch.testing.assert_close(block(golden["x"]), golden["out"], **CLOSE)
    fast_MHWC = fast_space(block)(golden["x"].permute(0, 2, 3, 1).contiguous())
    torch.testing.assert_close(fast_MHWC.permute(0, 3, 1, 2), golden["out"], **CLOSE)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_fuse(goldens, recipe, index):
    golden = goldens(f"mod_double_conv{index}")
    fuse = fill(
        Fuse(golden.meta["cin"], golden.meta["cout"]), recipe, golden.meta["prefix"], 11,
        ours="x.fuse.", theirs="x.conv.",
    )  # fmt: skip
    torch.testing.assert_close(fuse(golden["x"]), golden["out"], **CLOSE)


def test_decoder_block(goldens, recipe, no_gradients):
    golden = goldens("mod_up_block")
    block = DecoderBlock(32, 16, image_dim=8, cost_dim=8, kernel_size=9, num_heads=4)
    fill(block, recipe, "up.", 11, ours="decoder.blocks.0.", theirs="transformer.decoder1.")
    image_MGHW = golden["guidance"].repeat_interleave(3, dim=0)
    out = block.grow(block.mix(golden["x"].clone(), (3, 3)), image_MGHW, golden["corr_guidance"])
    torch.testing.assert_close(out, golden["out"], **CLOSE)
    fast = FastBlock(block)
    x_MHWC = fast.space(golden["x"].permute(0, 2, 3, 1).contiguous())
    fast.classes(x_MHWC, (3, 3))
    image_MHWO = fast.guide(image_MGHW)
    fast_MHWO = fast.grow(x_MHWC, image_MHWO, golden["corr_guidance"].permute(0, 2, 3, 1))
    torch.testing.assert_close(fast_MHWO.permute(0, 3, 1, 2), golden["out"], **CLOSE)


def test_cost_map(goldens):
    golden = goldens("mod_cost_map")
    for image, text, expected in zip(golden["img"], golden["text"], golden["out"], strict=True):
        scores_BNPHW = cosine_scores(image.unsqueeze(0), text)
        torch.testing.assert_close(scores_BNPHW[0].transpose(0, 1), expected, atol=1e-6, rtol=0)
        pairs = Pairs.all(1, len(text), torch.device("cpu"))
        fast_MHWP = Comparison(image.unsqueeze(0), text).scores(pairs)
        torch.testing.assert_close(fast_MHWP.permute(3, 0, 1, 2), expected, atol=1e-6, rtol=0)


def small_decoder(recipe, *, centre_tap=False):
    """The small decoder of the stored results: embed and decoder with the recipe's weights."""
    parts = torch.nn.ModuleDict(
        {
            "cost_map": CostMap(num_prompts=5, hidden_dim=32),
            "decoder": Decoder(SMALL, num_prompts=5, encoder_dims=(12, 16, 24)),
        }
    )
    return fill(parts, recipe, "agg.", 11, theirs="transformer.", centre_tap=centre_tap)


def decoder_inputs(parts, golden):
    """Cosines and their embedding, features from fine to coarse, and all pairs."""
    scores_BNPHW = cosine_scores(golden["img"], golden["text"])
    scores_MPHW = scores_BNPHW.flatten(0, 1)
    pyramid = (golden["g3"], golden["g2"], golden["g1"])
    pairs = Pairs.all(*scores_BNPHW.shape[:2], torch.device("cpu"))
    return parts["cost_map"](scores_MPHW), scores_MPHW, pyramid, pairs


def decode(form, parts, golden, rejection):
    """What the decoder of either form makes of a stored input without gradients."""
    pairs = Pairs.all(len(golden["img"]), len(golden["text"]), torch.device("cpu"))
    decoder, embed = parts["decoder"], parts["cost_map"].embed
    with torch.inference_mode():
        if form == "plain":
            cost_MCHW, scores_MPHW, pyramid, pairs = decoder_inputs(parts, golden)
            guidance = decoder.guide_by_image(pyramid)
            return decoder(cost_MCHW, scores_MPHW, guidance, pairs, rejection)
        model = SimpleNamespace(
            decoder=FastDecoder(decoder, embed),
            first_head=FirstHead(embed, decoder.heads[0]),
            unit_text=True,
        )
        coarse, middle, fine = decoder.guide_by_image((golden["g3"], golden["g2"], golden["g1"]))
        essence = Essence(golden["img"], (coarse, middle, fine))
        return FastSED.decode_pairs(model, essence, golden["text"], pairs, rejection)


@pytest.mark.parametrize("name", ["mod_aggregator_B1", "mod_aggregator_B2"])
def test_small_decoder_at_every_level(goldens, recipe, name):
    golden, parts = goldens(name), small_decoder(recipe)
    inputs = decoder_inputs(parts, golden)
    torch.testing.assert_close(inputs[0], golden["conv1"], **CLOSE)
    levels = parts["decoder"].levels(*inputs, pool=1)
    for key, logits_MHW in zip(("final", "aux0", "aux1", "aux2"), levels, strict=True):
        expected = golden[key]
        logits_BNHW = logits_MHW.unflatten(0, expected.shape[:2])
        torch.testing.assert_close(logits_BNHW, expected, **CLOSE)


@pytest.mark.parametrize("form", ["plain", "fast"])
@pytest.mark.parametrize("name", ["mod_aggregator_B1", "mod_aggregator_B2"])
def test_small_decoder_of_either_form(goldens, recipe, name, form):
    golden, parts, watched = goldens(name), small_decoder(recipe), Watched()
    for rejection in (Rejection(), Rejection((watched,))):
        final_MHW, _ = decode(form, parts, golden, rejection)
        torch.testing.assert_close(final_MHW.clone(), golden["final"].flatten(0, 1), **CLOSE)
    for key, logits in zip(("aux0", "aux1", "aux2"), watched.logits, strict=True):
        torch.testing.assert_close(torch.stack(logits), golden[key], **CLOSE)


@pytest.mark.parametrize("form", ["plain", "fast"])
@pytest.mark.parametrize("index", [0, 1, 2, 3])
def test_small_decoder_rejects_the_same_classes(goldens, recipe, index, form):
    golden = goldens(f"mod_aggregator_reject{index}")
    parts = small_decoder(recipe, centre_tap=True)
    watched = Watched(TopK((golden.meta["k"],)))
    logits_MHW, pairs = decode(form, parts, golden, Rejection((watched,)))
    for level, (logits_NHW,) in enumerate(watched.logits):
        assert watched.classes(level) == golden[f"kept{level}"].tolist()
        torch.testing.assert_close(logits_NHW, golden[f"head{level}"].squeeze(1), **CLOSE)
    assert pairs.class_M.tolist() == golden["kept2"].tolist()
    torch.testing.assert_close(logits_MHW.clone(), golden["head"].squeeze(1), **CLOSE)
    expected = golden["out_prob"][0, pairs.class_M]
    torch.testing.assert_close(logits_MHW.sigmoid().clone(), expected, atol=5e-6, rtol=0)


@pytest.mark.parametrize("best", [1, 2, 4, 12, 20])
def test_top_k_set(goldens, best):
    golden = goldens("mod_topk_set")
    keep_N = TopK((best,)).keep(golden["mask"][0], 0)
    assert keep_N.tolist() == golden[f"valid_k{best}"].bool().tolist()


def test_preprocessing(goldens, base_model):
    golden = goldens("misc_preprocess")
    encoder = base_model.image_encoder
    image = golden["image"].unsqueeze(0).float() / 255
    normalised = (image - encoder.mean) / encoder.std
    for name, size in (("up", (64, 96)), ("down", (32, 32))):
        resized = torch.nn.functional.interpolate(
            normalised, size=size, mode="bilinear", align_corners=False
        )
        torch.testing.assert_close(resized, golden[name], **CLOSE)


def test_square_input_equals_the_stored_downsizing(goldens, base_model):
    golden = goldens("misc_preprocess")
    encoder = base_model.image_encoder
    image_3HW = to_model_input(golden["image"].permute(1, 2, 0), 32)
    down = (image_3HW.unsqueeze(0) - encoder.mean) / encoder.std
    torch.testing.assert_close(down, golden["down"], **CLOSE)
    assert fit_square(down, 32) is down


@pytest.mark.parametrize("index", [0, 1, 2, 3])
def test_resize_shortest_edge(goldens, index):
    from PIL import Image

    golden = goldens("misc_resize_shortest_edge")
    bounds = [(40, 100), (40, 100), (96, 400), (40, 2560)][index]
    image = Image.fromarray(golden[f"in{index}"].numpy())
    resized = torch.as_tensor(__import__("numpy").array(resize_shortest_edge(image, *bounds)))
    assert torch.equal(resized, golden[f"out{index}"])


def test_loss_counts_ignored_pixels_as_negatives(goldens):
    golden = goldens("misc_loss")
    logits_BNHW, labels_BHW = golden["logits"], golden["target"].long()
    pairs = Pairs.all(*logits_BNHW.shape[:2], logits_BNHW.device)
    levels = [logits_BNHW.flatten(0, 1)] * 4
    losses = level_losses(levels, labels_BHW, pairs.image_M, pairs.class_M)
    for loss in losses.values():
        torch.testing.assert_close(loss, golden["loss"].float(), atol=2e-6, rtol=0)
