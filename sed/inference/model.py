"""SED for inference: the same function of the same weights, in fewer and larger steps.

Shapes: B images, N classes, M (image, class) pairs, P prompts, D embedding, H W cells.
"""

import copy
from typing import Any, Never

import torch
from torch import Tensor, nn
from torch.autograd.profiler import record_function

from sed.decoder import Pairs
from sed.embeddings import EmbeddingCache
from sed.features import Essence, Features
from sed.inference.cost_map import Comparison, FirstHead
from sed.inference.decoder import FastDecoder, no_logits
from sed.inference.encoder import FastImageEncoder
from sed.inference.precision import compute_in
from sed.inference.text import FastTextEncoder
from sed.model import SED
from sed.rejection import Rejection

NO_TRAINING = "a model for inference does not learn: load it without optimize=True"


class FastSED(SED):
    """A model that was derived from a plain one: it does not learn, and is not saved."""

    unit_text = True
    """Whether text is of unit vectors, made so again as the plain form does."""

    def __init__(self, plain: SED, dtype: torch.dtype = torch.float32) -> None:
        """Derive the form for inference; the plain model stays as it is.

        Args:
            plain: Where the weights come from; most are shared with it.
            dtype: bfloat16 computes with half the digits; see `sed.inference.precision`.
        """
        nn.Module.__init__(self)
        if dtype != torch.float32:
            plain = copy.deepcopy(plain, {id(part): part for part in text_side(plain)})
        self.config, self.digest = plain.config, plain.digest
        self.mixed_precision = plain.mixed_precision
        self.image_encoder: Any = FastImageEncoder(plain.image_encoder)
        self.text_encoder = FastTextEncoder(plain.text_encoder)
        self.embeddings = EmbeddingCache(self.text_encoder)
        self.cost_map = plain.cost_map
        self.decoder: Any = FastDecoder(plain.decoder, plain.cost_map.embed)
        first_head: Any = plain.decoder.heads[0]
        self.first_head = FirstHead(plain.cost_map.embed, first_head)
        self.training = False
        if dtype != torch.float32:
            compute_in(self.image_encoder, dtype)
            compute_in(self.decoder, dtype)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.first_head.weight.device

    def decode_pairs(
        self, essence: Essence, text_NPD: Tensor, pairs: Pairs, rejection: Rejection
    ) -> tuple[Tensor, Pairs]:
        """Return logits_MHW of the pairs that survive the rejection, and these pairs."""
        with record_function("sed: cost map"):
            comparison = Comparison(essence.embedding_BDHW, text_NPD, unit_text=self.unit_text)
        if rejection.acts_at(0):
            with record_function("sed: rejection"):
                logits_MHW = comparison.each(pairs, self.first_head)
                keeps = [rejection.keep(one, 0) for one in logits_MHW.split(pairs.counts)]
                pairs, _ = pairs.select(keeps)
            if not len(pairs.class_M):
                return no_logits(essence.guidance), pairs
        with record_function("sed: cost map"):
            scores_MHWP = comparison.scores(pairs)
        return self.decoder(scores_MHWP, essence.guidance, pairs, rejection)

    def levels(self, features: Features, text_NPD: Tensor, pairs: Pairs) -> Never:
        """Refuse: the losses need the plain form.

        Raises:
            RuntimeError: Always.
        """
        raise RuntimeError(NO_TRAINING)

    def train(self, mode: bool = True) -> "FastSED":
        """Stay in eval mode.

        Raises:
            RuntimeError: Training is asked for.
        """
        if mode:
            raise RuntimeError(NO_TRAINING)
        return self

    def state_dict(self, *_: object, **__: object) -> Never:
        """Refuse: merged weights are nobody's checkpoint.

        Raises:
            RuntimeError: Always.
        """
        raise RuntimeError("a model for inference is not saved: load it without optimize=True")


def text_side(plain: SED) -> tuple[object, object]:
    """Return the parts of a model that no precision changes."""
    return plain.text_encoder, plain.embeddings
