"""Weights on disk: ours (safetensors with the config inside) and the authors' .pth files.

Loading never runs pickled code.
"""

import dataclasses
import hashlib
import json
import logging
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sed.config import PRESETS, SEDConfig, base, large

if TYPE_CHECKING:
    from sed.model import SED  # open_clip takes seconds to import: only where a model is made

logger = logging.getLogger(__name__)

BUNDLED = Path(__file__).parent / "weights"
MODEL_FILE = "model.safetensors"
FORMAT = "sed-1"

OFFICIAL_PREFIX = "sem_seg_head.predictor."
OFFICIAL_UNUSED = ("clip_model.logit_scale",)
"""Parameters that the authors' files carry and that nothing here needs: cosines are not scaled."""

OFFICIAL_NAMES = (
    (r"^image_encoder\.visual\.", "clip_model.visual."),
    (r"^text_encoder\.text\.", "clip_model."),
    (r"^cost_map\.embed\.", "transformer.conv1."),
    (r"^decoder\.image_guidance\.(\d)\.", r"transformer.decoder_guidance_projection.\1.0."),
    (r"^decoder\.cost_guidance\.(\d)\.", r"transformer.decoder_corr_guidance_projection.\1.0."),
    (r"^decoder\.heads\.3\.", "transformer.head."),
    (r"^decoder\.heads\.(\d)\.", r"transformer.head\1."),
    (r"^decoder\.blocks\.0\.", "transformer.decoder1."),
    (r"^decoder\.blocks\.1\.", "transformer.decoder2."),
    (r"^decoder\.blocks\.2\.", "transformer.decoder3."),
    (r"\.space\.depthwise\.", ".cnext.dwconv."),
    (r"\.space\.expand\.", ".cnext.pwconv1."),
    (r"\.space\.project\.", ".cnext.pwconv2."),
    (r"\.space\.", ".cnext."),
    (r"\.classes\.query\.", ".attention.attention.q."),
    (r"\.classes\.key\.", ".attention.attention.k."),
    (r"\.classes\.value\.", ".attention.attention.v."),
    (r"\.classes\.expand\.", ".attention.MLP.0."),
    (r"\.classes\.project\.", ".attention.MLP.2."),
    (r"\.classes\.", ".attention."),
    (r"\.fuse\.conv1\.", ".conv.double_conv.0."),
    (r"\.fuse\.norm1\.", ".conv.double_conv.1."),
    (r"\.fuse\.conv2\.", ".conv.double_conv.3."),
    (r"\.fuse\.norm2\.", ".conv.double_conv.4."),
)
"""How the authors call what we call otherwise; applied in this order."""


def official_name(name: str) -> str:
    """Return the authors' name of one of our parameters, without their common prefix."""
    for pattern, replacement in OFFICIAL_NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def load_model(
    source: str | Path,
    device: str | torch.device = "cpu",
    *,
    optimize: bool = False,
    dtype: torch.dtype = torch.float32,
    compile: bool = False,
) -> "SED":
    """Return a model in eval mode with float32 weights.

    Args:
        source: "nano" (bundled), or the path of a checkpoint: a file or folder that `save_model`
            or a training wrote, or the authors' released .pth, base or large by its shapes.
        device: Where to put it. On CUDA it computes in bfloat16 where that is safe.
        optimize: Return the form for inference (`sed.inference`): the same numbers up to rounding,
            sooner; it cannot be trained or saved.
        dtype: bfloat16 computes with half the digits, where `optimize` is chosen: sooner on a CPU
            that multiplies it, and no longer the same numbers.
        compile: Compile the encoder with `torch.compile`, and with `optimize` the decoder for a few
            numbers of classes; the first calls take minutes.

    Raises:
        FileNotFoundError: No such file; the message lists what else is accepted.
        ValueError: A file of another kind, a truncated one, or one whose tensors do not fit; the
            message names them.
    """
    if dtype != torch.float32 and not optimize:
        raise ValueError(f"dtype {dtype} needs optimize=True: the plain form is float32")
    path = locate(source)
    state, config = read_ours(path) if is_ours(path) else read_official(path)
    model = build(config, state, path)
    model.digest = file_digest(path)
    model.eval().requires_grad_(False).to(device)
    model.to(memory_format=torch.channels_last)
    if optimize:
        from sed.inference.model import FastSED

        model = FastSED(model, dtype)
    if compile:
        from sed.inference.buckets import compile_model

        compile_model(model)
    return model


def locate(source: str | Path) -> Path:
    """Return the file that holds the weights of `source`.

    Raises:
        FileNotFoundError: There is none.
    """
    if source == "nano":
        return BUNDLED / "nano.safetensors"
    path = Path(source)
    if path.is_dir():
        path = path / MODEL_FILE
    if not path.is_file():
        hint = " (their CLIP weights are no segmentation model)" if str(source) in PRESETS else ""
        raise FileNotFoundError(
            f"no model at {str(source)!r}{hint}: expected 'nano', a checkpoint of a training, or "
            "the authors' .pth"
        )
    return path


def check_source(source: str | Path) -> Path:
    """Check within a moment that `source` holds a model that can be loaded; return its file.

    Reads names and shapes, not weights. Of an authors' .pth every name is checked.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not a checkpoint, or of another architecture.
    """
    path = locate(source)
    if is_ours(path):
        read_config(path)
    else:
        read_official(path)
    return path


def source_config(source: str | Path) -> SEDConfig:
    """Return the sizes of the model in `source`; see `load_model`."""
    path = check_source(source)
    return read_config(path) if is_ours(path) else read_official(path)[1]


def is_ours(path: Path) -> bool:
    """Say whether a file is meant to be one of our checkpoints."""
    return path.suffix == ".safetensors"


def save_model(model: "SED", path: str | Path, *, dtype: torch.dtype = torch.float32) -> Path:
    """Write weights and config into one safetensors file, atomically; return its path.

    Args:
        model: What to write.
        path: The file; its folder is made.
        dtype: Type of the stored weights; float16 halves the file.
    """
    return save_state(model.state_dict(), model.config, path, dtype=dtype)


def save_state(
    state: Mapping[str, Tensor],
    config: SEDConfig,
    path: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write the weights of a model of these sizes as `save_model` does; return their path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = {
        name: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None).contiguous()
        for name, tensor in state.items()
    }
    metadata = {"format": FORMAT, "config": json.dumps(dataclasses.asdict(config))}
    draft = path.with_suffix(".tmp")
    save_file(stored, draft, metadata)
    draft.replace(path)
    return path


def read_config(path: Path) -> SEDConfig:
    """Return the config inside one of our files."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata, names = file.metadata() or {}, list(file.keys())
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a safetensors file, or is truncated: {error}") from error
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} is a safetensors file, but not a model of this package")
    if not names:
        raise ValueError(f"{path} holds no tensors: expected the weights of a model")
    try:
        fields: dict[str, Any] = json.loads(metadata["config"])
        sizes: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in fields.items()
        }
        return SEDConfig(**sizes)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} does not say what model it is: config {error}") from error


def read_ours(path: Path) -> tuple[dict[str, Tensor], SEDConfig]:
    """Read one of our checkpoints."""
    config = read_config(path)
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, config  # noqa: SIM118


def read_official(path: Path) -> tuple[dict[str, Tensor], SEDConfig]:
    """Read an authors' checkpoint; return its tensors under our names, and its sizes."""
    content = read_pickle_safely(path)
    state = content.get("model", content)
    extras = sorted(key for key in content if key != "model") if state is not content else []
    if extras:
        logger.info("%s also holds %s: not needed", path.name, ", ".join(map(str, extras)))
    found = {
        key.removeprefix(OFFICIAL_PREFIX): tensor
        for key, tensor in state.items()
        if isinstance(tensor, Tensor)
    }
    config = official_config(found, path)
    return rename_official(found, config, path), config


def read_pickle_safely(path: Path) -> Mapping[str, Any]:
    """Read a .pth without running code that it may carry."""
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} is not a PyTorch checkpoint, or is truncated: expected the authors' .pth, "
            'a file with {"model": tensors by name}'
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # the unpickler raises many kinds
        raise ValueError(f"{path} cannot be read as tensors only: {error}") from error
    if not isinstance(content, Mapping) or not isinstance(content.get("model", content), Mapping):
        raise ValueError(f'{path} is no checkpoint: expected {{"model": tensors by name}}')
    return content


def official_config(found: Mapping[str, Tensor], path: Path) -> SEDConfig:
    """Tell base from large by the width of the encoder's first layer."""
    stem = found.get("clip_model.visual.trunk.stem.0.weight")
    if stem is None:
        raise ValueError(
            f"{path} is not a SED checkpoint: it has no "
            f"{OFFICIAL_PREFIX}clip_model.visual.trunk.stem.0.weight among {len(found)} tensors"
        )
    widths = {128: base, 192: large}
    if stem.shape[0] not in widths:
        raise ValueError(
            f"{path}: its ConvNeXt starts with {stem.shape[0]} channels; known are 128 (base) and "
            "192 (large)"
        )
    return widths[stem.shape[0]]()


def rename_official(
    found: Mapping[str, Tensor], config: SEDConfig, path: Path
) -> dict[str, Tensor]:
    """Return an authors' tensors under our names, every one accounted for."""
    wanted = without_memory(config).state_dict()
    names = {official_name(name): name for name in wanted}
    needed = {name: tensor for name, tensor in found.items() if name not in OFFICIAL_UNUSED}
    check_tensors(needed, {official_name(name): tensor for name, tensor in wanted.items()}, path)
    unused = [OFFICIAL_PREFIX + name for name in OFFICIAL_UNUSED if name in found]
    logger.info("%s: %d tensors; not needed here: %s", path.name, len(found), ", ".join(unused))
    return {names[key]: tensor for key, tensor in needed.items()}


def check_tensors(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path) -> None:
    """Require exactly the wanted tensors.

    Raises:
        ValueError: Some are missing, unexpected or mis-shaped; the message names them.
    """
    problems = describe("missing", sorted(set(wanted) - set(found)))
    problems += describe("unexpected", sorted(set(found) - set(wanted)))
    problems += describe(
        "mis-shaped",
        [
            f"{name} is {tuple(found[name].shape)}, expected {tuple(tensor.shape)}"
            for name, tensor in wanted.items()
            if name in found and found[name].shape != tensor.shape
        ],
    )
    if problems:
        raise ValueError(f"{path} does not hold this model: {problems.rstrip()}")


def without_memory(config: SEDConfig) -> "SED":
    """Return a model whose tensors have shapes and no content."""
    from sed.model import SED

    with torch.device("meta"):
        return SED(config)


def build(config: SEDConfig, state: Mapping[str, Tensor], path: Path) -> "SED":
    """Return a model with these weights; a tensor that does not fit is named.

    Raises:
        ValueError: Missing, unexpected or mis-shaped tensors.
    """
    model = without_memory(config)
    check_tensors(state, model.state_dict(), path)
    floats = {name: tensor.float() for name, tensor in state.items() if tensor.is_floating_point()}
    model.load_state_dict({**state, **floats}, assign=True)
    model.restore_constants()
    return model


def describe(kind: str, names: list[str]) -> str:
    """Return "missing 12: a, b, c ... " for an error message, or nothing."""
    if not names:
        return ""
    shown = "; ".join(names[:5]) + (" ..." if len(names) > 5 else "")
    return f"{len(names)} {kind}: {shown}. "


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file as "sha256:..."."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
