"""Check what `label` wrote against the images: every input once, every mask readable and right.

Rows: a part's name -> `part_check.FOUND`, a row for each row of that part.
"""

# pyarrow.compute makes its functions when it is imported.
# pyright: reportAttributeAccessIssue=false

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import outputs, shards
from pipelines.listing import list_images, sorted_once
from pipelines.part_check import CheckPart
from pipelines.roll_call import RollCall, absent
from pipelines.storage import Location, open_buckets


@dataclass
class Verdict:
    """What is wrong with an output; nothing, if `problems` is empty."""

    labelled: int = 0
    errors: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Output:
    """An output to check, and what it should hold."""

    place: Location
    run: dict[str, Any]
    image_uris: pa.Array
    """Large strings, sorted, each once."""

    inputs: str
    """What these are, in words."""

    missing: tuple[str, ...] = ()
    """Those that are not where the images are said to be."""

    @property
    def stamp(self) -> dict[str, Any]:
        """What the rows say about who made them."""
        identity = self.run["identity"]
        known = {name: identity[name] for name in ("vocabulary_id", "model_id", "rejection")}
        return known | {"run_id": self.run["run_id"]}


def open_output(labels: str, images: str) -> Output:
    """Find an output of `label` and the images it was made from.

    Raises:
        ValueError: There is no such output, or there are no images.
        OSError: One of them cannot be read.
    """
    place, run = outputs.open_run(labels)
    options = run["configuration"]
    if options.get("features"):
        return open_relabelled(place, run, images)
    listing = list_images(
        images, column=options["images_column"], limit=options["limit"], without=place
    )
    word = "come first" if options["limit"] else "are"
    return Output(place, run, listing.image_uris, f"images that {word} in {images} now")


def open_relabelled(place: Location, run: dict[str, Any], images: str) -> Output:
    """Find an output that was made from kept features: its inputs are those of the run before.

    Which these are its manifest says: it may have taken the first images only.
    """
    # Of the two names of the folder this one is absolute.
    source, earlier = outputs.open_run(run["identity"]["images"])
    image_uris = sorted_once(shards.read_manifest(source)["image_uri"].combine_chunks())
    listing = list_images(images, column=earlier["configuration"]["images_column"], without=place)
    missing = absent(image_uris, listing.image_uris)
    inputs = f"images of the run whose features were kept in {source.uri}"
    return Output(place, run, image_uris, inputs, tuple(missing))


def verify(output: Output, connect: Callable[[], None]) -> Verdict:
    """Read every row, mask and image of an output.

    Args:
        output: From `open_output`.
        connect: Joins or starts a Ray cluster.
    """
    check = CheckPart(
        output.place, open_buckets(output.image_uris), output.stamp, output.run["classes"]
    )
    return judge(spread(check, connect), output)


def part_names(place: Location) -> list[str]:
    """Return the names of the files in labels/ and errors/, each once."""
    files = [*shards.parts(place, shards.LABELS), *shards.parts(place, shards.ERRORS)]
    return sorted({info.base_name for info in files})


def spread(check: CheckPart, connect: Callable[[], None]) -> Iterator[pa.Table]:
    """Yield the tables of `FOUND` of all parts, checked on the cluster."""
    parts = part_names(check.output)
    if not parts:
        return
    connect()
    import ray

    names = ray.data.from_arrow(pa.table({"part": parts}))
    names.context.enable_progress_bars = sys.stdout.isatty()
    names = names.repartition(target_num_rows_per_block=1, strict=True)
    found = names.map_batches(check, batch_size=1, batch_format="pyarrow")
    yield from found.iter_batches(batch_size=None, batch_format="pyarrow")


def judge(found: Iterable[pa.Table], output: Output) -> Verdict:
    """Compare what was found with the inputs and with run.json.

    Args:
        found: Tables of `FOUND`; each is forgotten when the next one comes.
        output: What should be there.
    """
    verdict, met, folders = Verdict(), RollCall(output.image_uris), Counter[str]()
    for table in found:
        verdict.problems += problems_in(table)
        images = table.filter(pc.not_equal(table["image_uri"], ""))
        met.meet(images["image_uri"].to_pylist())
        folders.update(images["folder"].to_pylist())
    verdict.labelled, verdict.errors = folders[shards.LABELS], folders[shards.ERRORS]
    verdict.problems += [f"{uri}: in {n} rows" for uri, n in met.repeated()]
    verdict.problems += [f"{uri}: neither in labels/ nor in errors/" for uri in met.missing()]
    verdict.problems += [f"{uri}: not among the images" for uri in sorted(met.unknown)]
    verdict.problems += [f"{uri}: not where the images are said to be" for uri in output.missing]
    verdict.problems += count_problems(verdict, output.run)
    return verdict


def problems_in(found: pa.Table) -> list[str]:
    """Return what is wrong in a table of `FOUND`, each with what it is wrong of."""
    return [
        f"{row['image_uri'] or row['folder']}: {row['problem']}"
        for row in found.filter(pc.is_valid(found["problem"])).to_pylist()
    ]


def count_problems(verdict: Verdict, run: Mapping[str, Any]) -> list[str]:
    """Return how the counts in run.json differ from what was found."""
    if run["status"] != outputs.DONE:
        return ["run.json: the job did not finish; the same command continues it"]
    counts = run["counts"]
    found = {
        "inputs": verdict.labelled + verdict.errors,
        "labelled": verdict.labelled,
        "errors": verdict.errors,
    }
    return [
        f"run.json: {name} is {counts[name]}, found {count}"
        for name, count in found.items()
        if counts[name] != count
    ]
