import numpy as np
import pytest
import torch

from sed import transfers
from sed.transfers import Download, pinned, stage, upload

DTYPES = [np.uint8, np.int32, np.int64, np.float16, np.float32]
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def values(dtype, *shape):
    array = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    array.setflags(write=False)  # as what lies in a table
    return array


@pytest.fixture
def asked(monkeypatch):
    """The sizes of the pinned memory that is asked for; what comes is ordinary."""
    asked = []

    def remember(shape, dtype):
        asked.append((tuple(shape), dtype))
        return torch.empty(tuple(shape), dtype=dtype)

    monkeypatch.setattr(transfers, "pinned", remember)
    return asked


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_array_is_the_same_on_a_device(dtype):
    array = values(dtype, 5, 4, 3)
    found = upload(array, "cpu")
    assert found.numpy().dtype == dtype
    np.testing.assert_array_equal(found.numpy(), array)
    found[0] = 1  # a copy
    np.testing.assert_array_equal(array, values(dtype, 5, 4, 3))


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_array_goes_by_way_of_pinned_memory_in_its_own_type(dtype, asked):
    array = values(dtype, 4, 6, 3)[:, ::2]
    found = stage(array)
    np.testing.assert_array_equal(found.numpy(), array)
    assert asked == [((4, 3, 3), found.dtype)]
    assert found.numpy().dtype == dtype


def test_another_device_is_reached_from_pinned_memory(asked):
    found = upload(values(np.uint8, 7, 5, 3), "meta")
    assert (found.device.type, found.shape, found.dtype) == ("meta", (7, 5, 3), torch.uint8)
    assert asked == [((7, 5, 3), torch.uint8)]
    upload(values(np.uint8, 7, 5, 3), "cpu")
    assert len(asked) == 1, "a CPU needs none"


def test_pinned_memory_is_asked_of_torch_and_ordinary_memory_is_taken_in_its_place(monkeypatch):
    empty, asked = torch.empty, []

    def refuse(*arguments, pin_memory=False, **options):
        asked.append(pin_memory)
        if pin_memory:
            raise RuntimeError("CUDA error: out of memory")
        return empty(*arguments, **options)

    monkeypatch.setattr(torch, "empty", refuse)
    assert pinned((2, 3), torch.float16).shape == (2, 3)
    assert asked == [True, False]


def test_what_is_on_the_cpu_is_not_copied(asked):
    download, tensor = Download(), torch.arange(4)
    found = download.copy(tensor)
    download.wait()
    assert found is tensor
    assert asked == []


@pytest.mark.gpu
@NO_GPU
def test_pinned_memory_is_pinned():
    assert pinned((2, 3), torch.float32).is_pinned()


@pytest.mark.gpu
@NO_GPU
@pytest.mark.parametrize("dtype", DTYPES)
def test_values_come_back_from_a_gpu_after_one_wait(dtype):
    arrays = [values(dtype, size, 300, 3) for size in (1, 50, 500)]
    download = Download()
    found = [download.copy(upload(array, "cuda").transpose(0, 1)) for array in arrays]
    assert all(tensor.is_pinned() for tensor in found)
    download.wait()
    for tensor, array in zip(found, arrays, strict=True):
        np.testing.assert_array_equal(tensor.numpy(), array.transpose(1, 0, 2))


@pytest.mark.gpu
@NO_GPU
def test_staging_memory_is_not_given_out_while_a_copy_reads_it():
    arrays = [np.full((512, 512), index, np.int32) for index in range(64)]
    found = [upload(array, "cuda") for array in arrays]
    assert [int(tensor.max()) for tensor in found] == list(range(64))
    assert [int(tensor.min()) for tensor in found] == list(range(64))
