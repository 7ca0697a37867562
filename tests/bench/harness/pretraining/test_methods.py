"""The methods of the benches: their losses are those that the objectives score, and networks fit each other."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

import hvs_data as hvs
from harness.pretraining import methods, networks

SIZES = methods.Sizes(view=32, width=8, stem_stride=2, batch=6)


def views_of(method: methods.Method) -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(6, 3, role.size, role.size, generator=draw) for role in method.recipe(2).slot_roles]


@pytest.mark.parametrize("name", list(methods.METHODS))
def test_the_loss_is_the_one_that_is_scored(name: str) -> None:
    method = methods.build(name, SIZES, seed=0)
    views, recipe = views_of(method), method.recipe(2)
    rows = hvs.sample_views(recipe, seed=0, epoch=0, index=range(6), height=[40] * 6, width=[50] * 6)
    selector = hvs.HardViewSelector(method.objective(), bn="per_view")
    scored = selector.select(views, rows).loss.mean()
    loss = method.loss(views, **({"masks": rows.mask[:, :2].unbind(1)} if method.masked else {}))
    # float32: the same sums of a few hundred terms near 1, taken in another order
    torch.testing.assert_close(loss.detach(), scored, rtol=1e-5, atol=2e-5)
    loss.backward()
    assert all(weight.grad is not None for weight in method.encoder.parameters() if weight.requires_grad)


@pytest.mark.parametrize("temperature", [math.inf, 0.5])
def test_all_pairs_weigh_what_the_objective_scores(temperature: float) -> None:
    method = methods.build("simclr", SIZES, seed=0)
    method.pairs_temperature = temperature
    draw = torch.Generator().manual_seed(0)
    views = [torch.randn(6, 3, 32, 32, generator=draw) for _ in range(4)]
    selection = hvs.HardViewSelector(method.objective(), bn="per_view").select(views)
    losses_BP = selection.losses[:, selection.legal].double()
    weight_BP = torch.exp(losses_BP / temperature)
    expected = ((weight_BP * losses_BP).sum(1) / weight_BP.sum(1)).mean()
    torch.testing.assert_close(method.loss(views).detach().double(), expected, rtol=1e-5, atol=2e-5)


def test_a_teacher_that_was_kept_gives_the_same_loss() -> None:
    method = methods.build("dino", SIZES, seed=0)
    views = views_of(method)
    selector = hvs.HardViewSelector(method.objective(), keep_teacher=True)
    kept = selector.select(views, method.recipe(2)).teacher_outputs
    torch.testing.assert_close(method.loss(views, kept), method.loss(views), rtol=1e-5, atol=1e-5)


def test_a_masked_methods_kept_teacher_gives_the_same_loss() -> None:
    method = methods.build("dinov2", SIZES, seed=0)
    views, recipe = views_of(method), method.recipe(2)
    rows = hvs.sample_views(recipe, seed=0, epoch=0, index=range(6), height=[40] * 6, width=[50] * 6)
    kept = hvs.HardViewSelector(method.objective(), keep_teacher=True).select(views, rows).teacher_outputs
    masks = rows.mask[:, :2].unbind(1)
    torch.testing.assert_close(method.loss(views, kept, masks=masks), method.loss(views, masks=masks), rtol=1e-5, atol=1e-5)
    center = method.model.patch_center.clone()
    method.after_step()
    assert not torch.equal(method.model.patch_center, center)


def test_a_third_view_is_foretold_and_foretells_nothing() -> None:
    method = methods.build("byol", SIZES, seed=0)
    anchor, hard, random = (torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) for seed in range(3))
    twin = copy.deepcopy(method)
    its = twin.model

    def foretold(view: Tensor) -> Tensor:
        return its["predictor"](its["projector"](its["encoder"](view))).double()

    def target(view: Tensor) -> Tensor:
        return its["target_projector"](its["target_encoder"](view)).detach().double()

    loss = method.loss([anchor, hard, random])
    targets = {id(view): target(view) for view in (anchor, random)}  # in this order, as batch normalisation counts
    pairs = ((anchor, random), (random, anchor), (hard, anchor))
    expected = sum(2 - 2 * torch.cosine_similarity(foretold(view), targets[id(its_target)]).mean() for view, its_target in pairs)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=2e-5)
    loss.backward()
    assert all(weight.grad is None for name in ("target_encoder", "target_projector") for weight in method.model[name].parameters())
    before = copy.deepcopy(dict(method.model["target_encoder"].named_parameters()))
    method.optimizer().step()
    method.after_step()
    for name, weight in method.model["target_encoder"].named_parameters():
        torch.testing.assert_close(weight, before[name] * 0.99 + dict(method.model["encoder"].named_parameters())[name] * 0.01)


def test_the_teacher_follows_the_student_and_its_center_the_batches() -> None:
    method = methods.build("dino", SIZES, seed=0)
    student, teacher = method.model["student"], method.model["teacher"]
    with torch.no_grad():
        for weight in student.parameters():
            weight.add_(1)
    before = copy.deepcopy(teacher.state_dict())
    method.loss(views_of(method))
    method.after_step()
    for name, weight in teacher.named_parameters():
        its = before[name]
        torch.testing.assert_close(weight, its * 0.99 + dict(student.named_parameters())[name] * 0.01)
    assert method.model.center.abs().sum() > 0 and not any(weight.requires_grad for weight in teacher.parameters())


def test_the_same_seed_makes_the_same_weights() -> None:
    one, other, third = (methods.build("simclr", SIZES, seed) for seed in (0, 0, 1))
    weights = [torch.cat([weight.flatten() for weight in its.model.parameters()]) for its in (one, other, third)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("stride", [1, 2])
def test_a_resnet18_is_torchvisions_but_for_its_stem(stride: int) -> None:
    from torchvision.models import resnet18

    published = sum(weight.numel() for weight in resnet18().parameters()) - 512 * 1000 - 1000
    mine = sum(weight.numel() for weight in networks.resnet18(64, stride).parameters())
    assert mine - published == 64 * 3 * (3 * 3 - 7 * 7)
    assert networks.resnet18(4, stride)(torch.randn(2, 3, 33, 40)).shape == (2, 32)


def test_a_transformer_takes_views_of_other_sides() -> None:
    network = networks.VisionTransformer(32, 8, width=32, depth=2, heads=2)
    with torch.no_grad():
        network.pos_embed.normal_()
    for side in (8, 16, 32, 48):
        assert network(torch.randn(2, 3, side, side)).shape == (2, 32)
    assert network._positions(32) is network.pos_embed
    # constant positions stay constant at any grid
    with torch.no_grad():
        network.pos_embed.fill_(0.5)
    torch.testing.assert_close(network._positions(16), torch.full((1, 1 + 4, 32), 0.5))


@pytest.mark.parametrize(("name", "parameters", "features"), [("simsiam", 23_508_032, 2048), ("dino", 21_665_664, 384)])
def test_published_networks_are_resnet_50_and_vit_s_16(name: str, parameters: int, features: int) -> None:
    """Parameters as the publications' code has them without a classifier."""
    method = methods.build(name, methods.Sizes(view=224, batch=2, published=True), seed=0)
    assert methods.described(method)["parameters"] == parameters
    assert method.encoder(torch.zeros(2, 3, 224, 224)).shape == (2, features)
    recipe = method.recipe(4)
    assert recipe.num_views == (4 if name == "simsiam" else 4 + 16)
    emitted = [role.size for role in recipe.roles for _ in range(role.emitted)]
    assert emitted == [224, 224] + ([96] * 8 if name == "dino" else [])
