"""Policies that say what a model shows them."""

import torch


class Watched:
    """Do as another policy does, and note what it sees and keeps at each level, image by image."""

    def __init__(self, policy=None):
        """Watch a policy; None keeps every class at every level."""
        self.policy, self.logits, self.kept = policy, [[], [], []], [[], [], []]

    def acts_at(self, level):
        return self.policy is None or self.policy.acts_at(level)

    def keep(self, logits_NHW, level):
        every_N = torch.ones(len(logits_NHW), dtype=torch.bool)
        keep_N = every_N if self.policy is None else self.policy.keep(logits_NHW, level)
        self.logits[level].append(logits_NHW.clone())
        self.kept[level].append(keep_N)
        return keep_N

    def classes(self, level):
        """Return the classes of the first image that are left after a level."""
        class_N = torch.arange(len(self.kept[0][0]))
        for kept in self.kept[: level + 1]:
            class_N = class_N[kept[0]]
        return class_N.tolist()


class Survivors:
    """Keep the first few classes of each image at one level, as many as it is told in turn."""

    def __init__(self, counts, level):
        self.counts, self.level = iter(counts), level

    def acts_at(self, level):
        return level == self.level

    def keep(self, logits_NHW, level):
        return torch.arange(len(logits_NHW)) < next(self.counts)
