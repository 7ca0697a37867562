"""albumentations: a pipeline of its as a stage of views, which draws by view."""

# Axes: S side.

from __future__ import annotations

import copy
import threading
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hvs_data.errors import HvsError
from hvs_data.pipelines.stage import Stage

__all__ = ["stage_of"]


def stage_of(transform: Any) -> Stage:
    """A transform or ``Compose`` of albumentations, for ``extra_stage``.

    albumentations draws from generators that each transform holds. They are seeded anew for each view, from the view's own numbers; so its
    own ``seed`` has no effect. Every thread works with a copy of the transform, made when it first needs one: changes that are made to
    the transform later do not reach it.

    Args:
        transform: takes float32 images [S, S, 3], values 0-1, and returns the same. On the CPU.

    Raises:
        HvsError: something that is called or seeded otherwise, or views on a device.
    """
    if not callable(transform) or not callable(getattr(transform, "set_random_seed", None)):
        raise HvsError(
            f"expected a transform of albumentations 2, which has set_random_seed, got {type(transform).__name__}; pass functions and "
            "modules of tensors as extra_stage themselves"
        )
    copies = threading.local()
    making = threading.Lock()

    def stage(x_13SS: Tensor, rng: np.random.Generator) -> Tensor:
        if x_13SS.device.type != "cpu":
            raise HvsError(f"albumentations works on the CPU, got views on {x_13SS.device}; leave device out, or pass a stage of tensors")
        own = getattr(copies, "transform", None)
        if own is None:
            with making:
                own = copies.transform = copy.deepcopy(transform)
        own.set_random_seed(int(rng.integers(2**32)))
        image_SS3 = own(image=x_13SS[0].permute(1, 2, 0).contiguous().numpy())["image"]
        return torch.from_numpy(np.ascontiguousarray(image_SS3)).permute(2, 0, 1)[None]

    return Stage(stage, parallel=True)
