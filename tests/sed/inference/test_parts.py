import pytest
import torch

from sed.inference import parts
from sed.inference.parts import Part, cut, over_parts

CPU = torch.device("cpu")


def test_a_cpu_never_takes_two_images_at_once(monkeypatch):
    monkeypatch.setattr(parts, "CPU_ELEMENTS", 30)
    found = list(cut((5, 0, 2), 10, CPU))
    assert found == [Part(slice(0, 3), 0), Part(slice(3, 5), 0), Part(slice(5, 7), 2)]


def test_a_gpu_takes_all_pairs_at_once_where_they_fit(monkeypatch):
    gpu = torch.device("cuda")
    assert list(cut((5, 0, 2), 10, gpu)) == [Part(slice(0, 7), None)]
    apart = [Part(slice(0, 5), 0), Part(slice(5, 7), 2)]
    assert list(cut((5, 0, 2), 10, gpu, mixed=False)) == apart
    monkeypatch.setattr(parts, "CUDA_ELEMENTS", 60)
    assert list(cut((5, 0, 2), 10, gpu)) == [Part(slice(0, 4), None), Part(slice(4, 7), None)]
    assert list(cut((5, 0, 2), 10, gpu, mixed=False)) == apart


def test_sixteen_images_with_thirty_survivors_are_two_parts_at_the_last_level():
    elements_each = 192 * 192 * 16
    found = list(cut((30,) * 16, elements_each, torch.device("cuda")))
    assert found == [Part(slice(0, 240), None), Part(slice(240, 480), None)]
    assert 240 * elements_each <= parts.CUDA_ELEMENTS < 480 * elements_each


def test_a_pair_that_is_too_large_goes_alone():
    assert list(cut((2,), 2**40, CPU)) == [Part(slice(0, 1), 0), Part(slice(1, 2), 0)]


def test_pairs_of_several_images_each_get_their_own_map():
    maps_BHWO, image_M = torch.randn(3, 2, 2, 4), torch.tensor([0, 0, 2])
    mixed = Part(slice(1, 3), None).of_image(maps_BHWO, image_M)
    assert torch.equal(mixed, maps_BHWO[[0, 2]])
    assert torch.equal(Part(slice(1, 3), 2).of_image(maps_BHWO, image_M), maps_BHWO[2:3])


@pytest.mark.parametrize("elements", [1, 2**19, 2**30])
def test_parts_change_nothing(elements):
    x_MC = torch.randn(9, 4)
    double, total = over_parts(
        lambda part: (2 * x_MC[part.pairs], x_MC[part.pairs].sum(1)), (4, 5), elements, CPU
    )
    assert torch.equal(double, 2 * x_MC)
    torch.testing.assert_close(total, x_MC.sum(1))
