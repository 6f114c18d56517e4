"""Less memory for more work: activations are computed a second time in the backward pass."""

from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from sed import SED
from sed.class_attention import ClassAttention
from sed.decoder import Fuse, SpatialMix


def recompute(model: SED) -> None:
    """Keep no activations inside the encoder's stages and the layers of the decoder."""
    trunk: Any = model.image_encoder.visual.trunk
    trunk.set_grad_checkpointing(True)
    for module in model.modules():
        if isinstance(module, SpatialMix | ClassAttention | Fuse):
            forget(module)


def forget(module: nn.Module) -> None:
    """Let one layer compute its activations again when gradients need them."""
    module.forward = partial(checkpoint, module.forward, use_reentrant=False)
