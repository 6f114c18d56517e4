"""What `label` wrote, in the formats of other tools: what `python -m jobs.export` does."""

from pipelines.export.export import export
from pipelines.export.plan import FORMATS, Plan, make_plan

__all__ = ["FORMATS", "Plan", "export", "make_plan"]
