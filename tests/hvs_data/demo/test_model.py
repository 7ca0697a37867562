"""The demo's model and loss."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import hvs_data as hvs
from hvs_data.demo.model import SimSiam, simsiam_loss, small_resnet


@pytest.fixture
def model() -> SimSiam:
    torch.manual_seed(0)
    return SimSiam(width=8, dimensions=16)


def test_shapes_for_training_and_scoring_sizes(model: SimSiam) -> None:
    for size in (16, 17, 64):
        p, z = model(torch.randn(3, 3, size, size))
        assert p.shape == z.shape == (3, 16)
    assert small_resnet(4)(torch.randn(2, 3, 16, 16)).shape == (2, 32)


def test_the_loss_is_the_published_formula_and_stops_the_gradient(model: SimSiam) -> None:
    x1, x2 = torch.randn(2, 6, 3, 16, 16)
    loss = simsiam_loss(model, x1, x2)

    def embed(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        z = model.projector(model.encoder(pixels))
        return F.normalize(model.predictor(z), dim=1), F.normalize(z, dim=1).detach()

    (p1, z1), (p2, z2) = embed(x1), embed(x2)
    expected = -0.5 * ((p1 * z2).sum(1).mean() + (p2 * z1).sum(1).mean())
    # cosines of 16 terms, each at most 1, averaged: a few float32 roundings of numbers below 1
    torch.testing.assert_close(loss, expected, rtol=0, atol=32 * torch.finfo(torch.float32).eps)
    parameters = list(model.parameters())
    for ours, theirs in zip(torch.autograd.grad(loss, parameters), torch.autograd.grad(expected, parameters), strict=True):
        # the same sums in another order, through ten layers; were z not detached, the encoder's gradients would differ at order one
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5 * max(1.0, theirs.abs().max().item()))


def test_the_selector_scores_what_is_trained_on(model: SimSiam) -> None:
    """In evaluation mode, where no view depends on its neighbours, the mean of a pair's scores is the training loss."""
    model.eval()
    views = list(torch.randn(3, 5, 3, 16, 16))
    selection = hvs.HardViewSelector(hvs.objectives.SimSiam(model), bn="running").select(views)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        expected = simsiam_loss(model, views[i], views[j])
        # as above; the forwards hold other numbers of images, which may change the order of sums within a layer
        torch.testing.assert_close(selection.losses[:, i, j].mean(), expected, rtol=0, atol=1e-5)
