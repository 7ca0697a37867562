"""A cheap score for any method: how far apart two views are in an early layer of the encoder, at the cost of the layers up to it."""

# Axes: N image of a forward, B image, T global view, L local view or token, C channel, S student's view, D feature.

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hvs_data.arguments.values import type_name
from hvs_data.errors import SelectionError
from hvs_data.kernels.pair_scores.reference import cosine_table
from hvs_data.modules.reachable import reachable_modules
from hvs_data.objectives.additive import AdditiveObjective
from hvs_data.objectives.base import Objective, Owner, unwrapped
from hvs_data.objectives.dino import number_of_terms
from hvs_data.objectives.hooks import refuse_compiled
from hvs_data.objectives.parts import describe


class EarlyFeatures(AdditiveObjective):
    """Scores views i and j by ``-cos(f_i - m, f_j - m)``: f are the pooled features of a layer, m is their mean over all candidates.

    The encoder runs up to that layer and no further. Maps [N, C, H, W] are averaged over their places, tokens [N, L, D] over all
    tokens. The centre m takes out what all features share; without it, cosines of features that are positive crowd near 1.

    It stands in for a method's own loss: ``selection.losses`` are these scores, from -1 to 1, and not the trainer's. Of global and
    local candidates it takes the mean over the pairs of views that DINO compares.

    Args:
        source: a model that is called as ``model(pixels)``, or the method's objective, whose ``encode`` is called; of an additive one,
            such as DINO, ``encode_local``, and so the student alone.
        layer: the layer's name in one of the modules, such as "layer2" or "blocks.3" (``backbone.blocks.3`` where that is its name),
            or the module itself. Of several layers of this name, the first that runs counts.
        center: whether m is taken off. With ``chunk=``, local and global views are then centred part by part.

    Raises:
        SelectionError: a source of another kind, or no layer of this name; while scoring, a forward that does not come to the layer, or
            features of another shape.
    """

    any_globals = True
    has_teacher = False

    def __init__(self, source: nn.Module | Objective, layer: str | nn.Module, *, center: bool = True):
        if not isinstance(source, (nn.Module, Objective)):
            raise SelectionError(f"EarlyFeatures takes a model or an objective, got {type_name(source)}; pass the trainer's model")
        self.source = unwrapped(source)
        self.owner = Owner(self.source)
        self.extras = source.extras if isinstance(source, Objective) and not isinstance(source, AdditiveObjective) else ()
        self.layer = layer
        self.center = center
        self._hooked = False
        self._reached: list[Any] = []
        self._layers()  # a name that is nowhere is refused here

    def encode(self, pixels: Tensor, **extras: Any) -> tuple[Tensor, Tensor]:
        """[N, 3, S, S] -> features [N, D], for teacher and student alike."""
        features = self._features(pixels, **extras)
        return features, features

    def encode_local(self, pixels: Tensor) -> Tensor:
        """[N, 3, S, S] -> features [N, D]."""
        return self._features(pixels)

    def term_table(self, teacher: Tensor, student: Tensor, local: Tensor | None, views: int, global_views: int = 2) -> Tensor:
        """Features [B, T, D] twice and [B, L, D] -> float32 [B, T, T + L]: each term over the number of terms."""
        features_BSD = (student if local is None else torch.cat([student, local], dim=1)).to(torch.float32)
        if self.center:
            features_BSD = features_BSD - features_BSD.mean((0, 1), keepdim=True)
        table_BTS = -cosine_table(features_BSD[:, : teacher.shape[1]], features_BSD)
        same_TS = torch.eye(*table_BTS.shape[1:], dtype=torch.bool, device=table_BTS.device)
        return table_BTS.masked_fill(same_TS, 0) / number_of_terms(views, global_views)

    def modules(self) -> list[nn.Module]:
        """Those of the source; a layer is part of one."""
        return reachable_modules([self.source, self.owner])

    @contextmanager
    def around_forwards(self) -> Iterator[None]:
        """Hooks on the layers, which end a forward; they go with the context."""
        with ExitStack() as stack:
            for layer in self._layers():
                stack.callback(layer.register_forward_hook(self._stop).remove)
            self._hooked = True
            try:
                yield
            finally:
                self._hooked = False
                self._reached.clear()

    def _stop(self, layer: nn.Module, args: Any, output: Any) -> None:
        self._reached.append(output)
        raise _Reached

    def _features(self, pixels: Tensor, **extras: Any) -> Tensor:
        if not self._hooked:
            with self.around_forwards():
                return self._features(pixels, **extras)
        if not torch.compiler.is_compiling():  # by the selector, whose graph holds the hooks
            refuse_compiled(self.modules(), self._layers(), "EarlyFeatures")
        try:
            self._forward()(pixels, **extras)
        except _Reached:
            return _pooled(self._reached.pop())
        raise SelectionError(
            f"expected the forward of {type_name(self.source)} to come to the layer {self._named()}, got one that does not call it as a "
            "module; name a layer that is called"
        )

    def _forward(self) -> Callable[[Tensor], Any]:
        if isinstance(self.source, AdditiveObjective):
            return self.source.encode_local
        return self.source.encode if isinstance(self.source, Objective) else self.source

    def _named(self) -> str:
        return repr(self.layer) if isinstance(self.layer, str) else type_name(self.layer)

    def _layers(self) -> list[nn.Module]:
        if isinstance(self.layer, nn.Module):
            return [self.layer]
        roots = self.source.modules() if isinstance(self.source, Objective) else [self.source]
        roots = [unwrapped(root) for root in roots]
        named: dict[str, list[nn.Module]] = {}
        for root in roots:
            for name, module in root.named_modules():
                named.setdefault(name, []).append(module)
        if not self.layer or self.layer not in named:
            outer = [name for name in named if name and name.count(".") < 2]
            raise SelectionError(
                f"expected layer= as the name of a layer in {', '.join(type_name(root) for root in roots)}, got {self.layer!r}; there are "
                f"{', '.join(outer[:24])}{', ...' if len(outer) > 24 else ''}"
            )
        return list({id(module): module for module in named[self.layer]}.values())


class _Reached(Exception):  # noqa: N818, it tells of no error
    """Ends a forward at the layer; caught right where the forward was called."""


def _pooled(output: Any) -> Tensor:
    """[N, C, H, W], [N, L, D] or [N, D] -> [N, D]."""
    features = output[0] if isinstance(output, (tuple, list)) and output else output
    if not isinstance(features, Tensor) or features.ndim not in (2, 3, 4) or not features.is_floating_point():
        raise SelectionError(f"expected the layer's features as maps [N, C, H, W], tokens [N, L, D] or [N, D], got {describe(output)}")
    if features.ndim == 2:
        return features
    return features.mean((2, 3)) if features.ndim == 4 else features.mean(1)
