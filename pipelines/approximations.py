"""What an approximation gains in speed and costs in accuracy: the bundled model on drawn scenes.

Neither means anything without the other. Every form labels the same scenes from the same pixels;
what is compared is the time of each form, its own mIoU, and how far its logits are from the exact
form's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median

import numpy as np
import torch
from torch import Tensor

from pipelines import scenes
from pipelines.clock import clock
from pipelines.masks import ignore_value
from sed import SED, load_model
from sed.inference.low_rank import LowRankSED, PromptBasis
from sed.inference.model import FastSED
from sed.metrics import ConfusionMatrix

COSINE_ERRORS = (0.02, 0.05, 0.1)
"""Bounds on what a low-rank basis of the prompts may move a cosine."""


@dataclass(frozen=True)
class Labelled:
    """What a form found of all scenes, and how long it took."""

    logits: list[Tensor]
    """logits_NHW of each scene."""

    matrix: ConfusionMatrix
    """Counts of its labels against the truth."""

    seconds: float
    """Of one scene, median."""


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """How a form of the bundled model does on scenes."""

    form: str

    milliseconds: float
    """Of one scene from pixels to logits, median."""

    speed_up: float
    """Times as fast as the exact form."""

    mean_iou: float
    mean_iou_change: float
    """Of the mean over the classes, in points against the exact form."""

    worst_iou_change: float
    """Largest loss of one class in intersection over union, in points against the exact form."""

    largest_logit_change: float
    mean_logit_change: float


def measure(num_scenes: int, *, seed: int = 0, device: str = "cpu") -> list[dict[str, object]]:
    """Return the accuracy of each form, the exact one first.

    Args:
        num_scenes: How many scenes of trained combinations to draw.
        seed: Of the scenes.
        device: cpu or cuda: bfloat16 is then by autocast, as in a job on a GPU.
    """
    plain = load_model("nano", device)
    text_NPD = plain.embed_classes(scenes.vocabulary())
    drawn = [scenes.draw(seed, index, split="seen") for index in range(num_scenes)]
    found, exact = [], None
    for form, model, text in forms(plain, text_NPD):
        labelled = label(model, text, drawn)
        exact = exact or labelled
        found.append(asdict(compare(form, labelled, exact)))
    return found


def forms(plain: SED, text_NPD: Tensor) -> Iterator[tuple[str, SED, Tensor]]:
    """Return a name, a model and the text it takes, for each form; the exact one first."""
    plain.mixed_precision = False
    yield "exact", FastSED(plain), text_NPD
    yield "bfloat16", in_bfloat16(plain), text_NPD
    for error in COSINE_ERRORS:
        basis = PromptBasis.within(text_NPD, error)
        rank, prompts = basis.basis_PR.shape[1], text_NPD.shape[1]
        model = LowRankSED(plain, basis)
        yield (
            f"{rank} of {prompts} prompts (cosines within {error})",
            model,
            model.project(text_NPD),
        )


def in_bfloat16(plain: SED) -> FastSED:
    """Return the form that computes in half precision as jobs do on the model's device."""
    if plain.device.type == "cpu":
        return FastSED(plain, torch.bfloat16)
    model = FastSED(plain)
    model.mixed_precision = True
    return model


def label(model: SED, text: Tensor, drawn: Sequence[scenes.Scene]) -> Labelled:
    """Label all scenes; the first one twice, as what runs first takes longer."""
    logits, times, matrix = [], [], ConfusionMatrix(len(text))
    for scene in (drawn[0], *drawn):
        image_13HW = model.prepare(np.asarray(scene.image_HW3)).unsqueeze(0)
        seconds, (scores,) = clock(partial(model.score, image_13HW, text), str(model.device))
        times.append(seconds)
        logits.append(scores.logits_KHW)
        if len(times) > 1:
            labels_HW, _ = scores.label_map(*scene.mask_HW.shape)
            matrix.update(labels_HW.cpu().numpy(), scene.mask_HW, ignore=ignore_value(len(text)))
    return Labelled(logits[1:], matrix, median(times[1:]))


def compare(form: str, labelled: Labelled, exact: Labelled) -> Accuracy:
    """Return how a form compares with the exact one."""
    pairs = zip(labelled.logits, exact.logits, strict=True)
    changes = [(one - other).abs() for one, other in pairs]
    scores, best = labelled.matrix.metrics(), exact.matrix.metrics()
    return Accuracy(
        form=form,
        milliseconds=1000 * labelled.seconds,
        speed_up=exact.seconds / labelled.seconds,
        mean_iou=scores.mean_iou,
        mean_iou_change=scores.mean_iou - best.mean_iou,
        worst_iou_change=float(np.nanmin(scores.iou_N - best.iou_N)),
        largest_logit_change=max(change.max().item() for change in changes),
        mean_logit_change=float(np.mean([change.mean().item() for change in changes])),
    )


def line(found: dict[str, object]) -> str:
    """Return the speed and the accuracy of a form as text."""
    return (
        f"  {found['form']}: {found['milliseconds']:.1f} ms an image, "
        f"{found['speed_up']:.2f} times as fast, "
        f"mIoU {found['mean_iou']:.2f} ({found['mean_iou_change']:+.2f}), "
        f"worst class {found['worst_iou_change']:+.2f} points, "
        f"logits moved {found['mean_logit_change']:.4f} "
        f"on average, {found['largest_logit_change']:.3f} at most"
    )
