"""What a selector asks of a method: embeddings of single views, and from them the loss of every pair."""

# Axes: N image of a forward, B image, V view, C channel, S side of a square view, D embedding.

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from hvs_data.errors import SelectionError
from hvs_data.kernels.pair_scores.reference import cosine_table
from hvs_data.modules.reachable import methods_of, names_of_methods, reachable_modules
from hvs_data.modules.sharded import fsdp_modules

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
        local_weight: how much the loss of a local view beside a global one counts in an image's loss, a pair's being 1.
        extras: names of per-view tensors of the candidates' rows (:class:`hvs_data.ViewParams`, such as "mask" or "box") that
            ``encode`` takes as keyword arguments beside the pixels, with first axis N, on the pixels' device.
        takes_labels: whether ``pair_losses`` takes ``labels=``: what the source says of each image, int64 [B], -1 without a label; or what
            the loader's ``labels=`` makes of a batch, or the selector's caller passes, a tensor or a dict of tensors with first axis B.
            The hardest pair may then depend on what an image shows.
        has_teacher: whether the trainer has a teacher, or a momentum network, whose outputs of the chosen views it may reuse: those that
            :meth:`teacher_outputs` picks. Its modules are those behind the attribute ``teacher``.
        single_views: whether the loss is of each view by itself, so that a recipe may emit one: ``pair_losses(outputs)[b, i, i]`` is the
            loss of view i, and that of a pair the mean of both.
    """

    ordered: bool = False
    local_weight: float = 1.0
    extras: tuple[str, ...] = ()
    takes_labels: bool = False
    has_teacher: bool = False
    single_views: bool = False
    # Attributes that are read and not called in a forward: functions there show no modules of the model.
    _read_only: tuple[str, ...] = ()

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

    def set_losses(self, outputs: Outputs, sets_QK: Tensor) -> Tensor | None:
        """The loss of every set of more than two views, for methods in which it is not the mean over the pairs.

        Args:
            outputs: as for ``pair_losses``.
            sets_QK: int64 [Q, K], the views of every set, on the outputs' device.

        Returns:
            float32 [B, Q], larger = harder, NaN = a set that may not be chosen; None, the default, for the mean over the pairs.
        """
        return None

    def encode_local(self, pixels: Tensor) -> Outputs:
        """Run the model on local views, where a selector's ``score_locals`` asks for them: as :meth:`encode`, by default by it, and without
        extras."""
        if self.extras:
            raise SelectionError(
                f"{type(self).__name__} takes {', '.join(self.extras)} of global views and has no encode_local(pixels), which scores views "
                "of the role 'local'; write one"
            )
        return self.encode(pixels)

    def local_losses(self, outputs: Outputs, local: Outputs) -> Tensor:
        """The loss of every local view beside every global one of its image.

        Args:
            outputs: what ``encode`` returned for the global views, with first axes [B, G] instead of N.
            local: what ``encode_local`` returned, [B, L].

        Returns:
            float32 [B, G, L], larger = harder. By default the pair loss of the two; where pairs are ordered, the local view is the first.
        """
        views = next(output_tensors(outputs)).shape[1]
        losses_BVV = self.pair_losses(map_outputs(lambda *parts: torch.cat(parts, dim=1), outputs, local))
        return losses_BVV[:, views:, :views].transpose(1, 2) if self.ordered else losses_BVV[:, :views, views:]

    def teacher_outputs(self, outputs: Outputs) -> Outputs:
        """Those of ``encode``'s outputs that the trainer's teacher would give, which a selector's ``keep_teacher`` keeps: asked for where
        ``has_teacher``."""
        raise SelectionError(
            f"{type(self).__name__} has no teacher_outputs(outputs), which keep_teacher asks for; write one, such as return outputs[1]"
        )

    def momentum_outputs(self, outputs: Outputs) -> Outputs:
        """The outputs as they would be if the momentum network stood in the trained one's place, which
        :func:`hvs_data.objectives.reducible` needs. Arguments and result as ``pair_losses`` takes them."""
        raise SelectionError(
            f"{type(self).__name__} has no momentum_outputs(outputs); write one if the method has a momentum network, such as "
            "return outputs[1], outputs[1]"
        )

    def modules(self) -> list[nn.Module]:
        """The modules that scoring protects, each once: those in this object's attributes, and those that its methods name.

        Finds them behind dicts, lists, tuples, sets, other objectives, functions, ``functools.partial``, bound methods and objects
        that can be called (:mod:`hvs_data.modules.reachable` says how). The first scoring forward checks that it calls no others. Where it
        does, keep them in an attribute, or override this. The model in an :class:`Owner` is listed if FSDP2 shards it.
        """
        return reachable_modules(self._searched(), names_of_methods(type(self)))

    def _searched(self) -> list[Any]:
        """What a search for modules looks into."""
        attributes = [value for name, value in vars(self).items() if name not in self._read_only]
        return [*attributes, *methods_of(type(self))]

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

    def _searched(self) -> list[Any]:
        return [self.sharded()]

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


def _as_vectors(output: Tensor) -> Tensor:
    """[B, V, ...] -> [B, V, D]."""
    return output.flatten(2) if output.ndim > 2 else output[..., None]


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
