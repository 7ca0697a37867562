"""JointCrop: two views whose crops are drawn together."""

# Axes: B image, V view, T try of the crop.

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import hvs_data as hvs
from hvs_data.drawing.philox import philox_4x32, split_64, to_integer, to_unit
from hvs_data.recipes.spec import Recipe

CROP_TRIES = 10
# words of the random generator that rows do not use, see hvs_data.rows.sampling
_AREAS, _SHAPES = 64, 65


class JointCropLoader:
    """Batches of two views whose crops were drawn together; see :func:`joint_boxes`.

    The other parameters of the rows stay as the loader draws them.

    Args:
        loader: of a recipe with two views of one role.
        seed: of the boxes.
    """

    def __init__(self, loader: hvs.ViewLoader, seed: int):
        self.loader = loader
        self._seed = seed

    def __len__(self) -> int:
        return len(self.loader)

    def state_dict(self) -> dict[str, Any]:
        return self.loader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.loader.load_state_dict(state)

    def __iter__(self) -> Iterator[hvs.Batch]:
        # one pixel a view: what is trained on is rendered once its box is known
        for product in self.loader.products(sizes_V=(1,) * self.loader.recipe.num_views, keep_images=True):
            assert product.images is not None
            sides = np.array([image.shape[:2] for image in product.images.pixels], dtype=np.int64)
            batch = product.batch
            box_BV4 = joint_boxes(
                self.loader.recipe, seed=self._seed, epoch=batch.epoch, index=batch.index.numpy(), height=sides[:, 0], width=sides[:, 1]
            )
            params = replace(batch.params, box=torch.from_numpy(box_BV4))
            yield replace(batch, views=product.render(params), params=params)


def joint_boxes(
    recipe: Recipe, *, seed: int, epoch: int, index: NDArray[np.int64], height: NDArray[np.int64], width: NDArray[np.int64]
) -> NDArray[np.int32]:
    """JointCrop's boxes: the ratio of the two areas is drawn first, and then the areas that have it.

    ln(area 2 / area 1) is uniform on [-r, r] with r = ln(hi / lo - .01) for a recipe's scale (lo, hi), and area 1 is uniform where both
    areas lie in the scale. Ten shapes are tried for each area; the whole image stands for an area of which none fits. Source: Zhang et
    al., "Enhancing Contrastive Learning Inspired by the Philosophy of 'The Blind Men and the Elephant'", AAAI 2025, arXiv 2412.16522,
    JointCrop(0), and its released code.

    Args:
        recipe: of two views of one role.
        seed, epoch, index: as in :func:`hvs_data.sample_views`; the numbers are independent of the rows drawn there.
        height, width: of the images, [B].

    Returns:
        int32 [B, 2, 4].
    """
    if recipe.num_views != 2 or len(recipe.roles) != 1:
        raise ValueError(f"expected a recipe of two views of one role, whose areas are drawn together, got {recipe.name!r}")
    role = recipe.roles[0]
    index_B = index.astype(np.uint64)
    low_B, high_B = index_B & np.uint64(0xFFFFFFFF), index_B >> np.uint64(32)
    unit_B4 = to_unit(philox_4x32((low_B, high_B, epoch, _AREAS << 24), split_64(seed)))
    share_B2 = joint_areas(role.scale, unit_B4[:, 0], unit_B4[:, 1])
    place_VT = (np.arange(2)[:, None] << 16) | np.arange(CROP_TRIES) | (_SHAPES << 24)
    words_BVT4 = philox_4x32((low_B[:, None, None], high_B[:, None, None], epoch, place_VT), split_64(seed))
    return _placed(share_B2, role.ratio, words_BVT4, height, width)


def joint_areas(scale: tuple[float, float], ratio_B: NDArray[np.float64], place_B: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shares of the image's area from numbers in (0, 1): [B, 2]."""
    lo, hi = scale
    if hi / lo <= 1.01:
        raise ValueError(f"expected a scale whose ends differ by more than a hundredth, of which ratios can be drawn, got {scale}")
    limit = np.log(hi / lo - 0.01)
    quotient_B = np.exp(limit * (2 * ratio_B - 1))
    first_lo_B, first_hi_B = np.maximum(lo, lo / quotient_B), np.minimum(hi, hi / quotient_B)
    first_B = first_lo_B + (first_hi_B - first_lo_B) * place_B
    return np.stack([first_B, first_B * quotient_B], axis=1)


def _placed(
    share_BV: NDArray[np.float64],
    ratio: tuple[float, float],
    words_BVT4: NDArray[np.uint32],
    height_B: NDArray[np.int64],
    width_B: NDArray[np.int64],
) -> NDArray[np.int32]:
    """Boxes of given areas, of the first shape that fits."""
    height, width = height_B[:, None, None], width_B[:, None, None]
    unit = to_unit(words_BVT4[..., 0])
    lo, hi = np.log(ratio[0]), np.log(ratio[1])
    aspect_BVT = np.exp(lo + (hi - lo) * unit)
    area_BVT = height * width * share_BV[..., None]
    box_width = np.rint(np.sqrt(area_BVT * aspect_BVT)).astype(np.int64)
    box_height = np.rint(np.sqrt(area_BVT / aspect_BVT)).astype(np.int64)
    fits = (box_width > 0) & (box_width <= width) & (box_height > 0) & (box_height <= height)
    top = to_integer(words_BVT4[..., 1], np.where(fits, height - box_height + 1, 1))
    left = to_integer(words_BVT4[..., 2], np.where(fits, width - box_width + 1, 1))
    box_BVT4 = np.stack([top, left, box_height, box_width], axis=-1)
    first_BV11 = fits.argmax(axis=2)[..., None, None]
    box_BV4 = np.take_along_axis(box_BVT4, first_BV11, axis=2)[:, :, 0]
    whole_B14 = np.stack([np.zeros_like(height_B), np.zeros_like(height_B), height_B, width_B], axis=-1)[:, None]
    return np.where(fits.any(axis=2)[..., None], box_BV4, whole_B14).astype(np.int32)
