"""What is written of an image comes from its device together with that of others."""

import numpy as np
import pytest
import torch

import sed
from pipelines import fetching, labeller
from pipelines.fetching import Scored, fetch, groups
from sed.transfers import Download
from tests.fakes import write_photos
from tests.pipelines.test_label import ColourModel, decoded, labelled, make_labeller


@pytest.fixture
def photos(tmp_path):
    write_photos(tmp_path / "photos", 5)
    return tmp_path / "photos"


def scored(num_classes, kept=()):
    candidates_K = torch.arange(num_classes) * 2
    return Scored(sed.ClassScores(torch.randn(num_classes, 16, 16), candidates_K), kept)


def test_groups_hold_images_up_to_a_number_of_bytes_and_at_least_one():
    sizes = [(1, 100), (1, 50), (1, 60), (1, 900), (1, 1)]
    assert list(groups(sizes, 1200)) == [slice(0, 2), slice(2, 3), slice(3, 4), slice(4, 5)]
    assert list(groups(sizes, 0)) == [slice(place, place + 1) for place in range(5)]
    assert list(groups(sizes, 10**6)) == [slice(0, 5)]
    assert list(groups([], 0)) == []


def test_images_of_any_size_are_fetched_with_one_wait(monkeypatch):
    waits = []
    monkeypatch.setattr(Download, "wait", lambda download: waits.append(download))
    kept = (torch.randn(3, 2), torch.full((2,), 1e9))
    images = [(scored(7, kept), 90, 120), (scored(1), 60, 80), (scored(0), 5, 9)]
    found = fetch(images, no_class=255)
    assert len(waits) == 1
    for (one, height, width), maps in zip(images, found, strict=True):
        assert maps.labels_HW.shape == maps.confidence_HW.shape == (height, width)
        assert (maps.labels_HW.dtype, maps.confidence_HW.dtype) == (torch.int32, torch.float32)
        assert torch.equal(maps.candidates_K, one.scores.candidates_K)
        assert torch.equal(maps.coarse_HW, one.scores.confidence())
    labels_HW, _ = images[0][0].scores.label_map(90, 120)
    assert torch.equal(found[0].labels_HW, labels_HW)
    assert (found[2].labels_HW == 255).all()
    assert [half.dtype for half in found[0].kept] == [torch.float16] * 2
    assert found[0].kept[1].tolist() == [65504, 65504]


def test_images_fetched_together_get_what_each_gets_alone(photos, monkeypatch):
    (photos / "empty.png").write_bytes(b"")
    names = sorted(path.name for path in photos.iterdir())
    expected = labelled(photos, names, min_confidence=0.8)
    seen, plain = [], fetch

    def watched(images, no_class):
        seen.append(len(images))
        return plain(images, no_class)

    monkeypatch.setattr(labeller, "fetch", watched)
    together = make_labeller(min_confidence=0.8)
    together.fetched_together = 2**28  # as on a GPU
    assert together(decoded(photos, names)).to_pylist() == expected
    assert seen == [5]


def test_where_memory_does_not_suffice_for_all_each_is_fetched_alone(photos, monkeypatch):
    names = sorted(path.name for path in photos.iterdir())
    expected, plain = labelled(photos, names), fetch

    def small(images, no_class):
        if len(images) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(images, no_class)

    together = make_labeller()
    together.fetched_together = 2**28
    monkeypatch.setattr(labeller, "fetch", small)
    assert together(decoded(photos, names)).to_pylist() == expected


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_fetches_what_a_cpu_finds():
    images = [(scored(7, (torch.randn(3, 2),)), 90, 120), (scored(30), 700, 1100)]
    on_gpu = [
        (
            Scored(
                sed.ClassScores(one.scores.logits_KHW.cuda(), one.scores.candidates_K.cuda()),
                tuple(tensor.cuda() for tensor in one.kept),
            ),
            *size,
        )
        for one, *size in images
    ]
    for found, expected in zip(fetch(on_gpu, 255), fetch(images, 255), strict=True):
        assert np.mean(found.labels_HW.numpy() == expected.labels_HW.numpy()) > 0.999
        torch.testing.assert_close(found.confidence_HW, expected.confidence_HW, rtol=0, atol=1e-5)
        torch.testing.assert_close(found.doubts[:2], expected.doubts[:2], rtol=0, atol=1e-5)
        assert torch.equal(found.candidates_K, expected.candidates_K)
        assert [half.device.type for half in found.kept] == ["cpu"] * len(expected.kept)


def test_a_group_is_a_batch_of_usual_photos():
    usual = [(480, 640)] * 64
    assert list(groups(usual, labeller.FETCHED_TOGETHER)) == [slice(0, 64)]
    assert fetching.PIXEL_BYTES * 12 * 10**6 < labeller.FETCHED_TOGETHER
    assert make_labeller(model=ColourModel).fetched_together == 0
