"""What kernels are launched with: of the types that they were compiled for ahead of time, and the same for every batch.

Launches are caught, so that neither a device nor the interpreter is needed; Triton's own code tells what it would compile for them.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch

import hvs_data as hvs
from hvs_data.kernels.render.canvas import DTYPES, Canvas
from render_material import drawn_rows, photo

triton = pytest.importorskip("triton")

pytestmark = [
    pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter specialises nothing"),
    pytest.mark.skipif(triton.__version__.startswith("3.2."), reason="Triton 3.2 tells in another way what it would compile"),
]

KERNELS = ("fill_taps", "resize_and_color", "finish_color", "blur_down", "blur_across")
POINTERS = {
    "place": "*i64", "whole": "*i32", "first": "*i32", "rows": "*i32", "radii": "*i32", "scratch": "*u16", "turned": "*u16",
    "factor": "*fp32", "weight": "*fp32", "weights": "*fp32", "gray_sum": "*fp32",
}  # fmt: skip
OUTPUTS = {torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16", torch.uint8: "*u8"}


class Caught:
    """Stands for a kernel, and notes what each launch would be compiled for."""

    def __init__(self, kernel: Any):
        from triton.backends.compiler import GPUTarget
        from triton.compiler.compiler import make_backend
        from triton.runtime.jit import create_function_from_signature

        self.names = kernel.arg_names
        self.grids: list[int] = []
        self.compiled: set[tuple[Any, ...]] = set()
        self._bind = create_function_from_signature(kernel.signature, kernel.params, make_backend(GPUTarget("cuda", 90, 32)))

    def __getitem__(self, grid: tuple[int]) -> Any:
        def launch(*args: Any, **options: Any) -> None:
            values, kinds, others = self._bind(*args, **options)
            constants = {name: values[name] for name, (kind, _) in zip(self.names, kinds, strict=True) if kind == "constexpr"}
            self.grids.append(grid[0])
            self.compiled.add((tuple(kinds), tuple(constants.items()), tuple(others.items())))

        return launch


@pytest.fixture
def caught(monkeypatch: pytest.MonkeyPatch) -> dict[str, Caught]:
    from hvs_data.kernels.render.triton import render

    kernels = {name: Caught(getattr(render, name)) for name in KERNELS}
    for name, kernel in kernels.items():
        monkeypatch.setattr(render, name, kernel)
    return kernels


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_batch_is_rendered_by_the_same_kernels(caught: dict[str, Caught], dtype: torch.dtype, channels_last: bool) -> None:
    from hvs_data.kernels.render.triton.render import render_views

    recipe = hvs.recipes.byol(2)
    for count in (1, 2, 15, 16, 17, 33):
        images = [photo(40 + number, 60 - number, count) for number in range(count)]
        canvas = Canvas.empty(2, count, 224, dtype, channels_last=channels_last)
        render_views(images, drawn_rows(recipe, images, seed=count), canvas, normalize=dtype.is_floating_point)
    for name, kernel in caught.items():
        assert len(kernel.grids) >= 5 and min(kernel.grids) > 0, name
        ((kinds, _, _),) = kernel.compiled
        for argument, (kind, attribute) in zip(kernel.names, kinds, strict=True):
            if argument == "out" or argument in POINTERS:
                # sixteen bytes at a time may be read and written
                assert (kind, attribute) == (OUTPUTS[dtype] if argument == "out" else POINTERS[argument], "D"), (name, argument)
