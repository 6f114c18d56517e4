"""What a camera does to a scene: light, vignette, contrast, blur, noise, compression.

Shapes: H W pixels, 3 colour channels.
"""

import io

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from pipelines.scenes.textures import Floats


def photograph(rng: Generator, colour_HW3: Floats) -> NDArray[np.uint8]:
    """Return a photo of a scene whose colours are in [0, 1], image_HW3."""
    exposed = expose(rng, colour_HW3)
    noise_3HW = rng.random(exposed.transpose(2, 0, 1).shape, dtype=np.float32)
    noise_3HW -= 0.5
    noise_3HW *= rng.uniform(1, 9)
    exposed += noise_3HW.transpose(1, 2, 0)
    np.clip(exposed, 0, 255, out=exposed)
    image = Image.fromarray(np.ascontiguousarray(exposed.astype(np.uint8)))
    unit = len(colour_HW3) / 256
    if rng.random() < 0.6:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.9) * unit))
    if rng.random() < 0.3:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(rng.integers(45, 90)))
        image = Image.open(buffer)
    return np.array(image)


def expose(rng: Generator, colour_HW3: Floats) -> Floats:
    """Return colours in [0, 255] under a tinted light that falls off, with some contrast."""
    axis = np.linspace(-1, 1, len(colour_HW3), dtype=np.float32)
    x, y = axis[None], axis[:, None]
    slope_x, slope_y = rng.uniform(-0.08, 0.08, 2).astype(np.float32)
    falloff = np.float32(rng.uniform(0, 0.14))
    light_HW = 1 + slope_x * x + slope_y * y - falloff * (x * x + y * y)
    contrast = rng.uniform(0.85, 1.1)
    tint = rng.uniform(0.84, 1.08) * rng.uniform(0.94, 1.06, 3)
    gain = (255 * contrast * tint).astype(np.float32)
    lift = np.float32(255 * 0.45 * (1 - contrast) + rng.uniform(-4, 6))
    exposed_HW3 = colour_HW3 * light_HW[..., None]
    exposed_HW3 *= gain
    exposed_HW3 += lift
    return exposed_HW3
