"""The loaders that hvs_data is compared with, each at its best: a PyTorch DataLoader with one worker a core that stays alive.

Both take a recipe and give what a ViewLoader gives, ``(views, labels)`` with float32 views normalised as the recipe says. What they
compute differs in the ways that ``DIFFERS`` names.
"""

from __future__ import annotations

import io
import os
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from hvs_data.recipes.spec import Recipe, Role

PREFETCH = 2  # batches that each worker holds ready

# Read from the installed sources: torchvision 0.29 with Pillow 13; albumentations 2.0.8 with albucore 0.0.24 and OpenCV.
_DIFFERS_PILLOW = (
    "rounds to 8 bits after every operation; blur is Pillow's (three box passes); hue in 8-bit HSV (256 steps); rows come from the "
    "workers' random state"
)
_DIFFERS_CV2 = (
    "rounds or truncates to 8 bits after every operation; hue in 180 steps; blur cut at 3.5 sigma; rows come from the workers' random state"
)
DIFFERS = {
    "torchvision": _DIFFERS_PILLOW,
    "albumentations": "resize without antialiasing (cv2.INTER_LINEAR or INTER_CUBIC with a = -0.75, its default); " + _DIFFERS_CV2,
    "albumentations-area": "shrinks by box averaging (cv2.INTER_AREA), as soon as one side shrinks; " + _DIFFERS_CV2,
}

View = Callable[[Any], Tensor]


class PhotoViews(Dataset[tuple[list[Tensor], int]]):
    """All views of one image file as an item.

    Args:
        paths: the files.
        decode: path -> image.
        views: image -> [3, S, S], one function a view.
    """

    def __init__(self, paths: Sequence[str], decode: Callable[[str], Any], views: Sequence[View]):
        self.paths, self.decode, self.views = paths, decode, views

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, position: int) -> tuple[list[Tensor], int]:
        image = self.decode(self.paths[position])
        return [view(image) for view in self.views], -1


def _loader(dataset: PhotoViews, batch_size: int, workers: int, seed: int, start: Callable[[int], None]) -> DataLoader[Any]:
    _check_shared_memory(dataset, batch_size, workers)
    return DataLoader(
        dataset,
        batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=True,
        prefetch_factor=PREFETCH,
        worker_init_fn=start,
        generator=torch.Generator().manual_seed(seed),
    )


def _check_shared_memory(dataset: PhotoViews, batch_size: int, workers: int) -> None:
    """A full /dev/shm kills workers with a bus error, without a word of why."""
    views, _ = dataset[0]
    needed = sum(view.numel() * view.element_size() for view in views) * batch_size * (PREFETCH * workers + 1)
    status = os.statvfs("/dev/shm")
    free = status.f_bavail * status.f_frsize
    if free < needed:
        raise SystemExit(
            f"DataLoader workers need {needed / 2**30:.1f} GiB of shared memory for their batches, /dev/shm has {free / 2**30:.1f} GiB "
            "free; pass a smaller --batch-size, or give the container more (docker run --shm-size)"
        )


# --- torchvision -------------------------------------------------------------------------------------------------------


def torchvision_loader(paths: Sequence[str], recipe: Recipe, batch_size: int, workers: int, seed: int) -> DataLoader[Any]:
    """torchvision transforms on Pillow images, as most self-supervised training code has them."""
    views = one_a_slot(recipe, torchvision_view)
    return _loader(PhotoViews(paths, decode_pillow, views), batch_size, workers, seed, lambda worker: torch.set_num_threads(1))


def one_a_slot(recipe: Recipe, make: Callable[[Role, Recipe], Any]) -> list[Any]:
    """What makes each view of an image: slots of a role share one."""
    of_role = {role.name: make(role, recipe) for role in recipe.roles}
    return [of_role[role.name] for role in recipe.slot_roles]


def decode_pillow(path: str) -> Any:
    """The file as an RGB Pillow image."""
    with open(path, "rb") as file:
        return _rgb(file)


def _rgb(file: Any) -> Any:
    from PIL import Image

    return Image.open(file).convert("RGB")


class PillowBlur:
    """Pillow's GaussianBlur with a sigma drawn uniformly, as SimSiam's, MoCo v3's and DINO's code blur."""

    def __init__(self, sigma: tuple[float, float]):
        self.sigma = sigma

    def __call__(self, image: Any) -> Any:
        from PIL import ImageFilter

        return image.filter(ImageFilter.GaussianBlur(radius=random.uniform(*self.sigma)))


def torchvision_view(role: Role, recipe: Recipe) -> View:
    """A function that draws and computes one view of a Pillow image."""
    from torchvision import transforms as T

    jitter = role.jitter
    steps: list[Any] = [
        T.RandomResizedCrop(role.size, role.scale, role.ratio, interpolation=T.InterpolationMode(recipe.interpolation)),
        T.RandomApply([T.ColorJitter(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)], jitter.p),
        T.RandomGrayscale(role.gray),
        T.RandomApply([PillowBlur(role.sigma)], role.blur),
        T.RandomHorizontalFlip(role.flip),
    ]
    if role.solarize:
        steps.append(T.RandomSolarize(round(recipe.spec.solarize_threshold * 255), role.solarize))
    return T.Compose([*steps, T.ToTensor(), T.Normalize(recipe.mean, recipe.std)])


# --- albumentations ----------------------------------------------------------------------------------------------------


def albumentations_loader(
    paths: Sequence[str], recipe: Recipe, batch_size: int, workers: int, seed: int, *, area: bool = False
) -> DataLoader[Any]:
    """albumentations on arrays that simplejpeg decoded.

    Args:
        area: shrink by box averaging, which is closer to an antialiased resize, instead of albumentations' default.
    """
    views = one_a_slot(recipe, lambda role, recipe: albumentations_view(role, recipe, area=area))
    return _loader(PhotoViews(paths, decode_simplejpeg, views), batch_size, workers, seed, _start_albumentations_worker)


def start_cv2_worker(worker: int) -> None:
    """Keep OpenCV and torch to the thread that calls them, as there is one a core."""
    import cv2

    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def _start_albumentations_worker(worker: int) -> None:
    start_cv2_worker(worker)
    info: Any = get_worker_info()
    for position, view in enumerate(dict.fromkeys(info.dataset.views)):
        view.seed(info.seed + position)


def decode_simplejpeg(path: str) -> np.ndarray:
    """The file as uint8 [H, W, 3]; what is no JPEG file of a common kind goes through Pillow."""
    with open(path, "rb", buffering=0) as file:
        return decoded_by_simplejpeg(file.read())


def decoded_by_simplejpeg(encoded: bytes) -> np.ndarray:
    """Encoded bytes as uint8 [H, W, 3]."""
    import simplejpeg

    try:
        return simplejpeg.decode_jpeg(encoded, "RGB")
    except ValueError:
        return np.asarray(_rgb(io.BytesIO(encoded)))


class AlbumentationsView:
    """A function that draws and computes one view of an array."""

    def __init__(self, compose: Any):
        self.compose = compose

    def __call__(self, image: np.ndarray) -> Tensor:
        return self.compose(image=image)["image"]

    def seed(self, seed: int) -> None:
        # Forked workers would all draw the same, and set_random_seed would make the operations of one view draw the same.
        self.compose.set_random_state(np.random.default_rng(seed), random.Random(seed))


def albumentations_view(role: Role, recipe: Recipe, *, area: bool = False) -> AlbumentationsView:
    """The operations of :func:`torchvision_view` by albumentations."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else importing it asks the network for a newer version
    import albumentations as A
    import cv2
    from albumentations.pytorch import ToTensorV2

    jitter, threshold = role.jitter, recipe.spec.solarize_threshold
    steps = [
        A.RandomResizedCrop(
            (role.size, role.size),
            role.scale,
            role.ratio,
            interpolation={"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}[recipe.interpolation],
            area_for_downscale="image" if area else None,
        ),
        A.ColorJitter(jitter.brightness, jitter.contrast, jitter.saturation, (-jitter.hue, jitter.hue), p=jitter.p),
        A.ToGray(p=role.gray),
        A.GaussianBlur(blur_limit=0, sigma_limit=role.sigma, p=role.blur),
        A.HorizontalFlip(p=role.flip),
    ]
    if role.solarize:
        steps.append(A.Solarize((threshold, threshold), p=role.solarize))
    return AlbumentationsView(A.Compose([*steps, A.Normalize(recipe.mean, recipe.std), ToTensorV2()]))
