"""Scoring in the precision in which a Lightning trainer trains."""

# Axes: N image of a forward, S side of a square view.

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hvs_data.errors import HvsError
from hvs_data.kernels.render.canvas import DTYPES
from hvs_data.objectives.base import Objective, Outputs
from hvs_data.selection.selector import HardViewSelector

# Strategies that keep parameters where a forward of single parts cannot gather them.
_REFUSED = {
    "FSDPStrategy": "take ModelParallelStrategy, which shards by FSDP2",
    "DeepSpeedStrategy": "take DDPStrategy, or ModelParallelStrategy, which shards by FSDP2",
}
_MIXED = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def check_strategy(trainer: Any) -> None:
    """Raises HvsError for a trainer under whose strategy nothing can be scored."""
    names = [kind.__name__ for kind in type(trainer.strategy).__mro__]
    for name, remedy in _REFUSED.items():
        if name in names:
            raise HvsError(
                f"expected a strategy under which the parts of a model can be called on their own, got {type(trainer.strategy).__name__}, "
                f"whose parameters scoring cannot gather; {remedy}"
            )


def views_dtype(plugin: Any) -> torch.dtype:
    """In which type to render views for a precision plugin: the one to which it converts them, if views are rendered in it."""
    converted = plugin.convert_input(torch.empty(0, dtype=torch.float32)).dtype
    return converted if converted in DTYPES else torch.float32


def autocast_of(plugin: Any) -> torch.dtype | None:
    """To which type the trainer's forwards cast automatically, under mixed precision; else None."""
    return _MIXED.get(plugin.precision)


def in_precision(objective: Objective, plugin: Any) -> Objective:
    """An objective that runs its model as the trainer's forwards do, which begin after a batch was fetched.

    It enters the plugin's context, of a default type say, and lets the plugin convert pixels. Under full and mixed precision it is the
    objective itself.
    """
    if plugin.precision in ("32-true", *_MIXED):
        return objective
    kind = type(objective)
    made = type(kind.__name__, (_InPrecision, kind), {"_plugin": plugin})
    twin: Any = object.__new__(made)
    # one dictionary for both: what is set later on the objective given is set here too
    twin.__dict__ = objective.__dict__
    return twin


def check_precision(selector: HardViewSelector, plugin: Any) -> None:
    """Raises HvsError for a selector that was not made for the plugin and cannot be set to score as the trainer's forwards run.

    Under mixed precision, a selector without ``autocast`` of its own is given the trainer's.
    """
    if selector.autocast is None:
        selector.autocast = autocast_of(plugin)
    if plugin.precision not in ("32-true", *_MIXED) and not isinstance(selector.objective, _InPrecision):
        raise HvsError(
            f"expected a loader that scores in the trainer's precision {plugin.precision!r}, got one that was made without the trainer; "
            "pass a HardViewDataModule to trainer.fit"
        )


class _InPrecision:
    """Comes before an objective's class, and runs its model as a precision plugin runs the trainer's.

    The plugin is an attribute of the class, which is made for one objective.
    """

    _plugin: Any

    def encode(self, pixels: Tensor, **extras: Tensor) -> Outputs:
        """As the objective's: [N, 3, S, S] of any floating type -> outputs with first axis N."""
        with self._plugin.forward_context():
            return super().encode(self._plugin.convert_input(pixels), **extras)  # type: ignore[misc]

    def encode_local(self, pixels: Tensor) -> Outputs:
        """As the objective's, where it is additive."""
        with self._plugin.forward_context():
            return super().encode_local(self._plugin.convert_input(pixels))  # type: ignore[misc]
