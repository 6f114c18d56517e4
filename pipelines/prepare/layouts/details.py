"""trainval_merged.json of PASCAL in Detail: images, categories, and segments of each image."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pycocotools import mask as coco

from pipelines.prepare.json_stream import JsonStream, read_chunks
from pipelines.storage import Location, locate

Segment = dict[str, Any]


@dataclass(frozen=True)
class Details:
    """What the file says about one split."""

    names: list[str]
    """Images, without ending."""

    segments: Mapping[str, list[Segment]]
    """Values of `pairs.SEGMENT` by the name of the image, in the order of the file."""

    categories: Mapping[int, str]


def read_details(place: Location, split: str) -> Details:
    """Read what is about one split; the file is read once, and its other parts are passed over.

    Raises:
        ValueError: It is not what it should be.
        OSError: It cannot be read.
    """
    info = place.info()
    return parse(place.uri, split, (info.size, info.mtime_ns))


@lru_cache(maxsize=2)
def parse(uri: str, split: str, stamp: tuple[int, int | None]) -> Details:
    """Read the file; `stamp` says whether it is the one that was read before."""
    del stamp
    place = locate(uri)
    images: dict[int, str] = {}
    categories: dict[int, str] = {}
    segments: dict[int, list[Segment]] = {}
    try:
        with place.fs.open_input_stream(place.path, compression=None) as stream:
            for name, elements in JsonStream(read_chunks(stream)).members():
                if name == "images":
                    images = {e["image_id"]: stem(e) for e in elements if e["phase"] == split}
                elif name == "categories":
                    categories = {int(e["category_id"]): str(e["name"]) for e in elements}
                elif name == "annos_segmentation":
                    segments = collect(elements, images)
    except (ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{uri} is not PASCAL in Detail's annotation file ({reason})") from error
    if not images:
        raise ValueError(f"{uri} names no image of phase {split!r}")
    found = {images[key]: value for key, value in segments.items() if key in images}
    return Details(sorted(images.values()), found, categories)


def stem(image: Mapping[str, Any]) -> str:
    """Return the name of an image without its ending."""
    return str(image["file_name"]).rpartition(".")[0]


def collect(elements: Iterator[Any], images: Mapping[int, str]) -> dict[int, list[Segment]]:
    """Return the segments of each of these images; of all, if they are not known yet."""
    segments: dict[int, list[Segment]] = {}
    for element in elements:
        key = element["image_id"]
        if not images or key in images:
            segments.setdefault(key, []).append(segment(element))
    return segments


def segment(element: Mapping[str, Any]) -> Segment:
    """Return one segment as a value of `pairs.SEGMENT`."""
    rle = element["segmentation"]
    if isinstance(rle["counts"], list):
        rle = coco.frPyObjects(rle, *rle["size"])
        rle["counts"] = rle["counts"].decode()
    return {
        "category_id": int(element["category_id"]),
        "size": list(rle["size"]),
        "counts": rle["counts"],
    }
