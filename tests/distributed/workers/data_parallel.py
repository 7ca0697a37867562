"""DistributedDataParallel: scoring goes past the wrapper, makes the same forwards on every rank, and changes no step of training."""

import torch
import torch.distributed as dist
from models import IMAGES, VIEWS, TinySimSiam, candidates, forwards, from_all, gradients, train
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import hvs_data as hvs
from traces import bits, changes, state_of


class OwnStatistics(DistributedDataParallel):
    """Broadcasts no buffers."""

    def __init__(self, model):
        super().__init__(model, broadcast_buffers=False)


KINDS = (DistributedDataParallel, OwnStatistics, lambda model: torch.compile(DistributedDataParallel(model), backend="eager"))


def apart(wrapped):
    """Buffers that differ from rank to rank, as training makes them."""
    for name, buffer in wrapped.named_buffers():
        if name.endswith("running_mean"):
            buffer.fill_(1 + dist.get_rank())
    return wrapped


def check_steps_are_those_of_a_run_without_scoring(*_):
    for kind in KINDS:
        model, twin = (kind(TinySimSiam()) for _ in range(2))
        selector = hvs.HardViewSelector(hvs.objectives.SimSiam(model))
        optimizers = [torch.optim.SGD(each.parameters(), lr=0.1) for each in (model, twin)]
        for step in range(3):
            before = state_of(model)
            selector(candidates(step))
            assert changes(before, state_of(model)) == set()
            for each, optimizer in zip((model, twin), optimizers, strict=True):
                optimizer.zero_grad()
                train(each, step)
                optimizer.step()
            assert gradients(model) == gradients(twin)
            first, second = (state_of(each)["state_dict"] for each in (model, twin))
            assert changes(first, second) == set()
        assert len(set(map(str, from_all(gradients(model))))) == 1


def check_the_wrapper_is_passed_by(*_):
    model = TinySimSiam()
    for wrapped in (DistributedDataParallel(model), torch.compile(DistributedDataParallel(model), backend="eager")):
        assert hvs.objectives.SimSiam(wrapped).modules() == [model.encoder, model.projector, model.predictor]


def check_a_forward_through_the_wrapper_broadcasts_nothing(*_):
    wrapped = apart(DistributedDataParallel(TinySimSiam()))
    own = {name: bits(buffer) for name, buffer in wrapped.named_buffers()}
    with hvs.scoring(wrapped):
        wrapped(candidates(0)[0])
    assert {name: bits(buffer) for name, buffer in wrapped.named_buffers()} == own
    # a plain one gives every rank the buffers of the first, and leaves the next forward of the training without
    wrapped.eval()
    with torch.no_grad():
        wrapped(candidates(0)[0])
    changed = {name: bits(buffer) for name, buffer in wrapped.named_buffers()} != own
    assert changed == (dist.get_rank() > 0) and not wrapped.require_forward_param_sync


def check_every_rank_makes_the_same_forwards(*_):
    """Whatever the images hold, and for every division of the batch; the last batch is smaller."""
    model = TinySimSiam()
    wrapped = DistributedDataParallel(model)
    for options in ({}, {"bn": "per_view"}, {"bn": "running"}, {"chunk": 5}, {"bn": "per_view", "chunk": 4}):
        selector = hvs.HardViewSelector(hvs.objectives.SimSiam(wrapped), **options)
        for images in (IMAGES, 3, 2):
            views = candidates(0, images)
            if dist.get_rank() == 0:
                views[1][0] = torch.nan
            with forwards(model) as counts:
                selection = selector.select(views)
            assert sum(counts) == VIEWS * images
            assert from_all(counts) == [counts] * dist.get_world_size()
            assert selection.pair.shape == (images, 2)
            if dist.get_rank() > 0:
                assert selection.non_finite == 0
            elif options == {"bn": "running"}:  # the losses of one view of one image
                assert selection.non_finite == VIEWS - 1 and 1 not in selection.pair[0]


class AcrossRanks(nn.BatchNorm1d):
    """Batch normalisation over all ranks, for any number of axes: what SyncBatchNorm does on a device."""

    def forward(self, x):
        shape, axes = (1, -1, *[1] * (x.ndim - 2)), (0, *range(2, x.ndim))
        if self.training:
            sums = torch.stack([x.sum(axes), x.square().sum(axes), torch.full_like(self.running_mean, x.numel() / x.shape[1])])
            dist.all_reduce(sums)
            mean = sums[0] / sums[2]
            var = sums[1] / sums[2] - mean.square()
            self.running_mean.lerp_(mean, 0.1)
            self.running_var.lerp_(var, 0.1)
        else:
            mean, var = self.running_mean, self.running_var
        return (x - mean.view(shape)) / (var + self.eps).sqrt().view(shape)


def synchronised(model):
    model.encoder[1], model.projector[1] = AcrossRanks(8), AcrossRanks(6)
    return model


def check_statistics_over_all_ranks_are_those_of_all_images(*_):
    """Forwards that communicate."""
    model = DistributedDataParallel(synchronised(TinySimSiam()).double())
    alone = TinySimSiam().double()
    own = [view.double() for view in candidates(0)]
    whole = [torch.cat(parts) for parts in zip(*from_all(own), strict=True)]
    for bn in ("fused", "per_view", "running"):
        before = state_of(model)
        arrived = hvs.HardViewSelector(hvs.objectives.SimSiam(model), bn=bn).select(own).losses
        assert changes(before, state_of(model)) == set()
        expected = hvs.HardViewSelector(hvs.objectives.SimSiam(alone), bn=bn).select(whole).losses
        expected = expected.chunk(dist.get_world_size())[dist.get_rank()]
        # all in float64 but for the cosines of 6 numbers, each side of which errs by at most (2 * 6 + 6) units of 2**-24
        torch.testing.assert_close(arrived, expected, rtol=0, atol=2 * 18 * 2.0**-24, equal_nan=True)


def check_a_nan_on_one_rank_does_not_reach_the_others(*_):
    model = DistributedDataParallel(TinySimSiam())
    selector = hvs.HardViewSelector(hvs.objectives.SimSiam(model))
    views = candidates(0)
    expected = selector.select(views)
    if dist.get_rank() == 0:
        views[0][:] = torch.nan
    arrived = selector.select(views)
    # batch statistics of a batch with NaN are NaN: the first legal pair of every image
    same = torch.equal(arrived.pair, expected.pair) if dist.get_rank() > 0 else arrived.pair.tolist() == [[0, 1]] * IMAGES
    assert same, (arrived.pair, expected.pair)


def check_synchronised_batch_norm_needs_a_device(*_):
    """On the CPU it raises, in scoring as in training, on every rank alike; running statistics can be used."""
    model = nn.SyncBatchNorm.convert_sync_batchnorm(TinySimSiam())
    before = state_of(model)
    for bn in ("fused", "per_view"):
        try:
            hvs.HardViewSelector(hvs.objectives.SimSiam(model), bn=bn).select(candidates(0))
        except ValueError as error:
            assert "GPU" in str(error)
        else:
            raise AssertionError("ran on the CPU")
    assert hvs.HardViewSelector(hvs.objectives.SimSiam(model), bn="running").select(candidates(0)).non_finite == 0
    assert changes(before, state_of(model)) == set()
