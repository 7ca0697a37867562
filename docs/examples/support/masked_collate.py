"""Crops and masks of a batch in one dict, as dinov2/data/collate.py of facebookresearch/dinov2 makes them."""

import numpy as np
import torch

from .utils import random_mask


def collate_data_and_cast(samples, mask_ratio_tuple, mask_probability, side):
    """Samples ``({"global_crops": [...], "local_crops": [...]}, label)``; a mask [P] of a grid of this side for each global crop."""
    crops = {
        name: torch.stack([sample[0][name][number] for number in range(len(samples[0][0][name])) for sample in samples])
        for name in ("global_crops", "local_crops")
    }
    count = len(crops["global_crops"])
    draw, hidden = np.random.default_rng(), int(count * mask_probability)
    shares = np.linspace(*mask_ratio_tuple, hidden + 1)
    masks = [random_mask(side, draw.uniform(*shares[number : number + 2]), draw) for number in range(hidden)]
    masks += [np.zeros((side, side), dtype=bool)] * (count - hidden)
    masks = torch.from_numpy(draw.permutation(np.stack(masks))).flatten(1)
    indices = masks.flatten().nonzero().flatten()
    return {
        **{f"collated_{name}": stacked for name, stacked in crops.items()},
        "collated_masks": masks,
        "mask_indices_list": indices,
        "masks_weight": (1 / masks.sum(-1).clamp(min=1.0))[:, None].expand_as(masks)[masks],
        "upperbound": len(indices),
        "n_masked_patches": torch.full((1,), len(indices)),
    }
