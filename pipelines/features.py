"""The encoder's work kept beside the labels, so that other classes need no encoder again.

features/part-*.parquet hold a row for each labelled image, `rows.FEATURES`: what the decoder needs
of it in half precision. It depends on the weights and not on the classes or the rejection.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import outputs, rows, shards
from pipelines.storage import Location
from sed.config import SEDConfig

Row = dict[str, Any]


def bytes_per_image(sizes: SEDConfig) -> int:
    """Return what the features of one image take before they are compressed."""
    from sed.encoder import encoder_sizes  # loads the model's libraries, which takes seconds

    cells = (sizes.image_size // 32) ** 2
    guidance = [dim * cells * 4**level for level, dim in enumerate(sizes.image_guidance_dims, 1)]
    return 2 * (encoder_sizes(sizes.encoder)["embed_dim"] * cells + sum(guidance))


def open_features(uri: str) -> tuple[Location, Row]:
    """Return an output of `label` whose features were kept, and what its run.json says.

    Raises:
        ValueError: It is none, its features were not kept, or it is not complete.
        OSError: It cannot be read.
    """
    place, run = outputs.open_run(uri)
    if not run.get("configuration", {}).get("keep_features"):
        raise ValueError(f"the run in {uri!r} kept no features: label it with --keep-features")
    if run["status"] != outputs.DONE:
        raise ValueError(f"the run in {uri!r} is not complete: the command that made it continues")
    return place, run


@dataclass(frozen=True)
class ReadFeatures:
    """First step of labelling from kept features: a shard's images as an earlier run saw them."""

    source: Location
    """Output of the earlier run."""

    def __call__(self, shard: pa.Table) -> Iterator[pa.Table]:
        """Yield a row of `rows.DECODED` for each image, with features in the place of pixels.

        What could not be labelled then carries its error on.
        """
        for row in shard.to_pylist():
            uris, name = row["image_uris"], shards.part_name(row["shard"])
            origin = {"shard": row["shard"], "shard_size": len(uris)}
            errors = {one["image_uri"]: one for one in self.errors(name)}
            kept = self.features(name)
            for uri in uris:
                known = errors.get(uri) or next(kept, None)
                if known is None or known["image_uri"] != uri:
                    raise ValueError(f"{self.source.uri}/features/{name} is damaged: no {uri}")
                columns = {key: known[key] for key in known if key in rows.DECODED.names}
                yield pa.Table.from_pylist([origin | columns], schema=rows.DECODED)

    def errors(self, name: str) -> list[Row]:
        """Return the rows of a shard that could not be labelled."""
        data = self.source.at(shards.ERRORS, name).read()
        return pq.read_table(pa.BufferReader(data)).to_pylist()

    def features(self, name: str) -> Iterator[Row]:
        """Yield the rows of a shard that were labelled, a few in memory at a time."""
        file = pq.ParquetFile(pa.BufferReader(self.source.at(shards.FEATURES, name).read()))
        for batch in file.iter_batches(batch_size=shards.FEATURE_ROWS):
            yield from batch.to_pylist()


def size_in_words(sizes: SEDConfig, num_images: int) -> str:
    """Return how much the features of a corpus take, for a person."""
    each = bytes_per_image(sizes)
    return f"{each / 1e6:.2f} MB an image, {readable(each * num_images)} in all, uncompressed"


def readable(count: int) -> str:
    """Return a number of bytes for a person."""
    power = min(4, int(math.log(max(count, 1), 1000)))
    return f"{count / 1000**power:.1f} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"
