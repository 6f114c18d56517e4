"""What a SED model is made of: sizes only, no behaviour."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SEDConfig:
    """The sizes of one SED model; the defaults are the published base model."""

    encoder: str = "convnext_base_w_320"
    """Image-text encoder: a model of open_clip, or one of `sed.encoder.ENCODERS`."""

    drop_path: float = 0.0
    """Stochastic depth of the image encoder while training, at its last block."""

    head_dropout: float = 0.0
    """Dropout inside the image encoder's MLP head while training."""

    prompts: str = "imagenet80"
    """Prompt templates, a name in `sed.text.PROMPTS`; their number fixes two layers."""

    image_size: int = 768
    """Side of the square image the encoder sees, in pixels."""

    short_side: int = 640
    """A photo is first resized to this shorter side, in pixels (test time)."""

    long_side: int = 2560
    """Upper bound of the longer side in that resize, in pixels."""

    hidden_dim: int = 128
    """Channels of the embedded cost map."""

    decoder_dims: tuple[int, int, int] = (64, 32, 16)
    """Channels after each decoder block."""

    image_guidance_dims: tuple[int, int, int] = (32, 16, 8)
    """Channels of the projected encoder features at strides 16, 8 and 4."""

    cost_guidance_dims: tuple[int, int, int] = (32, 16, 8)
    """Channels of the projected cost map at strides 16, 8 and 4."""

    kernel_size: int = 9
    """Depthwise kernel of the decoder blocks."""

    num_heads: int = 4
    """Heads of the attention over the classes."""

    train_pool: int = 2
    """Average pooling before the class attention while training; evaluation uses none."""

    def __post_init__(self) -> None:
        if self.image_size % 32:
            raise ValueError(f"image_size must be a multiple of 32, got {self.image_size}")
        dims = (self.hidden_dim, *self.decoder_dims[:2])
        if any(dim % self.num_heads for dim in dims):
            raise ValueError(f"num_heads={self.num_heads} must divide the decoder's widths {dims}")
        if any(dim % 16 for dim in self.decoder_dims):
            raise ValueError(f"decoder_dims must be multiples of 16, got {self.decoder_dims}")


def base() -> SEDConfig:
    """Return the published ConvNeXt-B model: 181 M parameters."""
    return SEDConfig()


def large() -> SEDConfig:
    """Return the published ConvNeXt-L model: 353 M parameters."""
    return SEDConfig(encoder="convnext_large_d_320", drop_path=0.1, head_dropout=0.1)


def nano() -> SEDConfig:
    """Return the small model that is bundled with its weights."""
    return SEDConfig(
        encoder="nano",
        prompts="imagenet_select",
        image_size=256,
        short_side=256,
        long_side=1024,
        hidden_dim=32,
        decoder_dims=(32, 16, 16),
        image_guidance_dims=(16, 8, 8),
        cost_guidance_dims=(16, 8, 8),
    )


PRESETS = {"nano": nano, "base": base, "large": large}
