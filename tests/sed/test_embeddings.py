"""Text embeddings: computed once, kept on disk, made anew when anything changes."""

import pytest
import torch

from sed.config import nano
from sed.embeddings import cache_folder
from sed.model import SED
from sed.text import TextEncoder

NAMES = ["red ball", "house, home"]


@pytest.fixture
def counted(monkeypatch, tmp_path):
    """An own cache, and a count of how often texts were encoded."""
    monkeypatch.setenv("SED_CACHE", str(tmp_path / "cache"))
    calls = []
    encode = TextEncoder.encode

    def counting(self, texts):
        calls.append(len(texts))
        return encode(self, texts)

    monkeypatch.setattr(TextEncoder, "encode", counting)
    return calls


@pytest.fixture
def model():
    torch.manual_seed(0)
    return SED(nano()).eval()


def test_embeddings_are_unit_vectors_per_prompt(model):
    text_NPD = model.embed_classes(NAMES)
    assert text_NPD.shape == (2, 8, 128)
    torch.testing.assert_close(text_NPD.norm(dim=-1), torch.ones(2, 8))


def test_a_list_is_encoded_once_per_model(model, counted):
    first = model.embed_classes(NAMES)
    again = model.embed_classes(NAMES)
    torch.manual_seed(0)
    other_process = SED(nano()).eval().embed_classes(NAMES)
    assert counted == [8 + 2 * 8]
    assert torch.equal(first, again)
    assert torch.equal(first, other_process)


def test_other_names_or_weights_are_encoded_anew(model, counted):
    model.embed_classes(NAMES)
    model.embed_classes(NAMES[::-1])
    with torch.no_grad():
        model.text_encoder.text.text_projection.add_(0.1)
    model.embed_classes(NAMES)
    assert len(counted) == 3


def test_a_broken_cache_file_is_made_anew(model, counted):
    first = model.embed_classes(NAMES)
    (path,) = cache_folder().glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:100])
    torch.manual_seed(0)
    assert torch.equal(SED(nano()).eval().embed_classes(NAMES), first)
    assert len(counted) == 2


def test_a_cache_that_cannot_be_written_is_no_error(model, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SED_CACHE", str(tmp_path / "file" / "cache"))
    assert model.embed_classes(NAMES).shape == (2, 8, 128)


def test_synonyms_are_averaged_within_a_prompt(model):
    both = model.embed_classes(["house, home"])
    house, home = model.embed_classes(["house", "home"])
    expected = torch.nn.functional.normalize((house + home) / 2, dim=-1)
    torch.testing.assert_close(both[0], expected)


def test_padding_does_not_reach_the_embedding(model):
    long = "a very long name of a thing that nobody ever saw in any photo of anything"
    alone = model.embed_classes(["mug"])
    torch.testing.assert_close(model.embed_classes(["mug", long])[:1], alone, atol=1e-6, rtol=0)
