"""What hvs_data is compared with on a GPU: the same distribution of views by other libraries, each at its best.

All of them draw their own random numbers. What else they compute otherwise is in ``DIFFERS``. Each can be built on the CPU too, which is
how its test runs.
"""

# Axes: B image, V view, N view of any image, C channel, H W pixels, S side.

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hvs_data.recipes.spec import Recipe, Role

DIFFERS = {
    "kornia": "resize without antialiasing; one order of the colour operations a batch; blur always of 23 taps; draws on the CPU",
    "kornia, compiled": "as kornia; each image is cropped and resized eagerly, all else is compiled, with a fixed order of operations",
    "torchvision v2": "a view after another; blur with reflected borders of 23 taps; rounds to 8 bits up to the normalisation",
    "triton-augment": "reads float pixels of images of one size, without resize; contrast about a fixed grey instead of the mean",
    "DALI": "contrast about a fixed grey, hue as a linear rotation; blur of 23 taps; a fixed order of operations; boxes of its own law",
}

Views = Callable[[], Any]


def _one_role(recipe: Recipe) -> Role:
    (role,) = recipe.roles
    return role


def kornia_views(images: Sequence[Tensor], recipe: Recipe, dtype: torch.dtype, *, compiled: bool = False) -> Views:
    """A function that renders [N, 3, S, S] views of uint8 images [H, W, 3] of any sizes."""
    import kornia.augmentation as K

    role = _one_role(recipe)
    jitter, side = role.jitter, (role.size, role.size)
    crop = K.RandomResizedCrop(side, role.scale, role.ratio, resample=recipe.interpolation.upper(), cropping_mode="resample")
    order = [0, 1, 2, 3] if compiled else None
    color: nn.Module = nn.Sequential(
        K.ColorJitter(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue, p=jitter.p, order=order),
        K.RandomGrayscale(p=role.gray),
        K.RandomGaussianBlur((recipe.spec.blur_kernel,) * 2, role.sigma, p=role.blur),
        K.RandomHorizontalFlip(p=role.flip),
        K.Normalize(torch.tensor(recipe.mean), torch.tensor(recipe.std)),
    ).to(images[0].device)
    if compiled:
        color = torch.compile(color)  # type: ignore[assignment]

    def views() -> Tensor:
        with torch.no_grad():
            cropped = [crop((image.permute(2, 0, 1)[None].float() / 255).expand(recipe.num_views, -1, -1, -1)) for image in images]
            return color(torch.cat(cropped)).to(dtype)

    return views


def torchvision_views(images: Sequence[Tensor], recipe: Recipe, dtype: torch.dtype) -> Views:
    """As :func:`kornia_views`, by torchvision's transforms v2 on tensors."""
    from torchvision.transforms import InterpolationMode, v2

    role = _one_role(recipe)
    jitter = role.jitter
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(role.size, role.scale, role.ratio, InterpolationMode(recipe.interpolation), antialias=True),
            v2.RandomApply([v2.ColorJitter(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)], jitter.p),
            v2.RandomGrayscale(role.gray),
            v2.RandomApply([v2.GaussianBlur(recipe.spec.blur_kernel, role.sigma)], role.blur),
            v2.RandomHorizontalFlip(role.flip),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(recipe.mean, recipe.std),
        ]
    )
    channels_first = [image.permute(2, 0, 1).contiguous() for image in images]

    def views() -> Tensor:
        return torch.stack([transform(image) for image in channels_first for _ in range(recipe.num_views)]).to(dtype)

    return views


def triton_augment_views(images_BCHW: Tensor, recipe: Recipe, dtype: torch.dtype) -> Views:
    """Crop, flip, brightness, contrast, saturation, grey and normalisation of float images of one size. Needs a CUDA device."""
    import triton_augment

    role = _one_role(recipe)
    jitter = role.jitter
    transform = triton_augment.TritonFusedAugment(
        crop_size=role.size, horizontal_flip_p=role.flip, brightness=jitter.brightness, contrast=jitter.contrast,
        saturation=jitter.saturation, grayscale_p=role.gray, mean=recipe.mean, std=recipe.std,
    )  # fmt: skip
    repeated = images_BCHW.repeat_interleave(recipe.num_views, dim=0).to(dtype)
    return lambda: transform(repeated)


class DaliLoader:
    """DALI's own pipeline from files to float16 views: ``(views, labels)`` as of a ViewLoader.

    Args:
        device: "gpu", with the decoder "mixed", or "cpu".
    """

    def __init__(self, paths: Sequence[str], recipe: Recipe, batch_size: int, threads: int, seed: int, device: str = "gpu"):
        from nvidia.dali import pipeline_def

        self._views, self._batches = recipe.num_views, len(paths) // batch_size
        define = pipeline_def(enable_conditionals=True)(_dali_graph)
        self._pipeline = define(
            list(paths), recipe, device, batch_size=batch_size, num_threads=threads, device_id=0 if device == "gpu" else None, seed=seed
        )
        self._pipeline.build()

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[tuple[list[Tensor], None]]:
        for _ in range(self._batches):
            outputs = self._pipeline.run()
            yield [torch.from_dlpack(views.as_tensor()).clone() for views in outputs], None


def _dali_graph(paths: list[str], recipe: Recipe, device: str) -> Any:
    from nvidia.dali import fn, types

    role, spec = _one_role(recipe), recipe.spec
    jitter = role.jitter
    interpolation = {"bilinear": types.INTERP_LINEAR, "bicubic": types.INTERP_CUBIC}[recipe.interpolation]
    encoded, _ = fn.readers.file(files=paths, random_shuffle=True, name="files")
    image = fn.decoders.image(encoded, device="mixed" if device == "gpu" else "cpu", output_type=types.RGB)

    def around_one(strength: float) -> Any:
        return fn.random.uniform(range=(max(0.0, 1 - strength), 1 + strength))

    views = []
    for _ in range(recipe.num_views):
        x = fn.random_resized_crop(
            image, size=role.size, random_area=role.scale, random_aspect_ratio=role.ratio, interp_type=interpolation, antialias=True
        )
        if fn.random.coin_flip(probability=jitter.p, dtype=types.BOOL):
            x = fn.color_twist(
                x, brightness=around_one(jitter.brightness), contrast=around_one(jitter.contrast),
                saturation=around_one(jitter.saturation), hue=fn.random.uniform(range=(-360 * jitter.hue, 360 * jitter.hue)),
            )  # fmt: skip
        if fn.random.coin_flip(probability=role.gray, dtype=types.BOOL):
            x = fn.saturation(x, saturation=0.0)
        if fn.random.coin_flip(probability=role.blur, dtype=types.BOOL):
            x = fn.gaussian_blur(x, sigma=fn.random.uniform(range=role.sigma), window_size=spec.blur_kernel)
        views.append(
            fn.crop_mirror_normalize(
                x,
                mirror=fn.random.coin_flip(probability=role.flip),
                dtype=types.FLOAT16,
                output_layout="CHW",
                mean=[255 * value for value in recipe.mean],
                std=[255 * value for value in recipe.std],
            )  # fmt: skip
        )
    return tuple(views)
