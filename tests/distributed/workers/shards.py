"""Dividing a model with FSDP2, and seeing what a forward has left in it."""

import functools

import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from hvs_data.modules import sharded
from traces import changes, state_of


@functools.cache
def mesh():
    return init_device_mesh("cpu", (dist.get_world_size(),))


def shard(*modules, **options):
    for module in modules:
        fully_shard(module, mesh=mesh(), **options)


def prepared(model):
    """The first gathering registers hooks of state_dict, which stay and say nothing of forwards."""
    for module in sharded.fsdp_modules(model.modules()):
        module.unshard()
        module.reshard()
    return model


def books(model):
    """What FSDP2 has noted."""
    notes = []
    for module in model.modules():
        if isinstance(module, FSDPModule):
            state = module._get_fsdp_state()
            notes.append((state._is_root, state._training_state, state._state_ctx.iter_forward_root, len(state._modules_to_run_forward)))
            for group in sharded._groups(state):
                order = getattr(group.comm_ctx, "post_forward_order", [])
                notes.append((group._training_state, group._sharded_state, list(group._post_forward_indices), len(order)))
                notes.append(group._all_gather_result is None)
    return notes


def everything(model):
    return {"books": books(model), **state_of(model, state_dict=False)}


def assert_same(before, after, where=""):
    assert changes(before, after) == set(), f"{where}: {changes(before, after)}"
