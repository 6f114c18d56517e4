"""The text encoder's first lesson: names are sums of words."""

import torch

from pipelines import scenes
from pipelines.warmup import spread_names, word_sums
from sed.config import nano
from sed.model import SED


def test_names_with_a_common_word_are_closer():
    ball, box, other = word_sums(["red ball", "red box", "blue tree"], 128, 0)
    assert ball @ box > ball @ other + 0.2
    torch.testing.assert_close(ball.norm(), torch.tensor(1.0))


def test_names_spread_and_unseen_names_land_near_their_words():
    torch.manual_seed(0)
    text_encoder = SED(nano()).text_encoder
    unseen = [scenes.vocabulary()[index] for index in scenes.unseen_classes()]
    sums_ND = word_sums(unseen, 128, 0)

    def closeness():
        with torch.no_grad():
            vectors_ND = torch.nn.functional.normalize(text_encoder(unseen).mean(dim=1), dim=-1)
        return (vectors_ND @ sums_ND.T).diagonal().mean().item()

    assert closeness() < 0.3
    assert spread_names(text_encoder, steps=100, seed=0) > 0.7
    assert closeness() > 0.5
