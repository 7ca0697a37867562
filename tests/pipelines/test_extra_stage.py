"""A stage of the user's own between an engine and normalisation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import hvs_data as hvs
from hvs_data.errors import HvsError
from hvs_data.pipelines.engine import choose_engine
from hvs_data.pipelines.extra_stage import with_extra_stage
from render_material import PRESETS, SIZES, drawn_rows, photo

IMAGES = [photo(height, width, seed) for seed, (height, width) in enumerate(SIZES)]
ROWS = drawn_rows(PRESETS["moco_v3"], IMAGES)


class Invert(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        assert x.dtype == torch.float32 and x.ndim == 4 and x.shape[1:] == (3, 16, 16) and not torch.is_grad_enabled()
        assert float(x.min()) >= 0 and float(x.max()) <= 1
        return 1 - x


@pytest.mark.parametrize("engine", ["fused", "reference", "dali-kornia"])
def test_a_stage_sees_views_of_0_to_1_before_they_are_normalised(engine: str) -> None:
    if engine == "dali-kornia":
        for package in ("nvidia.dali", "kornia"):
            pytest.importorskip(package)
    plain = hvs.render(IMAGES, ROWS, 16, engine, normalize=False)
    staged = hvs.render(IMAGES, ROWS, 16, engine, normalize=False, extra_stage=Invert())
    assert torch.equal(staged, 1 - plain)
    mean, std = (torch.tensor(values)[:, None, None] for values in (ROWS.spec.mean, ROWS.spec.std))
    normalized = hvs.render(IMAGES, ROWS, 16, engine, extra_stage=Invert(), channels_last=True)
    # a difference and a quotient, each rounded twice, of values of at most 1 / 0.224
    assert torch.allclose(normalized, (1 - plain - mean) / std, rtol=0, atol=4 * 2.0**-24 / 0.224)


def test_number_formats() -> None:
    plain = hvs.render(IMAGES, ROWS, 16, "fused", normalize=False)
    half = hvs.render(IMAGES, ROWS, 16, "fused", torch.float16, normalize=False, extra_stage=lambda x: x.double() / 2)
    assert torch.equal(half, (plain.double() / 2).half())
    whole = hvs.render(IMAGES, ROWS, 16, "fused", torch.uint8, extra_stage=lambda x: 2 * x)
    assert torch.equal(whole, (2 * plain * 255).round().clamp(0, 255).to(torch.uint8))


@pytest.mark.parametrize("stage", [lambda x: x[:, :, 1:], lambda x: (255 * x).to(torch.uint8), lambda x: None, lambda x: x.to("meta")])
def test_what_is_no_view_is_refused(stage: object) -> None:
    with pytest.raises(HvsError, match="extra_stage must return a float tensor"):
        hvs.render(IMAGES, ROWS, 16, extra_stage=stage, num_threads=1)


def test_none_leaves_the_engine_as_it_is() -> None:
    engine = choose_engine("fused", torch.device("cpu"))
    assert with_extra_stage(engine, None) is engine
    assert with_extra_stage(engine, Invert()).name == "fused"


def test_in_a_loader() -> None:
    source = [(image.permute(2, 0, 1), 0) for image in IMAGES]
    recipe = hvs.recipes.simsiam(candidates=2, size=16)
    plain = next(iter(hvs.ViewLoader(source, recipe, 4, num_threads=2, normalize=False)))
    staged = next(iter(hvs.ViewLoader(source, recipe, 4, num_threads=2, normalize=False, extra_stage=Invert())))
    assert all(torch.equal(one, 1 - other) for one, other in zip(staged.views, plain.views, strict=True))
