"""lightly's methods of more than two views, with its own criteria, heads and transforms: trained on the views that were chosen."""

from __future__ import annotations

import copy
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from lightly.loss import LeJEPALoss, MMCRLoss
from lightly.models.modules.heads import LeJEPAProjectionHead, MMCRProjectionHead
from lightly.models.utils import update_momentum
from torch import Tensor, nn

import hvs_data as hvs
from example_scripts import falls, run_script, write_photos
from hvs_data import objectives
from hvs_data.integrations.lightly import objective_of
from lightly_methods import WIDTH, Parts, backbone, through

pytestmark = [pytest.mark.filterwarnings("error::hvs_data.StaleSelectionWarning"), pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"), 48)


SCRIPTS = {"lightly_swav.py": (["--size", 32, 16], 2, 6), "lightly_fast_siam.py": (["--size", 32], 4, 0)}


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_example_trains(script: str, photos: Path) -> None:
    arguments, globals_, locals_ = SCRIPTS[script]
    losses, selections = run_script(script, photos, "--batch-size", 12, "--epochs", 6, *arguments)
    assert falls(losses) and len(losses) == len(selections) == 6 * 4
    assert {tuple(selection.slots.shape) for selection in selections} == {(12, globals_ + locals_)}
    assert all(selection.global_views == globals_ and selection.scored for selection in selections)
    assert len({tuple(slots) for selection in selections for slots in selection.slots.tolist()}) > 50


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_example_runs_as_it_stands(script: str, photos: Path) -> None:
    losses, _ = run_script(script, photos, "--batch-size", 24, *SCRIPTS[script][0], small=False)
    assert len(losses) == 2 and torch.tensor(losses).isfinite().all()


def lejepa() -> tuple[nn.Module, Any, hvs.recipes.Recipe]:
    """Two global views and four local ones."""
    model = Parts(backbone=backbone(), projection_head=LeJEPAProjectionHead(WIDTH, 16, 8), criterion=LeJEPALoss())

    def loss(views: list[Tensor]) -> Tensor:
        z = [through(model, "backbone projection_head", view) for view in views]
        return model.criterion(local_proj=torch.stack(z[2:]), global_proj=torch.stack(z[:2]))

    role = hvs.recipes.simclr(candidates=4, size=16).roles[0]
    local = hvs.recipes.Role("local", candidates=6, emitted=4, size=8, scale=(0.05, 0.3))
    return model, loss, hvs.recipes.Recipe("lejepa", (role, local))


def mmcr() -> tuple[nn.Module, Any, hvs.recipes.Recipe]:
    """Four views of eight."""
    model = Parts(backbone=backbone(), projection_head=MMCRProjectionHead(WIDTH, 16, 8), criterion=MMCRLoss())
    for name in ("backbone", "projection_head"):
        setattr(model, f"{name}_momentum", copy.deepcopy(getattr(model, name)))

    def loss(views: list[Tensor]) -> Tensor:
        for name in ("backbone", "projection_head"):
            update_momentum(getattr(model, name), getattr(model, f"{name}_momentum"), m=0.9)
        online = torch.stack([through(model, "backbone projection_head", view) for view in views], 1)
        momentum = torch.stack([through(model, "backbone_momentum projection_head_momentum", view).detach() for view in views], 1)
        return model.criterion(online, momentum)

    return model, loss, hvs.recipes.byol(candidates=8, size=16).with_roles(emitted=2)


@pytest.mark.parametrize("method", [lejepa, mmcr])
def test_lightlys_criterion_trains_on_the_chosen_views(method: Any, photos: Path) -> None:
    torch.manual_seed(0)
    model, loss, recipe = method()
    objective = objective_of(model)
    assert type(objective) is {lejepa: objectives.LeJEPA, mmcr: objectives.MMCR}[method]
    loader = hvs.HardViewLoader(hvs.ViewLoader(photos, recipe, 12, seed=1, drop_last=True), hvs.HardViewSelector(objective))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    losses = []
    for _ in range(4):
        for views, _ in loader:
            value = loss(views)
            value.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(value.detach()))
    assert len(losses) == 16 and torch.tensor(losses).isfinite().all()
    selection = loader.selector.last
    assert selection is not None and selection.slots.shape == (12, sum(role.emitted for role in recipe.roles))
    pairs = list(combinations(selection.slots[0, : selection.global_views].tolist(), 2))
    assert all(bool(selection.legal[pair]) for pair in pairs)
