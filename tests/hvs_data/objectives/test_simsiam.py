"""SimSiam against the loss of the official code, and the ways in which a model is recognised."""

import numpy as np
import pytest
import torch
from torch import nn

from hvs_data import SelectionError
from hvs_data.objectives import SimSiam


class Parts(nn.Module):
    """A model with parts of the given names and no forward of its own."""

    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)


class Whole(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.body = nn.Linear(3, 4)
        self.outputs = outputs

    def forward(self, pixels):
        return self.outputs(self.body(pixels.mean((2, 3))))


def make_parts(pooled=True):
    encoder = nn.Sequential(nn.Conv2d(3, 6, 3), nn.AdaptiveAvgPool2d(1), *([nn.Flatten()] if pooled else []))
    return encoder, nn.Linear(6, 5), nn.Linear(5, 5)


def official_loss(p1, p2, z1, z2):
    """As written in the training loop of facebookresearch/simsiam."""
    criterion = nn.CosineSimilarity(dim=1)
    return -(criterion(p1, z2).mean() + criterion(p2, z1).mean()) * 0.5


PIXELS = torch.linspace(-1, 1, 7 * 3 * 8 * 8).reshape(7, 3, 8, 8).sin()


def test_the_mean_over_a_batch_is_the_official_loss():
    p, z = torch.randn(6, 4, 16), torch.randn(6, 4, 16)
    losses = SimSiam(encoder=nn.Identity(), predictor=nn.Identity()).pair_losses((p, z))
    assert losses.dtype == torch.float32
    assert torch.equal(losses, losses.transpose(1, 2))
    for i in range(4):
        for j in range(4):
            expected = official_loss(p[:, i].double(), p[:, j].double(), z[:, i].double(), z[:, j].double())
            # each cosine errs by at most (2 D + 6) units of 2**-24, D = 16 (derived beside the tests of the cosine table), the mean of
            # two by one unit more
            np.testing.assert_allclose(losses[:, i, j].double().mean(), expected, rtol=0, atol=39 * 2.0**-24)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_arithmetic_is_float32_whatever_the_outputs_are(dtype):
    p, z = torch.randn(3, 4, 16).to(dtype), torch.randn(3, 4, 16).to(dtype)
    objective = SimSiam(encoder=nn.Identity(), predictor=nn.Identity())
    assert torch.equal(objective.pair_losses((p, z)), objective.pair_losses((p.float(), z.float())))


def recognised():
    encoder, projector, predictor = make_parts()
    yield "lightly", Parts(backbone=encoder, projection_head=projector, prediction_head=predictor), (encoder, projector, predictor)
    yield "solo-learn", Parts(backbone=encoder, projector=projector, predictor=predictor), (encoder, projector, predictor)
    yield "three parts", Parts(encoder=encoder, projector=projector, predictor=predictor), (encoder, projector, predictor)
    joined = nn.Sequential(encoder, projector)
    yield "official", Parts(encoder=joined, predictor=predictor), (encoder, projector, predictor)
    yield "encoder holds projector", Parts(encoder=joined, projector=projector, predictor=predictor), (encoder, projector, predictor)
    yield "attribute of another kind", Parts(encoder=joined, projector="mlp", predictor=predictor), (encoder, projector, predictor)
    unpooled, projector, predictor = make_parts(pooled=False)
    yield "trailing unit axes", Parts(backbone=unpooled, projector=projector, predictor=predictor), (unpooled, projector, predictor)


@pytest.mark.parametrize(("model", "parts"), [pytest.param(model, parts, id=name) for name, model, parts in recognised()])
def test_known_models_are_taken_apart(model, parts):
    encoder, projector, predictor = parts
    z_expected = projector(encoder(PIXELS).flatten(1))
    p, z = SimSiam(model).encode(PIXELS)
    assert torch.equal(z, z_expected) and torch.equal(p, predictor(z_expected))


def test_parts_can_be_given_one_by_one():
    encoder, projector, predictor = make_parts(pooled=False)
    p, z = SimSiam(encoder=encoder, projector=projector, predictor=predictor).encode(PIXELS)
    assert torch.equal(z, projector(encoder(PIXELS).flatten(1))) and torch.equal(p, predictor(z))
    joined = nn.Sequential(encoder, nn.Flatten(), projector)
    again = SimSiam(encoder=joined, predictor=predictor).encode(PIXELS)
    assert torch.equal(again[0], p) and torch.equal(again[1], z)


def test_another_model_is_called_with_pixels():
    model = Whole(lambda z: (z + 1, z))
    p, z = SimSiam(model).encode(PIXELS)
    assert torch.equal(z, model.body(PIXELS.mean((2, 3)))) and torch.equal(p, z + 1)


def test_modules_are_the_parts_that_are_called():
    encoder, projector, predictor = make_parts()
    model = Parts(backbone=encoder, projector=projector, predictor=predictor, momentum=nn.Linear(2, 2))
    assert SimSiam(model).modules() == [encoder, projector, predictor]
    whole = Whole(lambda z: (z, z))
    assert SimSiam(whole).modules() == [whole]


def test_a_distributed_wrapper_is_passed_by():
    encoder, projector, predictor = make_parts()
    model = Parts(backbone=encoder, projector=projector, predictor=predictor)
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(model)
        assert SimSiam(wrapped).modules() == [encoder, projector, predictor]
    finally:
        torch.distributed.destroy_process_group()


class TwoViews(nn.Module):
    def forward(self, x1, x2):
        return x1, x2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either a model or its parts"),
        ({"model": nn.Identity(), "encoder": nn.Identity()}, "pass one of the two"),
        ({"encoder": nn.Identity()}, "predictor=None"),
        ({"predictor": nn.Identity()}, "encoder=None"),
        ({"encoder": nn.Identity(), "predictor": nn.Identity(), "projector": 3}, "projector=int"),
        ({"model": TwoViews()}, r"\(backbone, projection_head, prediction_head\), or \(backbone, projector, predictor\).* got TwoViews"),
        ({"model": "resnet50"}, r"\(encoder, predictor\).* got str"),
    ],
)
def test_what_cannot_be_a_model_is_refused(arguments, message):
    with pytest.raises(SelectionError, match=message):
        SimSiam(**arguments)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (lambda z: z, r"\(p, z\).* got torch.float32 \[7, 4\].*\(encoder, predictor\)"),
        (lambda z: (z, z, z, z), "tuple of 4"),
        (lambda z: (z, None), "NoneType|None"),
        (lambda z: (z, z[:, :2]), r"of one shape .*\[7, 4\].*\[7, 2\]"),
        (lambda z: (z[:, 0], z[:, 0]), r"of one shape \[N, D\], got torch.float32 \[7\]"),
        (lambda z: {"p": z, "z": z}, "got dict"),
    ],
)
def test_outputs_that_do_not_fit_are_refused(outputs, message):
    with pytest.raises(SelectionError, match=message):
        SimSiam(Whole(outputs)).encode(PIXELS)


def test_an_encoder_must_return_a_tensor():
    with pytest.raises(SelectionError, match="encoder to return one tensor .* got dict"):
        SimSiam(encoder=lambda pixels: {"features": pixels}, predictor=nn.Identity()).encode(PIXELS)
