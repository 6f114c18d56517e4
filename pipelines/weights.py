"""Weights for all workers of a cluster, which need not reach the files of where a job started."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ray

import sed
from sed.checkpoint import file_digest


@dataclass(frozen=True)
class Weights:
    """A checkpoint that can be loaded on any node of the cluster."""

    source: str
    """nano, or the absolute path of a checkpoint where the job was started."""

    digest: str
    """SHA-256 of the file."""

    content: "ray.ObjectRef | None"
    """Its bytes in Ray's object store; None where every worker finds the file itself."""

    def __call__(self, device: str) -> sed.SED:
        """Load the model for inference onto a device."""
        return sed.load_model(self.fetch(), device, optimize=True)

    def fetch(self) -> str:
        """Return where the checkpoint lies on this node, written there first if need be."""
        if self.content is None or has_file(self.source, self.digest):
            return self.source
        folder = Path(tempfile.gettempdir()) / "sed-weights" / self.digest.replace(":", "-")
        file = folder / Path(self.source).name
        if not has_file(str(file), self.digest):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, delete=False) as draft:
                ray.get(self.content).tofile(draft)
            Path(draft.name).replace(file)
        return str(file)


def has_file(path: str, digest: str) -> bool:
    """Say whether there is a file with this content."""
    return Path(path).is_file() and file_digest(Path(path)) == digest


def share_weights(source: str) -> Weights:
    """Make a checkpoint loadable on every node of the cluster this process is connected to.

    Its bytes travel only where a cluster was joined: a local Ray reads the file itself.
    """
    if source == "nano":
        return Weights(source, "", None)
    return share_file(sed.check_source(source))


def share_file(path: Path) -> Weights:
    """Make the file of a checkpoint readable on every node of the cluster."""
    path = path.absolute()
    joined = bool(os.environ.get("RAY_ADDRESS"))
    content = ray.put(np.fromfile(path, dtype=np.uint8)) if joined else None
    return Weights(str(path), file_digest(path), content)
