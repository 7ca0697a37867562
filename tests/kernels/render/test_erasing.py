"""Erased rectangles: the reference against torchvision's ``erase``, and engines and the extra stage against the reference."""

# Axes: B image, V view, C channel, S side.

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy import stats
from torchvision.transforms.v2 import functional as tv

import hvs_data as hvs
from hvs_data.arguments.sizes import Size, height_width
from hvs_data.errors import HvsError
from hvs_data.kernels.render.canvas import Canvas
from hvs_data.kernels.render.erasing import noise
from hvs_data.kernels.render.reference import render_reference
from hvs_data.pipelines.storing import store_views
from hvs_data.recipes import Erasing, simsiam
from hvs_data.types import ViewParams
from numba_rendering import rendered
from render_material import drawn_rows, photo

IMAGES = [photo(29, 37), photo(60, 41, 1), photo(1, 1)]
VALUES: list[Any] = [0.0, -1.5, (0.5, 1.0, -2.0), "noise"]


def rows_of(value: Any, size: Size = 32) -> ViewParams:
    return drawn_rows(simsiam(4, size=size).with_roles(erase=Erasing(0.8, (0.02, 0.6), value=value)), IMAGES)


@pytest.mark.parametrize("value", VALUES)
def test_the_reference_erases_as_torchvision(value: Any) -> None:
    params = rows_of(value)
    assert params.erase is not None and params.key is not None and (params.erase[..., 2] == 0).any()
    plain, views = (render_reference(IMAGES, rows, 32) for rows in (replace(params, erase=None), params))
    for b, v in torch.cartesian_prod(torch.arange(3), torch.arange(4)).tolist():
        top, left, height, width = params.erase[b, v].tolist()
        filling = noise(int(params.key[b, v]), 3, height, width) if value == "noise" else torch.tensor(value).expand(3)[:, None, None]
        assert torch.equal(views[b, v], tv.erase(plain[b, v], top, left, height, width, filling.double()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
@pytest.mark.parametrize("value", VALUES)
def test_engines_erase_as_the_reference(value: Any, dtype: torch.dtype) -> None:
    params = rows_of(value)
    for normalize in (False, True) if dtype.is_floating_point else (False,):
        plain = rendered(IMAGES, replace(params, erase=None), 32, dtype, normalize=normalize)
        expected = render_reference(IMAGES, params, 32, normalize=normalize)
        erased = expected != render_reference(IMAGES, replace(params, erase=None), 32, normalize=normalize)
        # rounded to float32 in two other orders, then as the dtype wants it
        expected = (expected * 255).round().clamp(0, 255) if dtype == torch.uint8 else expected
        slack = 1.0 if dtype == torch.uint8 else 1e-5 + torch.finfo(dtype).eps * expected.abs()
        finished = Canvas.empty(4, 3, 32, dtype)
        x_VB3SS = rendered(IMAGES, replace(params, erase=None), 32, normalize=False).transpose(0, 1).contiguous()
        store_views(x_VB3SS, finished, params, normalize=normalize)
        for pixels in (rendered(IMAGES, params, 32, dtype, normalize=normalize, channels_last=True), finished.pixels.transpose(0, 1)):
            assert bool(((pixels.double() - expected).abs() <= slack)[erased].all())
        assert torch.equal(rendered(IMAGES, params, 32, dtype, normalize=normalize)[~erased], plain[~erased])


def test_views_that_are_not_normalised_have_the_value_once_they_are() -> None:
    params = rows_of((0.5, 1.0, -2.0))
    mean, std = (torch.tensor(values)[:, None, None] for values in (params.spec.mean, params.spec.std))
    later = (render_reference(IMAGES, params, 32, normalize=False) - mean) / std
    assert torch.allclose(later, render_reference(IMAGES, params, 32), atol=1e-6)


@pytest.mark.parametrize(("own", "size"), [*((32, size) for size in (1, 9, 16, 31, 64)), ((16, 40), (8, 20)), ((16, 40), (31, 9))])
def test_at_another_size_the_same_part_is_erased(own: Size, size: Size) -> None:
    params = rows_of(9.0, own)
    assert params.erase is not None
    erased = (rendered(IMAGES, params, size) == 9.0).all(2)
    zoom = torch.tensor(height_width(size)) / torch.tensor(height_width(own))
    for b, v in torch.cartesian_prod(torch.arange(3), torch.arange(4)).tolist():
        start_2, length_2 = (params.erase[b, v].double().view(2, 2) * zoom).tolist()
        inside = [
            (torch.arange(side) + 0.5 > start - 1e-9) & (torch.arange(side) + 0.5 <= start + length)
            for side, start, length in zip(height_width(size), start_2, length_2, strict=True)
        ]
        assert torch.equal(erased[b, v], inside[0][:, None] & inside[1][None])
    assert torch.equal(rendered(IMAGES, params, size) == 9.0, render_reference(IMAGES, params, size) == 9.0)


def test_noise_is_standard_normal_and_its_keys() -> None:
    values = noise(2**62 + 5, 3, 200, 200)
    assert stats.kstest(values.flatten().numpy(), stats.norm.cdf).pvalue > 1e-4
    assert torch.equal(values, noise(2**62 + 5, 3, 200, 200)) and not torch.equal(values, noise(2**62 + 6, 3, 200, 200))
    with pytest.raises(HvsError, match="erasing with noise expects rows with keys"):
        rendered(IMAGES, replace(rows_of("noise"), key=None), 32)


@pytest.mark.parametrize("engine", ["fused", "reference"])
def test_a_stage_sees_views_before_they_are_erased(engine: str) -> None:
    params, seen = rows_of(9.0), []

    def stage(x_N3SS: torch.Tensor) -> torch.Tensor:
        seen.append(x_N3SS.clone())
        return 1 - x_N3SS

    views = hvs.render(IMAGES, params, engine=engine, extra_stage=stage, num_threads=1)
    plain = hvs.render(IMAGES, replace(params, erase=None), engine=engine, normalize=False)
    assert torch.equal(torch.cat(seen), plain.flatten(0, 1))
    assert torch.equal(views == 9.0, render_reference(IMAGES, params, 32) == 9.0)
