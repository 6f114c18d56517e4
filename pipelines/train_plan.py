"""What a training shall do: checked before anything starts, and bound to its output."""

import json
import posixpath
from dataclasses import asdict, dataclass, fields
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import scenes, tracking
from pipelines.augment import Augmentation
from pipelines.crew import Crew
from pipelines.datasets import check as check_dataset
from pipelines.datasets import split_spec
from pipelines.ingest import Ingest
from pipelines.outputs import check_free
from pipelines.sources import Source, open_source
from pipelines.storage import Location, locate
from pipelines.train_checks import FROM_CLIP, SCENES, check, check_crew
from pipelines.train_flags import OF_SCENES, TrainFlags
from sed.config import PRESETS, SEDConfig

if TYPE_CHECKING:
    # These load torch and Ray, which takes seconds: after what the flags say is checked.
    from pipelines.finetune import FinetuneConfig
    from pipelines.recipe import TrainConfig
    from pipelines.scenes_recipe import ScenesConfig
    from pipelines.worker import Upkeep

RUN_FILE = "train.json"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the flags mean, checked."""

    config: "TrainConfig"
    upkeep: "Upkeep"
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
        from pipelines.finetune import FinetuneConfig

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
    name, place = split_spec(dataset)
    source = None if dataset == SCENES or place is None else open_source(name, place)
    from sed.checkpoint import file_digest

    weights, sizes = find_weights(flags, uri)
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


def find_weights(flags: TrainFlags, uri: str) -> tuple[Path | None, SEDConfig]:
    """Return the file that training starts from, if any, and the sizes of the model."""
    from sed.checkpoint import check_source, source_config
    from sed.clip import check_clip, find_clip

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


def scenes_config(flags: TrainFlags, settings: dict[str, Any]) -> "ScenesConfig":
    """Return the recipe that teaches a small model the scenes."""
    from pipelines.curriculum import Curriculum
    from pipelines.scenes_recipe import ScenesConfig

    known = {field.name for field in fields(Curriculum)}
    curriculum = Curriculum(**{name: getattr(flags, name) for name in OF_SCENES if name in known})
    return ScenesConfig(**settings, text_steps=flags.text_steps, curriculum=curriculum)


def photos_config(
    flags: TrainFlags, settings: dict[str, Any], dataset: str, source: Source, sizes: SEDConfig
) -> "FinetuneConfig":
    """Return the published recipe on photos with masks."""
    from pipelines.finetune import FinetuneConfig

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
        max_asked=flags.max_asked,
        encoder_rate=flags.encoder_rate,
        augmentation=Augmentation(
            short_sides=(size,),
            crop_size=size,
            max_class_area=flags.max_class_area,
            colours=flags.colours,
        ),
    )


def upkeep(flags: TrainFlags) -> "Upkeep":
    """Return what is done beside the steps."""
    from pipelines.worker import Upkeep

    on_scenes = flags.dataset == ((SCENES,),)
    return Upkeep(
        checkpoint_every=flags.checkpoint_every or (200 if on_scenes else 1000),
        keep=flags.keep,
        validate_every=flags.validate_every,
        log_every=flags.log_every,
    )


def claim(file: Location, config: "TrainConfig") -> dict[str, Any]:
    """Make the output belong to this recipe; return its record.

    Raises:
        ValueError: It belongs to another one, or holds something else.
    """
    if not file.exists():
        folder = Location(file.fs, posixpath.dirname(file.path), file.root)
        check_free(folder, "training")
        record = {"digest": config.digest, "recipe": asdict(config)}
        file.write(json.dumps(record).encode())
        return record
    from pipelines.recipe import fingerprint

    record = json.loads(file.read())
    # Not its digest, of which what does not change a step was a part once.
    if fingerprint(record.get("recipe", {})) != config.digest:
        raise ValueError(
            f"{file.uri} belongs to a training with other settings: choose another --output"
        )
    return record
