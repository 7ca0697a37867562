"""What a trainer's step takes, made from a batch: small functions for the ``format=`` of a loader.

A format is any function of a :class:`hvs_data.Batch`; what it returns is what the loader yields. Those here move references and copy
no pixels, unless they say so.
"""

# Axes: B image, V view, C channel, H W pixels.

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from hvs_data.errors import HvsError
from hvs_data.types.batch import Batch
from hvs_data.types.rows import LOCAL

__all__ = [
    "as_dict",
    "dinov2",
    "images_and_labels",
    "mmpretrain",
    "named_views",
    "stable_pretraining",
    "stacked",
    "unnormalized",
    "view_major",
    "views_and_labels",
    "with_index",
    "with_masks",
    "with_names",
]

Format: TypeAlias = Callable[[Batch], Any]


def views_and_labels(batch: Batch) -> tuple[list[Tensor], Tensor]:
    """``(views, labels)`` as a plain tuple, what an ImageFolder of two crops gives: official SimSiam, MoCo v3, DINO."""
    return batch.views, batch.labels


def images_and_labels(batch: Batch) -> tuple[Tensor, Tensor]:
    """``(images [B, 3, H, W], labels [B])`` of recipes that give one view of an image, such as ``recipes.evaluation()``: evaluation loops.

    Raises:
        HvsError: another number of views.
    """
    if len(batch.views) != 1:
        raise HvsError(f"images_and_labels expects one view of an image, got {len(batch.views)}; take views_and_labels, or a recipe of one")
    return batch.views[0], batch.labels


def with_masks(batch: Batch) -> tuple[list[Tensor], Tensor, list[Tensor]]:
    """``(views, labels, masks)`` as a plain tuple: official iBOT. Masks are bool [B, G, G] on the views' device, one a global view.

    Raises:
        HvsError: rows without masks.
    """
    if batch.masks is None:
        raise HvsError("with_masks expects a recipe with masking, got rows without masks; make it with hvs_data.recipes.ibot(masking=...)")
    return batch.views, batch.labels, [mask.to(batch.labels.device, non_blocking=True) for mask in batch.masks]


def dinov2(batch: Batch) -> dict[str, Any]:
    """The dict of ``collate_data_and_cast``, which ``SSLMetaArch.forward_backward`` of facebookresearch/dinov2 and dinov3 takes.

    Crops one after the other, all first ones first: ``collated_global_crops`` [2 B, C, S, S] and ``collated_local_crops`` [L B, C, S, S].
    Of the global ones ``collated_masks`` bool [2 B, P], the masked patches among all of them as ``mask_indices_list`` [M], one over the
    number of each one's view as ``masks_weight`` [M], M as ``n_masked_patches`` [1] and as ``upperbound``; these are on the CPU, and the
    step moves them. A recipe's first twins are the ``collated_gram_teacher_crops`` [2 B, C, S', S'] of DINOv3. Copies the pixels.

    Raises:
        HvsError: rows without masks.
    """
    if batch.masks is None:
        raise HvsError("dinov2 expects a recipe with masking, got rows without masks; make it with hvs_data.recipes.dinov2(masking=...)")
    count = len(batch.masks)
    mask_NP = torch.cat(batch.masks).flatten(1)
    indices_M = mask_NP.flatten().nonzero().flatten()
    return {
        "collated_global_crops": torch.cat(batch.views[:count]),
        "collated_local_crops": torch.cat(batch.views[count:] or [batch.views[0][:0]]),
        "collated_masks": mask_NP,
        "mask_indices_list": indices_M,
        "masks_weight": (1 / mask_NP.sum(1).clamp_min(1))[:, None].expand_as(mask_NP)[mask_NP],
        "upperbound": len(indices_M),
        "n_masked_patches": torch.tensor([len(indices_M)]),
        **({"collated_gram_teacher_crops": torch.cat(batch.twins[0])} if batch.twins else {}),
    }


def with_index(batch: Batch) -> list[Any]:
    """``[index, views, labels]``: solo-learn."""
    return [batch.index, batch.views, batch.labels]


def with_names(source: Any) -> Format:
    """``(views, labels, names)``: lightly. A name is what the source calls the image, such as its path below the folder.

    Reads the indices from the device of the batch, which waits for it.

    Args:
        source: the loader's ``dataset``.
    """

    def named(batch: Batch) -> tuple[list[Tensor], Tensor, list[str]]:
        return batch.views, batch.labels, [source.name_of(index) for index in batch.index.tolist()]

    return named


def as_dict(batch: Batch) -> dict[str, Any]:
    """``{"views": list, "labels": [B], "index": [B]}``, with ``"masks"`` where the recipe has masking."""
    masks = {} if batch.masks is None else {"masks": with_masks(batch)[2]}
    return {"views": batch.views, "labels": batch.labels, "index": batch.index, **masks}


def named_views(*names: str, labels: str | None = "labels") -> Format:
    """A dict with every view under a name of its own, as models of Hugging Face take their arguments.

    Args:
        names: one a view, in order.
        labels: the name of the labels; None leaves them out.
    """

    def named(batch: Batch) -> dict[str, Any]:
        if len(names) != len(batch.views):
            raise HvsError(f"named_views expects a name for each of the {len(batch.views)} views, got {list(names)}")
        return dict(zip(names, batch.views, strict=True)) | ({} if labels is None else {labels: batch.labels})

    return named


def stable_pretraining(batch: Batch) -> dict[str, Any]:
    """``{"views": ...}`` as stable-pretraining's ``MultiViewTransform`` gives them: every view a dict of "image", "label" and "sample_idx".

    A list of them; with local views, by the names "global_1", "global_2", "local_1", ... that its multi-crop methods look for.
    """
    samples = [{"image": view, "label": batch.labels, "sample_idx": batch.index} for view in batch.views]
    if LOCAL not in batch.params.role:
        return {"views": samples}
    kinds = ["local" if role == LOCAL else "global" for role in batch.params.role]
    if batch.selection is not None:  # the chosen global views and the extra ones, and then local ones
        globals_ = batch.selection.global_views + batch.selection.extra_views
        kinds = ["global"] * globals_ + ["local"] * (len(samples) - globals_)
    return {
        "views": {
            f"{kind}_{kinds[: number + 1].count(kind)}": sample for number, (kind, sample) in enumerate(zip(kinds, samples, strict=True))
        }
    }


def stacked(batch: Batch) -> tuple[Tensor, Tensor]:
    """``(views [B, V, C, H, W], labels [B])``. Copies the pixels.

    Raises:
        HvsError: views of several sizes.
    """
    return torch.stack(_of_one_size("stacked", batch.views), 1), batch.labels


def view_major(batch: Batch) -> tuple[Tensor, Tensor]:
    """``(views [V * B, C, H, W], labels [B])``: all first views, then all second ones, ... Copies the pixels.

    Raises:
        HvsError: views of several sizes.
    """
    return torch.cat(_of_one_size("view_major", batch.views)), batch.labels


def unnormalized(batch: Batch) -> Batch:
    """The batch with float32 views from 0 to 255, for steps and preprocessors that normalise before the model. Copies the pixels.

    That is 255 times the 0-1 scale, whatever the bits of the images.

    To be followed by another format, or used as it is. Views that the loader made without normalising keep their values. Selection saw
    them as the loader made them: normalised ones, as the model will. Of a model that normalises in the parts that the objective calls, the
    loader must not normalise (``normalize=False``).
    """
    spec = batch.params.spec

    def restored(view: Tensor) -> Tensor:
        if view.dtype == torch.uint8:
            return view.to(torch.float32)
        view = view.to(torch.float32)
        if not batch.normalized:
            return view * 255
        std, mean = (torch.tensor(value).mul(255).to(view.device, non_blocking=True)[:, None, None] for value in (spec.std, spec.mean))
        return view.mul(std).add_(mean)

    return replace(batch, views=[restored(view) for view in batch.views], normalized=False)


def mmpretrain(batch: Batch) -> dict[str, Any]:
    """``{"inputs": list of 0-255 views, "data_samples": None}``: what ``SelfSupDataPreprocessor`` of mmpretrain takes and normalises."""
    return {"inputs": unnormalized(batch).views, "data_samples": None}


def _of_one_size(name: str, views: Iterable[Tensor]) -> list[Tensor]:
    views = list(views)
    shapes = sorted({tuple(view.shape[1:]) for view in views})
    if len(shapes) > 1:
        raise HvsError(f"{name} expects views of one size, got {shapes}; take a format that keeps the views in a list")
    return views
