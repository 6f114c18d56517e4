"""SED: encoder, cost map and decoder put together.

Shapes: B images, N classes, M (image, class) pairs, K surviving classes of an image, P prompts,
D embedding, H W cells or pixels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.autograd.profiler import record_function

from sed.chunks import chunk_length, map_chunks
from sed.config import SEDConfig
from sed.cost_map import CostMap, cosine_scores
from sed.decoder import Decoder, Pairs, in_float32
from sed.embeddings import EmbeddingCache
from sed.encoder import ImageEncoder, build_towers
from sed.features import Essence, Features
from sed.photo import to_rgb, upright
from sed.rejection import Rejection
from sed.resize import check_pixels, fit_shortest_edge, fit_square, to_model_input
from sed.scores import ClassScores, Segmentation
from sed.shortest_edge import resize_shortest_edge
from sed.text import PROMPTS, TextEncoder

KEEP_ALL = Rejection()


class SED(nn.Module):
    """The simple encoder-decoder for open-vocabulary segmentation (CVPR 2024, arXiv 2311.15537)."""

    mixed_precision = True
    """Whether a GPU computes in bfloat16 where that is safe."""

    memory_format = torch.channels_last
    """How the encoder gets its images: as the weights lie."""

    def __init__(self, config: SEDConfig) -> None:
        super().__init__()
        self.config = config
        towers = build_towers(config)
        num_prompts = len(PROMPTS[config.prompts])
        self.image_encoder = ImageEncoder(towers.visual)
        self.text_encoder = TextEncoder(towers.text, prompts=config.prompts)
        self.cost_map = CostMap(num_prompts=num_prompts, hidden_dim=config.hidden_dim)
        trunk: Any = towers.visual.trunk
        fine, middle, coarse, _ = (stage["num_chs"] for stage in trunk.feature_info)
        self.decoder = Decoder(config, num_prompts=num_prompts, encoder_dims=(fine, middle, coarse))
        self.embeddings = EmbeddingCache(self.text_encoder)
        self.digest = ""
        self.to(memory_format=torch.channels_last)  # convolutions of few channels: twice as fast

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.cost_map.embed.weight.device

    def embed_classes(self, classes: Sequence[str]) -> Tensor:
        """Return the text embeddings text_NPD of the classes, float32 unit vectors.

        They are computed once per model and list of classes, then read from a cache on disk
        (`SED_CACHE`, default ~/.cache/sed). "a, b" is one class with two synonyms.

        Raises:
            ValueError: No class, or a name that is empty.
        """
        return self.embeddings.get(check_classes(classes))

    def prepare(self, pixels_HW3: np.ndarray) -> Tensor:
        """Return a photo as the encoder sees it, image_3HW on the model's device.

        It is resized as the published evaluation does: the shorter side to `config.short_side`
        (a photo of that size stays as it is), then to a square.

        Args:
            pixels_HW3: RGB, uint8.

        Raises:
            ValueError: The array is not (H, W, 3) of uint8.
        """
        check_pixels(pixels_HW3)
        config = self.config
        fitted_HW3 = fit_shortest_edge(pixels_HW3, config.short_side, config.long_side, self.device)
        return to_model_input(fitted_HW3, config.image_size, self.device)

    @torch.inference_mode()
    def forward(
        self, images_B3HW: Tensor, text_NPD: Tensor, rejection: Rejection | None = None
    ) -> Tensor:
        """Return logits_BNHW at a quarter of `config.image_size`.

        A class that the rejection dropped for an image is -inf there. Image i of a batch gets
        what it would get alone.

        Args:
            images_B3HW: RGB in [0, 1]; any H and W, resized to a square of `config.image_size`.
            text_NPD: From `embed_classes`.
            rejection: Which classes to drop on the way; None keeps all.

        Raises:
            ValueError: Shapes that do not fit the model.
        """
        side = self.config.image_size // 4
        shape = (len(images_B3HW), len(text_NPD), side, side)
        logits_BNHW = torch.full(shape, -torch.inf, device=self.device)
        for logits_NHW, scores in zip(
            logits_BNHW, self.score(images_B3HW, text_NPD, rejection), strict=True
        ):
            logits_NHW[scores.candidates_K] = scores.logits_KHW
        return logits_BNHW

    @torch.inference_mode()
    def score(
        self, images_B3HW: Tensor, text_NPD: Tensor, rejection: Rejection | None = None
    ) -> list[ClassScores]:
        """Return the surviving classes of each image and their logits; see `forward`."""
        return self.decode(self.encode(images_B3HW), text_NPD, rejection)

    @torch.inference_mode()
    def encode(self, images_B3HW: Tensor) -> Features:
        """Return the encoder's features of a batch; nothing here depends on the classes.

        Raises:
            ValueError: The images are not (B, 3, H, W) of floating point.
        """
        if images_B3HW.ndim != 4 or images_B3HW.shape[1] != 3:
            raise ValueError(f"images must be (B, 3, H, W), got {tuple(images_B3HW.shape)}")
        if not images_B3HW.is_floating_point():
            raise ValueError(f"images must be floats in [0, 1], got {images_B3HW.dtype}")
        images_B3HW = fit_square(images_B3HW.to(self.device, torch.float32), self.config.image_size)
        images_B3HW = images_B3HW.contiguous(memory_format=self.memory_format)
        with self.autocast(), record_function("sed: encoder"):
            return self.image_encoder(images_B3HW)

    @torch.inference_mode()
    def condense(self, features: Features) -> Essence:
        """Return what the decoder needs of the encoder's features, whatever the classes are."""
        with self.autocast(), record_function("sed: image guidance"):
            coarse, middle, fine = self.decoder.guide_by_image(features.pyramid)
        return Essence(features.embedding_BDHW, (coarse, middle, fine))

    @torch.inference_mode()
    def decode(
        self, features: Features | Essence, text_NPD: Tensor, rejection: Rejection | None = None
    ) -> list[ClassScores]:
        """Return the surviving classes of each image of `features`, and their logits.

        Raises:
            ValueError: The text does not come from this model.
        """
        self.check_text(text_NPD)
        pairs = Pairs.all(len(features.embedding_BDHW), len(text_NPD), self.device)
        if not len(pairs.class_M):
            return []
        essence = features if isinstance(features, Essence) else self.condense(features)
        with self.autocast():
            logits_MHW, pairs = self.decode_pairs(essence, text_NPD, pairs, rejection or KEEP_ALL)
        parts = zip(
            logits_MHW.float().split(pairs.counts), pairs.class_M.split(pairs.counts), strict=True
        )
        return [ClassScores(logits_KHW, class_K) for logits_KHW, class_K in parts]

    def decode_pairs(
        self, essence: Essence, text_NPD: Tensor, pairs: Pairs, rejection: Rejection
    ) -> tuple[Tensor, Pairs]:
        """Return logits_MHW of the pairs that survive the rejection, and these pairs."""
        with record_function("sed: cost map"), in_float32(self.device, rejection.acts_at(0)):
            scores_MPHW, cost_MCHW = self.embed_costs(essence, text_NPD, pairs)
        return self.decoder(cost_MCHW, scores_MPHW, essence.guidance, pairs, rejection)

    def embed_costs(
        self, features: Features | Essence, text_NPD: Tensor, pairs: Pairs
    ) -> tuple[Tensor, Tensor]:
        """Return the cosines of each (image, class) pair, scores_MPHW, and cost_MCHW."""
        with torch.autocast(self.device.type, enabled=False):
            text_NPD = text_NPD.to(self.device).float()
            scores_BNPHW = cosine_scores(features.embedding_BDHW.float(), text_NPD)
        scores_MPHW = scores_BNPHW.flatten(0, 1)
        if len(pairs.class_M) < len(scores_MPHW):
            scores_MPHW = scores_BNPHW[pairs.image_M, pairs.class_M]
        (cost_MCHW,) = map_chunks(
            lambda part: (self.cost_map(scores_MPHW[part]),),
            len(scores_MPHW),
            chunk_length(self.config.hidden_dim * scores_MPHW[0, 0].numel(), self.device),
        )
        return scores_MPHW, cost_MCHW

    def levels(
        self, features: Features, text_NPD: Tensor, pairs: Pairs
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return what the losses need, with gradients: logits_MHW final, strides 32, 16 and 8.

        Args:
            features: From `image_encoder`, with gradients where it should learn.
            text_NPD: The classes to learn from.
            pairs: The classes of each image; usually all.
        """
        pool = self.config.train_pool if self.training else 1
        scores_MPHW, cost_MCHW = self.embed_costs(features, text_NPD, pairs)
        return self.decoder.levels(cost_MCHW, scores_MPHW, features.pyramid, pairs, pool)

    @torch.inference_mode()
    def segment(
        self,
        image: Image.Image | np.ndarray,
        classes: Sequence[str] | Tensor,
        rejection: Rejection | None = None,
    ) -> Segmentation:
        """Label every pixel of one photo, at the photo's own size.

        Args:
            image: A Pillow image of any mode, or an (H, W, 3) array of uint8. Its EXIF orientation
                is applied, transparent pixels become white.
            classes: Names, or their embeddings from `embed_classes`.
            rejection: Which classes to drop on the way; None keeps all.

        Raises:
            ValueError: An array of another shape or type; no classes.
        """
        text_NPD = classes if isinstance(classes, Tensor) else self.embed_classes(classes)
        photo = image if isinstance(image, Image.Image) else array_to_image(image)
        photo = to_rgb(upright(photo))
        small = resize_shortest_edge(photo, self.config.short_side, self.config.long_side)
        (scores,) = self.score(self.prepare(np.array(small)).unsqueeze(0), text_NPD, rejection)
        labels_HW, confidence_HW = scores.label_map(photo.height, photo.width)
        return Segmentation(
            labels=labels_HW.cpu().numpy(),
            confidence=confidence_HW.cpu().numpy(),
            candidates=scores.candidates_K.tolist(),
        )

    def restore_constants(self) -> None:
        """Fill the buffers that no checkpoint holds, after a construction without memory."""
        self.image_encoder.set_constants(self.device)
        self.text_encoder.set_constants(self.device)

    def autocast(self) -> torch.autocast:
        """Compute in bfloat16 where the hardware gains by it: on CUDA."""
        enabled = self.mixed_precision and self.device.type == "cuda"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)

    def check_text(self, text_NPD: Tensor) -> None:
        """Require embeddings of this model's shape."""
        wanted = (self.cost_map.embed.in_channels, self.text_encoder.dim)
        if text_NPD.ndim != 3 or text_NPD.shape[1:] != wanted or not len(text_NPD):
            raise ValueError(
                f"text must be (N, {wanted[0]}, {wanted[1]}) from this model's embed_classes, "
                f"got {tuple(text_NPD.shape)}"
            )


def check_classes(classes: Sequence[str]) -> list[str]:
    """Return the names as a list.

    Raises:
        ValueError: No class, a single string instead of a list, or a name that is empty.
    """
    if isinstance(classes, str):
        raise ValueError(f"classes must be a list of names, got the string {classes!r}")
    names = list(classes)
    if not names:
        raise ValueError("at least one class name is needed")
    for index, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"class {index} has no name: {name!r}")
    return names


def array_to_image(array_HW3: np.ndarray) -> Image.Image:
    """Return an (H, W, 3) array of uint8 as a Pillow image."""
    check_pixels(array_HW3)
    return Image.fromarray(array_HW3)
