"""A training in a process of its own, that writes down every step that its workers take."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import ray
import ray.train
import torch

from pipelines import crew
from pipelines.crew import Crew
from pipelines.finetune import FinetuneConfig, LabelledObjective
from pipelines.journal import Tracker
from pipelines.storage import locate
from pipelines.train import train
from pipelines.worker import Setup, Upkeep
from tests.drawn_pieces import CLASSES
from tests.machines import set_environment
from tests.training import make_config, make_ingest

STEPS = 8
EVERY = 3
HELD = 5
"""The step in which workers wait to be killed: two are lost with them."""

LARGE = 3
"""Logical CPUs of a worker of which a node holds one."""


@dataclass(frozen=True, kw_only=True)
class TracedConfig(FinetuneConfig):
    """The published recipe, held up in the middle."""

    trace: str
    """A line for each step of each worker: its process, its rank, the step, the loss."""

    go: str = ""
    """A file without which no worker comes to the end of the step `HELD`."""

    spoil_step: int = -1
    """The step whose loss is not a number."""

    def build_objective(self, model):
        """Return the losses to train."""
        return TracedObjective(model, self)


class TracedObjective(LabelledObjective):
    """Writes down what it finds; waits where it is told to."""

    def __init__(self, model, config):
        super().__init__(model, config)
        self.config = config

    def forward(self, images_BHW3, labels_BHW, step, numbers=()):
        """Return the losses."""
        losses = super().forward(images_BHW3, labels_BHW, step, numbers)
        if step == self.config.spoil_step:
            losses["final"] = losses["final"] * float("inf")
        total = torch.stack(list(losses.values())).sum().item()
        context = ray.train.get_context()
        line = f"{os.getpid()} {context.get_world_rank()} {context.get_world_size()} {step} {total}"
        with Path(self.config.trace).open("a") as trace:
            trace.write(f"{line}\n")
        while step == HELD and self.config.go and not Path(self.config.go).exists():
            time.sleep(0.02)
        return losses


def traced_config(trace, **changes):
    """The recipe of a test."""
    plain = make_config(max_steps=STEPS)
    values = {name: getattr(plain, name) for name in ("model", "dataset", "data_digest")}
    values |= {"augmentation": plain.augmentation, "classes": CLASSES, "precision": "fp32"}
    values |= {"max_steps": STEPS, "batch_size": 4, "trace": str(trace)}
    return TracedConfig(**{**values, **changes})


class LargeCrew(Crew):
    """Workers as large as those with GPUs: there is room for one on a node."""

    def cpus_each(self, cpus):
        """Return the logical CPUs of a worker."""
        return LARGE


def run(address, output, trace, tracking=None, environment=None, grow=False, **changes):
    """Train with two workers, or let one become two where there is room."""
    set_environment(environment)
    crew.RESIZE_SECONDS = 1.0
    ray.init(address=address, log_to_driver=True)
    config = traced_config(trace, **changes)
    setup = Setup(
        config=config,
        output=locate(output),
        tracker=Tracker(tracking, "test", None) if tracking else None,
        upkeep=Upkeep(checkpoint_every=EVERY, log_every=1),
        ingest=make_ingest(config),
    )
    train(setup, LargeCrew.parse("1:2") if grow else Crew.parse("2"))
