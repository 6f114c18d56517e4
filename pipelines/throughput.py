"""How busy a label job keeps its model: the whole pipeline against the model alone, in one run.

The model may be a stand-in that takes a fixed time without using the CPU, as one on a GPU does.

Shapes: B images, N classes, K surviving classes, H W pixels.
"""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import sed
from pipelines import memory, scenes
from pipelines.benchmark import Case, make_model, random_text
from pipelines.clocked import load_clocked
from pipelines.label import label
from pipelines.labeller import LoadModel, Model
from pipelines.plan import LabelConfig, make_plan
from pipelines.suite import Goal, judge
from sed.config import base
from sed.transfers import Download
from sed.uncertainty import Doubts

T = TypeVar("T")

WIDTH, HEIGHT = 640, 480
"""Of the photos, in pixels."""

DRAWN = 64
"""Different photos; the others are links to them."""

WARM = 0.1
"""Share of the images after which the clock starts: everything runs by then."""


PER_MODEL = Goal(figure="pipeline / model alone", bound=0.95, least=True)
"""Promised of base: what else a job does leaves the model its speed."""

BUSY = Goal(figure="busy", bound=0.85, least=True)
"""Promised of a stand-in for a model on a GPU."""


class StandInScores(sed.ClassScores):
    """Scores whose label map is there already: on a GPU it is made without the CPU."""

    def label_map(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Return labels_HW and confidence_HW, made once for each size."""
        return make_once(super().label_map, height, width)

    def confidence(self) -> Tensor:
        """Return confidence_HW, made once."""
        return make_once(super().confidence)

    def doubts(self) -> Doubts:
        """Return what makes the scores uncertain, found once."""
        return make_once(super().doubts)


MADE: dict[Any, Any] = {}
"""What a stand-in made, by method and arguments; all stand-ins find the same."""


def make_once(method: Callable[..., T], *args: int) -> T:
    """Return what a method gave the first time."""
    key = (method.__name__, *args)
    if key not in MADE:
        MADE[key] = method(*args)
    return MADE[key]


class StandIn:
    """Takes a fixed time for each image without using the CPU, and finds smooth regions.

    As with a GPU, what SED computes on its device costs no CPU: the resize to the encoder's input,
    the scores, the label map.
    """

    config = sed.SEDConfig()
    num_survivors = 8

    def __init__(self, device: str = "cpu", *, seconds: float) -> None:
        """Make the scores once; asking for them costs nothing.

        Args:
            device: Ignored.
            seconds: Time for each image.
        """
        self.seconds = seconds
        side = self.config.image_size // 4
        rough = torch.randn(1, self.num_survivors, 4, 4, generator=torch.Generator().manual_seed(0))
        smooth = torch.nn.functional.interpolate(rough, size=(side, side), mode="bicubic")
        self.scores = StandInScores(2 * smooth[0], torch.arange(self.num_survivors))

    def embed_classes(self, classes: Sequence[str]) -> Tensor:
        """Return zeros, text_NPD.

        Raises:
            ValueError: Fewer classes than this finds.
        """
        if len(classes) < self.num_survivors:
            raise ValueError(
                f"the stand-in finds {self.num_survivors} classes, more than were given"
            )
        return torch.zeros(len(classes), 1, 1)

    def prepare(self, pixels_HW3: np.ndarray) -> Tensor:
        """Return nothing in the place of a photo."""
        return torch.empty(3, 0, 0)

    def score(
        self, images_B3HW: Tensor, text_NPD: Tensor, rejection: sed.Rejection | None = None
    ) -> list[sed.ClassScores]:
        """Wait, then say the same of each image."""
        time.sleep(self.seconds * len(images_B3HW))
        return [self.scores] * len(images_B3HW)


@dataclass(frozen=True)
class Throughput:
    """What was measured, between the first tenth of the images and the last of them."""

    images: int
    model_alone: float
    """Images per second of one copy of the model that waits for nothing, label maps included."""

    pipeline: float
    """Images per second of the whole, from files to committed labels, for each copy."""

    busy: float
    """Share of that time in which the device of a copy is at scores, from the first of what a call
    asks of it to the last."""

    whole_job: float
    """Images per second with start and report."""

    memory_start_gb: float | None = None
    """Median of the memory that the job held (see `pipelines.memory`) between the first and the
    second tenth of the images; None: not measured."""

    memory_end_gb: float | None = None
    """The same, over the last tenth of the images."""

    memory_peak_gb: float | None = None
    """The most it was seen to hold, start and report included."""

    memory_curve: Sequence[memory.Point] = ()
    """All that was seen."""

    @property
    def ratio(self) -> float:
        """The pipeline's speed as a share of the model's."""
        return self.pipeline / self.model_alone


def goals(found: Throughput, config: sed.SEDConfig | None) -> list[dict[str, Any]]:
    """Return what is promised of a job, beside what was measured; of other models nothing is.

    Args:
        found: What was measured.
        config: Of the model; None: a stand-in.
    """
    if config is None:
        return [judge(BUSY, {BUSY.figure: found.busy})]
    if config.encoder != base().encoder:
        return []
    return [judge(PER_MODEL, {PER_MODEL.figure: found.ratio})]


def draw_photos(folder: Path, count: int, *, width: int, height: int) -> None:
    """Write JPEG photos of scenes, of one size."""
    folder.mkdir(parents=True)
    for index in range(min(count, DRAWN)):
        scene = scenes.draw(3, index, split="seen", size=max(width, height))
        photo = Image.fromarray(scene.image_HW3[:height, :width])
        photo.save(folder / f"{index:06d}.jpg", quality=90)
    for index in range(DRAWN, count):
        link_or_copy(folder / f"{index % DRAWN:06d}.jpg", folder / f"{index:06d}.jpg")


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name; where the file system has no links, copy it."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def load_case(case: Case, device: str) -> Model:
    """Load the model of a benchmark's case; class names cost it nothing."""
    model = make_model(replace(case, device=device))
    model.embed_classes = lambda classes: random_text(model, len(classes))  # pyright: ignore[reportAttributeAccessIssue]
    return model


@torch.inference_mode()
def time_alone(model: Model, config: LabelConfig, *, batches: int) -> float:
    """Return the images per second of a model that is given one batch after the other.

    As `jobs.benchmark` counts them: from the model's input to label maps at the size of the photos.
    """
    policy, size = sed.Rejection.parse(config.rejection), model.config.image_size
    text_NPD, batch_size = model.embed_classes(config.classes), config.batch_size
    images_B3HW = torch.rand(batch_size, 3, size, size, device=text_NPD.device)

    def label_batch() -> None:
        download = Download()
        for scores in model.score(images_B3HW, text_NPD, policy):
            download.copy(scores.label_map(HEIGHT, WIDTH)[0])
        download.wait()

    label_batch()
    start = done(images_B3HW.device)
    for _ in range(batches):
        label_batch()
    return batches * batch_size / (done(images_B3HW.device) - start)


def done(device: torch.device) -> float:
    """Wait until a device has done all that it was told; return the time, in seconds."""
    if device.type != "cpu":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def measure(
    config: LabelConfig,
    load_model: LoadModel,
    *,
    folder: Path,
    connect: Callable[[], None],
    alone: float,
) -> Throughput:
    """Run a label job and see how busy its model was, and how much memory the job held.

    Args:
        config: The job; its output is new.
        load_model: Of the model to clock.
        folder: For what the clocks write down; new.
        connect: Joins or starts a Ray cluster.
        alone: From `time_alone`.
    """
    clocks = folder / "clocks"
    clocks.mkdir(parents=True)
    clocked = partial(load_clocked, load_model=load_model, folder=clocks)
    start = time.time()
    with memory.watch() as samples:
        run = label(
            make_plan(config),
            connect=connect,
            tracking_uri=f"sqlite:///{folder}/mlflow.db",
            experiment="throughput",
            load_model=clocked,
        )
    images = run["counts"]["inputs"]
    files = list(clocks.iterdir())
    found = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    whole_job = images / (time.time() - start)
    result = steady_state(found, images, len(files), alone=alone, whole_job=whole_job)
    points = memory.over_images(samples, found, start=start)
    return replace(result, memory_curve=points, **memory.figures(points, images))


def steady_state(
    found: Sequence[dict[str, Any]], images: int, copies: int, *, alone: float, whole_job: float
) -> Throughput:
    """Return the throughput between the first tenth of the images and the last."""
    ordered = sorted(found, key=lambda line: line["end"])
    seen = np.cumsum([line["images"] for line in ordered])
    warm = int(np.searchsorted(seen, WARM * images))
    begin, after = ordered[warm]["end"], ordered[warm + 1 :]
    seconds = copies * (after[-1]["end"] - begin)
    busy = sum(line["end"] - max(begin, line["start"]) for line in after)
    return Throughput(
        images=images,
        model_alone=alone,
        pipeline=sum(line["images"] for line in after) / seconds,
        busy=busy / seconds,
        whole_job=whole_job,
    )
