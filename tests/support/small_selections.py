"""A small SimSiam model, candidates without meaning, and an objective whose losses are given."""

import torch
from torch import nn

import hvs_data as hvs
from hvs_data import Objective, ViewParams

SIDE = 8


def make_model(norm=True, dropout=0.0, width=6):
    """A small SimSiam model in float64: forwards of one image or of many then agree far below float32's rounding."""
    encoder = nn.Sequential(
        nn.Conv2d(3, width, 3, stride=2),
        nn.BatchNorm2d(width) if norm else nn.Identity(),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    projector = nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width) if norm else nn.Identity(), nn.Dropout(dropout))
    predictor = nn.Sequential(nn.Linear(width, 3), nn.ReLU(), nn.Linear(3, width))
    model = nn.Module()
    model.backbone, model.projector, model.predictor = encoder, projector, predictor
    return model.double()


def outputs_of(model, pixels):
    z = model.projector(model.backbone(pixels))
    return model.predictor(z), z


def pair_loss(p1, p2, z1, z2):
    """SimSiam's published loss of one image's two views, vectors [D]."""

    def cosine(a, b):
        return float(a @ b) / (max(float(a.norm()), 1e-8) * max(float(b.norm()), 1e-8))

    return -(cosine(p1, z2) + cosine(p2, z1)) / 2


def make_candidates(views, images, seed=0, dtype=torch.float64):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(images, 3, SIDE, SIDE, generator=draw, dtype=torch.float64).to(dtype) for _ in range(views)]


def make_params(roles, images):
    shape = images, len(roles)
    factor, off = torch.ones(shape), torch.zeros(shape, dtype=torch.bool)
    return ViewParams(
        box=torch.tensor([0, 0, 4, 4], dtype=torch.int32).expand(*shape, 4),
        flip=off,
        brightness=factor,
        contrast=factor,
        saturation=factor,
        hue=torch.zeros(shape),
        order=torch.arange(4, dtype=torch.uint8).expand(*shape, 4),
        gray=off,
        blur_sigma=torch.zeros(shape),
        solarize=off,
        role=tuple(roles),
        size=(SIDE,) * len(roles),
    )


class Table(Objective):
    """Pair losses as given, whatever the views are."""

    def __init__(self, losses_BVV):
        self.losses = losses_BVV

    def encode(self, pixels):
        return pixels.flatten(1)

    def pair_losses(self, outputs):
        return self.losses


def select_from(losses_BVV, params=None, **options):
    images, views, _ = losses_BVV.shape
    selector = hvs.HardViewSelector(Table(losses_BVV), **options)
    return selector.select([torch.zeros(images, 3, 1, 1)] * views, params)


def bits(tensors):
    return {name: tensor.detach().clone().reshape(-1).view(torch.uint8).tolist() for name, tensor in tensors.items()}


def some_selection(params):
    """A selection of 5 images of 12 slots, of a first and a second role of two each, whose rows may be unknown."""
    losses = torch.arange(5 * 12 * 12, dtype=torch.float32).reshape(5, 12, 12)
    pair = torch.tensor([[0, 2], [1, 3], [0, 3], [1, 2], [0, 2]])
    legal = torch.zeros(12, 12, dtype=torch.bool)
    legal[:2, 2:4] = True
    return hvs.Selection(pair, losses, legal, torch.tensor(0), params)
