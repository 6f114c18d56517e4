"""The text encoder for inference: what several prompts begin with is computed once.

The mask is causal: a token's features depend on the tokens before it alone. "a photo of a" is the
beginning of several templates, and each template is the beginning of a prompt for every class. So
the distinct beginnings of all texts are the rows of one matrix; no row is padding, and only the
attention puts them together again, text by text. They are looked for on the CPU while a GPU works
on the batch before: there each of some hundred searches would be waited for.

Shapes: S texts, L tokens, T distinct beginnings, W width, K heads, E channels of a head.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sed.inference.kernels import linear, linear_add
from sed.inference.mlp import Perceptron
from sed.inference.rewrites import affine
from sed.text import TextEncoder
from sed.transfers import upload

TEXTS_PER_BATCH = 640
"""More texts share more beginnings, and take more memory: 8 classes in 80 prompts."""

TEXTS_TOGETHER = 64
"""Texts whose tokens a CPU puts together at a time: what its cache holds."""


@dataclass(frozen=True)
class Beginnings:
    """The distinct beginnings of some texts, shorter ones first."""

    token_T: Tensor
    """The last token of each beginning."""

    position_T: Tensor
    """Its position."""

    place_T: Tensor
    """Where one text has it: s * L + l."""

    row_SL: Tensor
    """The beginning that ends at each token of a text; any after its end."""

    def to(self, device: torch.device) -> "Beginnings":
        """Return the same on a device."""
        if device.type == "cpu":
            return self
        parts = (self.token_T, self.position_T, self.place_T, self.row_SL)
        return Beginnings(*(upload(part.numpy(), device) for part in parts))

    @classmethod
    def of(cls, tokens_SL: Tensor, end_S: Tensor) -> "Beginnings":
        """Find the distinct beginnings of texts that end at `end_S`."""
        length, size = tokens_SL.shape[1], int(tokens_SL.max()) + 1
        before_S = torch.zeros_like(end_S)
        tokens, positions, places, rows, total = [], [], [], [], 0
        for position in range(length):
            (alive,) = torch.where(end_S >= position)
            key = before_S[alive] * size + tokens_SL[alive, position]
            found, row = key.unique(return_inverse=True)
            one_text = torch.empty_like(found).scatter_(0, row, alive)
            before_S = torch.zeros_like(end_S)
            before_S[alive] = total + row
            total += len(found)
            rows.append(before_S)
            tokens.append(found % size)
            positions.append(torch.full_like(found, position))
            places.append(one_text * length + position)
        return cls(
            torch.cat(tokens), torch.cat(positions), torch.cat(places), torch.stack(rows, dim=1)
        )


class FastTextEncoder(TextEncoder):
    """The plain text encoder's weights, used on distinct beginnings."""

    def __init__(self, plain: TextEncoder) -> None:
        nn.Module.__init__(self)
        self.text, self.prompts = plain.text, plain.prompts
        self.dim, self.tokenizer = plain.dim, plain.tokenizer
        text: Any = plain.text
        self.perceptrons = nn.ModuleList(fast_perceptron(b.mlp) for b in text.transformer.resblocks)

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Return the unit vector of each text, vectors_SD."""
        batches = self.tokenizer(list(texts)).split(TEXTS_PER_BATCH)
        return torch.cat([F.normalize(self.encode_tokens(batch), dim=-1) for batch in batches])

    def encode_tokens(self, tokens_SL: Tensor) -> Tensor:
        """Return the embedding at the end-of-text token, vectors_SD, not normalised.

        Args:
            tokens_SL: Of the texts, in the memory of the machine.
        """
        text: Any = self.text
        device = text.text_projection.device
        end_S = tokens_SL.argmax(dim=-1)
        found = Beginnings.of(tokens_SL[:, : int(end_S.max()) + 1], end_S).to(device)
        end_S = upload(end_S.numpy(), device)
        x_TW = text.token_embedding(found.token_T) + text.positional_embedding[found.position_T]
        for block, perceptron in zip(text.transformer.resblocks, self.perceptrons, strict=True):
            looked_TW = attend(block.attn, block.ln_1(x_TW), found)
            x_TW = linear_add(looked_TW, *affine(block.attn.out_proj), x_TW)
            x_TW = perceptron(block.ln_2(x_TW), x_TW)
        end_row_S = found.row_SL.gather(1, end_S.unsqueeze(1)).squeeze(1)
        return text.ln_final(x_TW)[end_row_S] @ text.text_projection


def attend(attention: nn.MultiheadAttention, x_TW: Tensor, found: Beginnings) -> Tensor:
    """Return what each beginning finds in the tokens before it, x_TW, before the projection."""
    packed_TX = linear(x_TW, attention.in_proj_weight, attention.in_proj_bias)
    together = found.row_SL.split(TEXTS_TOGETHER if x_TW.device.type == "cpu" else TEXTS_PER_BATCH)
    looked = [attend_texts(packed_TX[row_SL], attention.num_heads) for row_SL in together]
    return torch.cat(looked).flatten(0, 1)[found.place_T]


def attend_texts(packed_SLX: Tensor, num_heads: int) -> Tensor:
    """Return what each token of a text finds in those before it, x_SLW.

    Args:
        packed_SLX: Queries, keys and values behind each other.
        num_heads: Of the attention.
    """
    query, key, value = (
        part.unflatten(-1, (num_heads, -1)).transpose(1, 2) for part in packed_SLX.chunk(3, dim=-1)
    )
    looked_SKLE = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    return looked_SKLE.transpose(1, 2).flatten(2)


def fast_perceptron(plain: Any) -> Perceptron:  # noqa: ANN401  open_clip's sequence of three
    """Return the perceptron of one of open_clip's blocks."""
    assert isinstance(plain.gelu, nn.GELU), "no published model has another activation"
    return Perceptron(affine(plain.c_fc), affine(plain.c_proj), "gelu")
