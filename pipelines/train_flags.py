"""What a person may say about a training."""

from dataclasses import dataclass
from typing import Literal

OF_SCENES = (
    *("text_steps", "align_steps", "deep_weight", "decode_every", "asked", "likely_share"),
    *("overlap_weight", "scene_size"),
)
"""Flags of the recipe on scenes."""

OF_PHOTOS = (
    *("clip_weights", "encoder_rate", "accumulate", "recompute", "max_asked", "crop_size"),
    *("max_class_area", "colours"),
)
"""Flags of the published recipe."""


@dataclass(frozen=True, kw_only=True)
class TrainFlags:
    """What a person may say about a training."""

    dataset: tuple[tuple[str, ...], ...] = ()
    """What to train on: scenes, labels=URI (an output of jobs.label), or a dataset with masks."""

    validation: tuple[tuple[str, ...], ...] = ()
    """What to evaluate the model on while it trains and at the end: scenes, scenes-unseen,
    labels=URI, or a dataset with masks; several may be given, the first decides which is best."""

    model: str = "nano"
    """Model to train: nano (on scenes from nothing, else from the bundled weights), base or large
    (from CLIP's weights), or a checkpoint to go on from (a path, or models:/NAME/VERSION)."""

    clip_weights: str | None = None
    """File of CLIP's weights for base and large; default: from the Hugging Face hub's cache, else
    from the hub."""

    output: str
    """Folder or bucket prefix for checkpoints and the trained model.safetensors."""

    max_steps: int | None = None
    """Steps of the optimizer; default: 3600 on scenes, else 80000."""

    text_steps: int = 160
    """Steps before the first that give the class names directions of their own, without images."""

    align_steps: int = 1400
    """First steps, which train only the encoders (each cell against every class name), on scenes
    of half the side and four times as many."""

    deep_weight: float = 0.3
    """Weight of an extra loss at strides 8 and 16 through layers that are thrown away; 0: none."""

    decode_every: int = 1
    """After the align steps, train the decoder in one step of so many; the others are like the
    align steps."""

    asked: tuple[int, ...] = (6, 8, 10, 12)
    """Classes that the decoder is asked for; each batch draws one of these numbers."""

    likely_share: float = 0.0
    """Share of the classes asked for but not shown that each image is most easily taken for."""

    overlap_weight: float = 0.0
    """Weight of a Dice loss, which counts a small object as much as a large one; 0: none."""

    scene_size: int = 256
    """Side of the training scenes, in pixels; a multiple of 64."""

    learning_rate: float | None = None
    """Peak learning rate; default: 0.002 on scenes, else 0.0002."""

    encoder_rate: float = 0.01
    """Share of the learning rate that the image encoder has, which knows photos already; 0 to 1."""

    batch_size: int | None = None
    """Images per step, over all workers; default: 16 on scenes, else 4."""

    accumulate: int = 1
    """Parts that each worker computes its share of a step in: less memory, the same step. It may
    change between two starts."""

    recompute: bool = False
    """Compute activations twice instead of keeping them: less memory, slower, the same step.
    It may change between two starts."""

    max_asked: int = 171
    """Classes that a photo is asked for at most: those it shows, and others; fewer take less memory
    and time."""

    crop_size: int | None = None
    """Side of the square that is cropped from each photo, in pixels; default: what the model
    sees."""

    max_class_area: float = 1.0
    """Share of a crop that a single class may have before another is drawn; 1: any."""

    colours: bool = True
    """Vary the colours of the photos."""

    ema_decay: float = 0.0
    """Decay of an average of the weights over the steps, which becomes the model; 0: none."""

    workers: str = "1"
    """Training processes: a number, or a range like 1:4 (as many as there is room for)."""

    use_gpu: bool = False
    """Give each worker a GPU."""

    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic of the forward pass; auto: bf16 where the hardware has it. On a GPU fp32 is what
    torch makes of it by default: convolutions in TF32, matrix products in float32."""

    seed: int = 0
    """Seed of the weights and of the data."""

    checkpoint_every: int | None = None
    """Steps between checkpoints; default: 200 on scenes, else 1000."""

    keep: int = 2
    """Newest checkpoints that are kept; the one with the best mIoU is kept besides."""

    validate_every: int = 10_000
    """Steps between validations; there is one at the end besides."""

    log_every: int = 20
    """Steps between entries in MLflow and in the log."""

    register: str | None = None
    """Register the trained model in MLflow under this name."""
