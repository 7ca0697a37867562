"""The renderer in plain PyTorch: the definition that every other renderer is judged by.

Clarity comes before speed: one view at a time, one small function an operation, dense weight matrices. All pixel values are on the
0-1 scale. A view's pixels come about in this order:

1. cut the box out of the image; nothing outside it is ever read. The ends of the value range become 0 and 1, values outside are clipped.
   Where the row says so, the image is resized before, and the box may reach beyond it into black
2. resize to H x W, antialiased, and clamp to [0, 1], since bicubic weights overshoot and 8-bit pipelines saturate there
3. flip horizontally, flip vertically, turn by quarters
4. brightness, contrast, saturation and hue in the row's order, each clamped to [0, 1]
5. grey
6. Gaussian blur
7. solarize
8. posterize
9. drop channels
10. normalise
11. erase a rectangle

Sources: resize as Pillow's ``Image.resize`` and torch's ``interpolate(antialias=True)``, cubic filter of Keys, "Cubic convolution
interpolation for digital image processing" (1981); colour operations as torchvision's ``ColorJitter``, with the grey of Pillow's
``convert("L")`` (ITU-R BT.601; torchvision's tensor code rounds .299 to .2989); hue in the hexcone of Smith, "Color gamut transform
pairs" (1978); solarize as Pillow's ``ImageOps.solarize``; posterize as torchvision's of floats, normalisation as its ``normalize``.
"""

# Axes: B image, V view, C channel, H W pixels of a box or a view, X Y pixels along one side, K taps.

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hvs_data.arguments.sizes import Size, height_width
from hvs_data.errors import HvsError
from hvs_data.kernels.render.erasing import noise, scaled_box
from hvs_data.kernels.render.request import check_request
from hvs_data.types.images import ImageBatch
from hvs_data.types.rows import NOISE, RenderSpec, ViewParams

GRAY_WEIGHTS = (0.299, 0.587, 0.114)
KEYS_A = -0.5
DTYPES = (torch.float32, torch.float64)


def render_reference(
    images: Sequence[Tensor],
    params: ViewParams,
    size: Size,
    *,
    normalize: bool = True,
    compute_dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Render every view of every image.

    Args:
        images: B tensors [H, W, C] on one device, such as an ImageBatch.
        params: rows [B, V].
        size: of the views in pixels, one side or (height, width). A slot's own size only sets the scale of its blur.
        normalize: apply the recipe's mean and standard deviation; else values are 0-1, up to the rounding of the blur.
        compute_dtype: float32 or float64, of all pixel arithmetic. Filter weights are always computed in float64 and then rounded.
            On CUDA, where ``torch.backends.cuda.matmul`` allows TF32, float32 resizes are only that exact.

    Returns:
        [B, V, C, H, W] in ``compute_dtype``, on the images' device.

    Raises:
        HvsError: images of another type or channels, rows of another number of images, boxes that leave their image, a size below
            1, another dtype, or an unknown interpolation.
    """
    batch = ImageBatch(images)
    check_request(batch, params, size)
    if compute_dtype not in DTYPES:
        raise HvsError(
            f"compute_dtype must be one of {', '.join(map(str, DTYPES))}, got {compute_dtype}; convert the rendered views instead"
        )
    pixels_BVCHW = torch.empty(
        len(batch), params.num_views, params.spec.channels, *height_width(size), dtype=compute_dtype, device=batch.device
    )
    # autocast would round the factors of a float32 matrix product
    with torch.autocast(batch.device.type, enabled=False):
        for b, image_HWC in enumerate(batch):
            for v in range(params.num_views):
                pixels_CHW = _render_view(image_HWC, params, b, v, size, compute_dtype)
                pixels_CHW = normalize_pixels(pixels_CHW, params.spec.mean, params.spec.std) if normalize else pixels_CHW
                pixels_BVCHW[b, v] = _erased(pixels_CHW, params, b, v, normalize)
    return pixels_BVCHW


def _render_view(image_HWC: Tensor, params: ViewParams, b: int, v: int, size: Size, compute_dtype: torch.dtype) -> Tensor:
    """View v of image b, [C, H, W], not normalised."""
    top, left, height, width = params.box[b, v].tolist()
    if params.resized is not None and params.resized[b, v].all():
        x_CHW = to_unit(image_HWC.permute(2, 0, 1), params.spec, compute_dtype)
        sides = zip(x_CHW.shape[1:], params.resized[b, v].tolist(), (top, left), (height, width), height_width(size), strict=True)
        down, across = (chained_weights(*side, params.spec.interpolation).to(x_CHW) for side in sides)
        x_CHW = (down @ x_CHW @ across.T).clamp(0, 1)
    else:
        box_CHW = image_HWC[top : top + height, left : left + width].permute(2, 0, 1)
        x_CHW = resize(to_unit(box_CHW, params.spec, compute_dtype), size, params.spec.interpolation)
    if params.flip[b, v]:
        x_CHW = x_CHW.flip(-1)
    if params.vertical_flip is not None and params.vertical_flip[b, v]:
        x_CHW = x_CHW.flip(-2)
    if params.turn is not None:
        x_CHW = x_CHW.rot90(int(params.turn[b, v]), (-2, -1))
    for operation in params.order[b, v].tolist():
        adjust, name = _JITTER[operation]
        if name in ("saturation", "hue") and len(x_CHW) != 3:
            continue  # there are no colours, and the request has been refused if it changes them
        x_CHW = adjust(x_CHW, float(getattr(params, name)[b, v]))
    if params.gray[b, v]:
        x_CHW = gray(x_CHW).expand(3, -1, -1)
    if params.blur_sigma[b, v] > 0:
        sigma = float(params.blur_sigma[b, v]) * height_width(size)[0] / params.heights[v]
        x_CHW = gaussian_blur(x_CHW, sigma, blur_radius(params.spec.blur_kernel, params.heights[v], size))
    if params.solarize[b, v]:
        x_CHW = solarize(x_CHW, params.spec.solarize_threshold)
    if params.posterize is not None and params.posterize[b, v] < 8:
        x_CHW = posterize(x_CHW, int(params.posterize[b, v]))
    if params.dropped is not None:
        kept_C = torch.tensor([not int(params.dropped[b, v]) >> channel & 1 for channel in range(len(x_CHW))], device=x_CHW.device)
        x_CHW = torch.where(kept_C[:, None, None], x_CHW, 0)
    return x_CHW


def _erased(x_CHW: Tensor, params: ViewParams, b: int, v: int, normalize: bool) -> Tensor:
    """View v of image b with what its row erases; where views are not normalised, normalising them afterwards gives the recipe's value."""
    if params.erase is None or not params.erase[b, v, 2]:
        return x_CHW
    spec = params.spec
    top, left, height, width = scaled_box(params, b, v, *x_CHW.shape[1:])
    if spec.erase_value == NOISE:
        assert params.key is not None
        value = noise(int(params.key[b, v]), len(x_CHW), height, width).to(x_CHW)
    else:
        value = torch.broadcast_to(x_CHW.new_tensor(spec.erase_value), (len(x_CHW),))[:, None, None]
    if not normalize:
        mean_C11, std_C11 = (x_CHW.new_tensor(values)[:, None, None] for values in (spec.mean, spec.std))
        value = value * std_C11 + mean_C11
    x_CHW = x_CHW.clone()
    x_CHW[:, top : top + height, left : left + width] = value
    return x_CHW


def to_unit(x_CHW: Tensor, spec: RenderSpec, dtype: torch.dtype) -> Tensor:
    """An image's values on the 0-1 scale: ``(x - lo) / (hi - lo)`` for each channel, clipped."""
    low_C11, high_C11 = torch.tensor(spec.ranges(x_CHW.dtype), dtype=torch.float64).T[:, :, None, None].to(x_CHW.device, dtype)
    return ((x_CHW.to(dtype) - low_C11) / (high_C11 - low_C11)).clamp(0, 1)


def triangle(distance: Tensor) -> Tensor:
    """The filter of bilinear interpolation, of support 1."""
    return (1 - distance.abs()).clamp_min(0)


def keys_cubic(distance: Tensor) -> Tensor:
    """The filter of bicubic interpolation, of support 2 (Keys 1981 with a = -0.5)."""
    d = distance.abs()
    near = (KEYS_A + 2) * d**3 - (KEYS_A + 3) * d**2 + 1
    far = KEYS_A * (d**3 - 5 * d**2 + 8 * d - 4)
    return torch.where(d < 1, near, torch.where(d < 2, far, 0))


_FILTERS: dict[str, Callable[[Tensor], Tensor]] = {"bilinear": triangle, "bicubic": keys_cubic}


def resize_weights(source: int, target: int, interpolation: str, wanted: Tensor | None = None) -> Tensor:
    """Weight of every source pixel in every output pixel along one side, or in those that are wanted.

    With ``scale = source / target`` and ``stretch = max(scale, 1)``, the weight of pixel k in output x is ``filter((k + 0.5 - centre) /
    stretch)``, ``centre = (x + 0.5) * scale``, divided by the sum over all k of the box. Pillow and torch name the taps from
    ``int(centre - support + 0.5)`` up to, not including, ``int(centre + support + 0.5)``, ``support`` being the filter's times
    ``stretch``: these are the pixels at which the filter is not 0.

    Returns:
        float64 [X, Y] of target and source, on the CPU; each row sums to 1.
    """
    scale = source / target
    wanted = torch.arange(target) if wanted is None else wanted
    centre_X1 = (wanted.to(torch.float64)[:, None] + 0.5) * scale
    pixel_Y = torch.arange(source, dtype=torch.float64) + 0.5
    weight_XY = _FILTERS[interpolation]((pixel_Y - centre_X1) / max(scale, 1.0))
    return weight_XY / weight_XY.sum(dim=1, keepdim=True)


def chained_weights(source: int, resized: int, start: int, length: int, target: int, interpolation: str) -> Tensor:
    """Weights of resizing an image along one side, cutting out a box, black outside of the image, and resizing that: float64 [X, Y].

    Values are clamped once, behind both resizes, where 8-bit pipelines saturate behind each.
    """
    place_L = torch.arange(start, start + length)
    inside_L = (place_L >= 0) & (place_L < resized)
    box_XL = resize_weights(length, target, interpolation)
    return box_XL[:, inside_L] @ resize_weights(source, resized, interpolation, place_L[inside_L])


def resize(x_CHW: Tensor, size: Size, interpolation: str) -> Tensor:
    """Antialiased resize of a whole tensor, clamped to [0, 1]."""
    down, across = (
        resize_weights(source, target, interpolation).to(x_CHW) for source, target in zip(x_CHW.shape[1:], height_width(size), strict=True)
    )
    return (down @ x_CHW @ across.T).clamp(0, 1)


def gray(x_3HW: Tensor) -> Tensor:
    """Grey value of each pixel, [1, H, W]."""
    red, green, blue = (weight * channel_HW for weight, channel_HW in zip(GRAY_WEIGHTS, x_3HW.unbind(0), strict=True))
    return (red + green + blue)[None]


def blend(x_CHW: Tensor, other: Tensor, factor: float) -> Tensor:
    """``factor`` parts of x and ``1 - factor`` parts of another, clamped to [0, 1]; a factor above 1 moves away from the other."""
    return (factor * x_CHW + (1 - factor) * other).clamp(0, 1)


def adjust_brightness(x_CHW: Tensor, factor: float) -> Tensor:
    """Multiply, and clamp to [0, 1]."""
    return (x_CHW * factor).clamp(0, 1)


def adjust_contrast(x_CHW: Tensor, factor: float) -> Tensor:
    """Blend with the mean grey of the view as it is now; of other than three channels, with the mean of all values."""
    return blend(x_CHW, (gray(x_CHW) if len(x_CHW) == 3 else x_CHW).mean(), factor)


def adjust_saturation(x_3HW: Tensor, factor: float) -> Tensor:
    """Blend each pixel with its own grey."""
    return blend(x_3HW, gray(x_3HW), factor)


def adjust_hue(x_3HW: Tensor, turns: float) -> Tensor:
    """Shift the hue in HSV, wrapping around; 1 turn is the whole circle. Grey pixels stay."""
    red, green, blue = x_3HW.unbind(0)
    value = x_3HW.amax(0)
    chroma = value - x_3HW.amin(0)
    divisor = torch.where(chroma > 0, chroma, 1)
    # in sixths of a turn: red lies at 0, green at 2, blue at 4
    hue = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    hue = hue + 6 * turns

    def channel(position: float) -> Tensor:
        """A channel is full within a sixth of its own position, empty within a sixth of the opposite one, and linear in between."""
        falling = (hue - position - 1).remainder(6)
        return value - chroma * torch.minimum(falling, 4 - falling).clamp(0, 1)

    return torch.stack([channel(0), channel(2), channel(4)])


# The row's operations by number, and the names of their factors.
_JITTER: tuple[tuple[Callable[[Tensor, float], Tensor], str], ...] = (
    (adjust_brightness, "brightness"),
    (adjust_contrast, "contrast"),
    (adjust_saturation, "saturation"),
    (adjust_hue, "hue"),
)


def blur_radius(kernel: int, slot_height: int, size: Size) -> int:
    """Blur radius in rendered pixels: the recipe's, scaled like sigma, at least 1, and short enough to reflect at every border.

    Args:
        kernel: taps at the slot's own size, odd.
        slot_height: of the slot's own size.
        size: of the view as it is rendered.

    Returns:
        From 0 (only if a side is 1: nothing to blur with) to the shorter side - 1.
    """
    height, width = height_width(size)
    return min(height - 1, width - 1, max(1, math.floor(kernel // 2 * height / slot_height + 0.5)))


def gaussian_blur(x_CHW: Tensor, sigma: float, radius: int) -> Tensor:
    """True separable Gaussian: weights ``exp(-k^2 / (2 sigma^2))``, k from -radius to radius, normalised.

    Borders are reflected without repeating the edge pixel, so radius must be below both sides.
    """
    offset_K = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weight_K = torch.exp(-((offset_K / sigma) ** 2) / 2)
    weight_K = (weight_K / weight_K.sum()).to(x_CHW)
    for axis in (-2, -1):
        last = x_CHW.shape[axis] - 1
        position = torch.arange(-radius, last + 1 + radius, device=x_CHW.device)
        padded = x_CHW.index_select(axis, last - (last - position.abs()).abs())
        x_CHW = (padded.unfold(axis, 2 * radius + 1, 1) * weight_K).sum(-1)
    return x_CHW


def solarize(x_CHW: Tensor, threshold: float) -> Tensor:
    """Invert the values at or above the threshold.

    Published code does so to 8-bit values from 128 on; the recipes' threshold 128/255 is the same on values of that grid. Between
    127/255 and 128/255, where 8-bit code would have rounded first, values stay as they are.
    """
    return torch.where(x_CHW >= threshold, 1 - x_CHW, x_CHW)


def posterize(x_CHW: Tensor, bits: int) -> Tensor:
    """Values rounded down to ``2**bits`` levels, 0 to ``1 - 2**-bits``."""
    levels = 2**bits
    return (x_CHW * levels).floor().clamp(0, levels - 1) / levels


def normalize_pixels(x_CHW: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """``(x - mean) / std`` for each channel."""
    mean_C11, std_C11 = (x_CHW.new_tensor(list(values))[:, None, None] for values in (mean, std))
    return (x_CHW - mean_C11) / std_C11
