"""What `label` was asked for, checked, and what of it is left to do. Nothing is written here."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

import sed
from pipelines import outputs, shards
from pipelines.access import check_readable
from pipelines.classes import vocabulary_id
from pipelines.faults import Surroundings, check_seen, surroundings
from pipelines.features import open_features
from pipelines.listing import list_images, open_images
from pipelines.outputs import Identity
from pipelines.storage import Location, locate, open_buckets
from pipelines.sweep.tuned import check_tuned


@dataclass(frozen=True, kw_only=True)
class LabelConfig:
    """What to label, with what, and where to."""

    images: str | None = None
    """URI of a folder, of a list of URIs, or of one image; either this or `features`."""

    features: str | None = None
    """URI of an output of `label` whose features were kept: its images are labelled again."""

    keep_features: bool = False
    """Write what the model needs to label the images again with other classes."""

    output: str
    """URI of the folder to write."""

    classes: Sequence[str]
    """Class names."""

    model: str = "nano"
    """Weights: nano, a path, or models:/NAME/VERSION."""

    images_column: str = "image_uri"
    """Column of URIs, where `images` is a list."""

    rejection: str = "none"
    """Rejection policy, as `sed.Rejection.parse` reads it."""

    min_confidence: float = 0.0
    """Pixels under this probability get the ignore value."""

    batch_size: int = 8
    """Images that go through the model together; at most those of a shard, 64 in a large corpus."""

    workers: int | None = None
    """Copies of the model; None: one a GPU, else one for two CPUs."""

    gpus_per_worker: float | None = None
    """GPUs of each copy, 0 for none, a fraction to share; None: 1 where there are any."""

    decode_seconds: float = 60.0
    """Time that decoding one image may take."""

    limit: int | None = None
    """Label only the first images, in the order of their URIs."""

    overwrite: bool = False
    """Start from nothing, whatever the output holds."""

    def __post_init__(self) -> None:
        if (self.images is None) == (self.features is None):
            raise ValueError("give either --images, or --features to label from kept features")
        if self.features is not None and (self.limit is not None or self.keep_features):
            raise ValueError("--features goes without --limit and --keep-features")
        if not 0 <= self.min_confidence <= 1:
            raise ValueError(f"--min-confidence is from 0 to 1, got {self.min_confidence}")
        for flag, value in (("batch-size", self.batch_size), ("workers", self.workers)):
            if value is not None and value < 1:
                raise ValueError(f"--{flag} is at least 1, got {value}")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"--limit is at least 1, got {self.limit}")
        if not self.decode_seconds > 0:
            raise ValueError(f"--decode-seconds is more than 0, got {self.decode_seconds}")
        check_gpus(self.gpus_per_worker)


def check_gpus(gpus: float | None, flag: str = "--gpus-per-worker") -> None:
    """Require what Ray can give to one worker: a fraction of a GPU, or whole ones."""
    if gpus is not None and not (0 <= gpus <= 1 or (gpus > 1 and gpus == gpus // 1)):
        raise ValueError(f"{flag} is 0, a fraction of 1, or a whole number, got {gpus}")
    if gpus and not os.environ.get("RAY_ADDRESS"):
        import torch  # takes seconds

        if gpus > (found := torch.cuda.device_count()):
            raise ValueError(f"{flag} {gpus:g}: this machine has {found} GPUs")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A checked job: what is there, and what is left to do."""

    config: LabelConfig
    output: Location

    source: Location
    """Where the images are, or the output whose features are labelled again."""

    identity: Identity
    rejection: sed.Rejection
    sizes: sed.SEDConfig

    model: str
    """Weights: nano, or the absolute path of a file on this machine."""

    skipped: int
    """Objects among the images that are no input."""

    manifest: pa.Table
    """`rows.MANIFEST`: every input of this output, those of earlier starts included."""

    around: Surroundings
    """What a worker that cannot read an image has to know."""

    todo: pa.Table
    """`rows.SHARD`: what is not written yet."""

    earlier: dict[str, Any] | None
    """run.json of an earlier start that this one continues."""

    @property
    def num_images(self) -> int:
        """Images that are left to do."""
        return shards.num_images(self.todo)

    @property
    def is_done(self) -> bool:
        """Say whether an earlier start did everything, its report included."""
        finished = self.earlier is not None and self.earlier["status"] == outputs.DONE
        return finished and not len(self.todo)

    @property
    def manifest_digest(self) -> str:
        """The SHA-256 of the list of inputs."""
        return shards.list_digest(self.manifest)


def make_plan(config: LabelConfig, *, checkpoint: str | None = None) -> Plan:
    """Check everything that can be checked before a cluster is needed.

    Args:
        config: What was asked for.
        checkpoint: Local file of `config.model` where that names a registered model.

    Raises:
        ValueError: Something in the configuration is wrong; the message is for its author.
        OSError: A file or bucket cannot be read, or the output cannot be written.
    """
    rejection = sed.Rejection.parse(config.rejection)
    source, kept = open_source(config)
    from sed.checkpoint import file_digest  # loads torch: after what is wrong without it

    checkpoint = checkpoint or config.model
    weights = sed.check_source(checkpoint)
    model_id = file_digest(weights)
    check_tuned(config.rejection, model_id=model_id, classes=config.classes)
    if kept is not None:
        check_kept_model(config, kept, model_id)
    output = locate(config.output)
    identity = Identity(
        images=source.uri,
        model_id=model_id,
        vocabulary_id=vocabulary_id(config.classes),
        rejection=str(rejection),
        min_confidence=config.min_confidence,
    )
    earlier = outputs.check_output(output, identity, overwrite=config.overwrite)
    if earlier:
        check_kept(config, earlier)
    manifest, skipped = list_inputs(config, source, output, continues=bool(earlier))
    output.check_writable()
    done = shards.done_shards(output) if earlier else set()
    return Plan(
        config=config,
        output=output,
        source=source,
        identity=identity,
        rejection=rejection,
        sizes=sed.source_config(checkpoint),
        model=config.model if config.model == "nano" else str(weights.absolute()),
        skipped=skipped,
        manifest=manifest,
        around=Surroundings() if kept else surroundings(manifest["image_uri"]),
        todo=shards.remaining(manifest, done),
        earlier=earlier,
    )


def open_source(config: LabelConfig) -> tuple[Location, dict[str, Any] | None]:
    """Return where the images are; or the output whose features were kept, and its run.json.

    Raises:
        ValueError: There is nothing, or the features are none.
        OSError: They cannot be read.
    """
    if config.features is None:
        return open_images(config.images or "")[0], None
    place, run = open_features(config.features)
    if place.uri == locate(config.output).uri:
        raise ValueError("--features and --output are the same folder: use another --output")
    return place, run


def check_kept_model(config: LabelConfig, run: dict[str, Any], model_id: str) -> None:
    """Require that the features were made by the model that shall decode them.

    Raises:
        ValueError: They are of another one.
    """
    if run["identity"]["model_id"] != model_id:
        raise ValueError(
            f"the features in {config.features!r} are of another model "
            f"({outputs.show(run['identity']['model_id'])}): give its --model"
        )


def check_kept(config: LabelConfig, earlier: dict[str, Any]) -> None:
    """Require that an output keeps the features of all its images, or of none."""
    if earlier.get("configuration", {}).get("keep_features", False) != config.keep_features:
        word = "without" if config.keep_features else "with"
        raise ValueError(
            f"the output {config.output!r} was made {word} --keep-features: "
            f"give the same command again ({word} it), use another --output, or --overwrite to "
            "start from nothing"
        )


def list_inputs(
    config: LabelConfig, source: Location, output: Location, *, continues: bool
) -> tuple[pa.Table, int]:
    """Return the manifest of a job, and how many objects beside its images are no input."""
    old = shards.read_manifest(output) if continues else shards.no_manifest()
    if config.features is not None:
        manifest = shards.read_manifest(source)
        if not manifest.slice(0, len(old)).equals(old):
            raise ValueError(
                f"the images in {config.features!r} are others than when {config.output!r} was "
                "begun: use another --output, or --overwrite to start from nothing"
            )
        return manifest, 0
    if config.limit is not None and len(old) > config.limit:
        raise ValueError(
            f"the output {config.output!r} was begun with {len(old)} images, more than --limit "
            f"{config.limit}: continue without --limit, or use another --output"
        )
    listing = list_images(
        config.images or source.uri, column=config.images_column, limit=config.limit, without=output
    )
    if listing.is_list:
        check_seen(listing.image_uris)
    check_readable(listing.image_uris, open_buckets(listing.image_uris))
    manifest = shards.extend(old, listing.image_uris)
    return (manifest if config.limit is None else manifest[: config.limit]), listing.skipped
