"""One training, which can be stopped and resumed at any step."""

# Axes: B image, P legal pair.

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

import hvs_data as hvs
from harness.pretraining import arms, methods
from harness.pretraining.strength import Strength
from hvs_data.sources.base import Source

PRECISIONS: dict[str, torch.dtype | None] = {"float32": None, "bfloat16": torch.bfloat16}
COLUMNS = ("loss", "selected_iou", "other_iou", "selected_loss", "mean_loss")
WARM_UP = 0.05  # share of the steps over which the learning rate rises
BINS = 40


@dataclass(frozen=True)
class Setup:
    """What all arms of a comparison have in common.

    Attributes:
        method: of ``methods.METHODS``.
        sizes: of views, network and batch.
        precision: in which networks run, in training and while scoring.
        device: of the networks.
        loader_threads: that read and render.
        strength: of the views, beside the method's.
    """

    method: str
    sizes: methods.Sizes
    precision: str = "float32"
    device: str = "cpu"
    loader_threads: int = 1
    strength: Strength = Strength()

    @property
    def dtype(self) -> torch.dtype | None:
        return PRECISIONS[self.precision]

    def casting(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.dtype is None else torch.autocast(torch.device(self.device).type, dtype=self.dtype)

    def as_json(self) -> dict[str, Any]:
        sizes = {name: float(value) for name, value in asdict(self.sizes).items()}
        return {"method": self.method, "precision": self.precision, "sizes": sizes, "views": self.strength.as_json()}


class Training:
    """A method, its optimizer, and the loader of an arm.

    Args:
        setup: of the comparison.
        arm: how the method is fed.
        source: images to train on.
        steps: how many there will be; the learning rate rises over a twentieth of them and falls to 0 along half a cosine.
        seed: of the weights, the order of images, their views, and what the selector draws.

    Attributes:
        step: steps that were made.
        columns: a number of each of ``COLUMNS`` a step; NaN where there is none.
        seconds: from asking for a batch to the end of its step, of all steps.
        curve: k-NN accuracy by step, where it was measured.
    """

    def __init__(self, setup: Setup, arm: arms.Arm, source: Source, steps: int, seed: int):
        self.setup = setup
        self.steps = steps
        self.method = methods.build(setup.method, setup.sizes, seed)
        self.method.model.to(setup.device)
        if arm.all_pairs is not None:
            assert isinstance(self.method, methods.SimCLR)
            self.method.pairs_temperature = arm.all_pairs
        self.optimizer = self.method.optimizer()
        recipe = setup.strength.of(arm.recipe(self.method))
        loader = hvs.ViewLoader(
            source,
            recipe,
            setup.sizes.batch,
            setup.device,
            seed,
            drop_last=True,
            num_threads=setup.loader_threads,
            channels_last=True,
        )
        self.loader = arms.feed(arm, loader, self.method, seed, setup.dtype, steps)
        self.step = 0
        self.seconds = 0.0
        self.columns: dict[str, list[float]] = {name: [] for name in COLUMNS}
        self.curve: dict[int, float] = {}

    def run(self) -> Iterator[int]:
        """Make the steps that are left; yields the number of steps made after each of them.

        Raises:
            HvsError: a loss that is not finite.
        """
        while self.step < self.steps:
            batches = iter(self.loader)
            while self.step < self.steps:
                start = time.perf_counter()
                batch = next(batches, None)
                if batch is None:
                    break
                loss = self.trained_on(batch)
                self.step += 1
                self.seconds += time.perf_counter() - start
                self._write_down(batch, loss)
                yield self.step

    def trained_on(self, batch: hvs.Batch) -> float:
        """Make a step with a batch, without counting it; its loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.setup.sizes.learning_rate * schedule(self.step, self.steps)
        with self.setup.casting():
            kept = None if batch.selection is None else batch.selection.teacher_outputs
            masks = {"masks": batch.masks} if self.method.masked else {}
            loss = self.method.loss(batch.views, kept, **masks)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.method.after_step()
        return loss.item()

    def _write_down(self, batch: hvs.Batch, loss: float) -> None:
        if not math.isfinite(loss):
            raise hvs.HvsError(f"expected a finite training loss, got {loss} in step {self.step}; lower the learning rate")
        for name, value in {"loss": loss, **pairs_of(batch)}.items():
            self.columns[name].append(value)

    # --- state ---------------------------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write a checkpoint, in place of an earlier one."""
        state = {
            "model": self.method.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "loader": self.loader.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "columns": self.columns,
            "curve": self.curve,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, path.with_suffix(".new"))
        os.replace(path.with_suffix(".new"), path)

    def load(self, path: Path, *, with_loader: bool = True) -> None:
        """Resume from a checkpoint; without its loader's state, the loader stays where it is."""
        state = torch.load(path, map_location=self.setup.device, weights_only=True)
        self.method.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if with_loader:
            self.loader.load_state_dict(state["loader"])
        self.step, self.seconds, self.columns, self.curve = state["step"], state["seconds"], state["columns"], state.get("curve", {})


def schedule(step: int, steps: int) -> float:
    """Share of the highest learning rate in a step counted from 0."""
    rising = max(1, round(WARM_UP * steps))
    if step < rising:
        return (step + 1) / rising
    return (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising))) / 2


def pairs_of(batch: hvs.Batch) -> dict[str, float]:
    """Mean overlap of the boxes of the pairs that are trained on and of the others, and losses where pairs were scored; else NaN."""
    iou_BVV = hvs.iou(batch.params)
    selection = batch.selection
    if selection is None:
        return {"selected_iou": iou_BVV[:, 0, 1].mean().item(), "other_iou": math.nan, "selected_loss": math.nan, "mean_loss": math.nan}
    assert selection.iou is not None
    legal = selection.legal.cpu()
    iou_BP = iou_BVV[:, legal]
    other_B = (iou_BP.sum(1) - selection.iou) / max(1, iou_BP.shape[1] - 1)
    losses_BP = selection.losses[:, selection.legal]
    return {
        "selected_iou": selection.iou.mean().item(),
        "other_iou": other_B.mean().item(),
        "selected_loss": selection.loss.nanmean().item(),
        "mean_loss": losses_BP.nanmean().item(),
    }


@dataclass(frozen=True)
class History:
    """A training's numbers, each the mean over a stretch of steps.

    Attributes:
        step: the last step of each stretch.
        columns: of ``COLUMNS``; None where a stretch holds no number.
    """

    step: list[int]
    columns: dict[str, list[float | None]] = field(default_factory=dict)

    @classmethod
    def of(cls, columns: dict[str, list[float]], bins: int = BINS) -> History:
        steps = len(columns["loss"])
        count = min(bins, steps)
        bounds = [steps * place // count for place in range(count + 1)]

        def mean(values: list[float]) -> float | None:
            finite = [value for value in values if math.isfinite(value)]
            return round(sum(finite) / len(finite), 5) if finite else None

        parts = list(zip(bounds[:-1], bounds[1:], strict=True))
        return cls(bounds[1:], {name: [mean(column[first:last]) for first, last in parts] for name, column in columns.items()})
