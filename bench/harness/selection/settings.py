"""Settings of the selector whose cost and captured hardness are measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import hvs_data as hvs
from harness.pretraining.arms import Arm
from harness.pretraining.methods import Method

EXACT = "exact"
BF16 = torch.bfloat16


def _scored_at(candidates: int, sixteenths: int, **arguments: Any) -> Arm:
    """Candidates scored at so many sixteenths of their side."""
    return _set(candidates, lambda size: {"score_size": size * sixteenths // 16, **arguments})


def _set(candidates: int, arguments: Callable[[int], dict[str, Any]]) -> Arm:
    return Arm("", candidates, arguments)


def _with(candidates: int = 4, **arguments: Any) -> Arm:
    return Arm("", candidates, arguments)


def _early(words: str, layer: Callable[[Method], nn.Module], candidates: int = 4, **arguments: Any) -> Arm:
    """Scored by the features of a layer instead of the loss."""
    return Arm("", candidates, arguments, objective=lambda its: hvs.objectives.EarlyFeatures(its.objective(), layer(its)), scored_by=words)


def _teacher(candidates: int = 4, **arguments: Any) -> Arm:
    """DINO's teacher stands for the student while scoring."""

    def objective(method: Method) -> hvs.Objective:
        its = method.objective()
        its.scored_by = "teacher"  # type: ignore[attr-defined]
        return its

    return Arm("", candidates, arguments, objective=objective, scored_by="the teacher alone")


# Every method.
COMMON = {
    EXACT: _with(),
    "bf16": _with(autocast=BF16),
    "12/16 size": _scored_at(4, 12),
    "8/16 size": _scored_at(4, 8),
    "6/16 size": _scored_at(4, 6),
    "every 2": _with(every=2),
    "every 4": _with(every=4),
    "smallest IoU": _with(policy="smallest_iou"),
    "smallest IoU of 8": _with(8, policy="smallest_iou"),
    "8 views": _with(8),
    "8 views, 8/16 size": _scored_at(8, 8),
    "16 views, rows alone": _with(16, prefilter=2),
    "4 views, 3 scored": _with(4, prefilter=3),
    "8 views, 4 scored at 8/16 size": _scored_at(8, 8, prefilter=4),
    "16 views, 4 scored at 8/16 size": _scored_at(16, 8, prefilter=4),
    "balanced": _with(4, budget="balanced"),
    "balanced, 8 views": _with(8, budget="balanced"),
    "cheap": _with(4, budget="cheap"),
    "cheap, 8 views": _with(8, budget="cheap"),
    "cheap, 16 views": _with(16, budget="cheap"),
}

# Of every method; how far more candidates make up for what a network that trains on its own choices learns to see through.
MANY_VIEWS = {"balanced, 16 views": _with(16, budget="balanced"), "cheap, 32 views": _with(32, budget="cheap")}

# Of one method: networks differ in what they let through.
OF_METHOD: dict[str, dict[str, Arm]] = {
    "simsiam": {
        "stage 2's features": _early("features of stage 2", lambda its: its.encoder.layer2 if its.sizes.published else its.encoder[5]),
    },
    "simclr": {},
    "dino": {
        "block 3's features": _early("features of block 3", lambda its: its.model["student"][0].blocks[2]),
        "keep teacher": _with(keep_teacher=True),
        "half the tokens": _with(keep_tokens=0.5),
        "a quarter of the tokens": _with(keep_tokens=0.25),
        "the student's quarter, keep teacher": _with(keep_tokens=hvs.KeepTokens(0.25, teacher=False), keep_teacher=True),
        "the student's quarter, keep teacher, bf16": _with(
            keep_tokens=hvs.KeepTokens(0.25, teacher=False), keep_teacher=True, autocast=BF16
        ),
        "teacher alone": _teacher(),
        "teacher alone, keep teacher": _teacher(keep_teacher=True),
        "teacher alone, a quarter of the tokens": _teacher(keep_tokens=0.25),
        "teacher alone, a quarter of the tokens, bf16": _teacher(keep_tokens=0.25, autocast=BF16),
    },
    "dinov2": {"keep teacher": _with(keep_teacher=True)},
}  # fmt: skip


def settings(method: str) -> dict[str, Arm]:
    """By name; the exact one first."""
    return {**COMMON, **OF_METHOD[method]}
