"""Every kernel compiles for GPUs that need not be there, to code without local memory that spills and with the instructions meant."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any

import pytest

from compiled_ahead import compiled_ahead

triton = pytest.importorskip("triton")

pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing")

# Triton 3.2, which torch 2.6 brings, loads four weights side by side one by one
LOADS_NARROWLY = triton.__version__.startswith("3.2.")
ARCHITECTURES = (80, 90)
OUTPUTS = ("fp32", "fp16", "bf16", "u8")
SIZE = 224
POINTERS = {
    "place": "*i64", "whole": "*i32", "first": "*i32", "rows": "*i32", "radii": "*i32", "scratch": "*u16", "turned": "*u16",
    "factor": "*fp32", "weight": "*fp32", "weights": "*fp32", "gray_sum": "*fp32",
}  # fmt: skip
WHOLE = ("weight_stride", "channel_stride", "pixel_stride")


def compiled(kernel: Any, architecture: int, constants: dict[str, Any], out: str, num_warps: int, pixel_stride: int = 1) -> Any:
    """The kernel for a target, as a launch with aligned tensors of this dtype compiles it."""
    # arguments of 1 become constants when a kernel is launched: in channels-last memory, the distance of channels
    one = "pixel_stride" if pixel_stride == 1 else "channel_stride"
    constants = {**constants, **({one: 1} if one in kernel.arg_names else {})}
    signature = {
        name: POINTERS.get(name, f"*{out}" if name == "out" else "i32" if name in WHOLE else "fp32")
        for name in kernel.arg_names
        if name not in constants
    }
    multiples = ("channel_stride",) if constants.get("unit") == 16 else ()
    return compiled_ahead(kernel, architecture, signature, constants, num_warps=num_warps, aligned=True, multiples=multiples)


def assert_good(kernel: Any, architecture: int) -> str:
    """PTX of a compiled kernel, once it is one for this target and no thread keeps anything in local memory."""
    ptx = kernel.asm["ptx"]
    assert f".target sm_{architecture}" in ptx and kernel.asm["cubin"]
    assert not re.search(r"\b(?:ld|st)\.local\b", ptx) and ".local " not in ptx
    # the bits of whole numbers are multiplied as denormal numbers
    assert ".ftz" not in ptx
    # sums are taken in a fixed order
    assert not re.search(r"\b(?:atom|red)\.", ptx)
    return ptx


@pytest.fixture(autouse=True)
def nothing_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("bicubic", [False, True])
def test_taps(architecture: int, bicubic: bool) -> None:
    from hvs_data.kernels.render.triton import render, taps

    constants = {"size_y": SIZE, "size_x": SIZE, "bicubic": bicubic, "tile_y": render.TILE_Y, "block": 256}
    kernel = compiled(taps.fill_taps, architecture, constants, "", 4)
    assert "f64" in assert_good(kernel, architecture)
    # the first tap and the last are decided in one place: elsewhere, the same formula may be fused otherwise, which decides ties
    assert kernel.asm["ttir"].count("arith.fptosi") == 2


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("out", OUTPUTS)
def test_resize(architecture: int, out: str) -> None:
    from hvs_data.kernels.render.triton import render, resize

    constants = {"size_y": SIZE, "size_x": SIZE, "tile_y": render.TILE_Y, "tile_x": render.TILE_X, "unit": 16}
    ptx = assert_good(compiled(resize.resize_and_color, architecture, constants, out, 1), architecture)
    assert "fma.rn.f32" in ptx
    # vertical weights of a tile come in wide loads
    assert LOADS_NARROWLY or "ld.global.v4.b32" in ptx
    # pixels come in words, and no byte is converted
    assert not re.search(r"ld\.global\.[bu]8|cvt\.rn\.f32", ptx)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("out", OUTPUTS)
def test_finish(architecture: int, out: str) -> None:
    from hvs_data.kernels.render.triton import finish, render

    tiles = -(-SIZE // render.TILE_Y) * -(-SIZE // render.TILE_X)
    constants = {
        "size_y": SIZE, "size_x": SIZE, "tiles": tiles, "block_t": triton.next_power_of_2(tiles), "block_p": render.BLOCK_P, "unit": 16,
    }  # fmt: skip
    ptx = assert_good(compiled(finish.finish_color, architecture, constants, out, 4), architecture)
    # a thread's pixels lie side by side, and are read and written so
    assert "ld.global.v4.b32" in ptx and not re.search(r"(?:ld|st)\.global\.b(?:8|16)\b", ptx)
    if out == "bf16":
        assert "cvt.rn.bf16" in ptx


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_blur_down(architecture: int) -> None:
    from hvs_data.kernels.render.triton import blur, render

    constants = {"size_y": SIZE, "size_x": SIZE, "tile": render.BLUR_TILE}
    ptx = assert_good(compiled(blur.blur_down, architecture, constants, "", 1), architecture)
    assert "ld.global.v4.b32" in ptx and "st.global.v4.b32" in ptx


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("out", OUTPUTS)
def test_blur_across(architecture: int, out: str) -> None:
    from hvs_data.kernels.render.triton import blur, render

    constants = {"size_y": SIZE, "size_x": SIZE, "tile": render.BLUR_TILE, "unit": 16}
    ptx = assert_good(compiled(blur.blur_across, architecture, constants, out, 1), architecture)
    assert "ld.global.v4.b32" in ptx and "st.global.v4.b32" in ptx


@pytest.mark.parametrize(("height", "width"), [(1, 1), (19, 19), (96, 96), (40, 200)])
def test_other_sizes_and_channels_last(height: int, width: int) -> None:
    from hvs_data.kernels.render.triton import blur, finish, render, resize, taps

    tiles = -(-height // render.TILE_Y) * -(-width // render.TILE_X)
    sides, unit = {"size_y": height, "size_x": width}, math.gcd(16, 3 * height * width)
    block = triton.next_power_of_2(max(height, width, render.TILE_Y))
    kernels = [
        (taps.fill_taps, {**sides, "bicubic": True, "tile_y": render.TILE_Y, "block": block}, 4),
        (resize.resize_and_color, {**sides, "tile_y": render.TILE_Y, "tile_x": render.TILE_X, "unit": unit}, 1),
        (
            finish.finish_color,
            {**sides, "tiles": tiles, "block_t": triton.next_power_of_2(tiles), "block_p": render.BLOCK_P, "unit": unit},
            4,
        ),
        (blur.blur_down, {**sides, "tile": render.BLUR_TILE}, 1),
        (blur.blur_across, {**sides, "tile": render.BLUR_TILE, "unit": unit}, 1),
    ]
    for kernel, constants, num_warps in kernels:
        assert_good(compiled(kernel, 90, constants, "bf16", num_warps, pixel_stride=3), 90)
