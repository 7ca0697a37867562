"""Teacher and student networks, and the centre of a teacher's outputs, as self-distillation methods keep them."""

# Axes: N image of a forward, K prototype.

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from torch import Tensor, nn

from hvs_data.arguments.values import type_name
from hvs_data.errors import SelectionError
from hvs_data.objectives.base import unwrapped
from hvs_data.objectives.outputs import one_embedding
from hvs_data.objectives.parts import describe

# A module or function, or several that are called one after the other, such as backbone and head.
Network: TypeAlias = Callable[..., Any] | Sequence[Callable[..., Any]]
# A tensor that changes in place, or a function that returns the current one.
Center: TypeAlias = Tensor | Callable[[], Tensor] | None


def checked_network(method: str, name: str, network: Any) -> tuple[Callable[..., Any], ...]:
    """The parts of a network, without their DistributedDataParallel wrappers."""
    parts = network if isinstance(network, (tuple, list, nn.ModuleList)) else (network,)
    if not len(parts) or not all(callable(part) for part in parts):
        raise SelectionError(
            f"expected {method}'s {name}= as a module, or as several that are called one after the other, such as (backbone, head), got "
            f"{describe(network)}"
        )
    return tuple(unwrapped(part) for part in parts)


def run(parts: Sequence[Callable[..., Any]], pixels: Tensor, **extras: Any) -> Any:
    """Pixels through a network's parts; extras go to the first one."""
    output = parts[0](pixels, **extras)
    for part in parts[1:]:
        if isinstance(output, Mapping):
            output = one_embedding("the network", "backbone", output)
        # pooled features often come with their unit axes
        if isinstance(output, Tensor) and output.ndim > 2 and set(output.shape[2:]) == {1}:
            output = output.flatten(1)
        output = part(output)
    return output


def checked_logits(method: str, network: str, output: Any, axes: str) -> Tensor:
    """A network's output, if it is logits with these axes, such as "[N, K]"."""
    if isinstance(output, Mapping):
        output = one_embedding(method, network, output)
    if not isinstance(output, Tensor) or output.ndim != axes.count(",") + 1 or not output.is_floating_point():
        raise SelectionError(f"expected {method}'s {network} to return logits, a floating tensor {axes}, got {describe(output)}")
    return output


def checked_center(method: str, name: str, center: Any) -> Center:
    """The centre, before it is read for the first time."""
    if center is None or isinstance(center, Tensor) or (callable(center) and not isinstance(center, nn.Module)):
        return center
    raise SelectionError(
        f"expected {method}'s {name}= as a tensor, a function that returns one, or None, got {type_name(center)}; a function, such as "
        "lambda: loss.center, also follows a centre that is replaced at each update"
    )


def current_center(method: str, name: str, center: Center, prototypes: int) -> Tensor | None:
    """The centre now: [K], of the values that it has at this moment."""
    value = center if center is None or isinstance(center, Tensor) else center()
    if value is None:
        return None
    if not isinstance(value, Tensor) or value.numel() != prototypes:
        raise SelectionError(
            f"expected {method}'s {name} to hold one number for each of the {prototypes} outputs of the teacher, got {describe(value)}"
        )
    return value.detach().reshape(-1)
