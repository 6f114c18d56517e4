"""Small copies of each dataset, laid out as its authors ship it, with masks whose meaning is known.

A mask is a stack of bands, one for each value that its authors could write.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image
from pycocotools import mask as coco

import sed
from pipelines.prepare.encodings import original_values

WIDTH, HEIGHT = 40, 36

NONE = -1
"""Where a pixel has no class."""


@dataclass(frozen=True)
class Replica:
    """One split of a dataset on disk."""

    name: str
    source: Path
    """What a user would give."""

    top: Path
    """The dataset's own folder."""

    ids: list[str]
    images: dict[str, Path]
    masks: dict[str, Path]
    bands: list[int]
    """Class index of each band, from above; `NONE` for none."""

    num_classes: int
    asked: int


def bands(values, width=WIDTH, height=HEIGHT):
    """A mask of equal bands, one for each value."""
    rows = np.arange(height) * len(values) // height
    return np.tile(np.array(values)[rows][:, None], (1, width))


def save_photo(path, width=WIDTH, height=HEIGHT, seed=0):
    """Write a JPEG that is not like another one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, quality=90)
    return path


def save_mask(path, mask_HW, dtype=np.uint8):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask_HW.astype(dtype)).save(path)
    return path


def save_text(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def make(name, folder, *, split="val", count=3, size=(WIDTH, HEIGHT)):
    """Write a replica of a dataset below a folder."""
    return MAKERS[name](Path(folder), split, count, size)


def coco_stuff(folder, split, count, size):
    top = folder / "coco-stuff"
    ids = [f"{number:012d}" for number in range(1, count + 1)]
    values = [0, 10, 12, 181, 255]
    images = {i: save_photo(top / f"images/{split}2017/{i}.jpg", *size, int(i)) for i in ids}
    masks = {
        i: save_mask(top / f"annotations/{split}2017/{i}.png", bands(values, *size)) for i in ids
    }
    return Replica("coco-stuff", folder, top, ids, images, masks, [0, 10, 11, 170, NONE], 171, 171)


def ade20k(folder, split, count, size):
    top = folder / "ADEChallengeData2016"
    long = {"train": "training", "val": "validation"}[split]
    ids = [f"ADE_{split}_{number:08d}" for number in range(1, count + 1)]
    images = {i: save_photo(top / f"images/{long}/{i}.jpg", *size, n) for n, i in enumerate(ids)}
    masks = {
        i: save_mask(top / f"annotations/{long}/{i}.png", bands([0, 1, 2, 150], *size)) for i in ids
    }
    return Replica("ade20k-150", folder, top, ids, images, masks, [NONE, 0, 1, 149], 150, 150)


ADE_OBJECTS = {2978: "wall", 312: "building, edifice", 1213: "headlight", 2855: "tree"}


def ade_png(ids_HW):
    """Object numbers as the authors write them: R and G, and in B the instance."""
    red, green = ids_HW // 256 * 10, ids_HW % 256
    return np.stack([red, green, np.full_like(red, 7)], axis=-1).astype(np.uint8)


def ade20k_full(folder, split, count, size):
    top = folder / "ADE20K_2021_17_01"
    long = {"train": "training", "val": "validation"}[split]
    ids = [f"ADE_{split}_{number:08d}" for number in range(1, count + 1)]
    images, masks = {}, {}
    for number, name in enumerate(ids):
        place = top / "images/ADE" / long / ("urban/street" if number % 2 else "nature/beach")
        images[name] = save_photo(place / f"{name}.jpg", *size, number)
        masks[name] = place / f"{name}_seg.png"
        Image.fromarray(ade_png(bands([0, *ADE_OBJECTS], *size))).save(masks[name])
        # What lies beside it and is no pair: parts, and a mask for each object.
        Image.fromarray(ade_png(bands([0], *size))).save(place / f"{name}_parts_1.png")
        save_mask(place / name / f"instance_000_{name}.png", bands([0, 255]))
        objects = [{"name": n, "name_ndx": i} for i, n in ADE_OBJECTS.items()]
        found = json.dumps({"annotation": {"object": objects, "source": "é"}}, ensure_ascii=False)
        (place / f"{name}.json").write_text(found, encoding="latin-1")
    save_text(top / "index_ade20k.pkl", ["not read"])
    return Replica("ade20k-847", folder, top, ids, images, masks, [NONE, 0, 1, NONE, 3], 847, 847)


def voc_photos(top, ids, size):
    """The photos of a list, and one of no list."""
    save_photo(top / "JPEGImages/2007_999999.jpg", *size, 99)
    return {i: save_photo(top / f"JPEGImages/{i}.jpg", *size, n) for n, i in enumerate(ids)}


def context_59(folder, split, count, size):
    top = folder / "VOCdevkit/VOC2010"
    ids = [f"2008_{number:06d}" for number in range(1, count + 1)]
    images = voc_photos(top, ids, size)
    values = [0, 2, 5, 9, 458]
    other = {"val": "train", "train": "val"}[split]
    known = [*((i, split) for i in ids), ("2007_999999", other)]
    found = {
        "info": {"description": "replica"},
        "images": [
            {"file_name": f"{i}.jpg", "image_id": int(i.replace("_", "")), "phase": phase}
            for i, phase in known
        ],
        "annos_boundary": [{"image_id": 1, "boundary": [1, 2.5, [3]]}],
        "annos_segmentation": [
            segment(int(i.replace("_", "")), value, band_HW)
            for i, _ in known
            for value, band_HW in layers(values, size)
        ],
        "categories": categories(),
    }
    path = top / "trainval_merged.json"
    path.write_text(json.dumps(found), encoding="utf-8")
    masks = dict.fromkeys(ids, path)
    return Replica(
        "pascal-context-59", folder, top, ids, images, masks, [NONE, 0, NONE, 1, 58], 59, 59
    )


def categories():
    """Categories as the authors list them: 59 that are classes, and one that is none."""
    named = zip(original_values("pascal-context-59"), sed.vocabulary("pc59"), strict=True)
    return [{"category_id": i, "name": n} for i, n in [*named, (5, "artillery")]]


def layers(values, size):
    """All of the picture with the first category, then each band over it: the later wins."""
    mask_HW = bands(values, *size)
    yield values[1], np.ones_like(mask_HW)
    for value in values:
        yield value, mask_HW == value


def segment(image_id, category_id, mask_HW):
    rle = coco.encode(np.asfortranarray(mask_HW.astype(np.uint8)))
    rle = {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode()}
    return {"image_id": image_id, "category_id": category_id, "segmentation": rle, "id": 1}


def context_459(folder, split, count, size):
    top = folder / "VOCdevkit/VOC2010"
    ids = [f"2008_{number:06d}" for number in range(1, count + 1)]
    images = voc_photos(top, ids, size)
    masks = {i: save_matlab(top / f"trainval/{i}.mat", bands([0, 1, 2, 459], *size)) for i in ids}
    save_matlab(top / "trainval/2007_999999.mat", bands([1], *size))
    save_text(top / f"pascalcontext_{split}.txt", ids)
    return Replica(
        "pascal-context-459", folder, top, ids, images, masks, [NONE, 0, 1, 458], 459, 459
    )


def save_matlab(path, mask_HW):
    """A MATLAB file as PASCAL-Context has them: an unsigned LabelMap."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {"LabelMap": mask_HW.astype(np.uint16)}, do_compression=True)
    return path


def voc(name, folder, split, count, size):
    top = folder / "VOCdevkit/VOC2012"
    ids = [f"2007_{number:06d}" for number in range(1, count + 1)]
    images = voc_photos(top, ids, size)
    masks = {}
    for each in ids:
        masks[each] = top / f"SegmentationClassAug/{each}.png"
        masks[each].parent.mkdir(parents=True, exist_ok=True)
        mask = Image.fromarray(bands([0, 1, 20, 255], *size).astype(np.uint8))
        if name == "pascal-voc-20":  # as VOC itself has them: a palette's indices
            mask.putpalette([value % 251 for value in range(768)])
        mask.save(masks[each])
    save_text(top / f"ImageSets/Segmentation/{split}.txt", ids)
    background = name == "pascal-voc-20b"
    found = [20 if background else NONE, 0, 19, NONE]
    sizes = (21, 59) if background else (20, 20)
    return Replica(name, folder, top, ids, images, masks, found, *sizes)


def user_folder(folder, split, count, size):
    top = folder / "mine"
    ids = [f"photo {number}" for number in range(1, count + 1)]
    images = {i: save_photo(top / f"images/{split}/{i}.jpg", *size, n) for n, i in enumerate(ids)}
    masks = {
        i: save_mask(top / f"masks/{split}/{i}.png", bands([0, 1, 2, 255], *size)) for i in ids
    }
    (top / "classes.json").write_text(json.dumps(["sky", "tree", "door, double door"]))
    return Replica("folder", top, top, ids, images, masks, [0, 1, 2, NONE], 3, 3)


MAKERS = {
    "coco-stuff": coco_stuff,
    "ade20k-150": ade20k,
    "ade20k-847": ade20k_full,
    "pascal-context-59": context_59,
    "pascal-context-459": context_459,
    "pascal-voc-20": lambda *args: voc("pascal-voc-20", *args),
    "pascal-voc-20b": lambda *args: voc("pascal-voc-20b", *args),
    "folder": user_folder,
}
