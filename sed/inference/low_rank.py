"""An approximation, off unless asked for: a vocabulary's prompts in a basis of fewer.

The prompts of a class differ little, and in the same way from class to class. With a basis of R
combinations of the P templates, the cosines, the first convolution and the cost guidance work on R
maps instead of P; their weights take the basis in. How far any cosine can move is known
beforehand, as the cosine of unit vectors moves by no more than one of them does.

Shapes: N classes, P prompts, R combinations of them, D embedding, C channels.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sed.inference.model import FastSED, text_side
from sed.model import SED


@dataclass(frozen=True)
class PromptBasis:
    """Combinations of the prompts that stand for all of them."""

    basis_PR: Tensor
    """Orthonormal columns."""

    error: float
    """The most that any cosine of the vocabulary moves."""

    @classmethod
    def of_rank(cls, text_NPD: Tensor, rank: int) -> "PromptBasis":
        """Return the basis of a number of combinations with the least squared error."""
        return cls.measured(text_NPD, directions(text_NPD)[:, :rank])

    @classmethod
    def within(cls, text_NPD: Tensor, error: float) -> "PromptBasis":
        """Return the smallest basis that moves no cosine by more than `error`.

        Raises:
            ValueError: The error is negative.
        """
        if error < 0:
            raise ValueError(f"the error of a cosine cannot be negative, got {error}")
        every_PP = directions(text_NPD)
        least, most = 1, every_PP.shape[1]
        while least < most:
            middle = (least + most) // 2
            if cls.measured(text_NPD, every_PP[:, :middle]).error <= error:
                most = middle
            else:
                least = middle + 1
        return cls.measured(text_NPD, every_PP[:, :most])

    @classmethod
    def measured(cls, text_NPD: Tensor, basis_PR: Tensor) -> "PromptBasis":
        """Return a basis and its error on a vocabulary."""
        unit_NPD = F.normalize(text_NPD, dim=-1)
        back_NPD = torch.einsum("pr,nrd->npd", basis_PR, project(unit_NPD, basis_PR))
        return cls(basis_PR, (unit_NPD - back_NPD).norm(dim=-1).max().item())


def directions(text_NPD: Tensor) -> Tensor:
    """Return the combinations of prompts, those that say most of the vocabulary first, basis_PP."""
    unit_NPD = F.normalize(text_NPD, dim=-1)
    gram_PP = sum(unit_PD.double() @ unit_PD.double().T for unit_PD in unit_NPD)
    assert isinstance(gram_PP, Tensor), "a vocabulary has classes"
    return torch.linalg.eigh(gram_PP).eigenvectors.flip(1).to(text_NPD.dtype)


def project(text_NPD: Tensor, basis_PR: Tensor) -> Tensor:
    """Return text in a basis, text_NRD; not of unit length."""
    return torch.einsum("pr,npd->nrd", basis_PR, text_NPD)


class LowRankSED(FastSED):
    """A model for inference whose prompts are the combinations of a basis."""

    unit_text = False

    def __init__(self, plain: SED, prompts: PromptBasis) -> None:
        super().__init__(take_in(plain, prompts.basis_PR))
        self.basis = prompts

    @torch.inference_mode()
    def embed_classes(self, classes: Sequence[str]) -> Tensor:
        """Return the text embeddings in the basis, text_NRD."""
        return self.project(super().embed_classes(classes))

    def project(self, text_NPD: Tensor) -> Tensor:
        """Return text of all prompts as this model takes it, text_NRD."""
        return project(F.normalize(text_NPD, dim=-1), self.basis.basis_PR.to(text_NPD))


def take_in(plain: SED, basis_PR: Tensor) -> SED:
    """Return the plain model for text in a basis; it shares the towers."""
    towers = (plain.image_encoder, *text_side(plain))
    model = copy.deepcopy(plain, {id(tower): tower for tower in towers})
    embed, guidance = model.cost_map.embed, model.decoder.cost_guidance[0]
    assert isinstance(guidance, nn.ConvTranspose2d), "the first of the cost guidance"
    basis = basis_PR.to(embed.weight)
    embed.weight = frozen(torch.einsum("cpyx,pr->cryx", embed.weight, basis))
    guidance.weight = frozen(torch.einsum("pgyx,pr->rgyx", guidance.weight, basis))
    embed.in_channels = guidance.in_channels = basis.shape[1]
    return model


def frozen(weight: Tensor) -> nn.Parameter:
    """Return a weight that does not learn."""
    return nn.Parameter(weight.detach().contiguous(), requires_grad=False)
