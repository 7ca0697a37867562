"""Hard views in front of a model on several ranks: all train the same model, as they would if the pairs had come from elsewhere."""

import hashlib

import torch
import torch.distributed as dist
from models import TinySimSiam, forwards, from_all, gradients, simsiam_loss
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import hvs_data as hvs
from traces import bits

BATCH = 3


def sharded(model):
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for module in (model.encoder, model):  # the heads belong to the root
        fully_shard(module, mesh=mesh)
    return model


KINDS = {"data parallel": DistributedDataParallel, "sharded": sharded}


def hard_views(photos, model, **options):
    recipe = hvs.recipes.simsiam(candidates=4, size=12)
    candidates = hvs.ViewLoader(photos, recipe, BATCH, seed=3, engine="reference", num_threads=2)
    return hvs.HardViewLoader(candidates, hvs.HardViewSelector(hvs.objectives.SimSiam(model), **options))


def trained(model, batches):
    """One epoch: the views of every step, and the gradients that they gave on this rank."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    steps = []
    for number, (views, _) in enumerate(batches):
        torch.manual_seed(100 * number + dist.get_rank())
        optimizer.zero_grad()
        simsiam_loss(model, views).backward()
        optimizer.step()
        steps.append(([view.clone() for view in views], gradients(model)))
    return steps


def digest_of(model):
    """All parameters in full."""
    whole = [parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter for parameter in model.parameters()]
    return hashlib.sha256(bytes(byte for parameter in whole for byte in bits(parameter))).hexdigest()


def check_all_ranks_train_one_model(photos, *_):
    for kind, wrap in KINDS.items():
        for options in ({}, {"score_size": 8, "bn": "per_view"}):
            model = wrap(TinySimSiam())
            loader = hard_views(photos, model, **options)
            with forwards(getattr(model, "module", model)) as counts:
                steps = trained(model, loader)
            assert from_all(len(steps)) == [len(loader)] * dist.get_world_size()
            assert from_all(counts) == [counts] * dist.get_world_size()
            # the last step of the epoch is an uneven one
            assert len(steps[-1][0][0]) < BATCH or len(loader) * BATCH * dist.get_world_size() > len(loader.dataset)
            assert len(set(from_all(digest_of(model)))) == 1, kind
            chosen = from_all([bits(view) for views, _ in steps for view in views])
            assert all(views != chosen[0] for views in chosen[1:])

            twin = wrap(TinySimSiam())
            again = trained(twin, [(views, None) for views, _ in steps])
            for (_, first), (_, second) in zip(steps, again, strict=True):
                assert first == second, kind
            assert digest_of(twin) == digest_of(model)
