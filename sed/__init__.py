"""SED as a library: open-vocabulary segmentation in plain PyTorch.

    import sed

    model = sed.load_model("nano")
    result = model.segment(image, ["red ball", "grass"])

Imports without Ray, MLflow and pyarrow. Names are imported when they are first used: a process that
only resizes photos never loads the model's libraries.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sed.checkpoint import check_source, load_model, save_model, source_config
    from sed.config import SEDConfig
    from sed.model import SED
    from sed.rejection import Rejection
    from sed.scores import ClassScores, Segmentation
    from sed.vocabularies import vocabulary

MODULES = {
    "SED": "model",
    "ClassScores": "scores",
    "Rejection": "rejection",
    "SEDConfig": "config",
    "Segmentation": "scores",
    "check_source": "checkpoint",
    "load_model": "checkpoint",
    "save_model": "checkpoint",
    "source_config": "checkpoint",
    "vocabulary": "vocabularies",
}

__all__ = [
    "SED",
    "ClassScores",
    "Rejection",
    "SEDConfig",
    "Segmentation",
    "check_source",
    "load_model",
    "save_model",
    "source_config",
    "vocabulary",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401  PEP 562
    """Import a public name from its module."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
