"""The arms that are compared: which views a training gets, and how they are chosen."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

import hvs_data as hvs
from harness.pretraining import methods
from harness.pretraining.jointcrop import JointCropLoader
from hvs_data.demo.timing import TimedSelector
from hvs_data.policies import Anchored, Feasible, Mixed, Random, TemperedRank
from hvs_data.recipes.spec import Recipe
from hvs_data.selection.budgets import BUDGETS

CANDIDATES = 4
# so high that all pairs are drawn with the same probability
EVERY_PAIR_ALIKE = 1e9


# three views an image: the pair, of which the first shows most, and another one
TOWARDS = {"extra_views": 1}


@dataclass(frozen=True)
class Arm:
    """One way to feed a trainer.

    Attributes:
        about: in words.
        candidates: views drawn of an image.
        selector: arguments of HardViewSelector; None trains on the views as they are drawn. A function makes them from the side of a view.
        shared: what the candidates share of their draws (:meth:`hvs_data.recipes.Recipe.with_shared`); None for nothing.
        joint: crop areas of the two views are drawn together (JointCrop).
        all_pairs: trains on all pairs of the candidates, each weighed within its image by a softmax of the losses at this temperature
            (infinite: all alike); None trains on two views, or three.
        objective: what scores the candidates, made from the method; None for the method's own loss.
        scored_by: the same in words.
    """

    about: str
    candidates: int = CANDIDATES
    selector: Mapping[str, Any] | Callable[[int], Mapping[str, Any]] | None = field(default_factory=dict)
    shared: str | None = None
    joint: bool = False
    all_pairs: float | None = None
    objective: Callable[[methods.Method], hvs.Objective] | None = None
    scored_by: str = ""

    @property
    def third(self) -> bool:
        """Whether the trainer gets three views."""
        return isinstance(self.selector, Mapping) and bool(self.selector.get("extra_views"))

    def arguments(self, size: int) -> dict[str, Any]:
        """Of HardViewSelector, for views of this side."""
        assert self.selector is not None
        return dict(self.selector(size) if callable(self.selector) else self.selector)

    def in_words(self, size: int) -> str:
        """How views are chosen, for a result: what two runs must share to be runs of the same thing."""
        if self.all_pairs is not None:
            return f"all pairs of {self.candidates} candidates, temperature {self.all_pairs:g}"
        if self.selector is None:
            return "joint crop areas" if self.joint else "none"
        arguments = self.arguments(size)
        # a budget's numbers may change from one version to the next
        arguments |= BUDGETS[arguments["budget"]] if "budget" in arguments else {}
        given = ", ".join(f"{name}={value!r}" for name, value in sorted(arguments.items()))
        shared = "" if self.shared is None else f"one {self.shared} for each side of a pair"
        return ", ".join(filter(None, [f"{self.candidates} candidates", shared, self.scored_by, given]))

    def recipe(self, method: methods.Method) -> Recipe:
        """Of the candidates."""
        recipe = method.recipe(self.candidates)
        return recipe if self.shared is None else recipe.with_shared(self.shared)


ARMS = {
    "vanilla": Arm("two random views", candidates=2, selector=None),
    "random": Arm(
        "two of four at random, after scoring all", selector={"policy": "softmax", "temperature": EVERY_PAIR_ALIKE}
    ),
    "smallest-iou": Arm("the two of four whose boxes overlap least", selector={"policy": "smallest_iou"}),
    "jointcrop": Arm("two views whose areas are drawn together (JointCrop)", candidates=2, selector=None, joint=True),
    "hardest": Arm("the hardest two of four, scored exactly"),
    "half-size": Arm("the hardest two of four, scored at half the size", selector=lambda size: {"score_size": size // 2}),
    "balanced-8": Arm("the hardest two of eight, budget balanced", candidates=8, selector={"budget": "balanced"}),
    "cheap-16": Arm("the hardest two of sixteen at the cheapest setting, budget cheap", candidates=16, selector={"budget": "cheap"}),
    "easiest": Arm("the easiest two of four, scored exactly", selector={"policy": "easiest"}),
    "warmed-up": Arm("random for a quarter of the run, then the hardest two of four", selector={"warmup": 0.25}),
    "tempered": Arm("two of four by rank, at random for a quarter of the run and then harder", selector={"policy": TemperedRank()}),
    "tempered-8": Arm("the same of eight", candidates=8, selector={"policy": TemperedRank()}),
    "mixed": Arm("the hardest two of four for half of the images, random ones for the others", selector={"policy": Mixed(0.5)}),
    "feasible": Arm("the hardest two of four that overlap by .2", selector={"policy": Feasible(min_iou=0.2)}),
    "third-random": Arm(
        "the view that shows most with a random one, and a random one towards it", selector=TOWARDS | {"policy": Anchored(Random())}
    ),
    "third-hard": Arm(
        "the view that shows most with a random one, and the hardest of four towards it", selector=TOWARDS | {"policy": Anchored()}
    ),
    "all-pairs": Arm("all pairs of four views", selector=None, all_pairs=math.inf),
    "soft-pairs": Arm("all pairs of four views, the harder ones with more weight", selector=None, all_pairs=0.5),
    "hard-crops": Arm("the hardest crops of four, of two colours an image", shared="color"),
    "hard-colors": Arm("the hardest colours of four, of two crops an image", shared="crop"),
}  # fmt: skip


def arms_of(method: str) -> dict[str, Arm]:
    """The arms that a method can be trained in. JointCrop draws the boxes of two views of one kind, a third view takes a loss that has
    directions, and all pairs take a method that says what each costs."""

    def fits(arm: Arm) -> bool:
        return (
            not (arm.joint and method == "dino") and (not arm.third or method == "byol") and (arm.all_pairs is None or method == "simclr")
        )

    return {name: arm for name, arm in ARMS.items() if fits(arm)}


def feed(
    arm: Arm, loader: hvs.ViewLoader, method: methods.Method, seed: int, precision: torch.dtype | None = None, steps: int | None = None
) -> Any:
    """The loader that an arm trains from, with ``state_dict`` and ``load_state_dict``.

    Args:
        arm: what to do.
        loader: of the arm's candidates.
        method: in training.
        seed: of what the selector draws.
        precision: in which the training casts automatically, and so the scoring, too; None if it does not.
        steps: of the whole training, for arms that change over it.
    """
    if arm.joint:
        return JointCropLoader(loader, seed)
    if arm.selector is None:
        return loader
    size = max(role.size for role in loader.recipe.roles)
    objective = method.objective() if arm.objective is None else arm.objective(method)
    options = {"seed": seed, "autocast": precision, "total_steps": steps, **arm.arguments(size)}
    return hvs.HardViewLoader(loader, TimedSelector(objective, **options))
