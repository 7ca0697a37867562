"""Where the time of one core goes: each stage of the loader on one thread, beside a lower bound of its time.

Nothing in the hot path is instrumented. Parts of rendering are separated by rows: the same boxes with more and more operations on.
"""

# Axes: B image, V view, S side.

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

import hvs_data as hvs
from harness.data.photos import repeated
from harness.loaders import peers
from harness.measuring.timing import Spread, alternate, seconds_of
from hvs_data.kernels.render.canvas import Canvas
from hvs_data.pipelines.decode import decode_image
from hvs_data.pipelines.engine import choose_engine
from hvs_data.recipes.spec import Recipe
from hvs_data.sources.regular import read_file
from hvs_data.types import ViewParams

# Vector operations on one pixel, three channels: an add, multiply, minimum, maximum, comparison or multiply-add counts 1.
# Brightness 3 x (multiply, clamp); contrast: grey and its sum 4, 3 x (multiply-add, clamp); saturation: grey 4, 3 x (multiply-add,
# clamp); hue: extremes 4, division 2, sextant 9, wrap 3, 3 channels x 6.
JITTER_OPERATIONS = 9 + 13 + 13 + 36
GRAY_OPERATIONS = 3
STORE_OPERATIONS = 3
# A blur needs taps up to this many sigma, or the recipe's radius where that is shorter.
BLUR_SIGMAS = 4.0


@dataclass(frozen=True)
class Stage:
    """One thing that is timed.

    Attributes:
        function: does it for all images.
        unit: "image" or "view".
        count: of these, in one call.
        bytes: that one call must read and write; operations: vector operations that it must do. None where that is not known.
        differs: from what the loader does.
    """

    function: Callable[[], Any]
    unit: str
    count: int
    bytes: float | None = None
    operations: float | None = None
    differs: str = "nothing"

    def run(self) -> float:
        """Microseconds for one image or view."""
        return seconds_of(self.function) / self.count * 1e6

    def bound(self, core: Core) -> float | None:
        """Least microseconds for one image or view; None where no bound is known."""
        if self.bytes is None and self.operations is None:
            return None
        seconds = max((self.bytes or 0) / core.bytes_per_second, (self.operations or 0) / core.operations_per_second)
        return seconds / self.count * 1e6


@dataclass(frozen=True)
class Core:
    """What one core of this machine reaches: bytes read and written by a large copy, multiply-adds of a float32 matrix product."""

    bytes_per_second: float
    operations_per_second: float

    @staticmethod
    def measured() -> Core:
        source = torch.ones(2**26, dtype=torch.uint8)
        target = torch.ones_like(source)
        matrix = torch.rand(768, 768)
        product = torch.empty_like(matrix)
        copy = min(seconds_of(lambda: target.copy_(source)) for _ in range(9))
        multiply = min(seconds_of(lambda: torch.mm(matrix, matrix, out=product)) for _ in range(9))
        return Core(2 * source.numel() / copy, matrix.shape[0] ** 3 / multiply)


def stage_table(paths: Sequence[str], recipe: Recipe, *, images: int, repeats: int, seed: int) -> list[dict[str, Any]]:
    """Time every stage on one thread.

    Args:
        paths: image files.
        recipe: of views of one size.
        images: that each measurement covers.
        repeats: measurements of a stage, in alternation with all others.

    Returns:
        Measurements as in ``schema.RESULT``, in microseconds an image or a view. ``details`` has ``bound_us``, the least that this core
        could take, and ``share_of_bound``; both null where no bound is known.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        stages = Stages(repeated(list(paths), images), recipe, seed).all()
        core = Core.measured()
        times = alternate({name: stage.run for name, stage in stages.items()}, repeats)
    finally:
        torch.set_num_threads(threads)
    return [_entry(name, stage, Spread(tuple(times[name])), stage.bound(core)) for name, stage in stages.items()]


def _entry(name: str, stage: Stage, spread: Spread, bound: float | None) -> dict[str, Any]:
    details = {"bound_us": bound, "share_of_bound": None if bound is None else bound / spread.median}
    unit = f"us/{stage.unit}, one thread"
    return {"group": "stages", "name": name, "unit": unit, **spread.as_json(), "details": details, "differs": stage.differs}


class Stages:
    """The stages on the same images and rows."""

    def __init__(self, paths: Sequence[str], recipe: Recipe, seed: int):
        self.paths, self.recipe, self.seed = paths, recipe, seed
        self.size = recipe.roles[0].size
        self.source = hvs.open_source(list(paths))
        self.encoded = [read_file(path) for path in self.paths]
        self.images = hvs.decode(self.encoded, num_threads=1)
        self.rows = self.drawn(recipe)
        self.memory = torch.zeros(self.views * 3 * self.size**2 * 4, dtype=torch.uint8)
        self.engine = choose_engine("fused", torch.device("cpu"))

    @property
    def views(self) -> int:
        return len(self.paths) * self.recipe.num_views

    def drawn(self, recipe: Recipe, images: slice = slice(None)) -> ViewParams:
        height, width = self.images.height[images], self.images.width[images]
        index = torch.arange(len(self.paths))[images]
        return hvs.sample_views(recipe, seed=self.seed, epoch=0, index=index, height=height, width=width)

    def _drawn_in_groups(self, images: int) -> None:
        """As a loader's tasks draw them: 16 images at a time, or fewer where a batch is shared by many threads."""
        for start in range(0, len(self.paths), images):
            self.drawn(self.recipe, slice(start, start + images))

    def all(self) -> dict[str, Stage]:
        return {**self._around_rendering(), **self._rendering(), **self._of_peers()}

    def _around_rendering(self) -> dict[str, Stage]:
        images, views = len(self.paths), self.views
        shape = (views, 3, self.size, self.size)
        encoded, written = float(sum(map(len, self.encoded))), float(self.memory.numel())
        return {
            "read": Stage(lambda: [self.source.read(index) for index in range(images)], "image", images, 2 * encoded),
            "decode": Stage(lambda: [decode_image(data) for data in self.encoded], "image", images),
            "decode by simplejpeg alone": Stage(lambda: [peers.decoded_by_simplejpeg(data) for data in self.encoded], "image", images),
            **{f"rows, {group} images a call": Stage(partial(self._drawn_in_groups, group), "view", views) for group in (16, 2)},
            "batch, memory used before": Stage(lambda: self.memory.fill_(0), "view", views, written, differs="fills with 0"),
            "batch, fresh memory": Stage(lambda: torch.zeros(shape).fill_(0), "view", views, written, differs="fills with 0"),
        }

    def _rendering(self) -> dict[str, Stage]:
        jitter = replace(self.recipe.roles[0].jitter, p=1.0)
        always = self.drawn(self.recipe.with_roles(jitter=jitter, gray=0.0, blur=1.0))
        plain = without(self.rows, color=True, blur=True)
        stages = {
            "resize": self._rendered(plain),
            "resize + colour": self._rendered(without(self.rows, blur=True)),
            "resize + blur": self._rendered(without(self.rows, color=True)),
            "resize + colour + blur": self._rendered(self.rows),
            "resize + colour + blur, half the side": self._rendered(self.rows, size=self.size // 2),
            "resize + jitter in every view": self._rendered(without(always, blur=True)),
            "resize + blur in every view": self._rendered(without(always, color=True)),
            "resize, channels last": self._rendered(plain, channels_last=True),
        }
        for dtype in (torch.uint8, torch.float16, torch.bfloat16):
            stages[f"resize, to {str(dtype).removeprefix('torch.')}"] = self._rendered(plain, dtype=dtype)
        return {f"render: {name}": stage for name, stage in stages.items()}

    def _rendered(
        self, rows: ViewParams, *, size: int | None = None, dtype: torch.dtype = torch.float32, channels_last: bool = False
    ) -> Stage:
        """The engine's own call on memory that was used before, as in a loader."""
        size = size or self.size
        flat = self.memory.view(dtype)[: self.views * 3 * size**2]
        canvas = Canvas.on(flat, rows.num_views, rows.batch_size, size, channels_last=channels_last)
        normalize = dtype != torch.uint8
        box_pixels = float((rows.box[..., 2].double() * rows.box[..., 3]).sum())
        bytes_ = 3 * box_pixels + flat.numel() * flat.element_size()
        function = partial(self.engine.render_group, self.images, rows, canvas, normalize=normalize)
        return Stage(function, "view", self.views, bytes_, operations(rows, size))

    def _of_peers(self) -> dict[str, Stage]:
        role, images = self.recipe.roles[0], len(self.paths)
        pillow = [peers.decode_pillow(path) for path in self.paths]
        arrays = [image.numpy() for image in self.images]

        def every(view: Callable[[Any], Tensor], inputs: list[Any]) -> None:
            for image in inputs:
                view(image)

        stages = {
            "Pillow, read and decode": Stage(lambda: [peers.decode_pillow(path) for path in self.paths], "image", images),
            "torchvision": Stage(
                partial(every, peers.torchvision_view(role, self.recipe), pillow), "view", images, differs=peers.DIFFERS["torchvision"]
            ),
        }
        for name, area in (("albumentations", False), ("albumentations-area", True)):
            view = peers.albumentations_view(role, self.recipe, area=area)
            stages[name] = Stage(partial(every, view, arrays), "view", images, differs=peers.DIFFERS[name])
        return {f"peer: {name}": stage for name, stage in stages.items()}


def without(rows: ViewParams, *, color: bool = False, blur: bool = False) -> ViewParams:
    """The same boxes and flips with colour operations, blur, or both switched off."""
    if color:
        one, zero, off = torch.ones_like(rows.brightness), torch.zeros_like(rows.hue), torch.zeros_like(rows.gray)
        rows = replace(rows, brightness=one, contrast=one, saturation=one, hue=zero, gray=off, solarize=off)
    return replace(rows, blur_sigma=torch.zeros_like(rows.blur_sigma)) if blur else rows


def operations(rows: ViewParams, size: int) -> float:
    """Vector operations that all these views need: the arithmetic of the definition, not what any code does."""
    support = 2.0 if rows.spec.interpolation == "bicubic" else 1.0
    height_BV, width_BV = rows.box[..., 2].double(), rows.box[..., 3].double()
    taps_y, taps_x = (torch.minimum(2 * support * (side / size).clamp_min(1), side) for side in (height_BV, width_BV))
    # two passes in the cheaper order; a tap is a multiply-add
    rows_first = taps_y * size * width_BV + taps_x * size * size
    columns_first = taps_x * size * height_BV + taps_y * size * size
    resize_BV = 3 * torch.minimum(rows_first, columns_first)
    # two passes; symmetric taps share a multiplication: an addition and a multiply-add for two of them
    sigma_BV = rows.blur_sigma.double() * size / torch.tensor(rows.size)
    radius_BV = (BLUR_SIGMAS * sigma_BV).ceil().clamp_max(rows.spec.blur_kernel // 2)
    blur_BV = 3 * 2 * (1 + 2 * radius_BV) * (sigma_BV > 0)
    jittered_BV = (rows.brightness != 1) | (rows.contrast != 1) | (rows.saturation != 1) | (rows.hue != 0)
    color_BV = JITTER_OPERATIONS * jittered_BV + GRAY_OPERATIONS * rows.gray
    return float((resize_BV + (blur_BV + color_BV + STORE_OPERATIONS) * size**2).sum())
