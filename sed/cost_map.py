"""The cost map: how well each image location matches each class.

Shapes: B images, N classes, M (image, class) pairs, P prompts per class, D embedding, C channels,
H W cells of stride 32.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class CostMap(nn.Module):
    """Compare every location with every class, then embed the scores."""

    def __init__(self, *, num_prompts: int, hidden_dim: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(num_prompts, hidden_dim, kernel_size=7, padding=3)

    def forward(self, scores_MPHW: Tensor) -> Tensor:
        """Return the embedded cost map of each pair, cost_MCHW."""
        return self.embed(scores_MPHW)


def cosine_scores(embedding_BDHW: Tensor, text_NPD: Tensor) -> Tensor:
    """Return the cosine between each location and each prompt, scores_BNPHW in [-1, 1].

    Plain cosines: the temperature of CLIP plays no part (section 4 of the specification).
    """
    image_BDHW = F.normalize(embedding_BDHW, dim=1)
    text_NPD = F.normalize(text_NPD, dim=-1)
    scores_BSL = text_NPD.flatten(0, 1) @ image_BDHW.flatten(2)
    return scores_BSL.unflatten(1, text_NPD.shape[:2]).unflatten(-1, image_BDHW.shape[2:])
