import subprocess
import sys

import pytest
from PIL import Image

from pipelines.memory import Point, Sample, draw, figures, held_bytes, is_measured, over_images

measured = pytest.mark.skipif(not is_measured(), reason="memory is measured on Linux only")

SHARING = """if True:
    import mmap, os, sys, tempfile

    def touch(pages):
        return sum(pages[::4096])

    own = b"x" * 40_000_000
    with tempfile.TemporaryFile(dir="/dev/shm") as file:
        file.truncate(500_000_000)
        shared = mmap.mmap(file.fileno(), 20_000_000)
        shared.write(b"y" * 20_000_000)
        if os.fork() == 0:
            touch(own), touch(shared)
            print("ready", flush=True)
        sys.stdin.read()
"""
"""Two processes that share 40 MB after a fork, and 20 MB of a large file in shared memory."""


@measured
def test_memory_that_processes_share_is_counted_once():
    command = [sys.executable, "-S", "-c", SHARING]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        held = held_bytes(process.pid)
    assert 60e6 < held < 78e6


@measured
def test_a_process_that_has_ended_holds_nothing():
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    assert held_bytes(process.pid) == 0


def test_memory_is_told_by_the_images_that_were_scored_by_then():
    samples = [Sample(100.5, 10**9), Sample(103.0, 2 * 10**9), Sample(109.0, 3 * 10**9)]
    scored = [{"end": 104.0, "images": 8}, {"end": 102.0, "images": 4}, {"end": 103.0, "images": 4}]
    assert over_images(samples, scored, start=100.0) == [
        Point(0.5, 0, 1.0),
        Point(3.0, 8, 2.0),
        Point(9.0, 16, 3.0),
    ]


def test_start_and_end_are_medians_and_the_peak_may_come_after_the_last_image():
    points = [
        *(Point(0, images, gb) for images, gb in [(0, 1), (12, 4), (15, 5), (19, 9), (50, 7)]),
        *(Point(0, images, gb) for images, gb in [(90, 6), (99, 8), (100, 20), (100, 21)]),
    ]
    assert figures(points, 100) == {
        "memory_start_gb": 5,
        "memory_end_gb": 7,
        "memory_peak_gb": 21,
    }


def test_a_job_too_short_to_be_looked_at_is_interpolated():
    points = [Point(0, 0, 1.0), Point(1, 30, 3.0), Point(2, 100, 10.0)]
    found = figures(points, 100)
    assert found["memory_start_gb"] == pytest.approx(2.0)
    assert found["memory_end_gb"] == pytest.approx(9.5)


def test_without_a_look_there_are_no_figures():
    assert figures([], 100) == {}


def test_the_plot_is_a_png_that_shows_something(tmp_path):
    points = [Point(t, 20 * t, 3 + t % 3 / 10) for t in range(1001)]
    draw(points, 20_000, tmp_path / "memory.png")
    with Image.open(tmp_path / "memory.png") as plot:
        assert plot.format == "PNG"
        assert plot.width > plot.height > 400
        assert len(plot.convert("RGB").getcolors(10**6)) > 20
