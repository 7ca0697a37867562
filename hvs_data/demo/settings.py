"""How the demo trains. Loads nothing heavy, for the command line reads its defaults."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        seconds: wall time of the training.
        max_steps: most steps; None for as many as the time allows.
        candidates: views drawn of each photo.
        size: side in pixels of the views that are trained on.
        score_size: side in pixels of the candidates while they are scored.
        published_colors: change colours as much as the published recipe does.
        batch_size: photos of a step.
        learning_rate: at the start; it falls to 0 along a cosine.
        momentum, weight_decay: of the SGD optimizer.
        seed: of the split, the model, the order of the photos and the views.
    """

    seconds: float = 180.0
    max_steps: int | None = None
    candidates: int = 4
    size: int = 64
    score_size: int = 32
    published_colors: bool = False
    batch_size: int = 64
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    seed: int = 0
