"""How long a model takes and how much memory it needs: one case, measured in a process of its own.

A fresh process for each case, because memory that was once used is not given back. The process
reads a `Case` as JSON from stdin and writes what it measured as JSON to stdout.

Shapes: B images, N classes, P prompts, D embedding, H W pixels.
"""

import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import cycle, repeat
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.clock import clock
from pipelines.tensors import pack, unpack
from sed import SED, ClassScores, Rejection, load_model, vocabulary
from sed.config import base, large
from sed.features import Essence
from sed.inference.buckets import compile_model
from sed.inference.low_rank import LowRankSED, PromptBasis
from sed.inference.model import FastSED
from sed.transfers import Download
from sed.upsample import label_map
from sed.vocabularies import SYNONYM_SEPARATOR

UNIT_WARMUP, UNIT_REPEATS = 1, 2
"""Least runs of the plain encoder before the clock starts, and of which the median is taken: its
first call pays for pages and for what its operators prepare, and it is the unit of all ratios."""

SELECTIONS = 512
"""Sets of survivors that are drawn before the clock starts; then they come again."""

RANDOM = {"base": base, "large": large}
"""Models that are measured with random weights: the time does not depend on them."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing to measure."""

    model: str = "nano"
    """nano, a checkpoint's path, or base or large with random weights."""

    classes: int = 150
    """How many, as random unit vectors; 0 measures the embedding of class names instead."""

    names: int = 16
    """How many class names to embed together, beside one alone, where that is measured."""

    rejection: str = "none"
    """Policy, in the text form of every job."""

    survivors: int | None = None
    """Classes that are kept, chosen at random, whatever the policy would keep."""

    varying: bool = False
    """Keep a number of random classes that differs from image to image and run to run, up to a
    third more or less than `survivors`: always the same ones in the same order."""

    batch_size: int = 1
    """Images that go through the model together."""

    image_side: int = 640
    """Side of the square photo whose label map is made, in pixels."""

    threads: int = 1
    """CPU threads."""

    warmup: int = 1
    """Runs before the clock starts."""

    repeats: int = 3
    """Runs of which the median is taken."""

    device: str = "cpu"
    """cpu or cuda."""

    features: bool = False
    """Measure labelling again from kept features too."""

    optimize: bool = True
    """Measure the form for inference; ratios are to the plain form's encoder."""

    dtype: str | None = None
    """float32 or bfloat16 (on a CPU in the form for inference only, on a GPU by autocast); default:
    float32 on a CPU, bfloat16 on a GPU, as jobs do."""

    tf32: bool = False
    """Let a GPU multiply float32 matrices in TF32, as the authors do."""

    rank: int | None = None
    """Combinations that stand for all prompts in the form for inference: an approximation."""

    compile: bool = False
    """Compile the encoder with torch.compile, and the decoder of the form for inference."""

    graphs: bool = False
    """Record the compiled decoder as CUDA graphs."""

    channels_last: bool = True
    """Keep the channels of images and weights beside each other; the plain form can do without."""


@dataclass(frozen=True)
class Forced:
    """Ask a policy as ever, then keep random classes instead.

    Random weights keep far more classes than trained ones; this shows the time as a function of
    how many are kept. Later levels reject nothing more.
    """

    policy: Rejection
    selections: Callable[[int, torch.device], Iterator[Tensor]]
    """Gives sets of survivors among so many classes on a device, keep_N, one after the other."""

    def acts_at(self, level: int) -> bool:
        """Where the policy acts, and before the first block."""
        return level == 0 or self.policy.acts_at(level)

    def keep(self, logits_NHW: Tensor, level: int) -> Tensor:
        """Keep random classes at the first level, all of them afterwards."""
        keep_N = self.policy.keep(logits_NHW, level)
        if level > 0:
            return torch.ones_like(keep_N)
        return next(self.selections(len(keep_N), keep_N.device))


def same(survivors: int) -> Callable[[int, torch.device], Iterator[Tensor]]:
    """Return selections that are all of the same random classes."""

    @cache  # drawn once: that is no part of a model
    def select(total: int, device: torch.device) -> Iterator[Tensor]:
        return repeat(draw_classes(total, survivors, torch.Generator().manual_seed(0)).to(device))

    return select


def varying(around: int) -> Callable[[int, torch.device], Iterator[Tensor]]:
    """Return selections of other classes each time, up to a third more or less than `around`."""

    @cache
    def select(total: int, device: torch.device) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(0)
        counts = torch.randint(
            around - around // 3, around + around // 3 + 1, (SELECTIONS,), generator=generator
        )
        keeps = [draw_classes(total, count, generator).to(device) for count in counts.tolist()]
        return cycle(keeps)

    return select


def draw_classes(total: int, survivors: int, generator: torch.Generator) -> Tensor:
    """Return random classes, keep_N."""
    keep_N = torch.zeros(total, dtype=torch.bool)
    keep_N[torch.randperm(total, generator=generator)[:survivors]] = True
    return keep_N


def measure_in_subprocess(case: Case, most_seconds: float | None = None) -> dict[str, Any]:
    """Measure a case in a fresh process.

    Args:
        case: What to measure.
        most_seconds: After which the process is ended; None waits for as long as it takes.

    Raises:
        RuntimeError: The process failed, or took too long; the message holds the end of what it
            said.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pipelines.benchmark"],
            input=json.dumps(asdict(case)),
            capture_output=True,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": str(case.threads)},
            check=False,
            timeout=most_seconds,
        )
    except subprocess.TimeoutExpired as slow:
        raise RuntimeError(f"measuring {case} took more than {slow.timeout:g} s") from slow
    if done.returncode:
        raise RuntimeError(f"measuring {case} failed: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.rstrip().rpartition("\n")[2])


@torch.inference_mode()
def measure(case: Case) -> dict[str, Any]:
    """Return the seconds of each phase, their ratios to the plain encoder's, and the peak memory.

    The plain encoder runs first in the same process: its time is the unit, its memory the floor. It
    has the layout of the case, and on a GPU the precision; on a CPU it computes in float32.
    """
    set_up(case)
    model = make_plain(case)
    images_B3HW = torch.rand(
        case.batch_size, 3, model.config.image_size, model.config.image_size, device=case.device
    )
    warmup, repeats = max(case.warmup, UNIT_WARMUP), max(case.repeats, UNIT_REPEATS)
    times = [
        clock(lambda: model.encode(images_B3HW), case.device)[0] for _ in range(warmup + repeats)
    ]
    unit, floor = median(times[warmup:]), peak_memory(case.device)
    timed, compiled = measure_form(finish(model, case), images_B3HW, case)
    seconds = {phase: median(run[phase] for run in timed) for phase in timed[0]}
    kept = seconds.pop("kept", None)
    seconds["plain encoder"] = unit
    return asdict(case) | {
        "kept": kept,
        "seconds": seconds,
        "per_encoder": {phase: value / unit for phase, value in seconds.items()},
        "compilations": compiled,
        "peak_memory_gb": peak_memory(case.device) / 1e9,
        "encoder_memory_gb": floor / 1e9,
        "load_average": round(os.getloadavg()[0], 1),
    }


def set_up(case: Case) -> None:
    """Give this process the threads, the seed and the precision of a case."""
    torch.set_num_threads(case.threads)
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high" if case.tf32 else "highest")


def measure_form(
    model: SED, images_B3HW: Tensor, case: Case
) -> tuple[list[dict[str, float]], int | None]:
    """Time a form of the model again and again.

    Returns:
        The seconds of each run after the warm-up, and how many programs were compiled meanwhile;
        None where none is.
    """
    rejection = make_rejection(case)

    def run() -> dict[str, float]:
        if case.classes == 0:
            return measure_name(model, case)
        return measure_images(model, images_B3HW, rejection, case)

    for _ in range(case.warmup):
        run()
    before = compilations() if case.compile else 0
    timed = [run() for _ in range(case.repeats)]
    return timed, compilations() - before if case.compile else None


def compilations() -> int:
    """Return how many programs torch has compiled in this process."""
    from torch._dynamo.utils import counters  # takes seconds to import

    return counters["stats"]["unique_graphs"]


def measure_images(
    model: SED, images_B3HW: Tensor, rejection: Rejection, case: Case
) -> dict[str, float]:
    """Time one batch from pixels to label maps; `kept` is how many classes are left."""
    text_NPD = random_text(model, case.classes)
    photos = draw_photos(case)
    prepared, _ = clock(lambda: [model.prepare(photo) for photo in photos], case.device)
    encoder, features = clock(lambda: model.encode(images_B3HW), case.device)
    decoder, scores = clock(lambda: model.decode(features, text_NPD, rejection), case.device)
    labels, _ = clock(lambda: make_labels(scores, case.image_side), case.device)
    found = {
        "photos": prepared,
        "encoder": encoder,
        "decoder": decoder,
        "whole": encoder + decoder,
        "labels": labels,
        "kept": sum(len(one.candidates_K) for one in scores) / len(scores),
    }
    if case.features:
        packed = [pack(image) for image in model.condense(features).split()]
        found["again"], _ = clock(
            lambda: label_again(model, packed, text_NPD, rejection), case.device
        )
    return found


def label_again(
    model: SED, packed: Sequence[Any], text_NPD: Tensor, rejection: Rejection
) -> list[ClassScores]:
    """Return the scores of images whose features were kept."""
    images = [unpack(image, str(model.device)) for image in packed]
    return model.decode(Essence.stack(images), text_NPD, rejection)


def measure_name(model: SED, case: Case) -> dict[str, float]:
    """Time the embedding of one class name in all prompts, and of each of several together."""
    one, _ = clock(lambda: model.text_encoder(["traffic light"]), case.device)
    names = [name for name in vocabulary("ade847") if SYNONYM_SEPARATOR not in name][: case.names]
    several, _ = clock(lambda: model.text_encoder(names), case.device)
    return {"class name": one, "each of several": several / len(names)}


def make_plain(case: Case) -> SED:
    """Return the plain model of a case, in eval mode on its device, in its precision and layout."""
    if case.model in RANDOM:
        model = SED(RANDOM[case.model]()).eval().requires_grad_(False).to(case.device)
    else:
        model = load_model(case.model, case.device)
    model.mixed_precision = case.dtype != "float32"
    lay_out(model, case)
    return model


def lay_out(model: SED, case: Case) -> None:
    """Lay images and weights out as a case has them; a model begins with channels last."""
    if not case.channels_last:
        model.memory_format = torch.contiguous_format
        model.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]


def finish(model: SED, case: Case) -> SED:
    """Return the form of a plain model that a case measures."""
    if case.rank is not None:
        model = LowRankSED(model, PromptBasis.of_rank(random_text(model, 8), case.rank))
    elif case.optimize:
        half = case.dtype == "bfloat16" and case.device == "cpu"
        model = FastSED(model, torch.bfloat16 if half else torch.float32)
    lay_out(model, case)
    if case.compile:
        compile_model(model, graphs=case.graphs)
    return model


def make_model(case: Case) -> SED:
    """Return the model of a case, in eval mode on its device."""
    return finish(make_plain(case), case)


def random_text(model: SED, num_classes: int) -> Tensor:
    """Return random unit vectors in the place of text embeddings, text_NPD."""
    prompts, dim = model.cost_map.embed.in_channels, model.text_encoder.dim
    return F.normalize(torch.randn(num_classes, prompts, dim, device=model.device), dim=-1)


def make_rejection(case: Case) -> Rejection:
    """Return the policy of a case."""
    rejection = Rejection.parse(case.rejection)
    if case.survivors is None:
        return rejection
    selections = varying if case.varying else same
    return Rejection((Forced(rejection, selections(case.survivors)),))


def make_labels(scores: Sequence[ClassScores], side: int) -> list[Tensor]:
    """Return labels_HW of each image at the photo's size, in the memory of the machine."""
    download = Download()
    labels = [
        download.copy(label_map(one.logits_KHW, one.candidates_K, height=side, width=side)[0])
        for one in scores
    ]
    download.wait()
    return labels


def draw_photos(case: Case) -> list[np.ndarray]:
    """Return photos of a batch as they come from a decoder, three high to four wide, pixels_HW3."""
    shape = (max(1, case.image_side * 3 // 4), case.image_side, 3)
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, shape, dtype=np.uint8) for _ in range(case.batch_size)]


def peak_memory(device: str) -> int:
    """Return the most bytes that this process ever held, or held on its GPU."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():  # Linux; the usage of `getrusage` also counts who started this process
        (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())
        return int(peak) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(Case(**json.load(sys.stdin)))) + "\n")
