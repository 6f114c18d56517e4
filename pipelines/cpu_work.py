"""What an image takes of a CPU core besides the model: to decode it, and to describe its labels.

From it follows how many cores keep one GPU busy. What a label job does on the GPU is left out: the
resize to the model's input, the scores, the label map.

Shapes: H W pixels.
"""

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from PIL import Image

import sed
from pipelines import scenes
from pipelines.fetching import Scored
from pipelines.images import decode
from pipelines.labeller import Labeller
from pipelines.throughput import StandIn

SIZES = ((640, 480), (1632, 1224), (4000, 3000))
"""Width and height of the photos, in pixels: 0.3, 2 and 12 megapixels."""

DRAWN = 4
"""Photos of each size."""

DRAWN_SIDE = 1024
"""Scenes are drawn at this size and enlarged."""

GRAIN = 4.0
"""Standard deviation of the noise, of 255: without it the files were smaller than a camera's."""

QUALITY = 90
CLASSES = [f"class {index}" for index in range(150)]


@dataclass(frozen=True, kw_only=True)
class CpuWork:
    """Seconds of one core for one image, medians."""

    width: int
    height: int
    kilobytes: float
    """Of the JPEG file."""

    decode_seconds: float
    """From the file to pixels of the size that the model takes."""

    describe_seconds: float
    """From the label map to what is written: PNG, segments, uncertainty."""

    def cores(self, model_seconds: float) -> dict[str, float]:
        """Return how many cores keep up with a model that takes so long for an image.

        At least: what reading, Arrow and Ray take is not counted. Those that decode may be on any
        node, those that describe are on the model's own.
        """
        return {
            "decode_cores": self.decode_seconds / model_seconds,
            "describe_cores": self.describe_seconds / model_seconds,
        }


def measure(config: sed.SEDConfig, *, repeats: int) -> list[CpuWork]:
    """Measure photos of each of `SIZES`.

    Args:
        config: Of the model: the size to which photos are decoded.
        repeats: Times that each photo is decoded and described.
    """
    labeller = Labeller(
        load_model=lambda device: StandIn(device, seconds=0),
        load_text=lambda: np.zeros((len(CLASSES), 1, 1), np.float32),
        classes=CLASSES,
        rejection=sed.Rejection(),
        threads=1,
    )
    return [measure_size(labeller, config, *size, repeats=repeats) for size in SIZES]


def measure_size(
    labeller: Labeller, config: sed.SEDConfig, width: int, height: int, *, repeats: int
) -> CpuWork:
    """Measure photos of one size."""
    files = [photo(index, width, height) for index in range(DRAWN)]
    sides = {"short_side": config.short_side, "long_side": config.long_side}
    decoding = [seconds(lambda file=file: decode(file, **sides), repeats) for file in files]
    row = {"image_uri": "photo.jpg", "width": width, "height": height}
    assert isinstance(labeller.model, StandIn), "its label map costs nothing"
    scored = Scored(labeller.model.scores)
    return CpuWork(
        width=width,
        height=height,
        kilobytes=float(np.mean([len(file) for file in files])) / 1000,
        decode_seconds=median(decoding),
        describe_seconds=seconds(lambda: labeller.describe(row, scored), repeats * DRAWN),
    )


def photo(index: int, width: int, height: int) -> bytes:
    """Return a JPEG of a drawn scene with grain."""
    scene = scenes.draw(5, index, split="seen", size=DRAWN_SIDE)
    enlarged = Image.fromarray(scene.image_HW3).resize((width, height), Image.Resampling.BICUBIC)
    grain_HW3 = np.random.default_rng(index).normal(0, GRAIN, (height, width, 3))
    pixels_HW3 = (np.asarray(enlarged) + grain_HW3).clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels_HW3).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Return the median time of a call, after one that does not count."""
    work()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return median(found)


def table(found: Sequence[CpuWork], model_seconds: float) -> list[str]:
    """Return the lines of a table."""
    wanted = f"for {1000 * model_seconds:g} ms: decode"
    lines = [
        f"{'megapixels':>10} {'KB':>7} {'decode ms':>10} {'images/s a core':>16} "
        f"{'describe ms':>12} {wanted:>20} {'describe cores':>15}"
    ]
    for one in found:
        cores = one.cores(model_seconds).values()
        lines.append(
            f"{one.width * one.height / 1e6:>10.1f} {one.kilobytes:>7.0f} "
            f"{1000 * one.decode_seconds:>10.1f} {1 / one.decode_seconds:>16.0f} "
            f"{1000 * one.describe_seconds:>12.1f} "
            + "".join(f"{count:>{width}.1f}" for count, width in zip(cores, (21, 16), strict=True))
        )
    return lines
