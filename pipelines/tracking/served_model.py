"""A registered model as `mlflow.pyfunc` runs it: images and a class list in, labels out.

    model = mlflow.pyfunc.load_model("models:/NAME/VERSION")
    model.predict(pandas.DataFrame({"image": [jpeg_bytes]}), params={"classes": ["sky", "tree"]})

MLflow keeps this file with the weights and runs it by itself: it knows `sed` and nothing else here.
"""

import io
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from PIL import Image

import sed


class ServedModel(PythonModel):
    """Labels every pixel of each image with one of the classes."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the weights."""
        self.model = sed.load_model(context.artifacts["checkpoint"])

    def predict(  # pyright: ignore[reportIncompatibleMethodOverride]  the base returns nothing
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Return labels (an index PNG, 8 bit up to 255 classes, else 16) and mean confidence.

        Args:
            context: Not needed.
            model_input: Column "image": encoded photos.
            params: "classes": their names; "rejection": as in `sed.Rejection.parse`.
        """
        asked = params or {}
        classes = [str(name) for name in asked.get("classes", [])]
        rejection = sed.Rejection.parse(str(asked.get("rejection", "none")))
        rows = []
        for data in model_input["image"]:
            with Image.open(io.BytesIO(data)) as photo:
                found = self.model.segment(photo, classes, rejection)
            labels_HW = found.labels.astype(np.uint8 if len(classes) <= 255 else np.uint16)
            buffer = io.BytesIO()
            Image.fromarray(labels_HW).save(buffer, "PNG")
            rows.append((buffer.getvalue(), float(found.confidence.mean())))
        return pd.DataFrame(rows, columns=["labels", "confidence"])


set_model(ServedModel())
