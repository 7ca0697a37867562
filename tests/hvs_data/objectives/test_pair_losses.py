"""Pair losses and choices of every method against its formula, its public implementation, and what rounding allows."""

from itertools import combinations, permutations

import pytest
import torch
from torch import nn

import hvs_data as hvs
from hvs_data.objectives import SimCLR
from pair_formulas import METHODS
from products import LargestTensor, matmul_precision

ALL = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
BOUNDED = {name: method for name, method in METHODS.items() if method.moved}


def pairs_of(method, views):
    return list((permutations if method.ordered else combinations)(range(views), 2))


@ALL
@pytest.mark.parametrize(("images", "views"), [(2, 2), (5, 4), (9, 3)])
def test_the_mean_over_a_batch_is_the_public_loss(method, images, views):
    outputs = method.draw(images, views)
    losses = method.losses(tuple(output.float() for output in outputs))
    assert losses.dtype == torch.float32 and losses.shape == (images, views, views)
    for i, j in pairs_of(method, views):
        assert abs(float(losses[:, i, j].double().mean() - method.public(outputs, i, j))) <= method.error(outputs)


@ALL
@pytest.mark.parametrize("seed", range(4))
def test_the_loss_of_every_image_is_that_of_the_formula(method, seed):
    outputs = method.draw(7, 4, seed)
    losses = method.losses(tuple(output.float() for output in outputs))
    for i, j in permutations(range(4), 2):
        error = (losses[:, i, j] - method.formula(outputs, i, j)).abs()
        assert bool((error <= method.error(outputs)).all())
    if not method.ordered:
        assert torch.equal(losses, losses.transpose(1, 2))


class Given(hvs.Objective):
    """Another objective's pair losses of outputs that are given for the pixels' places."""

    def __init__(self, method, outputs):
        self.inner = method.objective()
        self.ordered = self.inner.ordered
        images, views = outputs[0].shape[:2]
        self.outputs = [output.transpose(0, 1).reshape(views * images, -1) for output in outputs]

    def encode(self, pixels):
        place_N = pixels[:, 0, 0, 0].long()
        return tuple(output[place_N] for output in self.outputs) if len(self.outputs) > 1 else self.outputs[0][place_N]

    def pair_losses(self, outputs):
        return self.inner.pair_losses(outputs)


def select(method, outputs):
    """The selector's choice, candidates standing for the outputs by their number."""
    images, views = outputs[0].shape[:2]
    candidates = torch.arange(float(images * views)).reshape(views, images, 1, 1, 1).expand(-1, -1, 3, 1, 1)
    return hvs.HardViewSelector(Given(method, outputs)).select(list(candidates.unbind(0)))


@ALL
@pytest.mark.parametrize("seed", range(10))
def test_the_choice_is_that_of_brute_force(method, seed):
    images, views = 2 + seed % 5, 2 + seed % 4
    outputs = method.draw(images, views, seed)
    selection = select(method, tuple(output.float() for output in outputs))
    pairs = pairs_of(method, views)
    losses_PB = torch.stack([method.formula(outputs, i, j) for i, j in pairs])
    for image in range(images):
        chosen = pairs.index(tuple(selection.pair[image].tolist()))
        # both the chosen pair's loss and the best one's may be off
        assert losses_PB[chosen, image] >= losses_PB[:, image].max() - 2 * method.error(outputs)


def changed_choices(method, outputs, dtype):
    """Losses in float64 and the choices from rounded outputs."""
    rounded = select(method, tuple(output.to(dtype) for output in outputs))
    pairs = pairs_of(method, outputs[0].shape[1])
    chosen_B = torch.tensor([pairs.index(tuple(pair)) for pair in rounded.pair.tolist()])
    return torch.stack([method.formula(outputs, i, j) for i, j in pairs], dim=1), chosen_B, pairs


@pytest.mark.parametrize("method", BOUNDED.values(), ids=BOUNDED)
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float16, 2.0**-11), (torch.bfloat16, 2.0**-9)], ids=["float16", "bfloat16"])
def test_half_precision_changes_no_more_choices_than_rounding_explains(method, dtype, rounding):
    outputs = method.draw(60, 4, 7)
    losses_BP, chosen_B, pairs = changed_choices(method, outputs, dtype)
    moved = torch.as_tensor(method.moved(outputs, rounding)).expand(60, 4, 4)
    # second order of the rounding, and float32's own
    moved_BP = 1.01 * torch.stack([moved[:, i, j] for i, j in pairs], dim=1) + method.error(outputs)
    best_B = losses_BP.argmax(1)
    explained_BP = losses_BP + moved_BP >= (losses_BP - moved_BP).gather(1, best_B[:, None])
    assert bool(explained_BP.gather(1, chosen_B[:, None]).all())
    # and the bound forbids something
    assert not bool(explained_BP.all())


@ALL
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_arithmetic_is_float32_whatever_the_outputs_are(method, dtype):
    outputs = tuple(output.to(dtype) for output in method.draw(6, 3))
    expected = method.losses(tuple(output.float() for output in outputs))
    assert torch.equal(method.losses(outputs), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(method.losses(outputs), expected)


@ALL
def test_products_are_float32_whatever_precision_is_set(method):
    outputs = method.draw(20, 3)
    with matmul_precision("medium"):
        losses = method.losses(tuple(output.float() for output in outputs))
    for i, j in pairs_of(method, 3):
        # products in parts sum six times as many terms
        assert float((losses[:, i, j] - method.formula(outputs, i, j)).abs().max()) <= 6 * method.error(outputs)


# ---- extremes ----


@ALL
def test_equal_views_give_the_first_pair(method):
    outputs = tuple(output[:, :1].expand(-1, 4, -1).float() for output in method.draw(5, 4))
    selection = select(method, outputs)
    assert selection.pair.tolist() == [[0, 1]] * 5 and int(selection.non_finite) == 0


@ALL
def test_two_views_leave_one_pair_or_its_two_orders(method):
    outputs = method.draw(6, 2)
    chosen = select(method, tuple(output.float() for output in outputs)).pair.tolist()
    assert {tuple(pair) for pair in chosen} == ({(0, 1), (1, 0)} if method.ordered else {(0, 1)})


@ALL
def test_one_image_alone_has_finite_losses(method):
    outputs = tuple(output.float() for output in method.draw(1, 4))
    selection = select(method, outputs)
    assert int(selection.non_finite) == 0
    if method is METHODS["SimCLR"] or method is METHODS["MoCo v3"]:  # nothing to tell it from
        assert torch.equal(method.losses(outputs), torch.zeros(1, 4, 4))


@ALL
def test_a_nan_is_never_chosen(method):
    """One view of one image: that view's pairs may be lost to all images of the batch, all others are left."""
    outputs = tuple(output.float() for output in method.draw(5, 4))
    for output in outputs:
        output[2, 1] = torch.nan
    selection = select(method, outputs)
    assert bool(selection.losses[2, 1].isnan().all())
    assert bool((selection.pair != 1).all(1)[2])
    others = [0, 2, 3]
    assert bool(selection.losses[:, others][:, :, others].diagonal(dim1=1, dim2=2).isnan().all())  # no pair with itself
    assert bool(torch.stack([selection.losses[:, i, j] for i, j in combinations(others, 2)]).isfinite().all())


@ALL
def test_a_batch_of_nan_gets_the_first_pair(method):
    outputs = tuple(torch.full_like(output, torch.nan, dtype=torch.float32) for output in method.draw(3, 4))
    selection = select(method, outputs)
    assert selection.pair.tolist() == [[0, 1]] * 3
    assert int(selection.non_finite) == 3 * len(pairs_of(method, 4))


def test_a_small_contrastive_loss_is_not_lost_in_rounding():
    """Well separated images: the loss is far below the rounding of the similarities that it is made of."""
    angles = torch.tensor([0.0, 0.5, 1.0, 1.5]) * torch.pi
    z = torch.stack([angles.cos(), angles.sin()], dim=1)[:, None].repeat(1, 2, 1)
    loss = SimCLR(encoder=nn.Identity(), temperature=0.05).pair_losses(z)[:, 0, 1]
    # similarity 20 with itself, 0 with two images in two views each and -20 with one
    expected = torch.log1p(torch.tensor([4 * torch.e**-20 + 2 * torch.e**-40], dtype=torch.float64)).expand(4)
    # the exponent is off by 20 (2 D + 10) units, D = 2
    torch.testing.assert_close(loss.double(), expected, rtol=20 * 16 * 2.0**-24, atol=0)
    assert float(loss.max()) < 20 * 2.0**-24


def test_simclr_never_holds_the_matrix_of_all_views():
    images, views = 512, 4
    z = torch.randn(images, views, 32)
    with LargestTensor() as largest:
        SimCLR(encoder=nn.Identity()).pair_losses(z)
    assert largest.elements <= (images * views) ** 2 / 10
