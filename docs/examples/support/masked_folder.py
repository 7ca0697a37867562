"""A folder of images whose crops come with masks, as iBOT's loader.py has it."""

import numpy as np
from torchvision.datasets import ImageFolder

from .utils import random_mask


class ImageFolderMask(ImageFolder):
    """Items are ``(crops, label, masks)``, one mask [G, G] a crop; about every second one is empty."""

    def __init__(self, root, transform, patch_size, pred_ratio=0.3, pred_ratio_var=0.2, pred_start_epoch=0):
        super().__init__(root, transform)
        self.patch_size, self.pred_start_epoch = patch_size, pred_start_epoch
        self.shares = pred_ratio - pred_ratio_var, pred_ratio + pred_ratio_var
        self.epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __getitem__(self, index):
        crops, label = super().__getitem__(index)
        draw = np.random.default_rng()
        shares = [draw.uniform(*self.shares) * (draw.random() < 0.5) * (self.epoch >= self.pred_start_epoch) for _ in crops]
        masks = [random_mask(crop.shape[-1] // self.patch_size, share, draw) for crop, share in zip(crops, shares, strict=True)]
        return crops, label, masks
