"""The engine "dali-kornia" on DALI's CPU backend and Kornia on CPU tensors, against the reference."""

# Axes: B image, V view, S side.

from __future__ import annotations

import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import hvs_data as hvs
from dali_bounds import dali_row_error, resize_gap
from hvs_data.arguments.sizes import Size, height_width
from hvs_data.kernels.render.canvas import Canvas, count_elements
from hvs_data.kernels.render.reference import render_reference
from hvs_data.pipelines.dali_rows import Rows
from hvs_data.types import RenderSpec, ViewParams
from render_bounds import assert_within, normalize_error, resize_error, scaled_radius, solarize_error
from render_material import INTERPOLATIONS, PRESETS, SIZES, drawn_rows, photo, plain_rows

WHY = "needs DALI and Kornia: pip install 'hvs_data[dali-test]'"
pytest.importorskip("nvidia.dali", reason=WHY)
pytest.importorskip("kornia", reason=WHY)

IMAGES = [photo(height, width, seed) for seed, (height, width) in enumerate(SIZES)]


def rendered(images: list[Tensor], params: ViewParams, size: Size, *, normalize: bool = False, device: str = "cpu") -> Tensor:
    """[B, V, 3, H, W] on the CPU, as the engine writes it over NaN."""
    from hvs_data.pipelines.dali_engine import DaliKorniaEngine

    flat = torch.full((count_elements(params.num_views, len(images), size),), float("nan"), device=device)
    canvas = Canvas.on(flat, params.num_views, len(images), size)
    DaliKorniaEngine().render_group([image.to(device) for image in images], params, canvas, normalize=normalize)
    return canvas.pixels.transpose(0, 1).cpu()


def assert_rows_agree(images: list[Tensor], params: ViewParams, size: Size, device: str = "cpu") -> None:
    """Every view within its derived bound, before and after normalisation."""
    actual, normalized = (rendered(images, params, size, normalize=normalize, device=device) for normalize in (False, True))
    expected = render_reference(images, params, size, normalize=False)
    unsolarized = render_reference(images, replace(params, solarize=torch.zeros_like(params.solarize)), size, normalize=False)
    expected_normalized = render_reference(images, params, size)
    for b in range(len(images)):
        for v in range(params.num_views):
            error: Tensor | float = dali_row_error(params, b, v, size)
            if params.solarize[b, v]:
                error = solarize_error(unsolarized[b, v], error, params.spec.solarize_threshold, torch.float32)
            assert_within(actual[b, v], expected[b, v], error)
            bound = normalize_error(torch.as_tensor(error).expand(3, *height_width(size)), params.spec.std, torch.float32)
            assert_within(normalized[b, v], expected_normalized[b, v], bound)


@pytest.mark.parametrize("name", PRESETS)
def test_rows_of_every_recipe(name: str) -> None:
    assert_rows_agree(IMAGES, drawn_rows(PRESETS[name], IMAGES, seed=3), 32)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", PRESETS)
def test_rows_of_every_recipe_on_cuda(name: str) -> None:
    # the same tables and formulas; a sum in another order keeps its bound
    assert_rows_agree(IMAGES, drawn_rows(PRESETS[name], IMAGES, seed=3), 32, "cuda")


@pytest.mark.parametrize("size", [1, 2, 21, (9, 30), (30, 9), (1, 5)])
def test_odd_and_smallest_sizes(size: Size) -> None:
    for name in ("simclr", "moco_v3"):
        assert_rows_agree(IMAGES, drawn_rows(PRESETS[name], IMAGES, seed=4), size)


def test_the_blur_follows_the_size() -> None:
    # too small a difference in pixels to be told from rounding
    for name in ("dinov2, as run", "dino, paper", "simclr"):
        params = drawn_rows(PRESETS[name], IMAGES)
        for size in range(1, 50):
            rows = Rows.of(params, size)
            for v in range(params.num_views):
                of_slot = slice(v * len(IMAGES), (v + 1) * len(IMAGES))
                assert rows.radius_N[of_slot].tolist() == [scaled_radius(params, v, size)] * len(IMAGES)
                assert torch.equal(rows.sigma_N[of_slot], params.blur_sigma[:, v].double() * size / params.size[v])


def test_a_grey_image() -> None:
    grey = [photo(40, 30)[..., :1].expand(-1, -1, 3).contiguous()]
    assert_rows_agree(grey, drawn_rows(PRESETS["byol"], grey, seed=5), 32)


def boxes_at_the_borders(height: int, width: int) -> list[tuple[int, int, int, int]]:
    """The whole image, boxes of one pixel in two corners, and thin ones along two borders."""
    bottom, right = height - 1, width - 1
    return [(0, 0, height, width), (0, 0, 1, 1), (bottom, right, 1, 1), (0, right, height, 1), (bottom, 0, 1, width)]


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("size", [1, 9, 32])
def test_only_the_box_is_read_and_borders_are_exact(interpolation: str, size: int) -> None:
    images = [*IMAGES, photo(700, 431)]
    params = plain_rows([boxes_at_the_borders(*image.shape[:2]) for image in images], size, RenderSpec(interpolation=interpolation))
    params = replace(params, flip=torch.arange(params.box[..., 0].numel()).view(params.box.shape[:2]) % 2 == 0)
    actual, expected = rendered(images, params, size), render_reference(images, params, size, normalize=False)
    for b in range(len(images)):
        for v, (_, _, height, width) in enumerate(params.box[b].tolist()):
            error = resize_error(height, width, size, torch.float32) + resize_gap(height, width, size, interpolation)
            assert_within(actual[b, v], expected[b, v], error)


def test_the_tolerance_is_far_below_a_step_of_eight_bits() -> None:
    # what the bounds come to for a view of 224 pixels: bilinear has no table, bicubic one of 129 entries
    assert resize_gap(375, 500, 224, "bilinear") < 2 / 255
    assert resize_gap(375, 500, 224, "bicubic") < 5 / 255


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.uint8])
@pytest.mark.parametrize("channels_last", [False, True])
def test_number_formats_and_memory_orders(dtype: torch.dtype, channels_last: bool) -> None:
    params = drawn_rows(PRESETS["moco_v3"], IMAGES, seed=6)
    unit = hvs.render(IMAGES, params, 32, "dali-kornia", normalize=False, num_threads=1)
    actual = hvs.render(IMAGES, params, 32, "dali-kornia", dtype, normalize=False, channels_last=channels_last, num_threads=1)
    assert actual.dtype == dtype and actual.shape == unit.shape
    assert torch.equal(actual, (unit * 255).round().to(dtype) if dtype == torch.uint8 else unit.to(dtype))
    assert actual.flatten(0, 1).is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def test_parts_and_threads_do_not_change_the_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    from hvs_data.pipelines import dali_engine

    params = drawn_rows(PRESETS["simsiam"], IMAGES, seed=7)
    whole = rendered(IMAGES, params, 32)
    threads = 4
    with ThreadPoolExecutor(threads) as pool:
        for other in pool.map(lambda _: rendered(IMAGES, params, 32), range(3 * threads)):
            assert torch.equal(other, whole)
    for limit in ("VIEW_BYTES", "HELD_BYTES"):
        with monkeypatch.context() as changed:
            changed.setattr(dali_engine, limit, {"cpu": 3 * 5000})
            assert torch.equal(rendered(IMAGES, params, 32), whole)


def test_on_a_device_whole_images_are_held_too() -> None:
    from hvs_data.pipelines.dali_engine import _held, _parts

    params = plain_rows([[(0, 0, 8, 8), (3, 2, 4, 8)], [(0, 0, 4, 4), (1, 1, 4, 8)]])
    rows = Rows.of(params, 4)  # slot after slot
    boxes = [3 * (8 + 2 * 3) * (8 + 2 * 3), 3 * (4 + 2 * 2) * (4 + 2 * 2), 3 * (4 + 2 * 2) * (8 + 2 * 3), 3 * (4 + 2 * 2) * (8 + 2 * 3)]
    images = [photo(20, 30), photo(9, 9)]
    assert _held(images, rows, 4, "bilinear") == boxes
    with FakeTensorMode():  # stand for a device's
        on_device = [torch.empty(image.shape, dtype=torch.uint8, device="cuda") for image in images]
    held = _held(on_device, rows, 4, "bilinear")
    assert held == [boxes[0] + 1800, boxes[1] + 243, boxes[2] + 1800, boxes[3] + 243]
    assert list(_parts(held, sum(held[:2]))) == [(0, 2), (2, 4)]
    assert list(_parts(held, 1)) == [(number, number + 1) for number in range(4)]


def test_work_is_queued_with_the_images_device_as_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from hvs_data.pipelines import dali_engine

    current = []

    @contextmanager
    def device(of: torch.device) -> Iterator[None]:
        current.append(of)
        yield
        current.pop()

    def rendered(images: list[Tensor], params: ViewParams, size: int, max_views: int) -> Tensor:
        seen.append(list(current))
        return torch.zeros(params.num_views, len(images), 3, size, size)

    seen: list[list[torch.device]] = []
    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(dali_engine, "_rendered", rendered)
    canvas = Canvas.empty(4, 1, 8, torch.float32)
    params = drawn_rows(PRESETS["simsiam"], IMAGES[:1])
    with FakeTensorMode():
        on_device = torch.empty(IMAGES[0].shape, dtype=torch.uint8, device="cuda:1")
    for image in (IMAGES[0], on_device):
        dali_engine.DaliKorniaEngine().render_group([image], params, canvas, normalize=False)
    assert seen == [[], [torch.device("cuda", 1)]]


def test_pipelines_are_used_again_and_those_that_failed_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    from hvs_data.pipelines import dali_resize

    made = []
    build = dali_resize._build
    monkeypatch.setattr(dali_resize, "_build", lambda *arguments: made.append(arguments) or build(*arguments))
    monkeypatch.setattr(dali_resize, "MAX_IDLE", 2)
    pool = dali_resize.ResizerPool()

    def use(size: int) -> None:
        with pool.lend(size, "bilinear", torch.device("cpu"), 4):
            pass

    for _ in range(3):
        use(8)
    assert len(made) == 1
    with pytest.raises(RuntimeError, match="on purpose"), pool.lend(8, "bilinear", torch.device("cpu"), 4):
        raise RuntimeError("on purpose")
    use(8)
    assert len(made) == 2
    # two are kept: the oldest one goes
    use(9)
    use(10)
    use(8)
    assert [size for size, *_ in made] == [8, 8, 9, 10, 8]


class DelayedStream:
    """A stream on which nothing has run yet, and what was asked of it."""

    def __init__(self, log: list[str], name: str):
        self.log, self.name, self.events = log, name, 0

    def wait_event(self, event: str) -> None:
        self.log.append(f"{self.name} waits for {event}")

    def record_event(self) -> str:
        self.events += 1
        return f"event {self.events} of {self.name}"


class Output:
    def as_tensor(self) -> Any:
        return np.ones((2, 8, 8, 3), np.float32)


class StandInPipeline:
    """Gives outputs out, and looks whether the earlier ones still exist while it runs: their memory would be taken again."""

    def __init__(self, log: list[str]):
        self.log, self.given = log, []

    def feed_input(self, name: str, values: Any, **options: Any) -> None:
        if name == "images":
            self.log.append(f"images on {options['cuda_stream'].name}")

    def run(self, stream: Any) -> tuple[Output]:
        self.log.append(f"run, {sum(output() is not None for output in self.given)} kept")
        made = Output()
        self.given.append(weakref.ref(made))
        return (made,)


def test_no_memory_of_dali_is_taken_again_before_its_last_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    from hvs_data.pipelines import dali_resize

    log: list[str] = []
    streams = iter([DelayedStream(log, "a"), DelayedStream(log, "b"), DelayedStream(log, "a again")])
    monkeypatch.setattr(dali_resize, "_build", lambda *arguments: StandInPipeline(log))
    monkeypatch.setattr(dali_resize, "on_device", lambda values, device: values)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: next(streams))
    resizer = dali_resize.Resizer(8, "bilinear", torch.device("cuda", 0), 2)
    rows = Rows.of(drawn_rows(PRESETS["simsiam"], IMAGES[:1]).views([0, 1]), 8)
    for _ in range(3):
        resizer.views(IMAGES[:1], rows)
    assert log == [
        *("images on a", "run, 0 kept"),
        *("b waits for event 1 of a", "images on b", "run, 1 kept"),
        *("a again waits for event 1 of b", "images on a again", "run, 1 kept"),
    ]


def test_no_images_and_strided_rows() -> None:
    params = drawn_rows(PRESETS["simsiam"], IMAGES, seed=8)
    assert hvs.render([], params.images(slice(0, 0)), 16, "dali-kornia").shape == (0, 4, 3, 16, 16)
    some = params.images(slice(0, None, 2)).views([3, 0])
    assert_rows_agree(IMAGES[::2], some, 16)


def test_in_loaders_with_the_chosen_pair_rendered_again() -> None:
    class Brightness(hvs.Objective):
        def encode(self, pixels: Tensor) -> Tensor:
            return pixels.double().mean((2, 3))

        def pair_losses(self, outputs: Tensor) -> Tensor:
            return torch.cdist(outputs, outputs)

    images = [photo(60 + seed, 90 - seed, seed) for seed in range(6)]
    source = [(image.permute(2, 0, 1), seed) for seed, image in enumerate(images)]
    loader = hvs.ViewLoader(source, hvs.recipes.byol(4, size=24), 3, engine="dali-kornia", num_threads=2, normalize=False)
    for batch in hvs.HardViewLoader(loader, hvs.HardViewSelector(Brightness(), score_size=12)):
        chosen = batch.params.take(batch.selection.slots)
        for b, index in enumerate(batch.index.tolist()):
            expected = render_reference([images[index]], chosen.images([b]), 24, normalize=False)
            plain = replace(chosen.images([b]), solarize=torch.zeros_like(chosen.solarize[:1]))
            unsolarized = render_reference([images[index]], plain, 24, normalize=False)
            for v, views in enumerate(batch.views):
                error: Tensor | float = dali_row_error(chosen, b, v, 24)
                if chosen.solarize[b, v]:
                    error = solarize_error(unsolarized[0, v], error, chosen.spec.solarize_threshold, torch.float32)
                assert_within(views[b], expected[0, v], error)
