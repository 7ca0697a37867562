"""A comparison of arms: the method, sizes, images and epochs that they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from harness.data import images
from harness.measuring import results
from harness.pretraining import arms, methods, probes
from harness.pretraining.runs import UNTRAINED, Run
from harness.pretraining.strength import Strength
from harness.pretraining.training import Setup

SIZES = {
    "simclr": methods.Sizes(view=32, width=16, stem_stride=2, batch=128, learning_rate=0.2),
    "simsiam": methods.Sizes(view=32, width=16, stem_stride=2, batch=64, learning_rate=0.05),
    "byol": methods.Sizes(view=32, width=16, stem_stride=2, batch=128, learning_rate=0.1),
    "dino": methods.Sizes(view=32, width=8, batch=128, learning_rate=1e-3),
}
EPOCHS = dict.fromkeys(methods.METHODS, 8.0)


@dataclass(frozen=True)
class Comparison:
    """Arms that differ only in the views that they train on.

    Attributes:
        setup: shared by all arms.
        split: the images.
        data: a name for them.
        epochs: of the arms that are matched by epochs.
        arms: by name.
        transfer: other labelled images on which the features are probed, by name.
    """

    setup: Setup
    split: images.Split
    data: str
    epochs: float
    arms: dict[str, arms.Arm]
    transfer: dict[str, images.Split] = field(default_factory=dict)

    def under(self, strength: Strength) -> Comparison:
        """The same comparison with views of this strength."""
        return replace(self, setup=replace(self.setup, strength=strength))

    @property
    def steps(self) -> int:
        return max(1, round(self.epochs * (len(self.split.train) // self.setup.sizes.batch)))

    def as_json(self) -> dict[str, Any]:
        return {**self.setup.as_json(), "epochs": self.epochs, "data": self.data, "images": len(self.split.train)}

    def run(self, arm: str, match: str, seed: int) -> Run:
        view = self.setup.sizes.view
        return Run(self.as_json(), arm, "none" if arm == UNTRAINED else self.arms[arm].in_words(view), match, seed)

    def recipe_in_words(self) -> str:
        return self.setup.method + ("" if self.setup.sizes.published else " at the size of small images, without blur")

    def conditions(self, seeds: Sequence[int], repeats: int) -> dict[str, Any]:
        sizes = {name: value for name, value in self.setup.as_json()["sizes"].items() if value >= 1}
        return results.conditions(
            data={self.data: images.described([self.split.train, self.split.test])},
            sizes={**sizes, "trained_on": len(self.split.train), "held_out": len(self.split.test), "classes": self.split.classes},
            recipe=", ".join(filter(None, [self.recipe_in_words(), self.setup.strength.in_words()])),
            seeds=seeds,
            repeats=repeats,
            settings={
                "torch threads": str(torch.get_num_threads()),
                "loader threads": str(self.setup.loader_threads),
                "precision": self.setup.precision,
                "probes": f"{probes.NEIGHBOURS} nearest neighbours by cosine; logistic regression, C = {probes.INVERSE_PENALTY}",
            },
        )
