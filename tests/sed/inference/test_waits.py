"""How often the host would wait for a GPU while it decodes: counted on a CPU, operator by operator.

Shapes: B images, N classes, M pairs.
"""

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from sed import Rejection, decoder, transfers
from sed.config import nano
from sed.inference import kernels, parts
from sed.inference import text as fast_text
from sed.inference.buckets import Bucketed, BucketedClasses
from sed.inference.model import FastSED
from sed.inference.text import Beginnings, FastTextEncoder
from sed.model import SED
from tests.sed.inference.test_model import cut_as_on_a_gpu

OPERATORS = {
    "aten::_local_scalar_dense", "aten::bincount", "aten::equal", "aten::is_nonzero", "aten::item",
    "aten::masked_select", "aten::nonzero", "aten::_unique2", "aten::unique_dim",
    "aten::unique_consecutive", "aten::lift_fresh",  # the last: a tensor made of the host's numbers
}  # fmt: skip
"""What a GPU answers before the host goes on."""

METHODS = {"cpu", "numpy", "tolist", "__bool__", "__float__", "__index__", "__int__"}
"""The same in Python, where no operator shows it on a CPU."""


class Waits(list):
    """What would wait, in turn."""

    sees = True

    def see(self, name):
        if self.sees:
            self.append(name)


def upload_unseen(array, _):
    """Upload as to a GPU: what that does with the host's own memory is no wait."""
    Waits.sees = False
    try:
        return transfers.stage(array)
    finally:
        Waits.sees = True


class Methods(TorchFunctionMode):
    def __init__(self, waits):
        super().__init__()
        self.waits = waits

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function.__name__ in METHODS:
            self.waits.see(function.__name__)
        return function(*args, **(kwargs or {}))


class Operators(TorchDispatchMode):
    def __init__(self, waits):
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name, kwargs = function._schema.name, kwargs or {}
        by_mask = "index" in name and any(
            index is not None and index.dtype in (torch.bool, torch.uint8)
            for index in (args[1] if len(args) > 1 and isinstance(args[1], (list, tuple)) else [])
        )
        by_tensor = name == "aten::repeat_interleave" and kwargs.get("output_size") is None
        if name in OPERATORS or by_mask or by_tensor:
            self.waits.see(name)
        return function(*args, **kwargs)


def waits_of(function):
    waits = Waits()
    with Methods(waits), Operators(waits):
        function()
    return waits


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    return FastSED(SED(nano()).eval().requires_grad_(False))


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    monkeypatch.setattr(kernels, "FUSED", False)
    monkeypatch.setattr(parts, "cut", cut_as_on_a_gpu)
    for module in (decoder, fast_text):
        monkeypatch.setattr(module, "upload", upload_unseen)


def test_waits_are_seen():
    x = torch.arange(4.0)
    seen = {
        "aten::index": lambda: x[x > 1],
        "aten::index_put_": lambda: x.__setitem__(x > 1, torch.ones(2)),
        "aten::nonzero": lambda: x.nonzero(),
        "aten::masked_select": lambda: x.masked_select(x > 1),
        "aten::_unique2": lambda: x.unique(),
        "aten::repeat_interleave": lambda: x.repeat_interleave(torch.arange(4)),
        "aten::lift_fresh": lambda: torch.tensor([1, 2]),
        "aten::_local_scalar_dense": lambda: x.sum().item(),
        "tolist": lambda: x.tolist(),
        "cpu": lambda: x.cpu(),
        "numpy": lambda: x.numpy(),
        "__bool__": lambda: bool(x[0]),
    }
    for name, function in seen.items():
        assert name in waits_of(function), name
    assert waits_of(lambda: x[torch.arange(2)] + 3) == []


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("none", []),
        ("topk:2", ["tolist"] * 3),
        ("prob:0.4", ["tolist"] * 3),
        ("fixed:5", ["tolist"]),
        ("fixed:5+topk:2", ["aten::nonzero"] * 2 + ["tolist"] * 3),  # of two images
    ],
)
@pytest.mark.parametrize("bucketed", [False, True])
def test_a_decode_waits_once_for_each_level_that_rejects(
    model, as_on_a_gpu, monkeypatch, policy, expected, bucketed
):
    if bucketed:
        for level in range(3):
            block = model.decoder.block(level)
            monkeypatch.setattr(block, "grow", Bucketed(block.grow))
            monkeypatch.setattr(block.classes, "mix", BucketedClasses(block.classes.mix))
            monkeypatch.setattr(block.space, "forward", Bucketed(block.space.forward))
    features = model.encode(torch.rand(2, 3, 256, 256))
    text_9PD = torch.nn.functional.normalize(torch.randn(9, 8, 128), dim=-1)
    rejection = Rejection.parse(policy)
    assert waits_of(lambda: model.decode(features, text_9PD, rejection)) == expected


def test_the_encoder_does_not_wait(model, as_on_a_gpu):
    images = torch.rand(2, 3, 256, 256)
    assert waits_of(lambda: model.encode(images)) == []


def test_once_the_beginnings_are_found_the_text_is_not_waited_for(model, as_on_a_gpu, monkeypatch):
    encoder = model.text_encoder
    assert isinstance(encoder, FastTextEncoder)
    tokens_SL = encoder.tokenizer(["a red ball", "a photo of a dog", "a red box"])
    end_S = tokens_SL.argmax(dim=-1)
    beginnings = Beginnings.of(tokens_SL[:, : int(end_S.max()) + 1], end_S)
    expected = encoder.encode_tokens(tokens_SL)
    monkeypatch.setattr(Beginnings, "of", lambda *_: beginnings)
    found = []
    waits = waits_of(lambda: found.append(encoder.encode_tokens(tokens_SL)))
    assert torch.equal(found[0], expected)
    # Of where the texts end, which the CPU knows.
    assert sorted(waits) == ["__int__", "aten::_local_scalar_dense", "numpy"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_decode_of_every_class_never_waits_for_a_gpu():
    fast = FastSED(SED(nano()).eval().requires_grad_(False).cuda())
    images = torch.rand(2, 3, 256, 256, device="cuda")
    text_9PD = torch.nn.functional.normalize(torch.randn(9, 8, 128, device="cuda"), dim=-1)
    fast.score(images, text_9PD)  # what loads code waits
    torch.cuda.set_sync_debug_mode("error")
    try:
        scores = fast.score(images, text_9PD)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(scores) == 2
