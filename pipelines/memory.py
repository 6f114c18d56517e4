"""How much memory of this machine a job holds while it runs: all its processes together.

A process holds its own pages and its share of those that it shares (what Linux calls PSS; swapped
out ones too), so the sum over this process and all that it started, a local Ray and its workers
among them, counts each page once. Files in shared memory, where Ray keeps its objects, are added
once, at the size they really take. What the system caches of files that were read is not counted.
"""

import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

PROC = Path("/proc")

SECONDS_BETWEEN_LOOKS = 1.0

LOOKING = 0.01
"""Share of a CPU that looking may take from the job; with much memory the pauses get longer."""

START = (0.1, 0.2)
"""Between these shares of the images all runs, and little can have piled up."""

END = (0.9, 1.0)


class Sample(NamedTuple):
    """One look at the memory."""

    time: float
    """Seconds since the epoch."""

    bytes: int


class Point(NamedTuple):
    """One look at the memory, and how far the job was."""

    seconds: float
    """Since the start of the job."""

    images: int
    """Scored by then."""

    gb: float


def is_measured() -> bool:
    """Say whether memory can be measured: on Linux, and not of a cluster that a job joins."""
    return (PROC / "self/smaps_rollup").exists() and not os.environ.get("RAY_ADDRESS")


@contextmanager
def watch() -> Iterator[list[Sample]]:
    """Look at the memory every second inside the block; the list stays empty where none is seen."""
    samples: list[Sample] = []
    stop = threading.Event()

    def look() -> None:
        pause = 0.0
        while not stop.wait(pause):
            start = time.thread_time()
            samples.append(Sample(time.time(), held_bytes(os.getpid())))
            pause = max(SECONDS_BETWEEN_LOOKS, (time.thread_time() - start) / LOOKING)

    if not is_measured():
        yield samples
        return
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        stop.set()
        thread.join()


def held_bytes(root: int) -> int:
    """Return the memory that a process and all its descendants hold."""
    pids = family(root)
    return sum(map(own_bytes, pids)) + shared_bytes(pids)


def family(root: int) -> list[int]:
    """Return a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for folder in PROC.iterdir():
        if folder.name.isdigit() and (stat := read(folder / "stat")):
            parent = stat.rpartition(")")[2].split()[1]  # a program's name may hold anything
            children.setdefault(int(parent), []).append(int(folder.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def own_bytes(pid: int) -> int:
    """Return what a process holds outside shared memory; 0 once it has ended."""
    kinds = re.findall(r"^(?:Pss_Anon|Pss_File|SwapPss): +(\d+) kB", rollup(pid), re.MULTILINE)
    return 1024 * sum(map(int, kinds))


def rollup(pid: int) -> str:
    """Return what Linux says of the memory of a process; nothing once it has ended."""
    return read(PROC / f"{pid}/smaps_rollup")


def shared_bytes(pids: Sequence[int]) -> int:
    """Return what the files in shared memory take that any of these processes has open."""
    sizes: dict[int, int] = {}
    for pid in pids:
        for file in open_files(pid):
            try:
                if file.readlink().is_relative_to("/dev/shm"):
                    status = file.stat()
                    sizes[status.st_ino] = 512 * status.st_blocks
            except OSError:  # closed meanwhile
                continue
    return sum(sizes.values())


def open_files(pid: int) -> list[Path]:
    """Return links to what a process has open; none once it has ended."""
    try:
        return list((PROC / f"{pid}/fd").iterdir())
    except OSError:
        return []


def read(path: Path) -> str:
    """Return a file of a process; nothing once the process has ended."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def over_images(
    samples: Sequence[Sample], scored: Sequence[dict[str, Any]], *, start: float
) -> list[Point]:
    """Return the memory over the images.

    Args:
        samples: From `watch`.
        scored: What the clocked models wrote: when ("end") they had scored how many ("images").
        start: Of the job, in seconds since the epoch.
    """
    ordered = sorted(scored, key=lambda line: line["end"])
    ends = [line["end"] for line in ordered]
    done = np.cumsum([0, *(line["images"] for line in ordered)])
    return [
        Point(
            round(sample.time - start, 3),
            int(done[np.searchsorted(ends, sample.time, side="right")]),
            sample.bytes / 1e9,
        )
        for sample in samples
    ]


def typical_gb(points: Sequence[Point], images: int, between: tuple[float, float]) -> float:
    """Return the median memory between two shares of the images, before the last is scored."""
    low, high = (share * images for share in between)
    found = [point.gb for point in points if low <= point.images <= high and point.images < images]
    if found:
        return float(np.median(found))
    # A job so short that nobody looked: halfway between the looks before and after.
    seen, held = [point.images for point in points], [point.gb for point in points]
    return float(np.interp((low + high) / 2, seen, held))


def figures(points: Sequence[Point], images: int) -> dict[str, float]:
    """Return the memory near the start, near the end, and the most; nothing if not measured."""
    if not points:
        return {}
    return {
        "memory_start_gb": typical_gb(points, images, START),
        "memory_end_gb": typical_gb(points, images, END),
        "memory_peak_gb": max(point.gb for point in points),
    }


def draw(points: Sequence[Point], images: int, path: Path) -> None:
    """Plot the memory over the images into a PNG."""
    from matplotlib.figure import Figure  # takes a second to import

    found = figures(points, images)
    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.plot([point.images for point in points], [point.gb for point in points], color="#1f5fa8")
    for name, between, colour in (("start", START, "#e08a00"), ("end", END, "#2a8a4a")):
        held = found[f"memory_{name}_gb"]
        ends = [share * images for share in between]
        label = f"median over {between[0]:.0%} to {between[1]:.0%} of the images: {held:.2f} GB"
        axes.plot(ends, [held, held], color=colour, linewidth=3, label=label)
    axes.set_title(f"Memory of a label job over {images:,} images")
    axes.set_xlabel("images scored")
    axes.set_ylabel("memory of all its processes (GB)")
    axes.set_xlim(0, images)
    axes.set_ylim(0, 1.15 * found["memory_peak_gb"])
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(path, format="png")
