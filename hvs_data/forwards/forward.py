"""The forwards that score candidates: each view passes each network once, all views of one size together."""

# Axes: N image of a forward, B image, V view, T global view, L local view, S student's view (global, then local).

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hvs_data.arguments.sizes import Size
from hvs_data.errors import SelectionError
from hvs_data.forwards.encoding import Encoding
from hvs_data.forwards.groups import Group, scaled_down
from hvs_data.forwards.spread import OutputSpread
from hvs_data.objectives.additive import AdditiveObjective
from hvs_data.objectives.base import Objective, Outputs, map_outputs, output_tensors
from hvs_data.types.rows import ViewParams

BN_MODES = ("fused", "per_view", "running")


@dataclass(frozen=True)
class Forward:
    """How forwards are made.

    Attributes:
        bn: one of BN_MODES.
        chunk: the most images in one forward; None for no bound.
        sizes: size in pixels at which each group is scored; None as they come.
        params: the candidates' rows, of which objectives may want extras.
        encoding: what is called in place of the objective's own ``encode`` and ``encode_local``; None for those.
        prepare: what the trainer's step does to views before the model; None for nothing.
        spread: takes note of the outputs of global views; None for nothing.
    """

    bn: str
    chunk: int | None
    sizes: tuple[Size | None, ...]
    params: ViewParams | None
    encoding: Encoding | None = None
    prepare: Callable[[Tensor], Tensor] | None = None
    spread: OutputSpread | None = None

    def pair_losses(
        self,
        objective: Objective,
        group: Group,
        local: Group | None = None,
        sets_QK: Tensor | None = None,
        labels: Any = None,
        keep_teacher: bool = False,
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Outputs]:
        """An objective's pair losses [B, V, V] of candidates of one size, those of local candidates beside them [B, V, L], those of
        sets of views [B, Q] where they are asked for and the objective has them, and what the teacher gave if it is kept."""
        images, views = group.views[0].shape[0], len(group.views)
        encoding, all_images = self.encoding or Encoding(objective), slice(0, images)
        outputs = self._outputs(objective, encoding.encode, group, all_images, self.sizes[0], objective.extras)
        self._note(outputs)
        more = {"labels": _labels(objective, labels)} if objective.takes_labels else {}
        pair_losses: Callable[..., Tensor] = objective.pair_losses
        losses = pair_losses(outputs, **more)
        _check_table("pair_losses", losses, (images, views, views))
        kept = objective.teacher_outputs(outputs) if keep_teacher else None
        if local is None:
            return losses, None, None if sets_QK is None else objective.set_losses(outputs, sets_QK), kept
        local_outputs = self._outputs(objective, encoding.encode_local, local, all_images, self.sizes[1], ())
        of_local: Callable[..., Tensor] = objective.local_losses
        local_losses = of_local(outputs, local_outputs, **more)
        _check_table("local_losses", local_losses, (images, views, len(local.views)))
        return losses, local_losses, None, kept

    def term_table(
        self, objective: AdditiveObjective, groups: list[Group], views: int, global_views: int, keep_teacher: bool
    ) -> tuple[Tensor, Outputs]:
        """An objective's terms [B, T, S] of global and local candidates, and what the teacher gave for the global ones if it is kept.

        With ``chunk``, images go one part after the other, from the pixels to the table, so that the logits of one part exist at a time.
        """
        images = groups[0].views[0].shape[0]
        most = images if self.chunk is None else max(1, self.chunk // max(len(group.views) for group in groups))
        encoding = self.encoding or Encoding(objective)
        tables, teachers = [], []
        for part in _parts(images, most):
            teacher, student = self._outputs(objective, encoding.encode, groups[0], part, self.sizes[0], objective.extras)
            self._note((teacher, student))
            local = None
            if len(groups) > 1:
                local = self._outputs(objective, encoding.encode_local, groups[1], part, self.sizes[1], ())
            # objectives that know of two global views alone have no such argument
            more = {} if global_views == 2 else {"global_views": global_views}
            terms: Callable[..., Tensor] = objective.term_table
            table = terms(teacher, student, local, views, **more)
            _check_table("term_table", table, (part.stop - part.start, len(groups[0].views), sum(len(group.views) for group in groups)))
            tables.append(table)
            if keep_teacher:
                teachers.append(teacher)
        kept = map_outputs(lambda *pieces: torch.cat(pieces), *teachers) if keep_teacher else None
        return torch.cat(tables), kept

    def _outputs(
        self,
        objective: Objective,
        encode: Callable[..., Outputs],
        group: Group,
        part: slice,
        size: Size | None,
        extras: tuple[str, ...],
    ) -> Outputs:
        """What ``encode`` gives for some images' views of a group, with first axes [B, V]."""
        pixels = group.images(part)
        given = {name: _extra(objective, name, self.params, group, part, pixels.device) for name in extras}
        return forward(encode, self._prepared(scaled_down(pixels, size)), given, len(group.views), self.bn, self.chunk)

    def _note(self, outputs: Outputs) -> None:
        if self.spread is not None:
            self.spread.note(outputs)

    def _prepared(self, pixels: Tensor) -> Tensor:
        if self.prepare is None:
            return pixels
        prepared = self.prepare(pixels)
        if not isinstance(prepared, Tensor) or not prepared.is_floating_point() or prepared.shape[:1] != pixels.shape[:1]:
            arrived = f"{prepared.dtype} {list(prepared.shape)}" if isinstance(prepared, Tensor) else type(prepared).__name__
            raise SelectionError(
                f"expected prepare to return a floating tensor of the {len(pixels)} views that it was given, {pixels.dtype} "
                f"{list(pixels.shape)}, got {arrived}; pass what the trainer's step does to its views before the model"
            )
        return prepared


def _labels(objective: Objective, labels: Any) -> Any:
    if labels is None:
        raise SelectionError(
            f"{type(objective).__name__} takes the images' labels, got none; a loader passes its source's, or what its labels= makes of a "
            "batch, a call is selector(candidates, params, labels=labels)"
        )
    return labels


def forward(
    encode: Callable[..., Outputs], pixels: Tensor, extras: Mapping[str, Tensor], views: int, bn: str, chunk: int | None
) -> Outputs:
    """[V * B, 3, S, S] and extras [V * B, ...] -> outputs with first axes [B, V]."""

    def pieces(tensor: Tensor) -> list[Tensor]:
        parts = tensor.chunk(views) if bn == "per_view" else (tensor,)
        return [part if chunk is None else part[piece] for part in parts for piece in _parts(len(part), chunk or len(part))]

    split = {name: pieces(extra) for name, extra in extras.items()}
    outputs = [
        _checked_outputs(encode(piece, **{name: parts[number] for name, parts in split.items()}), len(piece))
        for number, piece in enumerate(pieces(pixels))
    ]

    def by_image(*tensors: Tensor) -> Tensor:
        output = tensors[0] if len(tensors) == 1 else torch.cat(tensors)
        return output.unflatten(0, (views, -1)).transpose(0, 1)

    return map_outputs(by_image, *outputs)


def _parts(length: int, most: int) -> list[slice]:
    """The fewest parts of at most so many, of nearly equal size, the larger ones first."""
    count = -(-length // most)
    each, more = divmod(length, count)
    stops = [each * (number + 1) + min(number + 1, more) for number in range(count)]
    return [slice(start, stop) for start, stop in zip([0, *stops[:-1]], stops, strict=True)]


def _extra(objective: Objective, name: str, params: ViewParams | None, group: Group, part: slice, device: torch.device) -> Tensor:
    """A per-view tensor of the rows for some images' views, [V * B, ...], on the device without waiting for it."""
    value = None if params is None else params.tensors().get(name)
    if value is None:
        raise SelectionError(
            f"{type(objective).__name__} takes {name!r} of the candidates' rows, got {'no rows' if params is None else 'rows without it'}; "
            "pass the candidates' params, drawn from a recipe that has it (for masks: masking=hvs_data.recipes.Masking())"
        )
    rows = value[part][:, list(group.slots)].transpose(0, 1).flatten(0, 1)
    # a copy from memory that is not page-locked may wait for all that is queued before it
    return (rows.pin_memory() if device.type == "cuda" else rows).to(device, non_blocking=True)


def _checked_outputs(outputs: Outputs, images: int) -> Outputs:
    tensors = list(output_tensors(map_outputs(lambda output: output, outputs)))
    if not tensors or any(tensor.ndim == 0 or tensor.shape[0] != images for tensor in tensors):
        raise SelectionError(
            f"expected encode to return tensors with first axis N = {images}, one row for each image that it was given, "
            f"got {[list(tensor.shape) for tensor in tensors] or 'no tensor'}"
        )
    return outputs


def _check_table(function: str, table: Any, shape: tuple[int, int, int]) -> None:
    axes = {"pair_losses": "[B, V, V]", "local_losses": "[B, V, L]"}.get(function, "[B, T, S]")
    if not isinstance(table, Tensor) or table.shape != shape or table.is_complex():
        arrived = f"{table.dtype} {list(table.shape)}" if isinstance(table, Tensor) else type(table).__name__
        raise SelectionError(
            f"expected {function} to return a float32 tensor {axes} = {list(shape)}, got {arrived}; "
            "return one loss for each two views of an image, not their mean"
        )
