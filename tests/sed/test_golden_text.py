"""Tokens and text embeddings are those of the official implementation."""

import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer

from sed.text import IMAGENET_SELECT, OPENAI_IMAGENET_TEMPLATES

pytestmark = pytest.mark.weights


def test_tokens(goldens):
    golden = goldens("text_tokenizer")
    tokens = SimpleTokenizer()(golden.meta["strings"])
    assert torch.equal(tokens, golden["tokens"].to(tokens.dtype))


def test_prompt_templates(shared_dir):
    import json

    facts = json.loads((shared_dir / "spec/facts/prompt_templates.json").read_text())
    assert [template("{}") for template in OPENAI_IMAGENET_TEMPLATES] == facts["imagenet80"]
    assert [template("{}") for template in IMAGENET_SELECT] == facts["imagenet_select"]


def test_text_embeddings(goldens, either_base_model):
    golden = goldens("text_embeddings")
    with torch.inference_mode():
        text_NPD = either_base_model.text_encoder(golden.meta["classes"]).clone()
    torch.testing.assert_close(text_NPD[:, ::4], golden["text_features"], atol=1e-6, rtol=0)
    torch.testing.assert_close(text_NPD.mean(dim=1), golden["mean80"], atol=1e-6, rtol=0)


def test_raw_text_embeddings(goldens, either_base_model):
    golden = goldens("text_embeddings")
    with torch.inference_mode():
        raw = either_base_model.text_encoder.encode_tokens(golden["tokens"].long())
    torch.testing.assert_close(raw.clone(), golden["raw"], atol=3e-5, rtol=0)


def test_names_to_pixels(goldens, either_base_model):
    golden = goldens("text_end_to_end_192")
    with torch.inference_mode():
        features = either_base_model.image_encoder(golden["image"].unsqueeze(0).float() / 255)
        text_NPD = either_base_model.text_encoder(golden.meta["classes"])
        (scores,) = either_base_model.decode(features, text_NPD)
    torch.testing.assert_close(
        scores.logits_KHW.clone(), golden["final_logits"][0], atol=2e-5, rtol=0
    )
