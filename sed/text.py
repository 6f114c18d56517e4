"""Class names become text embeddings: every name in every prompt template.

Shapes: N classes, P prompts, D embedding, S texts, L tokens, W width.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.tokenizer import SimpleTokenizer
from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES
from torch import Tensor, nn

from sed.vocabularies import SYNONYM_SEPARATOR

IMAGENET_SELECT: tuple[Callable[[str], str], ...] = (
    lambda name: f"itap of a {name}.",
    lambda name: f"a bad photo of the {name}.",
    lambda name: f"a origami {name}.",
    lambda name: f"a photo of the large {name}.",
    lambda name: f"a {name} in a video game.",
    lambda name: f"art of the {name}.",
    lambda name: f"a photo of the small {name}.",
    lambda name: f"A photo of a {name} in the scene",
)

PROMPTS: dict[str, Sequence[Callable[[str], str]]] = {
    "imagenet80": OPENAI_IMAGENET_TEMPLATES,
    "imagenet_select": IMAGENET_SELECT,
}
"""Prompt templates by name; "imagenet80" is what the published models use."""

TEXTS_PER_BATCH = 320


class TextEncoder(nn.Module):
    """Embed class names with CLIP's text transformer."""

    def __init__(self, text: nn.Module, *, prompts: str) -> None:
        super().__init__()
        if prompts not in PROMPTS:
            raise ValueError(f"unknown prompt templates {prompts!r}; known: {', '.join(PROMPTS)}")
        self.text = text
        self.prompts = prompts
        self.dim = int(text.output_dim)  # pyright: ignore[reportArgumentType]
        self.tokenizer = SimpleTokenizer()

    def set_constants(self, device: torch.device) -> None:
        """Fill the buffer that no checkpoint holds: the causal mask."""
        text: Any = self.text
        length = text.context_length
        mask_LL = torch.full((length, length), -torch.inf, device=device).triu_(1)
        text.register_buffer("attn_mask", mask_LL, persistent=False)

    def forward(self, classes: Sequence[str], prompts: Sequence[int] | None = None) -> Tensor:
        """Return unit vectors text_NPD, one for each class in each template.

        A name "a, b" is one class with two synonyms: their unit vectors are averaged within
        each template and normalised again (section 3 of the specification of the method).

        Args:
            classes: Their names.
            prompts: Which of the templates to use; all by default.
        """
        templates = PROMPTS[self.prompts]
        if prompts is not None:
            templates = [templates[index] for index in prompts]
        texts, spans = [], []
        for name in classes:
            start = len(texts)
            synonyms = name.split(SYNONYM_SEPARATOR)
            texts += [template(word) for template in templates for word in synonyms]
            spans.append((start, len(texts), len(synonyms)))
        vectors_SD = self.encode(texts)
        return torch.stack(
            [average_synonyms(vectors_SD[start:end], count) for start, end, count in spans]
        )

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Return the unit vector of each text, vectors_SD."""
        device = next(self.text.parameters()).device
        tokens_SL = self.tokenizer(list(texts)).to(device)
        batches = tokens_SL.split(TEXTS_PER_BATCH)
        return torch.cat([F.normalize(self.encode_tokens(batch), dim=-1) for batch in batches])

    def encode_tokens(self, tokens_SL: Tensor) -> Tensor:
        """Return the embedding at the end-of-text token, vectors_SD, not normalised.

        What follows the end token cannot reach it (the mask is causal), so it is cut off.
        """
        text: Any = self.text
        end_S = tokens_SL.argmax(dim=-1)
        length = int(end_S.max()) + 1
        x_SLW = text.token_embedding(tokens_SL[:, :length]) + text.positional_embedding[:length]
        x_SLW = text.transformer(x_SLW, attn_mask=text.attn_mask[:length, :length])
        last_SW = x_SLW[torch.arange(len(x_SLW), device=x_SLW.device), end_S]
        return text.ln_final(last_SW) @ text.text_projection


def average_synonyms(vectors_SD: Tensor, synonyms: int) -> Tensor:
    """Merge unit vectors listed template-major, synonym-minor into one per template, text_PD."""
    if synonyms == 1:
        return vectors_SD
    return F.normalize(vectors_SD.unflatten(0, (-1, synonyms)).mean(dim=1), dim=-1)
