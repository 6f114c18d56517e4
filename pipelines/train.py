"""Train a model on Ray Train, on scenes that are drawn beside each worker.

Batches: images uint8 (B, H, W, 3), masks uint8 (B, H, W) that index the vocabulary of scenes.
"""

import hashlib
import json
import logging
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.data
import ray.train.torch
import torch
from ray.train import Checkpoint, CheckpointConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from torch import nn
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader, Dataset

from pipelines import scenes, tracking
from pipelines.curriculum import Curriculum, CurriculumObjective
from pipelines.objective import Objective
from pipelines.storage import Location
from pipelines.warmup import spread_names
from sed import SED, load_model, save_model
from sed.checkpoint import MODEL_FILE, check_source
from sed.config import PRESETS

logger = logging.getLogger(__name__)

STATE_FILE = "state.pt"
LOG_EVERY = 20
NORM_BATCHES = 12
"""Batches from which the statistics of batch norms are taken at the end."""

Wanted = tuple[int, int]
Batch = Sequence[torch.Tensor]
"""images_BHW3 (uint8) and labels_BHW."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training recipe; the defaults were the first run of the bundled nano model."""

    model: str = "nano"
    """Preset to train from nothing, or a checkpoint to go on from."""

    max_steps: int = 3600
    """Steps of the optimizer."""

    text_steps: int = 160
    """Steps before the first, on class names alone: see `pipelines.warmup`."""

    batch_size: int = 16
    """Scenes per step, over all workers."""

    learning_rate: float = 2e-3
    """Peak learning rate of AdamW; it follows half a cosine to zero."""

    text_rate: float = 0.1
    """Share of that rate for the text encoder, which has learnt before."""

    warmup_steps: int = 100
    """Steps in which the learning rate rises linearly to its peak."""

    weight_decay: float = 0.02
    """Weight decay of matrices and kernels; biases, norms and gammas have none."""

    clip_norm: float = 1.0
    """Global norm to which gradients are clipped."""

    precision: str = "auto"
    """Arithmetic of the forward pass: bf16 (autocast), fp32, or auto: bf16 where the hardware has
    it. (Without, bf16 takes ten times as long as fp32.)"""

    seed: int = 0
    """Seed of the weights and of the scenes."""

    checkpoint_every: int = 200
    """Steps between checkpoints."""

    curriculum: Curriculum = field(default_factory=Curriculum)
    """What is asked of the model."""

    def __post_init__(self) -> None:
        for name in ("max_steps", "batch_size", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.precision not in ("auto", "bf16", "fp32"):
            raise ValueError(f"precision must be auto, bf16 or fp32, got {self.precision!r}")

    def build_model(self) -> SED:
        """Return the model that training starts from."""
        return build_model(self)

    def build_objective(self, model: SED) -> Objective:
        """Return what is minimised."""
        return CurriculumObjective(model, self.curriculum)

    def build_optimizer(self, objective: Objective) -> torch.optim.AdamW:
        """Return the optimizer; each group has a `share` of the learning rate."""
        return build_optimizer(objective, self)

    def batches(self, first_step: int, rank: int, world_size: int) -> Iterable[Batch]:
        """Return a worker's share of each batch from a step to the end."""
        return training_batches(self, first_step, rank, world_size)

    def settle(self, model: SED) -> None:
        """Do what is left to do after the last step."""
        settle_norms(model, self)

    @property
    def digest(self) -> str:
        """The recipe's fingerprint: two runs with the same one train the same model."""
        facts = json.dumps(asdict(self), sort_keys=True)
        return "sha256:" + hashlib.sha256(facts.encode()).hexdigest()


@dataclass(frozen=True)
class Tracker:
    """Where rank 0 writes its curves."""

    uri: str
    experiment: str
    run_id: str | None


def build_model(config: TrainConfig) -> SED:
    """Return the model that training starts from.

    A small image encoder from nothing gets weights in proportion to its widths: the fixed 0.02 of
    ConvNeXt, meant for hundreds of channels, would leave the blocks of a narrow one silent.
    """
    if config.model not in PRESETS:
        return load_model(config.model).requires_grad_(True)
    torch.manual_seed(config.seed)
    model = SED(PRESETS[config.model]())
    for module in model.image_encoder.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    if config.text_steps:
        cosine = spread_names(model.text_encoder, steps=config.text_steps, seed=config.seed)
        logger.info("Class names spread in %d steps: cosine %.3f", config.text_steps, cosine)
    return model


def build_optimizer(objective: Objective, config: TrainConfig) -> torch.optim.AdamW:
    """Return AdamW with weight decay on everything of two dimensions or more.

    Each group has a `share` of the learning rate.
    """
    text = set(objective.model.text_encoder.parameters())
    parameters = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    groups = [
        {
            "params": [p for p in parameters if (p.ndim > 1) == matrix and (p in text) == of_text],
            "weight_decay": config.weight_decay if matrix else 0.0,
            "share": config.text_rate if of_text else 1.0,
        }
        for matrix in (True, False)
        for of_text in (True, False)
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98))


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the learning rate of a step: linear warm-up, then half a cosine to zero."""
    warmup = min(1.0, (step + 1) / max(1, config.warmup_steps))
    cosine = 0.5 * (1 + np.cos(np.pi * step / config.max_steps))
    return config.learning_rate * warmup * float(cosine)


class TrainingScenes(Dataset):
    """The endless series of training scenes of one seed, drawn when they are asked for."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __getitem__(self, wanted: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the picture and the mask of one scene, given its number and its side."""
        number, size = wanted
        scene = scenes.draw(self.seed, number, split="train", size=size)
        return scene.image_HW3, scene.mask_HW


def wanted_scenes(config: TrainConfig, step: int, rank: int, world_size: int) -> list[Wanted]:
    """Return the number and the side of each scene in a worker's share of one step.

    Step and rank alone decide, so a training that continues sees what an undisturbed one would
    have seen.
    """
    small = not config.curriculum.decodes(step)
    share = config.batch_size // world_size * (4 if small else 1)
    size = config.curriculum.scene_size // (2 if small else 1)
    first = 4 * config.batch_size * step + rank * share
    return [(number, size) for number in range(first, first + share)]


def training_batches(
    config: TrainConfig, first_step: int, rank: int, world_size: int
) -> DataLoader[tuple[torch.Tensor, torch.Tensor]]:
    """Return this worker's share of each batch from `first_step` to the end."""
    return DataLoader(
        TrainingScenes(config.seed),
        batch_sampler=[
            wanted_scenes(config, step, rank, world_size)
            for step in range(first_step, config.max_steps)
        ],
        num_workers=1,
        prefetch_factor=4,
    )


def train_on_worker(setup: dict[str, Any]) -> None:
    """Run the training loop of one worker, from the checkpoint in `setup` or from the start."""
    config: TrainConfig = setup["config"]
    torch.set_num_threads(setup["threads"])
    objective = config.build_objective(config.build_model())
    optimizer = config.build_optimizer(objective)
    model = ray.train.torch.prepare_model(
        objective.train().to(memory_format=torch.channels_last),  # pyright: ignore[reportCallIssue]
        parallel_strategy_kwargs={"find_unused_parameters": True},
    )
    # After the move to the device, so that the optimizer's state is there too.
    first_step = restore(objective, optimizer, setup["resume"]) if setup["resume"] else 0
    context = ray.train.get_context()
    batches = config.batches(first_step, context.get_world_rank(), context.get_world_size())
    device = next(model.parameters()).device
    with tracker_of_rank0(setup["tracker"]) as run:
        for step, (images, masks) in enumerate(batches, first_step):
            batch = images.to(device), masks.to(device)
            losses = train_step(model, optimizer, batch, step, config)
            if run is not None and step % LOG_EVERY == 0:
                log(run, losses, step, config)
            if step + 1 == config.max_steps:
                config.settle(objective.model)
            if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.max_steps:
                report(objective, optimizer, losses, step + 1)


def settle_norms(model: SED, config: TrainConfig) -> None:
    """Take the statistics of the batch norms anew, from scenes of full size.

    Those that training kept mix scenes of two sizes, and weights that have moved on since.
    """
    size = config.curriculum.scene_size
    first = 4 * config.batch_size * config.max_steps
    numbers = range(first, first + config.batch_size * NORM_BATCHES)
    fresh = DataLoader(
        TrainingScenes(config.seed), config.batch_size, sampler=[(n, size) for n in numbers]
    )
    images = (images.permute(0, 3, 1, 2).float() / 255 for images, _ in fresh)
    update_bn(images, model.image_encoder, next(model.parameters()).device)


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: tuple[torch.Tensor, torch.Tensor],
    step: int,
    config: TrainConfig,
) -> dict[str, float]:
    """Take one step of the optimizer; return the losses.

    Raises:
        FloatingPointError: The loss is not finite; nothing was changed.
    """
    for group in optimizer.param_groups:
        group["lr"] = group["share"] * learning_rate(config, step)
    device_type = batch[0].device.type
    with torch.autocast(device_type, torch.bfloat16, enabled=uses_bf16(config, device_type)):
        losses: dict[str, torch.Tensor] = model(*batch, step)
    total = torch.stack(list(losses.values())).sum()
    if not torch.isfinite(total):
        raise FloatingPointError(f"the loss of step {step} is {total.item()}")
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
    optimizer.step()
    return {name: loss.item() for name, loss in losses.items()} | {"total": total.item()}


def uses_bf16(config: TrainConfig, device_type: str) -> bool:
    """Say whether the forward pass is computed in bfloat16."""
    if config.precision != "auto":
        return config.precision == "bf16"
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def tracker_of_rank0(tracker: Tracker) -> Any:  # noqa: ANN401  a context manager of Run or None
    """Return a context that holds the MLflow run on rank 0 and None elsewhere."""
    from contextlib import nullcontext

    if ray.train.get_context().get_world_rank() != 0:
        return nullcontext(None)
    return tracking.run(tracker.uri, tracker.experiment, "train", {}, run_id=tracker.run_id)


def log(run: tracking.Run, losses: dict[str, float], step: int, config: TrainConfig) -> None:
    """Write the losses of one step to MLflow and to the console."""
    metrics = {f"loss/{name}": value for name, value in losses.items()}
    run.metrics({**metrics, "learning_rate": learning_rate(config, step)}, step=step)
    shown = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
    logger.info("step %d of %d: %s", step, config.max_steps, shown)


def report(
    objective: Objective, optimizer: torch.optim.Optimizer, losses: dict[str, float], step: int
) -> None:
    """Hand Ray Train a checkpoint after `step` steps; only rank 0 writes one."""
    if ray.train.get_context().get_world_rank() != 0:
        ray.train.report({"step": step, **losses})
        return
    with tempfile.TemporaryDirectory() as folder:
        save_model(objective.model, Path(folder) / MODEL_FILE)
        state = {
            "optimizer": optimizer.state_dict(),
            "deep": objective.deep.state_dict(),
            "step": step,
        }
        torch.save(state, Path(folder) / STATE_FILE)
        ray.train.report(
            {"step": step, **losses},
            checkpoint=Checkpoint.from_directory(folder),
            checkpoint_dir_name=f"step-{step:07d}",
        )


def restore(objective: Objective, optimizer: torch.optim.Optimizer, checkpoint: Checkpoint) -> int:
    """Load weights and optimizer; return the number of steps that were taken."""
    with checkpoint.as_directory() as folder:
        saved = load_model(Path(folder) / MODEL_FILE)
        objective.model.load_state_dict(saved.state_dict())
        state = torch.load(Path(folder) / STATE_FILE, weights_only=True)
    objective.deep.load_state_dict(state["deep"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"]


def latest_checkpoint(output: Location) -> tuple[Checkpoint, int] | None:
    """Return the newest whole checkpoint under an output and its step; None where there is none.

    What a kill in the middle of a copy left behind is passed over.
    """
    files = output.at("checkpoints").files(recursive=True)
    folders = {info.path.rpartition("/")[0] for info in files if info.path.endswith(MODEL_FILE)}
    steps = {int(folder.rpartition("step-")[2]): folder for folder in folders}
    for step, folder in sorted(steps.items(), reverse=True):
        checkpoint = Checkpoint(folder, filesystem=output.fs)
        if is_whole(checkpoint):
            return checkpoint, step
        logger.warning("The checkpoint in %s is damaged: passed over", folder)
    return None


def is_whole(checkpoint: Checkpoint) -> bool:
    """Say whether neither file of a checkpoint is missing or cut short."""
    with checkpoint.as_directory() as folder:
        try:
            check_source(Path(folder) / MODEL_FILE)
        except (OSError, ValueError):
            return False
        return zipfile.is_zipfile(Path(folder) / STATE_FILE)


def train(
    config: TrainConfig,
    output: Location,
    *,
    workers: int,
    use_gpu: bool,
    tracker: Tracker,
    rows: "ray.data.Dataset | None" = None,
) -> Path:
    """Train to the end, from the newest checkpoint under `output` if there is one.

    Args:
        config: The recipe.
        output: Where checkpoints and the model go.
        workers: Training processes.
        use_gpu: Give each a GPU.
        tracker: Where the curves go.
        rows: What Ray Data streams to the workers, where the recipe reads it.

    Returns:
        A local copy of the trained model; it also lies at OUTPUT/model.safetensors.
    """
    found = latest_checkpoint(output)
    resume, first_step = found if found else (None, 0)
    if first_step < config.max_steps:
        logger.info("Training from step %d to %d", first_step, config.max_steps)
        fit(config, output, resume, first_step, workers, use_gpu, tracker, rows)
        found = latest_checkpoint(output)
    assert found is not None, "the last step of a training always writes a checkpoint"
    with found[0].as_directory() as folder:
        data = (Path(folder) / MODEL_FILE).read_bytes()
    output.at(MODEL_FILE).write(data)
    local = Path(tempfile.mkdtemp()) / MODEL_FILE
    local.write_bytes(data)
    return local


def fit(
    config: TrainConfig,
    output: Location,
    resume: Checkpoint | None,
    first_step: int,
    workers: int,
    use_gpu: bool,
    tracker: Tracker,
    rows: "ray.data.Dataset | None",
) -> None:
    """Run Ray Train on the steps that are left."""
    cpus = int(ray.cluster_resources().get("CPU", 1))
    threads = max(1, cpus // workers)
    trainer = TorchTrainer(
        train_on_worker,
        train_loop_config={
            "config": config,
            "resume": resume,
            "threads": threads,
            "tracker": tracker,
        },
        datasets={} if rows is None else {"train": rows},
        scaling_config=ScalingConfig(
            num_workers=workers,
            use_gpu=use_gpu,
            # Workers must never hold every CPU: nothing would be left to read with.
            resources_per_worker={"CPU": 1 if rows is None or cpus > workers else 0.5}
            | ({"GPU": 1} if use_gpu else {}),
        ),
        run_config=RunConfig(
            name=f"checkpoints/from-{first_step:07d}",
            storage_path=output.path,
            storage_filesystem=output.fs,
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
    )
    trainer.fit()
