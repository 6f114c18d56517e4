"""Small stand-ins: a model that needs no weights, photos whose labels are known, an S3 server."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import sed
from sed.resize import fit_shortest_edge, to_model_input

COLOURS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
}


class ColourModel:
    """Labels each pixel with the class whose name is the nearest colour; computes like a SED."""

    config = sed.SEDConfig(image_size=64, short_side=64, long_side=256)

    def __init__(self, device="cpu", log=None):
        self.device = device
        self.log = log

    def embed_classes(self, classes):
        return torch.tensor([COLOURS[name] for name in classes]).float().unsqueeze(1) / 255

    def prepare(self, pixels_HW3):
        sides = (self.config.short_side, self.config.long_side)
        fitted_HW3 = fit_shortest_edge(pixels_HW3, *sides, torch.device("cpu"))
        return to_model_input(fitted_HW3, self.config.image_size)

    def score(self, images_B3HW, text_NPD, rejection=None):
        if self.log is not None:
            with Path(self.log).open("a") as log:
                log.write("image\n" * len(images_B3HW))
        small_B3HW = torch.nn.functional.avg_pool2d(images_B3HW, 4)
        return [self.score_one(image_3HW, text_NPD, rejection) for image_3HW in small_B3HW]

    def score_one(self, image_3HW, text_NPD, rejection):
        logits_NHW = 4 - 8 * (image_3HW - text_NPD.squeeze(1)[:, :, None, None]).abs().mean(dim=1)
        keep_N = torch.ones(len(logits_NHW), dtype=torch.bool)
        if rejection is not None and rejection.acts_at(0):
            keep_N = rejection.keep(logits_NHW, 0)
        return sed.ClassScores(logits_NHW[keep_N], keep_N.nonzero().flatten())


def plain_image(colour, width=40, height=30):
    """A photo of one colour."""
    return Image.new("RGB", (width, height), colour)


def halves(left, right, width=40, height=30):
    """A photo whose left half has one colour and whose right half another."""
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    pixels[:, : width // 2] = COLOURS[left]
    pixels[:, width // 2 :] = COLOURS[right]
    return Image.fromarray(pixels)


def encoded(image, kind="PNG", **options):
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def write_photos(folder, count=6):
    """Write `count` photos of two colours each; return their names."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    pairs = [("red", "green"), ("green", "blue"), ("blue", "white"), ("black", "red")]
    names = [f"photo{index:02d}.png" for index in range(count)]
    for index, name in enumerate(names):
        left, right = pairs[index % len(pairs)]
        (folder / name).write_bytes(encoded(halves(left, right, 40 + 2 * index, 30 + index)))
    return names
