"""Recipe and keys in, rows out: draws every parameter of every view, vectorised, without touching pixels.

A row depends on (seed, epoch, sample index, the role and its place in the recipe, number within the role) and on the image's
size, and on nothing else: not on the batch, the worker, the other slots or what was drawn before. The first two candidates of an
image are the same rows whether 2, 4 or 8 are drawn.
"""

# Axes: B image, V view slot, T try of the crop.

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hvs_data.errors import RecipeError
from hvs_data.masking import sample_masks
from hvs_data.philox import philox_4x32, split_64, to_integer, to_unit
from hvs_data.recipes.spec import Recipe, Role
from hvs_data.types import LOCAL, ViewParams

CROP_TRIES = 10

# What a block of four random words is for. The numbers are part of the rows' definition and never change.
_SWITCHES, _FACTORS, _EFFECTS, _CROP = 0, 1, 2, 16

_PERMUTATIONS = np.array(list(permutations(range(4))), dtype=np.uint8)


def sample_views(recipe: Recipe, *, seed: int, epoch: int, index: Any, height: Any, width: Any) -> ViewParams:
    """Draw the rows of a batch of images.

    Args:
        recipe: the distribution; V is the number of its slots.
        seed: from 0 to 2**64 - 1.
        epoch: from 0 to 2**32 - 1.
        index: integers [B], each image's index in its source, at least 0.
        height, width: integers [B], the images' sizes in pixels, at least 1.

    Returns:
        Rows [B, V].

    Raises:
        RecipeError: a number out of its range, or shapes that differ.
    """
    if not isinstance(recipe, Recipe):
        raise RecipeError(f"recipe must be a Recipe, got {recipe!r}; make one with hvs_data.recipes, such as recipes.simsiam(candidates=4)")
    _check_key("seed", seed, bits=64, remedy="choose one number for a run and keep it to draw the same rows again")
    _check_key("epoch", epoch, bits=32, remedy="count epochs from 0")
    index_B = _whole_numbers("index", index, 0, 2**63 - 1, "each image's place in its source")
    height_B = _whole_numbers("height", height, 1, 2**31 - 1, "each image's height in pixels")
    width_B = _whole_numbers("width", width, 1, 2**31 - 1, "each image's width in pixels")
    if not index_B.shape == height_B.shape == width_B.shape:
        shapes = f"{index_B.shape}, {height_B.shape} and {width_B.shape}"
        raise RecipeError(f"index, height and width must have one shape [B], got {shapes}; pass one number of each for every image")

    words = _Words(recipe, int(seed), int(epoch), index_B)
    roles = recipe.slot_roles
    tensors = {"box": _boxes(words, roles, height_B, width_B), **_jitter(words, roles), **_effects(words, roles)}
    if recipe.masking is not None:
        tensors["mask"] = _masks(recipe, words, int(seed), int(epoch), index_B)
    return ViewParams(
        **{name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in tensors.items()},
        role=tuple(role.name for role in roles),
        size=tuple(role.size for role in roles),
        spec=recipe.spec,
        emitted={role.name: role.emitted for role in recipe.roles},
    )


def _check_key(name: str, value: Any, bits: int, remedy: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 0 <= value < 2**bits:
        raise RecipeError(f"{name} must be a whole number from 0 to 2**{bits} - 1, got {value!r}; {remedy}")


def _whole_numbers(name: str, value: Any, least: int, most: int, meaning: str) -> NDArray[np.int64]:
    array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise RecipeError(f"{name} must be integers of shape [B], got {array.dtype} of shape {array.shape}; it is {meaning}")
    if array.size and not (array.min() >= least and array.max() <= most):
        raise RecipeError(f"{name} must lie between {least} and {most}, got values from {array.min()} to {array.max()}; it is {meaning}")
    return array.astype(np.int64)


class _Words:
    """The random words of a batch: ``words(purpose)`` is uint32 [B, V, 4]."""

    def __init__(self, recipe: Recipe, seed: int, epoch: int, index_B: NDArray[np.int64]):
        self._key = split_64(seed)
        self._epoch = epoch
        self._index_B1 = index_B[:, None].astype(np.uint64)
        self.slot_ids = np.array(
            [(position << 16) | number for position, role in enumerate(recipe.roles) for number in range(role.candidates)], dtype=np.uint64
        )
        self._drawn: dict[int, NDArray[np.uint32]] = {}

    def __call__(self, purpose: int) -> NDArray[np.uint32]:
        if purpose not in self._drawn:
            self._drawn[purpose] = self._draw(self._index_B1, self.slot_ids[None, :], purpose)
        return self._drawn[purpose]

    def tries(self, rejected_BV: NDArray[np.bool_]) -> NDArray[np.uint32]:
        """Crop tries 1 to 9 of the K views whose first try was rejected: uint32 [K, T, 4]."""
        image, slot = np.nonzero(rejected_BV)
        return self._draw(self._index_B1[image], self.slot_ids[slot][:, None], _CROP + np.arange(1, CROP_TRIES))

    def _draw(self, index: NDArray[np.uint64], slot: NDArray[np.uint64], purpose: Any) -> NDArray[np.uint32]:
        # counter = (index low, index high, epoch, purpose:8 | role:8 | number within the role:16)
        low, high = index & np.uint64(0xFFFFFFFF), index >> np.uint64(32)
        return philox_4x32((low, high, self._epoch, (np.asarray(purpose).astype(np.uint64) << np.uint64(24)) | slot), self._key)


def _masks(recipe: Recipe, words: _Words, seed: int, epoch: int, index_B: NDArray[np.int64]) -> NDArray[np.bool_]:
    """bool [B, V, G, G]; local views keep all of their patches."""
    assert recipe.masking is not None
    grid, roles = recipe.mask_grid, recipe.slot_roles
    masked = [slot for slot, role in enumerate(roles) if role.name != LOCAL]
    mask_BVGG = np.zeros((len(index_B), len(roles), grid, grid), dtype=bool)
    mask_BVGG[:, masked] = sample_masks(
        recipe.masking, seed=seed, epoch=epoch, index=index_B, slots=words.slot_ids[masked], grid=grid
    )  # fmt: skip
    return mask_BVGG


def _per_slot(roles: tuple[Role, ...], read: Callable[[Role], float]) -> NDArray[np.float64]:
    return np.array([read(role) for role in roles], dtype=np.float64)


def _jitter(words: _Words, roles: tuple[Role, ...]) -> dict[str, NDArray[Any]]:
    """Colour jitter as torchvision's: factors float32 [B, V] and the order uint8 [B, V, 4]."""
    switch, factor = words(_SWITCHES), to_unit(words(_FACTORS))
    jittered_BV = to_unit(switch[..., 0]) < _per_slot(roles, lambda role: role.jitter.p)

    def draw(channel: int, name: str, least: float, identity: float) -> NDArray[np.float32]:
        half_width_V = _per_slot(roles, lambda role: getattr(role.jitter, name))
        lo_V, hi_V = np.maximum(least, identity - half_width_V), identity + half_width_V
        return np.where(jittered_BV, lo_V + (hi_V - lo_V) * factor[..., channel], identity).astype(np.float32)

    order = _PERMUTATIONS[to_integer(switch[..., 1], len(_PERMUTATIONS))]
    order[~jittered_BV] = np.arange(4, dtype=np.uint8)
    factors = {name: draw(channel, name, 0.0, 1.0) for channel, name in enumerate(("brightness", "contrast", "saturation"))}
    return {**factors, "hue": draw(3, "hue", -0.5, 0.0), "order": order}


def _effects(words: _Words, roles: tuple[Role, ...]) -> dict[str, NDArray[Any]]:
    """What is not geometry or jitter: grey, flip and solarize bool [B, V], blur sigma float32 [B, V]."""
    switch, effect = to_unit(words(_SWITCHES)), to_unit(words(_EFFECTS))
    lo_V, hi_V = np.array([role.sigma for role in roles]).T
    blurred_BV = effect[..., 0] < _per_slot(roles, lambda role: role.blur)
    return {
        "gray": switch[..., 2] < _per_slot(roles, lambda role: role.gray),
        "flip": switch[..., 3] < _per_slot(roles, lambda role: role.flip),
        "blur_sigma": np.where(blurred_BV, lo_V + (hi_V - lo_V) * effect[..., 1], 0.0).astype(np.float32),
        "solarize": effect[..., 2] < _per_slot(roles, lambda role: role.solarize),
    }


def _boxes(words: _Words, roles: tuple[Role, ...], height_B: NDArray[np.int64], width_B: NDArray[np.int64]) -> NDArray[np.int32]:
    """Random resized crop as torchvision's: ten tries, the first that fits, else the largest centred box of a legal shape.

    Returns:
        int32 [B, V, 4].
    """
    scale_V2 = np.array([role.scale for role in roles])
    ratio_V2 = np.array([role.ratio for role in roles])
    height_BV, width_BV = (np.broadcast_to(side[:, None], (side.size, len(roles))) for side in (height_B, width_B))
    box, fits = _crop(words(_CROP), scale_V2, ratio_V2, height_BV, width_BV)
    rejected = ~fits
    if rejected.any():
        slot_K = np.nonzero(rejected)[1]
        height_K, width_K = height_BV[rejected], width_BV[rejected]
        box_KT, fits_KT = _crop(words.tries(rejected), scale_V2[slot_K, None], ratio_V2[slot_K, None], height_K[:, None], width_K[:, None])
        first_K = fits_KT.argmax(axis=1)
        fallback_K = _central_box(ratio_V2[slot_K], height_K, width_K)
        box[rejected] = np.where(fits_KT.any(axis=1, keepdims=True), box_KT[np.arange(first_K.size), first_K], fallback_K)
    return box.astype(np.int32)


def _crop(
    words: NDArray[np.uint32], scale: NDArray[np.float64], ratio: NDArray[np.float64], height: NDArray[np.int64], width: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """One try: boxes [..., 4] and whether they fit, from words [..., 4] and ranges [..., 2]."""
    unit = to_unit(words)
    area = height * width * (scale[..., 0] + (scale[..., 1] - scale[..., 0]) * unit[..., 0])
    log_ratio = np.log(ratio)
    aspect = np.exp(log_ratio[..., 0] + (log_ratio[..., 1] - log_ratio[..., 0]) * unit[..., 1])
    box_width = np.rint(np.sqrt(area * aspect)).astype(np.int64)
    box_height = np.rint(np.sqrt(area / aspect)).astype(np.int64)
    fits = (box_width > 0) & (box_width <= width) & (box_height > 0) & (box_height <= height)
    top = to_integer(words[..., 2], np.where(fits, height - box_height + 1, 1))
    left = to_integer(words[..., 3], np.where(fits, width - box_width + 1, 1))
    return np.stack([top, left, box_height, box_width], axis=-1), fits


def _central_box(ratio: NDArray[np.float64], height: NDArray[np.int64], width: NDArray[np.int64]) -> NDArray[np.int64]:
    """The fallback: the whole image, or what of it has the nearest legal shape, centred. At least one pixel each way."""
    shape = width / height
    too_tall, too_wide = shape < ratio[..., 0], shape > ratio[..., 1]
    box_height = np.where(too_tall, np.rint(width / ratio[..., 0]), height).astype(np.int64)
    box_width = np.where(too_wide, np.rint(height * ratio[..., 1]), width).astype(np.int64)
    box_height, box_width = np.clip(box_height, 1, height), np.clip(box_width, 1, width)
    return np.stack([(height - box_height) // 2, (width - box_width) // 2, box_height, box_width], axis=-1)
