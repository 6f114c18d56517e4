"""The CLIP weights that training base or large starts from (section 2 of the specification)."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sed.checkpoint import OFFICIAL_UNUSED, check_tensors, read_pickle_safely, without_memory
from sed.config import SEDConfig

if TYPE_CHECKING:
    from sed.model import SED

REPOSITORIES = {
    "base": "laion/CLIP-convnext_base_w_320-laion_aesthetic-s13B-b82K",
    "large": "laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup",
}
"""On the Hugging Face hub: the weights that the published models were trained from."""

HUB = "https://huggingface.co"
PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
"""Variables that say that others look addresses up."""

FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")

TOWERS = ("image_encoder.", "text_encoder.")
UNUSED = tuple(name.removeprefix("clip_model.") for name in OFFICIAL_UNUSED)


def find_clip(preset: str, path: str | None = None) -> Path:
    """Return the file of a preset's CLIP weights: the one given, the hub's cache, or a download.

    Raises:
        FileNotFoundError: There is none, and the hub does not give it.
        ValueError: It holds another model.
    """
    file = Path(path) if path is not None else cached(preset) or download(preset)
    if not file.is_file():
        raise FileNotFoundError(f"no CLIP weights at {str(file)!r}")
    return file


def cached(preset: str) -> Path | None:
    """Return the file in the hub's cache; None where it was never downloaded."""
    from huggingface_hub import try_to_load_from_cache

    found = (try_to_load_from_cache(REPOSITORIES[preset], name) for name in FILES)
    return next((Path(path) for path in found if isinstance(path, str)), None)


def download(preset: str) -> Path:
    """Fetch the file from the hub.

    Raises:
        FileNotFoundError: The hub does not give it.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    repository, reason = REPOSITORIES[preset], "the hub cannot be reached"
    for name in FILES if is_reachable(os.environ.get("HF_ENDPOINT", HUB)) else ():
        try:
            return Path(hf_hub_download(repository, name))
        except EntryNotFoundError:
            reason = f"there is no {' or '.join(FILES)}"
        except Exception as error:  # the hub and its transports raise many kinds
            reason = str(error).splitlines()[0]
            break
    raise FileNotFoundError(
        f"--model {preset} starts from the CLIP weights {repository}, which are neither in the "
        f"hub's cache nor to be had ({reason}); give their file by --clip-weights"
    )


def is_reachable(url: str) -> bool:
    """Say whether a server has an address; the hub's client takes a minute to find out."""
    if any(os.environ.get(name) for name in PROXIES):
        return True
    try:
        socket.getaddrinfo(urlsplit(url).hostname, None)
    except OSError:
        return False
    return True


def check_clip(config: SEDConfig, path: Path) -> None:
    """Require that a file holds the CLIP of a model: every name and shape.

    Raises:
        ValueError: It does not; the message names what is wrong.
    """
    check_tensors(rename(read(path)), wanted(config), path)


def from_clip(config: SEDConfig, path: str | Path) -> "SED":
    """Return a model with CLIP's towers and a new decoder, drawn from torch's generator.

    Raises:
        ValueError: The file holds another model.
    """
    from sed.model import SED

    path = Path(path)
    state = rename(read(path))
    check_tensors(state, wanted(config), path)
    model = SED(config)
    model.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=False)
    return model


def wanted(config: SEDConfig) -> dict[str, Tensor]:
    """Return the tensors of both towers, without content, by our names."""
    state = without_memory(config).state_dict()
    return {name: tensor for name, tensor in state.items() if name.startswith(TOWERS)}


def read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file of open_clip, without running code that it may carry.

    Raises:
        ValueError: It is none.
    """
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"{path} is not a safetensors file, or is truncated: {error}"
            ) from error
    content: Mapping[str, Any] = read_pickle_safely(path)
    state = content.get("state_dict", content)
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return open_clip's tensors under our names; both of its layouts are known."""
    plain = {name.removeprefix("module.").removeprefix("text."): t for name, t in state.items()}
    return {
        (TOWERS[0] if name.startswith("visual.") else f"{TOWERS[1]}text.") + name: tensor
        for name, tensor in plain.items()
        if name not in UNUSED and torch.is_floating_point(tensor)
    }
