"""Text embeddings are computed once per (model, class list) and kept on disk.

Shapes: N classes, P prompts, D embedding.
"""

import hashlib
import json
import logging
import os
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sed.text import PROMPTS, TextEncoder

logger = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Return where embeddings are kept: SED_CACHE, else the user's cache folder."""
    if folder := os.environ.get("SED_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sed"


class EmbeddingCache:
    """The text embeddings of one model, on disk under a digest of weights, prompts and names."""

    def __init__(self, text_encoder: TextEncoder) -> None:
        self.text_encoder = text_encoder
        self.weights: tuple[object, str] = (None, "")
        self.latest: tuple[str, Tensor] | None = None

    @torch.no_grad()
    def get(self, classes: list[str]) -> Tensor:
        """Return text_NPD of the classes, on the encoder's device."""
        key = self.key(classes)
        if self.latest is None or self.latest[0] != key:
            self.latest = (key, self.read_or_compute(key, classes))
        device = next(self.text_encoder.parameters()).device
        return self.latest[1].to(device)

    def read_or_compute(self, key: str, classes: list[str]) -> Tensor:
        """Return text_NPD from the file of that key, or compute it and write the file."""
        path = cache_folder() / f"text-{key[:32]}.safetensors"
        try:
            return load_file(path)["text_NPD"]
        except FileNotFoundError:
            pass
        except (OSError, SafetensorError, KeyError) as error:
            logger.warning("Cached text embeddings %s are unreadable (%s): made anew", path, error)
        text_NPD = self.text_encoder(classes).float().cpu()
        write(path, text_NPD)
        return text_NPD

    def key(self, classes: list[str]) -> str:
        """Return the digest of everything that the embeddings depend on."""
        prompts = [prompt("{}") for prompt in PROMPTS[self.text_encoder.prompts]]
        facts = json.dumps([self.weights_digest(), prompts, classes])
        return hashlib.sha256(facts.encode()).hexdigest()

    def weights_digest(self) -> str:
        """Return the digest of the text encoder's weights, computed again when they change."""
        state = self.text_encoder.state_dict()
        version = tuple((tensor.data_ptr(), tensor._version) for tensor in state.values())
        if version != self.weights[0]:
            digest = hashlib.sha256()
            for name, tensor in sorted(state.items()):
                digest.update(name.encode())
                digest.update(tensor.detach().cpu().contiguous().numpy().data)
            self.weights = (version, digest.hexdigest())
        return self.weights[1]


def write(path: Path, text_NPD: Tensor) -> None:
    """Write embeddings so that no reader ever sees half a file; a full disk is no error."""
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"text_NPD": text_NPD.contiguous()}, draft)
        draft.replace(path)
    except (OSError, SafetensorError) as error:
        logger.warning("Text embeddings could not be cached in %s: %s", path.parent, error)
        with suppress(OSError):
            draft.unlink()
