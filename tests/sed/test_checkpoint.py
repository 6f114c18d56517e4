"""Weights on disk: ours, the authors', and what is neither."""

import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

import sed
from sed.checkpoint import (
    FORMAT,
    OFFICIAL_PREFIX,
    check_source,
    load_model,
    official_name,
    save_model,
    source_config,
)
from sed.config import base, large, nano
from sed.model import SED
from tests.sed.official import recipe_state


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return SED(nano()).eval()


@pytest.fixture(scope="module")
def official_state(base_model, recipe):
    """The base model as the authors' files hold it."""
    return recipe_state(base_model, recipe)


@pytest.fixture(scope="module")
def official_file(official_state, tmp_path_factory):
    path = tmp_path_factory.mktemp("official") / "model_final.pth"
    torch.save({"model": official_state, "iteration": 80000, "scheduler": {"last": 1}}, path)
    return path


def test_a_saved_model_comes_back(small, tmp_path):
    path = save_model(small, tmp_path / "model.safetensors")
    model = load_model(path)
    assert model.config == nano()
    assert not model.training
    assert model.digest.startswith("sha256:")
    for name, tensor in small.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    images, text = torch.rand(1, 3, 256, 256), small.embed_classes(["a", "b"])
    assert torch.equal(model.embed_classes(["a", "b"]), text)
    assert torch.equal(model(images, text), small(images, text))


def test_a_folder_of_a_training_is_a_source(small, tmp_path):
    save_model(small, tmp_path / "model.safetensors")
    assert load_model(tmp_path).config == nano()


def test_half_precision_on_disk_is_float32_in_memory(small, tmp_path):
    model = load_model(save_model(small, tmp_path / "half.safetensors", dtype=torch.float16))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    counters = [v for k, v in model.state_dict().items() if k.endswith("num_batches_tracked")]
    assert counters
    assert {counter.dtype for counter in counters} == {torch.int64}


def test_the_bundled_model_loads():
    model = load_model("nano")
    assert model.config == nano()
    assert (sed.checkpoint.BUNDLED / "nano.safetensors").stat().st_size < 16 * 2**20


@pytest.mark.weights
def test_the_authors_file_gives_the_same_model(official_file, base_model):
    model = load_model(official_file)
    assert model.config == base()
    assert source_config(official_file) == base()
    for name, tensor in base_model.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


@pytest.mark.weights
def test_a_bare_state_dict_is_accepted(official_state, tmp_path):
    torch.save(official_state, tmp_path / "bare.pth")
    assert load_model(tmp_path / "bare.pth").config == base()


@pytest.mark.weights
@pytest.mark.parametrize(("size", "config"), [("base", base()), ("large", large())])
def test_every_key_of_the_authors_is_known_by_name_and_shape(shared_dir, size, config):
    import json

    facts = json.loads((shared_dir / f"spec/state_dict_convnext_{size}.json").read_text())
    with torch.device("meta"):
        state = SED(config).state_dict()
    ours = {OFFICIAL_PREFIX + official_name(name): tensor for name, tensor in state.items()}
    unused = f"{OFFICIAL_PREFIX}clip_model.logit_scale"
    assert set(facts) - set(ours) == {unused}
    assert set(ours) - set(facts) == set()
    for name, tensor in ours.items():
        assert list(tensor.shape) == facts[name][0], name


@pytest.mark.weights
def test_what_is_not_needed_is_listed(official_file, caplog):
    with caplog.at_level("INFO"):
        load_model(official_file)
    assert "logit_scale" in caplog.text
    assert "iteration, scheduler" in caplog.text


@pytest.mark.weights
@pytest.mark.parametrize("problem", ["missing", "unexpected", "mis-shaped"])
def test_a_tensor_that_does_not_fit_is_named(official_state, tmp_path, problem):
    state = dict(official_state)
    key = f"{OFFICIAL_PREFIX}transformer.decoder2.up.weight"
    if problem == "missing":
        del state[key]
    elif problem == "unexpected":
        state[f"{OFFICIAL_PREFIX}transformer.decoder4.up.weight"] = state[key]
    else:
        state[key] = state[key][:, :3]
    torch.save({"model": state}, tmp_path / "wrong.pth")
    for read in (load_model, check_source):
        with pytest.raises(ValueError, match=rf"{problem}.*transformer\.decoder\d\.up\.weight"):
            read(tmp_path / "wrong.pth")


def test_a_pickle_never_runs_code(tmp_path):
    marker = tmp_path / "ran"

    class Harm:
        def __reduce__(self):
            return os.mkdir, (str(marker),)

    torch.save({"model": Harm()}, tmp_path / "harm.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Harm()))
    for name in ("harm.pth", "plain.pth"):
        with pytest.raises(ValueError, match=name):
            load_model(tmp_path / name)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("tensors", "config", "words"),
    [
        (True, None, "does not say what model it is"),
        (True, '{"no_such_size": 3}', "does not say what model it is"),
        (True, "[1, 2]", "does not say what model it is"),
        (True, '{"image_size": 100}', "does not say what model it is"),
        (False, "{}", "holds no tensors"),
    ],
)
def test_a_file_of_ours_that_is_no_model_is_found_before_it_is_loaded(
    tmp_path, tensors, config, words
):
    metadata = {"format": FORMAT} | ({} if config is None else {"config": config})
    path = tmp_path / "model.safetensors"
    save_file({"x": torch.zeros(1)} if tensors else {}, path, metadata)
    with pytest.raises(ValueError, match=words):
        check_source(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_truncated_file_says_so(small, tmp_path, suffix):
    path = tmp_path / f"cut{suffix}"
    if suffix == ".pth":
        torch.save({"model": small.state_dict()}, path)
    else:
        save_model(small, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for read in (load_model, check_source):
        with pytest.raises(ValueError, match="truncated"):
            read(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_another_kind_of_file_says_what_was_expected(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"model": {"fc.weight": torch.zeros(2, 2)}}, path)
    else:
        save_file({"fc.weight": torch.zeros(2, 2)}, path)
    for read in (load_model, check_source):
        with pytest.raises(ValueError, match="not a"):
            read(path)


def test_no_file_says_what_is_accepted(tmp_path):
    with pytest.raises(FileNotFoundError, match="'nano'"):
        load_model(tmp_path / "nowhere.pth")
