"""The datasets with masks that can be read: their classes, sizes, licences, and where to get them.

Numbers are those of the archives that the authors ship.
"""

from dataclasses import dataclass, field
from typing import Any

import sed

FOLDER = "folder"
"""A user's own images/ and masks/, with classes.json."""

ADE20K_TERMS = "photos for non-commercial research and education only; annotations BSD-3"
FLICKR = "Flickr's terms of use for the photos"


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A published dataset as the model is measured on it."""

    name: str
    """On the command line."""

    title: str
    """As its authors call it."""

    vocabulary: str
    """Class names, from `sed.vocabulary`."""

    background: bool = False
    """Whether a last class, "background", follows those of the vocabulary."""

    asked_vocabulary: str | None = None
    """Names that the model is asked for; default: the classes."""

    counts: dict[str, tuple[int, ...]]
    """How many pairs each split has; one of several where lists differ."""

    default_splits: tuple[str, ...] = ("val",)
    """Splits of the published protocol."""

    licence: str
    """In a few words; the authors' own text counts."""

    places: tuple[str, ...]
    """Where to get it."""

    layout: str
    """Where its files lie below the folder that is read."""

    remarks: tuple[str, ...] = field(default=())
    """What else to know."""

    @property
    def classes(self) -> list[str]:
        """Class names, in the order of the mask values."""
        return sed.vocabulary(self.vocabulary) + (["background"] if self.background else [])

    @property
    def asked(self) -> list[str]:
        """Class names that a model is given."""
        return sed.vocabulary(self.asked_vocabulary) if self.asked_vocabulary else self.classes

    def describe(self) -> dict[str, Any]:
        """Return what a person or a script wants to know of it."""
        return {
            "name": self.name,
            "title": self.title,
            "classes": len(self.classes),
            "asked": len(self.asked),
            "counts": {split: list(counts) for split, counts in self.counts.items()},
            "default_splits": list(self.default_splits),
            "licence": self.licence,
            "places": list(self.places),
            "layout": self.layout,
            "remarks": list(self.remarks),
        }


VOC2010 = "http://host.robots.ox.ac.uk/pascal/VOC/voc2010/VOCtrainval_03-May-2010.tar"
VOC2012 = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar"
AUGMENTED = "SegmentationClassAug.zip, spread with DeepLab (needed for train only)"
CONTEXT_VAL = "5105 photos; the published list, pascalcontext_val.txt, names 5104 of them"
VOC_COUNTS = {"train": (1464, 10582), "val": (1449,)}
VOC_LAYOUT = (
    "VOCdevkit/VOC2012/{JPEGImages,SegmentationClassAug or SegmentationClass,"
    "ImageSets/Segmentation}"
)

_ALL = (
    Benchmark(
        name="coco-stuff",
        title="COCO-Stuff, 171 classes",
        vocabulary="coco171",
        counts={"train": (118_287,), "val": (5000,)},
        default_splits=("train", "val"),
        licence=f"{FLICKR} (each its own); annotations CC BY 4.0",
        places=(
            "http://images.cocodataset.org/zips/train2017.zip (18 GB)",
            "http://images.cocodataset.org/zips/val2017.zip (1 GB)",
            "http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/"
            "stuffthingmaps_trainval2017.zip (0.7 GB)",
        ),
        layout="images/{train,val}2017/*.jpg and annotations/{train,val}2017/*.png",
    ),
    Benchmark(
        name="ade20k-150",
        title="ADE20K, scene parsing benchmark, 150 classes",
        vocabulary="ade150",
        counts={"train": (20_210,), "val": (2000,)},
        licence=ADE20K_TERMS,
        places=("http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",),
        layout="ADEChallengeData2016/{images,annotations}/{training,validation}",
    ),
    Benchmark(
        name="ade20k-847",
        title="ADE20K 2021_17_01, 847 classes",
        vocabulary="ade847",
        counts={"train": (25_574,), "val": (2000,)},
        licence=ADE20K_TERMS,
        places=(
            "https://groups.csail.mit.edu/vision/datasets/ADE20K/request_data/ (asks who you are)",
        ),
        layout="ADE20K_2021_17_01/images/ADE/{training,validation}/*/*/*.jpg and *_seg.png",
        remarks=("photos and masks whose short side is over 512 pixels are reduced to 512",),
    ),
    Benchmark(
        name="pascal-context-59",
        title="PASCAL-Context, 59 classes",
        vocabulary="pc59",
        counts={"train": (4998,), "val": (5104, 5105)},
        licence=FLICKR,
        places=(
            VOC2010,
            "https://codalabuser.blob.core.windows.net/public/trainval_merged.json",
        ),
        layout="VOCdevkit/VOC2010/{JPEGImages,trainval_merged.json}",
        remarks=(f"val has {CONTEXT_VAL}",),
    ),
    Benchmark(
        name="pascal-context-459",
        title="PASCAL-Context, 459 classes",
        vocabulary="pc459",
        counts={"train": (4998,), "val": (5104, 5105)},
        licence=FLICKR,
        places=(
            VOC2010,
            "https://cs.stanford.edu/~roozbeh/pascal-context/trainval.tar.gz",
        ),
        layout="VOCdevkit/VOC2010/{JPEGImages,trainval/*.mat,pascalcontext_val.txt}",
        remarks=(
            f"val has {CONTEXT_VAL}",
            "without that list, ImageSets/Main/val.txt of VOC 2010 is read",
        ),
    ),
    Benchmark(
        name="pascal-voc-20",
        title="PASCAL VOC 2012, 20 classes, the background ignored",
        vocabulary="voc20",
        counts=VOC_COUNTS,
        licence=FLICKR,
        places=(VOC2012, AUGMENTED),
        layout=VOC_LAYOUT,
    ),
    Benchmark(
        name="pascal-voc-20b",
        title="PASCAL VOC 2012, 20 classes and the background",
        vocabulary="voc20",
        background=True,
        asked_vocabulary="voc20b",
        counts=VOC_COUNTS,
        licence=FLICKR,
        places=(VOC2012, AUGMENTED),
        layout=VOC_LAYOUT,
        remarks=("a model is asked for 59 names; those that are not VOC's mean the background",),
    ),
)

BENCHMARKS = {benchmark.name: benchmark for benchmark in _ALL}
