"""What a training shall do: checked before anything starts, and bound to its output."""

import json
import os
from dataclasses import asdict, dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from pipelines import scenes, tracking
from pipelines.augment import Augmentation
from pipelines.curriculum import Curriculum
from pipelines.datasets import check as check_dataset
from pipelines.datasets import split_spec
from pipelines.finetune import FinetuneConfig
from pipelines.ingest import Ingest
from pipelines.recipe import TrainConfig
from pipelines.scenes_recipe import ScenesConfig
from pipelines.sources import Source, open_source
from pipelines.storage import Location, locate
from pipelines.train import Crew
from pipelines.train_flags import OF_PHOTOS, OF_SCENES, TrainFlags
from pipelines.worker import Upkeep
from sed.checkpoint import check_source, file_digest, source_config
from sed.clip import check_clip, find_clip
from sed.config import PRESETS, SEDConfig

RUN_FILE = "train.json"

SCENES = "scenes"

FROM_CLIP = ("base", "large")
"""Presets that start from CLIP's weights."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the flags mean, checked."""

    config: TrainConfig
    upkeep: Upkeep
    crew: Crew
    output: Location
    dataset: str
    validation: list[str]
    mlflow_uri: str
    record: dict[str, Any]
    """What the output's train.json says."""

    weights: Path | None
    """File that training starts from; None where it starts from what is bundled or from nothing."""

    source: Source | None
    """Photos with masks; None for scenes."""

    @property
    def ingest(self) -> Ingest | None:
        """What Ray Data streams to the workers; scenes are drawn beside them instead."""
        if self.source is None:
            return None
        assert isinstance(self.config, FinetuneConfig), "photos are trained on by this recipe"
        return Ingest(
            pieces=self.source.pieces,
            augmentation=self.config.augmentation,
            num_classes=len(self.source.classes),
            seed=self.config.seed,
            batch_size=self.config.batch_size,
            max_steps=self.config.max_steps,
        )

    @property
    def classes(self) -> list[str]:
        """Names of what the model learns to label."""
        return scenes.vocabulary() if self.source is None else list(self.source.classes)

    @property
    def data_facts(self) -> tuple[str, str]:
        """Where the training images come from, and what says which they are."""
        if self.source is None:
            return "pipelines.scenes", f"seed-{self.config.seed}"
        return self.dataset.partition("=")[2], self.source.digest


def make_plan(flags: TrainFlags, mlflow_uri: str | None) -> Plan:
    """Check everything that can be known before anything starts.

    Raises:
        ValueError: A flag makes no sense, or the output belongs to another training.
        OSError: There is no such model or dataset, or the output cannot be reached.
    """
    uri = tracking.resolve_uri(mlflow_uri)
    crew = check(flags)
    dataset, validation = check_datasets(flags)
    weights, sizes = find_weights(flags, dataset, uri)
    name, place = split_spec(dataset)
    source = None if dataset == SCENES or place is None else open_source(name, place)
    digest = file_digest(weights) if weights is not None else ""
    settings = common_settings(flags) | {"weights_digest": digest}
    if source is None:
        config: TrainConfig = scenes_config(flags, settings)
    else:
        config = photos_config(flags, settings, dataset, source, sizes)
    check_crew(crew, config)
    output = locate(flags.output)
    record = claim(output.at(RUN_FILE), config)
    return Plan(
        config=config,
        upkeep=upkeep(flags),
        crew=crew,
        output=output,
        dataset=dataset,
        validation=validation,
        mlflow_uri=uri,
        record=record,
        weights=weights,
        source=source,
    )


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
    if flags.use_gpu and not os.environ.get("RAY_ADDRESS") and not torch.cuda.is_available():
        raise ValueError("--use-gpu: this machine has no GPU, and no cluster was joined")
    return Crew.parse(flags.workers, use_gpu=flags.use_gpu)


LEAST = {
    **dict.fromkeys(("max_steps", "batch_size", "accumulate", "decode_every", "keep"), 1),
    **dict.fromkeys(("checkpoint_every", "validate_every", "log_every"), 1),
    **dict.fromkeys(("text_steps", "align_steps", "seed"), 0),
    **dict.fromkeys(("scene_size", "crop_size"), 32),
}
"""Smallest values of flags."""


def check_shares(flags: TrainFlags) -> None:
    """Check the flags that are weights and shares."""
    if not flags.asked or min(flags.asked) < 1:
        raise ValueError(f"--asked must be numbers of at least 1, got {flags.asked}")
    for name in ("likely_share", "max_class_area"):
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


def check_datasets(flags: TrainFlags) -> tuple[str, list[str]]:
    """Require that every dataset is there; return the training set and the others."""
    validation = [*dict.fromkeys(chain.from_iterable(flags.validation))]
    (dataset,) = chain.from_iterable(flags.dataset)
    check_dataset(*split_spec(dataset), split="train")
    for spec in validation:
        check_dataset(*split_spec(spec))
    if dataset == "scenes-unseen":
        raise ValueError(
            "training is not on 'scenes-unseen', which is there to be evaluated on: --validation"
        )
    return dataset, validation


def find_weights(flags: TrainFlags, dataset: str, uri: str) -> tuple[Path | None, SEDConfig]:
    """Return the file that training starts from, if any, and the sizes of the model."""
    if flags.model in FROM_CLIP:
        sizes = PRESETS[flags.model]()
        path = find_clip(flags.model, flags.clip_weights)
        check_clip(sizes, path)
        return path, sizes
    if flags.model == "nano":
        return None, source_config("nano")
    path = check_source(tracking.resolve_model(flags.model, uri))
    return path, source_config(path)


def common_settings(flags: TrainFlags) -> dict[str, Any]:
    """Return the settings that every recipe has, without those that are left to it."""
    names = ("model", "max_steps", "batch_size", "learning_rate", "precision", "seed", "ema_decay")
    return {name: value for name in names if (value := getattr(flags, name)) is not None}


def scenes_config(flags: TrainFlags, settings: dict[str, Any]) -> ScenesConfig:
    """Return the recipe that teaches a small model the scenes."""
    known = {field.name for field in fields(Curriculum)}
    curriculum = Curriculum(**{name: getattr(flags, name) for name in OF_SCENES if name in known})
    return ScenesConfig(**settings, text_steps=flags.text_steps, curriculum=curriculum)


def photos_config(
    flags: TrainFlags, settings: dict[str, Any], dataset: str, source: Source, sizes: SEDConfig
) -> FinetuneConfig:
    """Return the published recipe on photos with masks."""
    size = flags.crop_size or sizes.image_size
    if size % 32:
        raise ValueError(f"--crop-size must be a multiple of 32, got {size}")
    return FinetuneConfig(
        **settings,
        dataset=dataset,
        data_digest=source.digest,
        classes=source.classes,
        accumulate=flags.accumulate,
        recompute=flags.recompute,
        augmentation=Augmentation(
            short_sides=(size,),
            crop_size=size,
            max_class_area=flags.max_class_area,
            colours=flags.colours,
        ),
    )


def check_crew(crew: Crew, config: TrainConfig) -> None:
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


def upkeep(flags: TrainFlags) -> Upkeep:
    """Return what is done beside the steps."""
    on_scenes = flags.dataset == ((SCENES,),)
    return Upkeep(
        checkpoint_every=flags.checkpoint_every or (200 if on_scenes else 1000),
        keep=flags.keep,
        validate_every=flags.validate_every,
        log_every=flags.log_every,
    )


def claim(file: Location, config: TrainConfig) -> dict[str, Any]:
    """Make the output belong to this recipe; return its record.

    Raises:
        ValueError: It belongs to another one.
    """
    if not file.exists():
        record = {"digest": config.digest, "recipe": asdict(config)}
        file.write(json.dumps(record).encode())
        return record
    record = json.loads(file.read())
    if record.get("digest") != config.digest:
        raise ValueError(
            f"{file.uri} belongs to a training with other settings: choose another --output"
        )
    return record
