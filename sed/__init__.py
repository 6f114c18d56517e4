"""SED as a library: open-vocabulary segmentation in plain PyTorch.

    import sed

    model = sed.load_model("nano")
    result = model.segment(image, ["red ball", "grass"])

Imports without Ray, MLflow and pyarrow.
"""

from sed.checkpoint import check_source, load_model, save_model, source_config
from sed.config import SEDConfig
from sed.model import SED, ClassScores, Segmentation
from sed.rejection import Rejection
from sed.vocabulary import vocabulary

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
