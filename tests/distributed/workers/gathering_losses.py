"""Objectives that look at the images of all ranks: the losses of one process with all images, if and only if they are asked to."""

import torch
import torch.distributed as dist
from lightly.loss import BarlowTwinsLoss, NTXentLoss, SwaVLoss
from torch import nn
from torch.nn.functional import normalize

from hvs_data.objectives import BarlowTwins, MoCoV3, SimCLR, SwAV
from products import UNIT

IMAGES, VIEWS, LENGTH = 5, 3, 8
SAME = nn.Identity()

OBJECTIVES = {
    "SimCLR": lambda **options: SimCLR(encoder=SAME, temperature=0.5, **options),
    "MoCoV3": lambda **options: MoCoV3(encoder=SAME, predictor=SAME, momentum_encoder=SAME, temperature=0.5, **options),
    "SwAV": lambda **options: SwAV(encoder=SAME, prototypes=SAME, epsilon=0.5, **options),
    "BarlowTwins": lambda **options: BarlowTwins(encoder=SAME, **options),
}


def everything():
    """Embeddings of all ranks, the same on each: float32 [M, V, D]."""
    draw = torch.Generator().manual_seed(1)
    return normalize(torch.randn(dist.get_world_size() * IMAGES, VIEWS, LENGTH, generator=draw), dim=-1)


def own(values):
    """This rank's images."""
    return values.chunk(dist.get_world_size())[dist.get_rank()]


def losses(objective, z):
    outputs = {SimCLR: z, BarlowTwins: z}.get(type(objective), (z, z.flip(-1)))
    return objective.pair_losses(outputs)


def assert_close(actual, expected):
    # Both in float32, along paths that differ in the order of sums over at most 20 images and 8 dimensions: a few hundred units of
    # losses and terms below 32.
    assert float((actual - expected).abs().max()) <= 32 * 200 * UNIT, (actual - expected).abs().max()


def check_gathered_losses_are_those_of_one_process(*_):
    z = everything()
    for make in OBJECTIVES.values():
        assert_close(losses(make(gather=True), own(z)), own(losses(make(), z)))


def check_without_gathering_each_rank_is_alone(*_):
    z = everything()
    for make in OBJECTIVES.values():
        alone = losses(make(), own(z))
        assert float((alone - own(losses(make(), z))).abs().max()) > 1e-3
    # a rank that asks and one that does not may not wait for each other
    if dist.get_rank() == 0:
        for make in OBJECTIVES.values():
            losses(make(), own(z))


def check_the_mean_over_ranks_is_the_public_loss(*_):
    z = own(everything())
    public = {
        "SimCLR": lambda a, b: NTXentLoss(0.5, gather_distributed=True)(a, b),
        "SwAV": lambda a, b: SwaVLoss(sinkhorn_epsilon=0.5, sinkhorn_gather_distributed=True)([a, b], []).sum(),
    }
    for name, loss in public.items():
        table = losses(OBJECTIVES[name](gather=True), z if name == "SimCLR" else z.flip(-1))
        assert_close(table[:, 0, 2].mean(), loss(z[:, 0], z[:, 2]))


def check_correlations_are_normalised_over_all_ranks(*_):
    z = everything()
    table = losses(OBJECTIVES["BarlowTwins"](gather=True), own(z))
    mean = table[:, 0, 2].mean() / dist.get_world_size()
    dist.all_reduce(mean)
    assert_close(mean, BarlowTwinsLoss(0.0051)(z[:, 0], z[:, 2]))
