"""The bundled synthetic dataset: photo-like scenes with exact masks, drawn from a seed."""

from pipelines.scenes.draw import Scene, Split, draw
from pipelines.scenes.names import coarse_name, training_classes, unseen_classes, vocabulary

__all__ = [
    "Scene",
    "Split",
    "coarse_name",
    "draw",
    "training_classes",
    "unseen_classes",
    "vocabulary",
]
