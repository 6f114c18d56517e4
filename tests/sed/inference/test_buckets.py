"""Few shapes whatever survives, and the same results."""

import pytest
import torch

from sed.chunks import CUDA_ELEMENTS
from sed.config import base, nano
from sed.inference import class_attention, kernels, parts
from sed.inference.buckets import (
    Bucketed,
    BucketedClasses,
    allow_programs,
    compile_decoder,
    num_programs,
)
from sed.inference.model import FastSED
from sed.inference.parts import bucket_size
from sed.model import SED


def test_sizes_are_few_and_waste_at_most_half():
    sizes = [bucket_size(count) for count in range(1, 848)]
    assert sorted(set(sizes)) == [
        1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024,
    ]  # fmt: skip
    for count, size in enumerate(sizes, start=1):
        assert count <= size <= 1.5 * count


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(7)
    return FastSED(SED(nano()).eval().requires_grad_(False))


def test_pairs_that_fill_up_change_nothing_and_shapes_repeat(model):
    block, seen = model.decoder.block(1), set()

    def watched(*tensors):
        seen.add(tuple(tensor.shape for tensor in tensors))
        return block.grow(*tensors)

    image_1HWO = torch.randn(1, 12, 12, 16)
    for count in range(9, 13):
        x, cost = torch.randn(count, 6, 6, 32), torch.randn(count, 12, 12, 8)
        with torch.inference_mode():
            found, expected = (
                Bucketed(watched)(x, image_1HWO, cost),
                block.grow(x, image_1HWO, cost),
            )
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert len(seen) == 1


def test_classes_that_fill_up_are_not_looked_at(model):
    attention = model.decoder.block(0).classes
    for count in (1, 5, 6, 7):
        x_LNC = torch.randn(9, count, 32)
        with torch.inference_mode():
            found, expected = BucketedClasses(attention.mix)(x_LNC), attention.mix(x_LNC)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_what_a_cuda_graph_returns_is_copied_before_its_next_run_overwrites_it():
    for wrap, shape in [(Bucketed, (4, 3)), (BucketedClasses, (1, 4, 3))]:
        memory, first = torch.zeros(shape), torch.full(shape, 2.0)

        def replay(x, _=None, memory=memory):
            return memory.copy_(x)

        kept, lost = (wrap(replay, copies=copies)(first) for copies in (True, False))
        wrap(replay)(first + 1)
        assert (kept == 2).all()
        assert (lost == 3).all()


def test_each_step_of_a_block_is_one_program_on_a_gpu(model, monkeypatch):
    monkeypatch.setattr(kernels, "FUSED", False)
    block = model.decoder.block(1)
    x, image = torch.randn(4, 6, 6, 32), torch.randn(4, 12, 12, 16)
    steps = [
        (block.grow, (x, image, torch.randn(4, 12, 12, 8))),
        (block.classes.mix, (x.flatten(1, 2), torch.ones(36, 1, dtype=torch.bool))),
        (block.space.forward, (x,)),
    ]
    for step, arguments in steps:
        torch._dynamo.reset()
        with torch.inference_mode():
            assert torch._dynamo.explain(step)(*arguments).graph_count == 1


def test_survivors_that_vary_are_compiled_a_few_times_only(monkeypatch):
    monkeypatch.setattr(parts, "CPU_ELEMENTS", 2**40)  # one part, as on a GPU
    monkeypatch.setattr(class_attention, "CPU_ELEMENTS", 2**40)
    torch.manual_seed(8)
    plain = SED(nano()).eval().requires_grad_(False)
    compiled, graphs = FastSED(plain), []

    def count_graphs(module, _):
        graphs.append(module)
        return module

    torch._dynamo.reset()
    compile_decoder(compiled.decoder, backend=count_graphs)
    images = torch.rand(1, 3, 256, 256)
    features, made = plain.encode(images), []
    for count in (17, 20, 24, 19):
        text_NPD = torch.nn.functional.normalize(torch.randn(count, 8, 128), dim=-1)
        (found,), (expected,) = (model.decode(features, text_NPD) for model in (compiled, plain))
        torch.testing.assert_close(found.logits_KHW, expected.logits_KHW, atol=2e-5, rtol=0)
        made.append(len(graphs))
    assert made[0] > 0
    assert made[-1] == made[0], "another number of classes in the same bucket makes no new program"


def test_survivors_at_random_never_need_more_programs_than_are_allowed():
    config, programs = base(), []
    elements_each = (config.image_size // 32) ** 2 * config.hidden_dim
    most = CUDA_ELEMENTS // elements_each
    allowed = num_programs(elements_each)
    assert allowed == 6 * len({bucket_size(count) for count in range(1, most + 1)})

    def note(module, _):
        programs.append(module)
        return module

    torch._dynamo.reset()
    limits = {"recompile_limit": 8, "accumulated_recompile_limit": 8}
    with torch._dynamo.config.patch(**limits, fail_on_recompile_limit_hit=True):
        allow_programs(allowed)
        steps = [torch.nn.Hardtanh(-level - 1, level + 1) for level in range(3)]
        for step in steps:
            bucketed = Bucketed(torch.compile(step.forward, dynamic=False, backend=note))
            for count in (2 ** (torch.rand(150) * 12)).int().clamp(max=most).tolist():
                bucketed(torch.zeros(count, 1))
    assert 64 < len(programs) <= allowed // 2, "half are left for the last locations"
