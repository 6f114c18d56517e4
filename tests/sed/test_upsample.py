"""Shapes: K candidate classes, H W the decoder's map, Y X the image."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sed import upsample
from sed.upsample import label_map, largest_resized

MEMORY = 2**28


def plain_way(logits_KHW, candidates_K, height, width):
    size = (height, width)
    probability_KYX = F.interpolate(logits_KHW.sigmoid()[None], size, mode="bilinear")[0]
    return candidates_K[probability_KYX.argmax(dim=0)].int(), probability_KYX.amax(dim=0)


def assert_equals_the_plain_way(logits_KHW, height, width, candidates_K=None, **limit):
    if candidates_K is None:
        candidates_K = torch.arange(len(logits_KHW)) * 3
    labels, confidence = label_map(logits_KHW, candidates_K, height=height, width=width, **limit)
    expected_labels, expected_confidence = plain_way(logits_KHW, candidates_K, height, width)
    assert labels.dtype == torch.int32
    assert confidence.dtype == torch.float32
    assert torch.equal(labels, expected_labels)
    torch.testing.assert_close(confidence, expected_confidence, rtol=0, atol=1e-6)


def smooth(num_classes, height, width, scale=4.0):
    """Maps of a few blobs, as a decoder makes them: most classes lose almost everywhere."""
    coarse = torch.randn(1, num_classes, 6, 6) * scale
    return F.interpolate(coarse, (height, width), mode="bicubic")[0]


@pytest.mark.parametrize("size", [(501, 333), (33, 47), (192, 640), (97, 1), (1, 200), (64, 64)])
@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_labels_equal_the_plain_way_at_any_size(size, scale):
    assert_equals_the_plain_way(torch.randn(20, 48, 64) * scale, *size)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (7, 13)])
def test_labels_equal_the_plain_way_from_tiny_maps(shape):
    assert_equals_the_plain_way(torch.randn(9, *shape), 150, 211)


@pytest.mark.parametrize("size", [(100, 77), (20, 20), (100, 3), (1, 1)])
def test_labels_equal_the_plain_way_when_the_image_is_smaller_than_the_map(size):
    assert_equals_the_plain_way(torch.randn(30, 192, 192), *size)


@pytest.mark.parametrize("size", [(900, 1203), (1203, 900)])
def test_labels_equal_the_plain_way_where_most_classes_are_left_out(size):
    assert_equals_the_plain_way(smooth(120, 96, 96), *size)


def test_a_class_that_wins_a_single_cell_is_found():
    logits = smooth(40, 64, 64, scale=1.0)
    logits[17, 40, 3] = 9.0
    logits[23, 0, 63] = 9.0
    labels, _ = label_map(logits, torch.arange(40), height=300, width=500)
    assert {17, 23} <= set(labels.unique().tolist())
    assert_equals_the_plain_way(logits, 300, 500)


def test_a_class_that_wins_only_between_two_rows_is_found():
    """At the rows themselves the first and the second class win, between them the fourth."""
    columns = [(0.9, 0.01, 0.01), (0.01, 0.7, 0.7), (0.55, 0.55, 0.01), (0.5, 0.6, 0.01)]
    logits = torch.tensor(columns).logit()[:, :, None].repeat(1, 1, 8)
    labels, _ = label_map(logits, torch.arange(4), height=300, width=100)
    assert 3 in labels
    assert_equals_the_plain_way(logits, 300, 100)


def test_equal_classes_go_to_the_lowest_index():
    constant = torch.full((12, 24, 24), 1.5)
    labels, _ = label_map(constant, torch.arange(5, 17), height=100, width=131)
    assert (labels == 5).all()
    duplicated = torch.randn(11, 24, 24).repeat(3, 1, 1)
    labels, _ = label_map(duplicated, torch.arange(33), height=100, width=131)
    assert labels.max() < 11
    assert_equals_the_plain_way(duplicated, 100, 131)


def test_saturated_probabilities_tie_as_the_plain_way_does():
    logits = smooth(20, 32, 32, scale=60.0)
    assert (logits.sigmoid() == 1).sum(dim=0).max() > 1, "this input has no ties to break"
    assert_equals_the_plain_way(logits, 333, 222)


def test_one_candidate_labels_everything():
    labels, confidence = label_map(torch.randn(1, 16, 16), torch.tensor([41]), height=90, width=120)
    assert (labels == 41).all()
    assert confidence.shape == (90, 120)


def test_the_memory_limit_changes_nothing():
    assert_equals_the_plain_way(torch.randn(20, 48, 64), 200, 300, memory_limit=1)


@pytest.mark.parametrize("memory_limit", [1, 10**5, MEMORY])
@pytest.mark.parametrize("scale", [0.1, 30.0, 60.0])
def test_all_classes_looked_at_as_on_a_gpu_equal_the_plain_way(scale, memory_limit, monkeypatch):
    monkeypatch.setattr(upsample, "_choose_among_needed", upsample._choose_among_all)
    duplicated = smooth(11, 32, 40, scale=scale).repeat(3, 1, 1)
    assert_equals_the_plain_way(duplicated, 133, 222, memory_limit=memory_limit)
    assert_equals_the_plain_way(
        smooth(20, 48, 64, scale=scale), 70, 1100, memory_limit=memory_limit
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_finds_the_labels_of_a_cpu_without_a_wait():
    logits = smooth(30, 96, 96)
    expected, _ = label_map(logits, torch.arange(30), height=480, width=1100)
    on_gpu, candidates = logits.cuda(), torch.arange(30, device="cuda")
    label_map(on_gpu, candidates, height=480, width=1100)  # what loads code waits
    torch.cuda.set_sync_debug_mode("error")
    try:
        labels, _ = label_map(on_gpu, candidates, height=480, width=1100)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert (labels.cpu() == expected).float().mean() > 0.999


def test_half_precision_logits_are_accepted():
    logits = torch.randn(6, 16, 16).bfloat16()
    labels, _ = label_map(logits, torch.arange(6), height=100, width=100)
    expected, _ = label_map(logits.float(), torch.arange(6), height=100, width=100)
    assert torch.equal(labels, expected)


def test_what_cannot_be_labelled_is_an_error():
    with pytest.raises(ValueError, match="no candidate class"):
        label_map(torch.zeros(0, 8, 8), torch.arange(0), height=8, width=8)
    with pytest.raises(ValueError, match="3 logit maps for 2"):
        label_map(torch.zeros(3, 8, 8), torch.arange(2), height=8, width=8)
    with pytest.raises(ValueError, match="got 0 x 8"):
        label_map(torch.zeros(3, 8, 8), torch.arange(3), height=8, width=0)


@pytest.mark.weights
def test_resized_maps_equal_the_official_post_processing(shared_dir):
    golden = np.load(shared_dir / "spec/goldens/misc_postprocess.npz")
    maps = torch.from_numpy(golden["r"])
    for scores, name in [(maps, "out_a"), (maps[:, :10, :12], "out_b")]:
        expected = torch.from_numpy(golden[name])
        index, best = largest_resized(scores, *expected.shape[1:], memory_limit=MEMORY)
        assert torch.equal(index, expected.argmax(dim=0).int())
        torch.testing.assert_close(best, expected.amax(dim=0), rtol=0, atol=1e-6)


def test_847_classes_on_a_12_megapixel_photo_stay_under_2_gigabytes():
    program = """
        import time, torch
        from pipelines.benchmark import peak_memory
        from sed.upsample import label_map
        torch.set_num_threads(1)
        coarse = torch.randn(1, 847, 12, 12) * 3
        logits = torch.nn.functional.interpolate(coarse, (192, 192), mode="bilinear")[0]
        logits += torch.randn(192, 192) * 0.1
        before = peak_memory("cpu")
        start = time.process_time()
        labels, _ = label_map(logits, torch.arange(847), height=3000, width=4000)
        seconds = time.process_time() - start
        print(peak_memory("cpu") - before, seconds, *labels.shape)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    )
    extra_bytes, seconds, *shape = map(float, done.stdout.split())
    assert shape == [3000, 4000]
    assert extra_bytes < 2e9
    assert seconds < 120
