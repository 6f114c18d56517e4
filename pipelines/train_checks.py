"""Checks of what a person asks of a training, before anything is read or started."""

import math
import os
from dataclasses import fields
from itertools import chain
from typing import TYPE_CHECKING

from pipelines.crew import Crew
from pipelines.train_flags import OF_PHOTOS, OF_SCENES, TrainFlags

if TYPE_CHECKING:
    from pipelines.recipe import TrainConfig

SCENES = "scenes"

FROM_CLIP = ("base", "large")
"""Presets that start from CLIP's weights."""

LEAST = {
    **dict.fromkeys(("max_steps", "batch_size", "accumulate", "max_asked"), 1),
    **dict.fromkeys(("decode_every", "keep", "checkpoint_every", "validate_every", "log_every"), 1),
    **dict.fromkeys(("text_steps", "align_steps", "seed"), 0),
    **dict.fromkeys(("scene_size", "crop_size"), 32),
}
"""Smallest values of flags."""


def check(flags: TrainFlags) -> Crew:
    """Check the flags that need nothing else to be known; return who trains.

    Raises:
        ValueError: A flag that does not fit; one sentence.
    """
    specs = [*chain.from_iterable(flags.dataset)]
    if len(specs) != 1:
        raise ValueError("one dataset is needed; try --dataset scenes")
    for name, least in LEAST.items():
        number = getattr(flags, name)
        if number is not None and number < least:
            raise ValueError(f"--{name.replace('_', '-')} must be at least {least}, got {number}")
    check_shares(flags)
    check_recipe(flags, specs[0] == SCENES)
    if flags.learning_rate is not None and not 0 < flags.learning_rate < math.inf:
        raise ValueError(f"--learning-rate must be more than 0, got {flags.learning_rate}")
    crew = Crew.parse(flags.workers, use_gpu=flags.use_gpu)
    if flags.use_gpu and not os.environ.get("RAY_ADDRESS"):
        check_own_gpus(crew.least)
    return crew


def check_own_gpus(workers: int) -> None:
    """Require a GPU of this machine for each worker, where no cluster is joined."""
    import torch  # takes seconds

    found = torch.cuda.device_count()
    if not found:
        raise ValueError("--use-gpu: this machine has no GPU, and no cluster was joined")
    if found < workers:
        raise ValueError(f"--workers {workers} --use-gpu: this machine has {found} GPUs")


def check_shares(flags: TrainFlags) -> None:
    """Check the flags that are weights and shares."""
    if not flags.asked or min(flags.asked) < 1:
        raise ValueError(f"--asked must be numbers of at least 1, got {flags.asked}")
    for name in ("likely_share", "max_class_area", "encoder_rate"):
        if not 0 <= getattr(flags, name) <= 1:
            flag = f"--{name.replace('_', '-')}"
            raise ValueError(f"{flag} must be between 0 and 1, got {getattr(flags, name)}")
    if not 0 <= flags.ema_decay < 1:
        raise ValueError(f"--ema-decay must be at least 0 and below 1, got {flags.ema_decay}")
    if flags.overlap_weight < 0:
        raise ValueError(f"--overlap-weight must be at least 0, got {flags.overlap_weight}")
    if flags.scene_size % 64:
        raise ValueError(f"--scene-size must be a multiple of 64, got {flags.scene_size}")


def check_recipe(flags: TrainFlags, on_scenes: bool) -> None:
    """Refuse the flags of the recipe that is not used."""
    defaults = {field.name: field.default for field in fields(TrainFlags)}
    for name in OF_PHOTOS if on_scenes else OF_SCENES:
        if getattr(flags, name) != defaults[name]:
            flag, what = f"--{name.replace('_', '-')}", "on photos" if on_scenes else "on scenes"
            raise ValueError(f"{flag} is a setting of training {what} only")
    if on_scenes and flags.model in FROM_CLIP:
        raise ValueError(f"--model {flags.model} is trained on photos; scenes train nano")
    if flags.clip_weights is not None and flags.model not in FROM_CLIP:
        raise ValueError(f"--clip-weights goes with --model base or large, not {flags.model!r}")


def check_crew(crew: Crew, config: "TrainConfig") -> None:
    """Require that a step can be shared out.

    Raises:
        ValueError: It cannot.
    """
    if crew.most > config.batch_size:
        raise ValueError(
            f"--batch-size {config.batch_size} is less than an image for each of {crew.most} "
            "--workers"
        )
    if config.shares_unevenly:
        return
    if crew.least != crew.most:
        raise ValueError("--workers is a single number on scenes: their batch norms depend on it")
    if config.batch_size % crew.most:
        raise ValueError(
            f"--batch-size {config.batch_size} must be a multiple of --workers {crew.most}"
        )
