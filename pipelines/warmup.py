"""Before any image is seen: give the words of the scenes directions of their own.

A text encoder from nothing gives all names nearly the same embedding, and an image encoder from
nothing sees no shapes: neither has anything to learn from the other, and shapes stay unlearned for
thousands of steps. So the text encoder first learns, from the names alone, to put each name at the
sum of its words' directions, which are drawn at random.

Shapes: N classes, D embedding.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.curriculum import namings
from sed.text import PROMPTS, TextEncoder

LEARNING_RATE = 2e-3
WARMUP = 20


def word_sums(names: Sequence[str], dim: int, seed: int) -> Tensor:
    """Return the unit vector of the sum of each name's words, sums_ND.

    A word's direction depends on the word and the seed, not on the other names.
    """
    sums = []
    for name in names:
        directions = [word_direction(word, dim, seed) for word in name.split()]
        sums.append(np.sum(directions, axis=0))
    return F.normalize(torch.from_numpy(np.stack(sums)).float(), dim=-1)


def word_direction(word: str, dim: int, seed: int) -> np.ndarray:
    """Return the unit vector of one word."""
    direction = np.random.default_rng([seed, *word.encode()]).standard_normal(dim)
    return direction / np.linalg.norm(direction)


def spread_names(text_encoder: TextEncoder, *, steps: int, seed: int) -> float:
    """Train the text encoder to put every name of the training at the sum of its words.

    Returns:
        The mean cosine to these sums in the last step.
    """
    rng = np.random.default_rng([seed])
    groups = [(n.names, word_sums(n.names, text_encoder.dim, seed)) for n in namings()]
    optimizer = torch.optim.AdamW(text_encoder.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    cosine = torch.zeros(())
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1, (step + 1) / WARMUP) * (1 - step / steps)
        prompt = [int(rng.integers(len(PROMPTS[text_encoder.prompts])))]
        cosines = [
            (text_encoder(names, prompt)[:, 0] * sums_ND).sum(dim=-1).mean()
            for names, sums_ND in groups
        ]
        cosine = torch.stack(cosines).mean()
        optimizer.zero_grad()
        (1 - cosine).backward()
        optimizer.step()
    return cosine.item()
