"""Checks that need a CUDA device: batch normalisation that takes its statistics over all ranks."""

import copy

import torch
import torch.distributed as dist
from models import TinySimSiam, candidates, gradients, train
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import hvs_data as hvs
from traces import changes, state_of


def check_synchronised_statistics_are_those_of_all_ranks(*_):
    model = nn.SyncBatchNorm.convert_sync_batchnorm(TinySimSiam()).cuda()
    plain = TinySimSiam().cuda()
    views = [view.cuda() for view in candidates(0)]
    arrived = hvs.HardViewSelector(hvs.objectives.SimSiam(DistributedDataParallel(model))).select(views)
    whole = [torch.cat(gathered(view)) for view in views]
    expected = hvs.HardViewSelector(hvs.objectives.SimSiam(plain)).select(whole)
    own = slice(dist.get_rank() * len(views[0]), (dist.get_rank() + 1) * len(views[0]))
    # float32 throughout; statistics of a few thousand numbers in another order of summation, and cosines of at most 1
    torch.testing.assert_close(arrived.losses, expected.losses[own], rtol=0, atol=1e-4, equal_nan=True)


def gathered(view):
    parts = [torch.empty_like(view) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, view)
    return parts


def check_steps_are_those_of_a_run_without_scoring(*_):
    torch.backends.cudnn.deterministic = True
    model = DistributedDataParallel(nn.SyncBatchNorm.convert_sync_batchnorm(TinySimSiam()).cuda())
    twin = DistributedDataParallel(copy.deepcopy(model.module))
    selector = hvs.HardViewSelector(hvs.objectives.SimSiam(model))
    for step in range(2):
        before = state_of(model)
        selector([view.cuda() for view in candidates(step)])
        assert changes(before, state_of(model)) == set()
        for each in (model, twin):
            each.zero_grad()
            train(each, step)
        assert gradients(model) == gradients(twin)
