"""All views of a batch of images on CUDA: the launches, and how they were chosen.

DESIGN

What is moved: each crop is read once and each output written once; that bound is about 640 KB for a SimSiam view at 224 in bf16
(337 KB of crop on average, 301 KB of output). A view without contrast and blur reaches it: kernel (a) writes it out. Any other makes a
detour, since the contrast needs the mean grey of all pixels first: kernel (a) leaves it in scratch memory, kernel (b) goes on from there,
and kernel (c) blurs. Scratch values are whole numbers of 16 bits, 1 / 65535 apart: all values are in [0, 1] there, so rounding costs at
most 2**-17, a 514th of an 8-bit level, where half precision would cost 2**-12 and bfloat16 2**-9, and float32 would double the traffic. The
detour is 301 KB written and 301 KB read; of large batches it passes through memory, of small ones through the L2 cache.

Order of the passes: a direct sum over taps in two dimensions needs 16 loads (bilinear, downscaled by 1.6) or 64 (bicubic). A vertical pass
first would have contiguous loads, but then needs a transpose through shared memory, or memory between the passes, to reach the neighbours
of the horizontal one. So the horizontal pass comes first, one pair of source rows at a time, by gathers that the L1 cache serves; every
finished value goes at once to all output rows of its half of the tile, which stay in registers (8 x 32 values and three channels: 24
registers a thread of one warp). The pairs share their horizontal weights. The last 1 to 4 taps of a row, which are all of them in most
bilinear views, have code of their own with weights in registers, between which a program chooses once.

The kernels are bound by how many instructions they issue, most of which were no multiply-adds: loads of single bytes, conversions,
addresses. Pixels are read as aligned words, three for four taps of three channels; whole numbers are multiplied as the denormal floats
that their bits are (``TIMES_FACTOR`` in tables.py), without being converted, and become whole again by a sum that shifts them into the
last bits. None of this rounds anything anew.

Weights are computed before, once for each row and output (``taps.py``), in float64, which costs little there, and kept in float32:
the resize errs as one with exact weights that are rounded. Vertical ones lie side by side for the outputs of a tile, so that one or two
wide loads bring them.

The mean grey is deterministic: tiles store their sums, and every program of kernel (b) sums these in the same order. No atomics.

The blur is two kernels, each along the slower axis of what it reads, see blur.py: neighbours then come in wide aligned loads, four output
rows share them in registers, and a reflected border is a row number. What lies between is turned, so that columns are rows; it is one more
rounding to 16 bits, and 129 KB written and read for a SimSiam view on average. Tensor cores were counted and left out: rows times a band of
weights in 16 x 16 blocks, in which two halves of 8 bits of each value are exact, and weights need two terms: three products a block keep
the tensor cores as long as the multiply-adds keep the others, for a radius of 5.

Kernel (b) runs over the rows that have a contrast, kernels (c) and (d) over those that have a blur: rows are known on the host, and views
without one pay nothing. The host ships all tables in one copy of page-locked memory, launches five kernels at most for every GiB of
scratch memory (some 2,000 views at 224), and never waits. Views that lie in the canvas at multiples of 16 elements, as all of common sizes
do, are stored 16 bytes at a time: ``unit`` says so when kernels are compiled, once for a size and dtype.

Modelled (bench/gpu_model.py; nothing of this was measured), a SimSiam view at 224 in bfloat16 takes 490 ns of an H200's issue slots, and
530 ns with kernel (b) waiting for memory: a quarter of the bound in bytes. Half of it is the resize, of which a twelfth are multiply-adds
with weights that are 0. The way to 40 %, 330 ns: memory comes first, since crop, output and scratch are some 1.7 MB a view, 390 ns. Batches
cut so that scratch stays in the L2 cache (64 views, 30 MB) would save most of that. But five launches for each cut, at some 8 us of the
host, take longer than the device takes for 64 views, unless they are captured in a CUDA graph, as ``graphs.py`` does for whole batches. One
kernel a view, a cluster of 8 programs with the view in distributed shared memory (301 KB of their 1.8 MB), needs neither scratch nor cuts:
the mean grey and the blur's neighbours pass through shared memory. Triton 3.8 does not hand a program its neighbours' shared memory, so
that this is CUDA C++.

Left for a measurement on a GPU: tile sizes and warps, whether graphs pay, and all of the above.
"""

# Axes: B image, V view, N = B V row (one view), C channel.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
import triton
from torch import Tensor

from hvs_data.arguments.sizes import Size, height_width
from hvs_data.kernels.render.canvas import Canvas
from hvs_data.kernels.render.request import check_canvas, check_request
from hvs_data.kernels.render.triton.blur import blur_across, blur_down
from hvs_data.kernels.render.triton.filling import count_bytes
from hvs_data.kernels.render.triton.finish import finish_color
from hvs_data.kernels.render.triton.resize import resize_and_color
from hvs_data.kernels.render.triton.rows import tables_of, to_device, unit_of
from hvs_data.kernels.render.triton.taps import fill_taps
from hvs_data.types.images import ImageBatch
from hvs_data.types.rows import RenderSpec, ViewParams

TILE_Y, TILE_X = 8, 32  # of the resize
BLUR_TILE = 32
BLOCK_P = 1024
SCRATCH_BYTES = 2**30


def render_views(images: Sequence[Tensor], params: ViewParams, canvas: Canvas, *, normalize: bool, first_image: int = 0) -> None:
    """Render rows [B, V] into images ``first_image`` to ``first_image + B - 1`` of a canvas of V views, on the current stream.

    Nothing is waited for. What is read and written must not change on another stream before the current one has come so far.

    Args:
        images: B uint8 tensors [H, W, 3] on the canvas' device, of any sizes.
        normalize: apply the recipe's mean and standard deviation; else values are 0-1 (0-255 for uint8).

    Raises:
        HvsError: rows that do not fit images or canvas, an unknown interpolation, or normalised uint8.
    """
    batch, device = checked(images, params, canvas, normalize, first_image), canvas.flat.device
    if not params.num_views:
        return
    parts = parts_of(params, canvas)
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        for part in parts:
            some, rows = (batch, params) if len(parts) == 1 else (batch[part], params.images(part))
            _render_part(some, rows, canvas, Look.of(params.spec, canvas, normalize), first_image + part.start)


def checked(images: Sequence[Tensor], params: ViewParams, canvas: Canvas, normalize: bool, first_image: int) -> ImageBatch:
    """The images, once all fits: see :func:`render_views`."""
    batch = images if isinstance(images, ImageBatch) else ImageBatch(images)
    check_request(batch, params, canvas.size)
    check_canvas(params, canvas, normalize, first_image)
    return batch


def parts_of(params: ViewParams, canvas: Canvas) -> list[slice]:
    """Images that are rendered at a time: as many as ``SCRATCH_BYTES`` hold, and at least one."""
    sides, bicubic = np.array(height_width(canvas.size)), params.spec.interpolation == "bicubic"
    bytes_B = count_bytes(params.box.numpy(), params.blur_sigma.numpy(), sides, bicubic, TILE_Y, TILE_X)
    parts, start, held = [], 0, 0
    for image, its in enumerate(bytes_B.tolist()):
        if image > start and held + its > SCRATCH_BYTES:
            parts.append(slice(start, image))
            start, held = image, 0
        held += its
    return [*parts, slice(start, len(bytes_B))] if len(bytes_B) else []


@dataclass(frozen=True)
class Memory:
    """What the kernels of N rows write for each other, M of them blurred.

    Attributes:
        first: int32 [N, H + W], first taps.
        weight: float32, of all taps.
        scratch: uint16 [N, 3, H, W], views on their way.
        gray_sum: float32 [N, tiles].
        turned: uint16 [M, 3, W, H], views between the two passes of the blur.
    """

    first: Tensor
    weight: Tensor
    scratch: Tensor
    gray_sum: Tensor
    turned: Tensor

    @classmethod
    def empty(cls, rows: int, blurs: int, weights: int, size: Size, device: torch.device) -> Memory:
        height, width = height_width(size)
        return cls(
            torch.empty(rows, height + width, dtype=torch.int32, device=device),
            torch.empty(weights, dtype=torch.float32, device=device),
            torch.empty(rows, 3, height, width, dtype=torch.uint16, device=device),
            torch.empty(rows, _tiles(size), dtype=torch.float32, device=device),
            torch.empty(blurs, 3, width, height, dtype=torch.uint16, device=device),
        )


@dataclass(frozen=True)
class Look:
    """How the views of a canvas are made from boxes and colours: all that launches depend on beside tables and memory.

    Attributes:
        size: of a view.
        interpolation: "bilinear" or "bicubic".
        numbers: solarize's threshold, then the factors and the summands that are applied last, of each channel.
        strides: of the canvas, elements from one channel and from one pixel to the next.
        unit: see :func:`unit_of`.
    """

    size: Size
    interpolation: str
    numbers: tuple[float, ...]
    strides: tuple[int, int]
    unit: int

    @classmethod
    def of(cls, spec: RenderSpec, canvas: Canvas, normalize: bool) -> Look:
        _, _, channel_stride, _, pixel_stride = canvas.pixels.stride()
        numbers = _scale_and_bias(spec, canvas, normalize)
        return cls(canvas.size, spec.interpolation, numbers, (channel_stride, pixel_stride), unit_of(canvas))


def launch(tables: Mapping[str, Tensor], memory: Memory, out: Tensor, look: Look) -> None:
    """Launch all kernels of N rows.

    Args:
        tables: on the device, as :class:`Tables` has them.
        out: the memory from which the places of views are counted, in elements of its type.
    """
    height, width = height_width(look.size)
    sides = {"size_y": height, "size_x": width}
    place, whole, factor = tables["place"], tables["whole"], tables["factor"]
    tiles, rows = _tiles(look.size), len(place)
    end = (out, *look.numbers, *look.strides)
    block = triton.next_power_of_2(max(height, width, TILE_Y))
    bicubic = look.interpolation == "bicubic"
    fill_taps[(2 * rows,)](place, whole, memory.first, memory.weight, **sides, bicubic=bicubic, tile_y=TILE_Y, block=block)
    resize_and_color[(rows * tiles,)](
        place, whole, factor, memory.first, memory.weight, memory.scratch, memory.gray_sum, *end,
        **sides, tile_y=TILE_Y, tile_x=TILE_X, unit=look.unit, num_warps=1,
    )  # fmt: skip
    if contrasts := len(tables["contrast"]):
        grid = (contrasts * triton.cdiv(height * width, BLOCK_P),)
        block_t = triton.next_power_of_2(tiles)
        finish_color[grid](
            tables["contrast"], place, whole, factor, memory.scratch, memory.gray_sum, *end,
            **sides, tiles=tiles, block_t=block_t, block_p=BLOCK_P, unit=look.unit,
        )  # fmt: skip
    if blurs := len(tables["blurred"]):
        grid = (blurs * 3 * triton.cdiv(height, BLUR_TILE) * triton.cdiv(width, BLUR_TILE),)
        weights = tables["blur_weight"]
        by = (tables["blurred"], tables["radius"], weights, weights.shape[1])
        blur_down[grid](*by, whole, memory.scratch, memory.turned, **sides, tile=BLUR_TILE, num_warps=1)
        blur_across[grid](*by, place, whole, memory.turned, *end, **sides, tile=BLUR_TILE, unit=look.unit, num_warps=1)


def _render_part(images: Sequence[Tensor], params: ViewParams, canvas: Canvas, look: Look, first_image: int) -> None:
    device = canvas.flat.device
    tables = tables_of(images, params, canvas, first_image, TILE_Y, device)
    memory = Memory.empty(tables.rows, len(tables.arrays["blurred"]), tables.weights, look.size, device)
    launch(to_device(tables, device), memory, canvas.flat, look)


def _tiles(size: Size) -> int:
    """Of a view, in the resize."""
    height, width = height_width(size)
    return triton.cdiv(height, TILE_Y) * triton.cdiv(width, TILE_X)


def _scale_and_bias(spec: RenderSpec, canvas: Canvas, normalize: bool) -> tuple[float, ...]:
    """Solarize's threshold, then the factors and the summands that are applied last, of each channel."""
    unit = 255.0 if canvas.flat.dtype == torch.uint8 else 1.0
    std = np.array(spec.std) if normalize else np.full(3, 1 / unit)
    mean = np.array(spec.mean) if normalize else np.zeros(3)
    return (spec.solarize_threshold, *(1 / std).tolist(), *(-mean / std).tolist())
