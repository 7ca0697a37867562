"""A SimSiam of a few thousand numbers, and images for it: what the checks train and score."""

import contextlib

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from traces import bits

SIDE = 8
IMAGES = 6
VIEWS = 4


class TinySimSiam(nn.Module):
    """The same on every rank."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        convolution = (nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2))
        self.encoder = nn.Sequential(*convolution, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 8))
        self.projector = nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6))
        self.predictor = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 6))

    def forward(self, x):
        z = self.project(x)
        return self.predictor(z), z

    def project(self, x):
        return self.projector(self.encoder(x))

    def loss(self, views):
        return simsiam_loss(self, views)


def simsiam_loss(model, views):
    """The loss of the first two views."""
    (p1, z1), (p2, z2) = model(views[0]), model(views[1])
    return -(F.cosine_similarity(p1, z2.detach()).mean() + F.cosine_similarity(p2, z1.detach()).mean()) / 2


def candidates(step, images=IMAGES):
    """Views of images that differ from rank to rank."""
    generator = torch.Generator().manual_seed(1000 * step + dist.get_rank())
    return list(torch.rand(VIEWS, images, 3, SIDE, SIDE, generator=generator))


def train(model, step):
    """One forward and backward, with dropout."""
    torch.manual_seed(100 * step + dist.get_rank())
    device = next(model.parameters()).device
    simsiam_loss(model, [view.to(device) for view in candidates(step)]).backward()


def gradients(model):
    return {name: bits(parameter.grad) for name, parameter in model.named_parameters()}


def from_all(value):
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


@contextlib.contextmanager
def forwards(model):
    """The number of images of every forward."""
    counts = []
    handle = model.encoder.register_forward_pre_hook(lambda module, args: counts.append(len(args[0])))
    yield counts
    handle.remove()
