"""A loss that weighs the directions of an anchored pair: the loop of the documentation is trained."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import hvs_data as hvs
from multi_crop import make_recipe, make_rows

PAGE = Path(__file__).parents[3] / "docs" / "policies.md"


class Pictures(torch.utils.data.Dataset[tuple[Image.Image, int]]):
    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        draw = np.random.default_rng(index)
        return Image.fromarray(draw.integers(0, 256, (24, 30, 3), dtype=np.uint8)), 0


class AsDouble(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.double()


def make_model() -> nn.Module:
    """BYOL in the small, in float64."""
    torch.manual_seed(0)
    model = nn.Module()
    model.encoder = nn.Sequential(AsDouble(), nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    model.projector, model.predictor = nn.Linear(24, 8), nn.Linear(8, 8)
    model.target_encoder, model.target_projector = copy.deepcopy(model.encoder), copy.deepcopy(model.projector)
    return model.double()


def code_with(words: str) -> str:
    (code,) = (code for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if words in code)
    return code


def unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=1, keepdim=True)


def predicted(model: Any, view: Tensor) -> Tensor:
    return unit(model.predictor(model.projector(model.encoder(view))))


def targeted(model: Any, view: Tensor) -> Tensor:
    return unit(model.target_projector(model.target_encoder(view))).detach()


def test_the_loop_of_the_page_trains_with_the_weights_that_it_says() -> None:
    model = make_model()
    before = copy.deepcopy(model)
    trained = [*model.encoder.parameters(), *model.projector.parameters(), *model.predictor.parameters()]
    seen: list[dict[str, Any]] = []

    def update_target() -> None:
        step = {name: names[name] for name in ("anchor", "hard", "random", "loss", "selector")}
        seen.append(step | {"selection": step["selector"].last, "gradients": [weight.grad.clone() for weight in trained]})
        with torch.no_grad():
            for slow, fast in zip(model.target_projector.parameters(), model.projector.parameters(), strict=True):
                slow.mul_(0.9).add_(fast, alpha=0.1)

    names: dict[str, Any] = {"hvs": hvs, "torch": torch, "F": F, "model": model, "update_target": update_target, "batch_size": 4}
    names |= {"source": hvs.open_source(Pictures()), "recipe": hvs.recipes.simsiam(candidates=4, size=12)}
    names["optimizer"] = torch.optim.SGD(trained, lr=0.1)
    exec(code_with("policies.Anchored(), extra_views=1"), names)
    assert len(seen) == 3
    for step in seen:
        for image, (anchor, hard, random) in enumerate(step["selection"].slots.tolist()):
            areas = [height * width for _, _, height, width in step["selection"].params.box[image].tolist()]
            rest = [slot for slot in range(4) if slot != anchor]
            losses = [float(step["selection"].losses[image, anchor, slot]) for slot in rest]
            assert anchor == areas.index(max(areas)) and hard == rest[losses.index(max(losses))]
            assert random == min({0, 1, 2, 3} - {anchor, hard})

    # the first step's loss and gradients from the formula: the squared distance of unit vectors
    first = seen[0]
    weights = {("hard", "anchor"): 0.9, ("anchor", "hard"): 0.1, ("random", "anchor"): 0.5, ("anchor", "random"): 0.5}
    loss = sum(
        weight * (predicted(before, first[view]) - targeted(before, first[target])).square().sum(1).mean()
        for (view, target), weight in weights.items()
    )
    assert isinstance(loss, Tensor)
    twins = [*before.encoder.parameters(), *before.projector.parameters(), *before.predictor.parameters()]
    # float64: some hundred roundings of 2**-53 each in sums of at most 300 terms, near 1
    torch.testing.assert_close(first["loss"], loss, rtol=1e-10, atol=0)
    for mine, expected in zip(first["gradients"], torch.autograd.grad(loss, twins), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-8, atol=1e-12)
        assert bool(mine.any())
    unmoved = zip(model.target_encoder.parameters(), before.target_encoder.parameters(), strict=True)
    assert all(weight.grad is None and torch.equal(weight, was) for weight, was in unmoved)
    assert not any(torch.equal(weight, was) for weight, was in zip(trained, twins, strict=True))


def test_the_objective_of_the_page_chooses_by_the_loss_towards_the_anchor() -> None:
    names: dict[str, Any] = {"hvs": hvs, "F": F}
    exec(code_with("class Towards"), names)
    model, images = make_model(), 10
    params = make_rows(make_recipe(["view"] * 5, 0), images)
    views = [torch.randn(images, 3, 12, 12, generator=torch.Generator().manual_seed(slot)) for slot in range(5)]
    selector = hvs.HardViewSelector(names["Towards"](model), policy="anchored")
    handed = selector(views, params)
    with torch.no_grad():
        p_VBD, z_VBD = (torch.stack([of(model, view) for view in views]) for of in (predicted, targeted))
    for image, (partner, anchor) in enumerate(selector.last.pair.tolist()):
        areas = [height * width for _, _, height, width in params.box[image].tolist()]
        towards = [float((p_VBD[slot, image] - z_VBD[anchor, image]).square().sum()) for slot in range(5)]
        assert anchor == areas.index(max(areas))
        best = max(towards[slot] for slot in range(5) if slot != anchor)
        # losses of at most 4 in float32, whose rounding of some 2**-20 may exchange partners that are as near as that
        assert partner != anchor and abs(towards[partner] - best) < 1e-5 and abs(float(selector.last.loss[image]) - best) < 1e-5
        assert torch.equal(handed[0][image], views[partner][image]) and torch.equal(handed[1][image], views[anchor][image])
