"""MLflow, and the only folder that knows it: one run per job, and models from the registry.

A run that cannot be recorded never ends a job: what fails here is a warning. Only the driver (or
rank 0) writes. MLflow takes seconds to import, so it is imported when the first run starts.
"""

from pipelines.tracking.code import code_digest
from pipelines.tracking.registry import register_model, resolve_model, resolve_rejection
from pipelines.tracking.run import Run, run
from pipelines.tracking.store import redacted, resolve_uri

__all__ = [
    "Run",
    "code_digest",
    "redacted",
    "register_model",
    "resolve_model",
    "resolve_rejection",
    "resolve_uri",
    "run",
]
