"""CLIP's weights, in both of open_clip's layouts, become a model to train."""

import pytest
import torch
from safetensors.torch import save_file

import sed
from sed.clip import PROXIES, REPOSITORIES, cached, check_clip, find_clip, from_clip
from sed.config import nano


@pytest.fixture(scope="module")
def towers():
    """The bundled model's encoders under open_clip's names, and the model."""
    model = sed.load_model("nano")
    state = {
        f"visual.{name}": tensor for name, tensor in model.image_encoder.visual.state_dict().items()
    }
    state |= model.text_encoder.text.state_dict()
    return {name: tensor.contiguous() for name, tensor in state.items()}, model


def floats(state):
    return {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}


@pytest.mark.parametrize("layout", ["safetensors", "text.", "pickle", "module."])
def test_both_layouts_become_the_same_encoders(towers, tmp_path, layout):
    state, wanted = towers
    extra = {"logit_scale": torch.tensor(4.6)}
    if layout in ("safetensors", "text."):
        prefix = "text." if layout == "text." else ""
        renamed = {
            name if name.startswith("visual.") else prefix + name: tensor
            for name, tensor in state.items()
        }
        path = tmp_path / "open_clip_model.safetensors"
        save_file(renamed | extra, path)
    else:
        path = tmp_path / "open_clip_pytorch_model.bin"
        prefix = "module." if layout == "module." else ""
        content = {prefix + name: tensor for name, tensor in (state | extra).items()}
        torch.save({"state_dict": content} if prefix else content, path)
    check_clip(nano(), path)
    torch.manual_seed(3)
    model = from_clip(nano(), path)
    for name, tensor in wanted.text_encoder.state_dict().items():
        assert torch.equal(model.text_encoder.state_dict()[name], tensor), name
    for name, tensor in floats(wanted.image_encoder.state_dict()).items():
        assert torch.equal(model.image_encoder.state_dict()[name], tensor), name
    torch.manual_seed(3)
    again = from_clip(nano(), path)
    assert torch.equal(again.decoder.heads[0].weight, model.decoder.heads[0].weight)
    assert not torch.equal(wanted.decoder.heads[0].weight, model.decoder.heads[0].weight)


def test_a_file_of_another_model_is_refused_by_name(towers, tmp_path):
    state, _ = towers
    path = tmp_path / "clip.safetensors"
    save_file({name: t for name, t in state.items() if name != "token_embedding.weight"}, path)
    with pytest.raises(ValueError, match=r"1 missing: text_encoder\.text\.token_embedding"):
        check_clip(nano(), path)
    path.write_bytes(b"no weights")
    with pytest.raises(ValueError, match="not a safetensors file"):
        check_clip(nano(), path)


def test_without_weights_and_without_the_hub_the_reason_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
    for proxy in PROXIES:
        monkeypatch.delenv(proxy, raising=False)
    with pytest.raises(FileNotFoundError, match=r"--model base starts .* by --clip-weights"):
        find_clip("base")


def test_the_file_comes_from_the_flag_or_from_the_hubs_cache(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="no CLIP weights at"):
        find_clip("base", str(tmp_path / "gone.bin"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert cached("large") is None
    folder = tmp_path / ("models--" + REPOSITORIES["large"].replace("/", "--"))
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    file = folder / "snapshots" / "abc" / "open_clip_pytorch_model.bin"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    assert cached("large") == file
    assert find_clip("large") == file
