"""FSDP2 (``torch.distributed.fsdp.fully_shard``) while scoring: parameters are gathered for parts that are called on their own, and
nothing of the forward is left in the books that FSDP2 keeps.

FSDP2 gathers a module's parameters in a hook of its forward. A part that is not sharded by itself belongs to the sharded module around
it, whose hook a call of the part alone never meets. And the first sharded module whose hook runs becomes the root of what it holds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

# What forwards note, on a module's FSDP state, its groups of parameters, and what all states of one root share.
_NOTES = ("_training_state", "_modules_to_run_forward", "_post_forward_indices", "post_forward_order", "iter_forward_root")
# What the first forward settles: which module is the root, and so what its states share.
_ROOT = (
    *("_is_root", "_state_ctx", "_comm_ctx", "all_states"),  # of a state
    *("comm_ctx", "post_forward_mesh_info", "_module_fqn", "_param_group_index", "_num_param_groups"),  # of a group
)


def fsdp_modules(modules: Iterable[nn.Module]) -> list[Any]:
    """Those to which ``fully_shard`` was applied."""
    # Loading the package takes a second or two, and without it nothing is sharded.
    kind = getattr(sys.modules.get("torch.distributed.fsdp"), "FSDPModule", None)
    return [] if kind is None else [module for module in modules if isinstance(module, kind)]


@contextmanager
def gathered(walk: list[nn.Module], given: list[nn.Module]) -> Iterator[None]:
    """The modules given can be called on their own inside the context, wherever in a sharded model they lie.

    Gathers, from all ranks at once, the parameters of the sharded module that each of them is or belongs to; those of sharded modules
    further below are gathered by their own hooks. Afterwards every parameter is sharded or gathered as it was, and FSDP2 has noted
    no forward, nor taken a module for the root that was none yet.

    Args:
        walk: all modules below those given, each once.
        given: the modules that will be called.
    """
    sharded = fsdp_modules(walk)
    owners = _owners(sharded)
    owned = [(module, owners[id(module)]) for module in given if id(module) in owners]
    books = _Books(sharded)
    hooks: list[Any] = []
    try:
        for root in _roots(sharded):
            root._get_fsdp_state()._lazy_init()
        for module, owner in owned:
            owner.unshard()
            if module is not owner:
                hooks += _input_casts(module, owner)
        yield
    except RuntimeError as error:
        _explain(error, [module for module in given if id(module) not in owners])
        raise
    finally:
        for hook in hooks:
            hook.remove()
        books.restore()


def _groups(state: Any) -> list[Any]:
    """A state's groups of parameters, of which older versions of torch have one at most."""
    several = getattr(state, "_fsdp_param_groups", None)
    return several if several is not None else [group for group in (state._fsdp_param_group,) if group is not None]


class _Books:
    """What FSDP2 knows about its modules between forwards, to put it back."""

    def __init__(self, sharded: list[Any]):
        states = {id(state): (state, module) for module in sharded for state in (module._get_fsdp_state(),)}
        self._gathered = [(module, _groups(state), _is_gathered(state)) for state, module in states.values()]
        self._notes = [record for state, _ in states.values() for record in _records(state, state._is_root is None)]

    def restore(self) -> None:
        for owner, name, value in self._notes:  # first, as what is in the middle of a forward does not let go of its parameters
            if isinstance(value, (list, set)):
                _refill(getattr(owner, name), value)
            else:
                setattr(owner, name, value)
        for module, groups, was_gathered in self._gathered:
            ahead = any(group._all_gather_result is not None for group in groups)  # begun for a module that was not called
            if ahead or was_gathered:
                module.unshard()
            if not was_gathered:
                module.reshard()


def _records(state: Any, rootless: bool) -> Iterator[tuple[Any, str, Any]]:
    names = _NOTES + _ROOT if rootless else _NOTES
    for owner in (state, state._state_ctx, state._comm_ctx, *_groups(state)):
        for name in names:
            value = vars(owner).get(name, owner)
            if value is not owner:
                yield owner, name, value.copy() if isinstance(value, (list, set)) else value


def _refill(container: Any, content: Any) -> None:
    container.clear()
    container.extend(content) if isinstance(container, list) else container.update(content)


def _is_gathered(state: Any) -> bool:
    return any(group.is_unsharded for group in _groups(state))


def _roots(sharded: list[Any]) -> list[Any]:
    """The outermost sharded modules."""
    below = {id(child) for module in sharded for child in module.modules() if child is not module}
    return [module for module in sharded if id(module) not in below]


def _owners(sharded: list[Any]) -> dict[int, Any]:
    """By the id of a module: the sharded module that it is, or that gathers its parameters."""
    owners = {id(module): module for module in sharded}
    for module in sharded:
        below = list(module.children())
        while below:
            child = below.pop()
            if id(child) not in owners:
                owners[id(child)] = module
                below += child.children()
    return owners


def _input_casts(module: nn.Module, owner: Any) -> list[Any]:
    """The cast of inputs to the type of the gathered parameters, which else the owner's own hook makes: handles of hooks."""
    from torch.utils._pytree import tree_map

    policy = owner._get_fsdp_state()._mp_policy
    dtype = policy.param_dtype
    if dtype is None or not policy.cast_forward_inputs:
        return []

    def cast(value: Any) -> Any:
        return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

    return [module.register_forward_pre_hook(lambda _, args, kwargs: (tree_map(cast, args), tree_map(cast, kwargs)), with_kwargs=True)]


def _explain(error: RuntimeError, unowned: list[nn.Module]) -> None:
    tensors = sys.modules.get("torch.distributed.tensor")
    for module in unowned:
        if tensors is not None and any(isinstance(parameter, tensors.DTensor) for parameter in module.parameters()):
            error.add_note(
                f"The parameters of {type(module).__name__} are sharded, and scoring was given no module around it that FSDP2 shards. If "
                "there is one, give its root as well: scoring(root, part), or the whole model to the objective."
            )
            return
