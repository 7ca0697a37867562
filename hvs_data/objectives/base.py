"""What a selector asks of a method: embeddings of single views, and from them the loss of every pair."""

# Axes: N image of a forward, B image, V view, C channel, S side of a square view, D embedding.

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import MethodType
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from hvs_data.errors import SelectionError
from hvs_data.kernels.pair_scores.reference import cosine_table
from hvs_data.sharded import fsdp_modules

# A tensor, or a tuple, list or dict of outputs.
Outputs: TypeAlias = Any


class Objective:
    """The loss of a pair of views, split so that every view passes the model once.

    Subclass it and write :meth:`encode`, and :meth:`pair_losses` unless the loss is a negative cosine. There is no ``__init__``
    to call; keep the modules that ``encode`` uses in attributes, so that scoring can protect them.

    A selector calls both methods inside :func:`hvs_data.scoring`: without gradient, with dropout off, and with batch
    normalisation as the selector's ``bn`` says.

    Attributes:
        ordered: whether the loss of views (i, j) is another than that of (j, i), because the trainer treats its first view and its
            second differently, as MoCo does a query and a key. Then both orders of two views of one kind are legal pairs, and a
            chosen pair comes in the order of its larger loss. Views of two roles keep the order of their roles.
        extras: names of per-view tensors of the candidates' rows (:class:`hvs_data.ViewParams`, such as "mask" or "box") that
            ``encode`` takes as keyword arguments beside the pixels, with first axis N, on the pixels' device.
    """

    ordered: bool = False
    extras: tuple[str, ...] = ()

    def encode(self, pixels: Tensor) -> Outputs:
        """Run the model on single views.

        Args:
            pixels: [N, 3, S, S], views of several images and slots in one batch.

        Returns:
            A tensor, or a tuple, list or dict of tensors, each with first axis N.
        """
        raise SelectionError(f"{type(self).__name__} has no encode(pixels); write one that maps [N, 3, S, S] to a tensor with first axis N")

    def pair_losses(self, outputs: Outputs) -> Tensor:
        """The loss of every pair of an image's views.

        Args:
            outputs: what ``encode`` returned, with first axes [B, V] instead of N.

        Returns:
            float32 [B, V, V]; larger = harder, NaN = a pair that may not be chosen. Only legal pairs (for views of one kind,
            those with first < second, or with first != second if ``ordered``) are read. By default the negative cosine of the
            outputs, flattened to one vector a view; of several tensors, the mean of their negative cosines.
        """
        vectors = [_as_vectors(output) for output in output_tensors(outputs)]
        return -torch.stack([cosine_table(vectors_BVD, vectors_BVD) for vectors_BVD in vectors]).mean(0)

    def modules(self) -> list[nn.Module]:
        """The modules that scoring protects: every module in this object's attributes, each once.

        Looks into dicts, lists, tuples, sets, bound methods of modules and other objectives, and no further: override it where
        ``encode`` uses modules that are kept elsewhere. The model in an :class:`Owner` is listed if FSDP2 shards it.
        """
        return modules_in(vars(self))

    def around_forwards(self) -> AbstractContextManager[None]:
        """A context in which the selector makes all forwards of a step: for what ``encode`` needs in its modules, such as hooks."""
        return nullcontext()


class Owner:
    """The model whose parts an objective calls. Keep it in an attribute: parts of a model that FSDP2 shards need its root to run.

    Args:
        model: without its wrapper, see :func:`unwrapped`.
    """

    def __init__(self, model: Any):
        self.model = model

    def sharded(self) -> nn.Module | None:
        """The model if any of its modules is sharded by now, else None."""
        return self.model if isinstance(self.model, nn.Module) and fsdp_modules(self.model.modules()) else None


def unwrapped(model: Any) -> Any:
    """The model inside DistributedDataParallel and DataParallel wrappers, compiled ones too; everything else as it is.

    A forward through the wrapper would broadcast buffers, and the wrapper's attributes do not show the model's parts.
    """
    while True:
        wrapper = getattr(model, "_orig_mod", model)
        if not isinstance(wrapper, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
            return model
        model = wrapper.module


def modules_in(value: Any) -> list[nn.Module]:
    """The modules in a value, each once: itself, what is bound to it, or what dicts, lists, tuples, sets and objectives hold."""
    found: dict[int, nn.Module] = {}
    _collect_modules(value, found, set())
    return list(found.values())


def _as_vectors(output: Tensor) -> Tensor:
    """[B, V, ...] -> [B, V, D]."""
    return output.flatten(2) if output.ndim > 2 else output[..., None]


def _collect_modules(value: Any, found: dict[int, nn.Module], seen: set[int]) -> None:
    if isinstance(value, nn.Module):
        found.setdefault(id(value), value)
        return
    if isinstance(value, MethodType):
        return _collect_modules(value.__self__, found, seen)
    if isinstance(value, Owner):
        return _collect_modules(value.sharded(), found, seen)
    if isinstance(value, Objective):
        value = vars(value)
    if not isinstance(value, (Mapping, list, tuple, set, frozenset)) or id(value) in seen:
        return
    seen.add(id(value))
    for item in value.values() if isinstance(value, Mapping) else value:
        _collect_modules(item, found, seen)


def map_outputs(function: Callable[..., Any], *outputs: Outputs) -> Outputs:
    """Apply a function to the tensors of outputs, keeping their structure.

    Args:
        function: called with one tensor of each of the outputs.
        outputs: one or more outputs of the same structure.

    Raises:
        SelectionError: something else than tensors, tuples, lists and dicts.
    """
    first = outputs[0]
    if isinstance(first, Tensor):
        return function(*outputs)
    if isinstance(first, Mapping):
        return {key: map_outputs(function, *(output[key] for output in outputs)) for key in first}
    if not isinstance(first, (tuple, list)):
        raise SelectionError(f"expected encode to return a tensor, or a tuple, list or dict of tensors, got {type(first).__name__} in it")
    mapped = [map_outputs(function, *items) for items in zip(*outputs, strict=True)]
    if isinstance(first, list):
        return mapped
    return type(first)(*mapped) if hasattr(first, "_fields") else tuple(mapped)


def output_tensors(outputs: Outputs) -> Iterator[Tensor]:
    """The tensors of outputs, in order."""
    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(outputs, Mapping):
        for output in outputs.values():
            yield from output_tensors(output)
    elif isinstance(outputs, (tuple, list)):
        for output in outputs:
            yield from output_tensors(output)
