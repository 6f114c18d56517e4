"""Train a model on Ray Train, on scenes that are drawn beside each worker.

Batches: images uint8 (B, H, W, 3), masks uint8 (B, H, W) that index the vocabulary of scenes.
"""

import hashlib
import json
import logging
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.train.torch
import torch
from ray.train import Checkpoint, CheckpointConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from torch import nn
from torch.utils.data import DataLoader, Dataset

from pipelines import scenes, tracking
from pipelines.curriculum import Curriculum, Objective
from pipelines.storage import Location
from pipelines.warmup import spread_names
from sed import SED, load_model, save_model
from sed.checkpoint import MODEL_FILE
from sed.config import PRESETS

logger = logging.getLogger(__name__)

STATE_FILE = "state.pt"
LOG_EVERY = 20


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training recipe; the defaults made the bundled nano model."""

    model: str = "nano"
    """Preset to train from nothing, or a checkpoint to go on from."""

    max_steps: int = 2300
    """Steps of the optimizer."""

    text_steps: int = 160
    """Steps before the first, on class names alone: see `pipelines.warmup`."""

    batch_size: int = 16
    """Scenes per step, over all workers."""

    learning_rate: float = 1e-3
    """Peak learning rate of AdamW; it follows half a cosine to zero."""

    warmup_steps: int = 100
    """Steps in which the learning rate rises linearly to its peak."""

    weight_decay: float = 0.02
    """Weight decay of matrices and kernels; biases, norms and gammas have none."""

    clip_norm: float = 1.0
    """Global norm to which gradients are clipped."""

    precision: str = "bf16"
    """Arithmetic of the forward pass: bf16 (autocast) or fp32."""

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
        if self.precision not in ("bf16", "fp32"):
            raise ValueError(f"precision must be bf16 or fp32, got {self.precision!r}")

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

    A model from nothing gets a larger layer scale than ConvNeXt's 1e-6: its training is short.
    """
    if config.model not in PRESETS:
        return load_model(config.model).requires_grad_(True)
    torch.manual_seed(config.seed)
    model = SED(PRESETS[config.model]())
    for name, parameter in model.image_encoder.named_parameters():
        if name.endswith(".gamma"):
            nn.init.constant_(parameter, 0.1)
    if config.text_steps:
        cosine = spread_names(model.text_encoder, steps=config.text_steps, seed=config.seed)
        logger.info("Class names spread in %d steps: cosine %.3f", config.text_steps, cosine)
    return model


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """Return AdamW with weight decay on everything of two dimensions or more."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the learning rate of a step: linear warm-up, then half a cosine to zero."""
    warmup = min(1.0, (step + 1) / max(1, config.warmup_steps))
    cosine = 0.5 * (1 + np.cos(np.pi * step / config.max_steps))
    return config.learning_rate * warmup * float(cosine)


class TrainingScenes(Dataset):
    """The endless series of training scenes of one seed, drawn when they are asked for."""

    def __init__(self, seed: int, size: int) -> None:
        self.seed = seed
        self.size = size

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the picture and the mask of one scene."""
        scene = scenes.draw(self.seed, number, split="train", size=self.size)
        return scene.image_HW3, scene.mask_HW


def training_batches(
    config: TrainConfig, first_step: int, rank: int, world_size: int
) -> DataLoader[tuple[torch.Tensor, torch.Tensor]]:
    """Return this worker's share of each batch from `first_step` to the end.

    Step and rank decide which scenes a batch holds, so a training that continues sees what an
    undisturbed one would have seen.
    """
    share = config.batch_size // world_size
    firsts = [
        step * config.batch_size + rank * share for step in range(first_step, config.max_steps)
    ]
    numbers = [list(range(first, first + share)) for first in firsts]
    return DataLoader(
        TrainingScenes(config.seed, config.curriculum.scene_size),
        batch_sampler=numbers,
        num_workers=1,
        prefetch_factor=4,
    )


def train_on_worker(setup: dict[str, Any]) -> None:
    """Run the training loop of one worker, from the checkpoint in `setup` or from the start."""
    config: TrainConfig = setup["config"]
    torch.set_num_threads(setup["threads"])
    objective = Objective(build_model(config), config.curriculum)
    optimizer = build_optimizer(objective, config)
    first_step = restore(objective, optimizer, setup["resume"]) if setup["resume"] else 0
    model = ray.train.torch.prepare_model(
        objective.train().to(memory_format=torch.channels_last),  # pyright: ignore[reportCallIssue]
        parallel_strategy_kwargs={"find_unused_parameters": True},
    )
    context = ray.train.get_context()
    batches = training_batches(
        config, first_step, context.get_world_rank(), context.get_world_size()
    )
    device = next(model.parameters()).device
    with tracker_of_rank0(setup["tracker"]) as run:
        for step, (images, masks) in enumerate(batches, first_step):
            batch = images.to(device), masks.to(device)
            losses = train_step(model, optimizer, batch, step, config)
            if run is not None and step % LOG_EVERY == 0:
                log(run, losses, step, config)
            if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.max_steps:
                report(objective, optimizer, losses, step + 1)


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
        group["lr"] = learning_rate(config, step)
    device_type = batch[0].device.type
    with torch.autocast(device_type, torch.bfloat16, enabled=config.precision == "bf16"):
        losses: dict[str, torch.Tensor] = model(*batch, step)
    total = torch.stack(list(losses.values())).sum()
    if not torch.isfinite(total):
        raise FloatingPointError(f"the loss of step {step} is {total.item()}")
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
    optimizer.step()
    return {name: loss.item() for name, loss in losses.items()} | {"total": total.item()}


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
    """Return the newest complete checkpoint under an output and its step.

    The model is written after the state of the optimizer, so its presence makes one complete.
    """
    files = output.at("checkpoints").files(recursive=True)
    complete = [
        info.path.rsplit("/", 2)
        for info in files
        if info.path.endswith("/" + MODEL_FILE)
        and any(other.path == info.path.replace(MODEL_FILE, STATE_FILE) for other in files)
    ]
    steps = {int(name.removeprefix("step-")): f"{folder}/{name}" for folder, name, _ in complete}
    if not steps:
        return None
    step = max(steps)
    return Checkpoint(steps[step], filesystem=output.fs), step


def train(
    config: TrainConfig,
    output: Location,
    *,
    workers: int,
    use_gpu: bool,
    tracker: Tracker,
) -> Path:
    """Train to the end, from the newest checkpoint under `output` if there is one.

    Returns:
        A local copy of the trained model; it also lies at OUTPUT/model.safetensors.
    """
    found = latest_checkpoint(output)
    resume, first_step = found if found else (None, 0)
    if first_step < config.max_steps:
        logger.info("Training from step %d to %d", first_step, config.max_steps)
        fit(config, output, resume, first_step, workers, use_gpu, tracker)
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
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=use_gpu),
        run_config=RunConfig(
            name=f"checkpoints/from-{first_step:07d}",
            storage_path=output.path,
            storage_filesystem=output.fs,
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
    )
    trainer.fit()
