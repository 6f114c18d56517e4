"""What `label` was asked for, checked, and what of it is left to do. Nothing is written here."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

import sed
from pipelines import outputs, shards
from pipelines.classes import vocabulary_id
from pipelines.listing import list_images
from pipelines.outputs import Identity
from pipelines.storage import Location, locate
from sed.checkpoint import file_digest


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """What to label, with what, and where to."""

    images: str
    """URI of a folder, of a list of URIs, or of one image."""

    output: str
    """URI of the folder to write."""

    classes: Sequence[str]
    """Class names."""

    model: str = "nano"
    """Weights, as `sed.load_model` takes them."""

    images_column: str = "image_uri"
    """Column of URIs, where `images` is a list."""

    rejection: str = "none"
    """Rejection policy, as `sed.Rejection.parse` reads it."""

    min_confidence: float = 0.0
    """Pixels under this probability get the ignore value."""

    batch_size: int = 8
    """Images that go through the model together."""

    workers: int | None = None
    """Copies of the model; None: one a GPU, else one for two CPUs."""

    gpus_per_worker: float | None = None
    """GPUs of each copy, 0 for none, a fraction to share; None: 1 where there are any."""

    limit: int | None = None
    """Label only the first images, in the order of their URIs."""

    overwrite: bool = False
    """Start from nothing, whatever the output holds."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_confidence <= 1:
            raise ValueError(f"--min-confidence is from 0 to 1, got {self.min_confidence}")
        for flag, value in (("batch-size", self.batch_size), ("workers", self.workers)):
            if value is not None and value < 1:
                raise ValueError(f"--{flag} is at least 1, got {value}")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"--limit is at least 1, got {self.limit}")
        check_gpus(self.gpus_per_worker)


def check_gpus(gpus: float | None) -> None:
    """Require what Ray can give to one worker: a fraction of a GPU, or whole ones."""
    if gpus is not None and (gpus < 0 or (gpus > 1 and gpus != int(gpus))):
        raise ValueError(f"--gpus-per-worker is 0, a fraction of 1, or a whole number, got {gpus}")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A checked job: what is there, and what is left to do."""

    config: LabelConfig
    output: Location
    identity: Identity
    rejection: sed.Rejection
    sizes: sed.SEDConfig

    model: str
    """Weights, as a worker with another current folder finds them."""

    skipped: int
    """Objects among the images that are no input."""

    manifest: pa.Table
    """`rows.MANIFEST`: every input of this output, those of earlier starts included."""

    todo: pa.Table
    """`rows.SHARD`: what is not written yet."""

    earlier: dict[str, Any] | None
    """run.json of an earlier start that this one continues."""

    @property
    def num_images(self) -> int:
        """Images that are left to do."""
        return sum(len(uris) for uris in self.todo["image_uris"].to_pylist())

    @property
    def is_done(self) -> bool:
        """Say whether an earlier start did everything, its report included."""
        finished = self.earlier is not None and self.earlier["status"] == outputs.DONE
        return finished and not len(self.todo)

    @property
    def manifest_digest(self) -> str:
        """The SHA-256 of the list of inputs."""
        text = "\n".join(self.manifest["image_uri"].to_pylist())
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def make_plan(config: LabelConfig) -> Plan:
    """Check everything that can be checked before a cluster is needed.

    Raises:
        ValueError: Something in the configuration is wrong; the message is for its author.
        OSError: A file or bucket cannot be read, or the output cannot be written.
    """
    rejection = sed.Rejection.parse(config.rejection)
    weights = sed.check_source(config.model)
    output = locate(config.output)
    identity = Identity(
        images=locate(config.images).uri,
        model_id=file_digest(weights),
        vocabulary_id=vocabulary_id(config.classes),
        rejection=str(rejection),
        min_confidence=config.min_confidence,
    )
    earlier = outputs.check_output(output, identity, overwrite=config.overwrite)
    listing = list_images(
        config.images, column=config.images_column, limit=config.limit, without=output
    )
    output.check_writable()
    old = shards.read_manifest(output) if earlier else shards.no_manifest()
    manifest = shards.extend(old, listing.image_uris)
    done = shards.done_shards(output) if earlier else set()
    return Plan(
        config=config,
        output=output,
        identity=identity,
        rejection=rejection,
        sizes=sed.source_config(config.model),
        model=config.model if config.model == "nano" else str(weights.absolute()),
        skipped=listing.skipped,
        manifest=manifest,
        todo=shards.remaining(manifest, done),
        earlier=earlier,
    )
