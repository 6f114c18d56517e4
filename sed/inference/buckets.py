"""Few shapes for a compiler: how many pairs survive varies from image to image.

`torch.compile` and CUDA graphs make one program for each shape. With every count of survivors they
would never be done; so counts are filled up to one of a few sizes, at most half more.

Shapes: M (image, class) pairs, N classes of one image, L locations, C channels, X anything.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sed.chunks import CUDA_ELEMENTS
from sed.inference.decoder import FastDecoder
from sed.inference.parts import bucket_size
from sed.model import SED


def num_programs(elements_each: int) -> int:
    """Return the most programs that a decoder makes of one function.

    At each of three levels one for each size up to the most pairs that a GPU takes at once; twice,
    because the last of the locations that the attention over the classes takes may be fewer.

    Args:
        elements_each: What one pair adds to the smallest intermediate that is cut into parts.
    """
    most, size, sizes = CUDA_ELEMENTS // elements_each, 1, 1
    while size < most:
        size, sizes = bucket_size(size + 1), sizes + 1
    return 3 * 2 * sizes


def fill(x_MX: Tensor, size: int) -> Tensor:
    """Return x with zeros behind it, `size` long."""
    return F.pad(x_MX, (0, 0) * (x_MX.ndim - 1) + (0, size - len(x_MX)))


class Bucketed:
    """Call a function whose pairs do not see each other with few different numbers of pairs."""

    def __init__(self, function: Callable[..., Tensor], *, copies: bool = False) -> None:
        """Wrap a function.

        Args:
            function: Of pairs.
            copies: Return a copy: what a CUDA graph returns, its next run overwrites.
        """
        self.function, self.copies = function, copies

    def __call__(self, x_MX: Tensor, *others: Tensor) -> Tensor:
        """Return what the function makes of the pairs.

        Args:
            x_MX: One row for each pair.
            others: As many rows, or one row for all of them.
        """
        count = len(x_MX)
        size = bucket_size(count)
        filled = [fill(other, size) if len(other) == count else other for other in others]
        found_MX = self.function(fill(x_MX, size), *filled)[:count]
        return found_MX.clone() if self.copies else found_MX


class BucketedClasses:
    """Call the attention over the classes with few different numbers of classes."""

    def __init__(self, function: Callable[..., Tensor], *, copies: bool = False) -> None:
        """Wrap the attention; see `Bucketed`."""
        self.function, self.copies = function, copies

    def __call__(self, x_LNC: Tensor) -> Tensor:
        """Return what the attention makes of the classes; those filled in are not looked at."""
        count = x_LNC.shape[1]
        size = bucket_size(count)
        real_N1 = (torch.arange(size, device=x_LNC.device) < count).unsqueeze(1)
        filled_LNC = F.pad(x_LNC, (0, 0, 0, size - count))
        found_LNC = self.function(filled_LNC, real_N1)[:, :count]
        return found_LNC.clone() if self.copies else found_LNC


def compile_model(model: SED, *, graphs: bool = False, **options: Any) -> None:  # noqa: ANN401
    """Compile the encoder of a model, and the decoder of one for inference.

    Args:
        model: It is changed.
        graphs: Record the decoder's programs as CUDA graphs; the encoder is compiled without.
        options: Of `torch.compile`.
    """
    model.image_encoder.compile(**options)
    if isinstance(model.decoder, FastDecoder):
        cells = (model.config.image_size // 32) ** 2
        allow_programs(num_programs(cells * model.config.hidden_dim))
        compile_decoder(model.decoder, graphs=graphs, **options)


def allow_programs(count: int) -> None:
    """Let torch make as many programs of one function; of more it would make none, silently."""
    config: Any = torch._dynamo.config
    config.recompile_limit = max(count, config.recompile_limit)
    config.accumulated_recompile_limit = max(count, config.accumulated_recompile_limit)


def compile_decoder(decoder: FastDecoder, *, graphs: bool = False, **options: Any) -> None:  # noqa: ANN401
    """Compile what the blocks of a decoder for inference compute, for few numbers of pairs.

    Args:
        decoder: It is changed.
        graphs: Record CUDA graphs: one for each size, replayed at one launch.
        options: Of `torch.compile`.
    """
    if graphs:
        options["mode"] = "reduce-overhead"
    for level in range(3):
        block: Any = decoder.block(level)
        block.grow, block.space.forward = (
            Bucketed(torch.compile(function, dynamic=False, **options), copies=graphs)
            for function in (block.grow, block.space.forward)
        )
        mix = torch.compile(block.classes.mix, dynamic=False, **options)
        block.classes.mix = BucketedClasses(mix, copies=graphs)
