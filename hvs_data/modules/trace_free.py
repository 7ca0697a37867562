"""The trace-free forward: run a model for its scores and leave everything in it as it was."""

from __future__ import annotations

import operator
import random
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils import parametrize

from hvs_data.errors import SelectionError
from hvs_data.modules.functional_noise import silent, use_of_mode
from hvs_data.modules.sharded import gathered

BN_STATISTICS = ("batch", "running")

# Forwards that write nothing to the module's buffers once track_running_stats is off or the module is in evaluation mode.
_KEEP_BUFFERS = (_BatchNorm.forward, nn.SyncBatchNorm.forward)

# Attributes of these types are kept one level deep: tables of hooks, and where models gather features or remember positions.
_CONTAINERS = frozenset({dict, OrderedDict, defaultdict, list, set, deque})
# Not among them: buffers have a way of their own, and of parameters and submodules FSDP2 swaps the former while a forward runs.
_NOT_CONTAINERS = frozenset({"_buffers", "_parameters", "_modules"})

# Modules that define the classes made on the fly for a module that is parametrized or sharded; the class below is what counts.
_MADE_CLASSES = ("torch.nn.utils.parametrize", "torch.distributed.fsdp")


@contextmanager
def scoring(*modules: nn.Module, bn: str = "batch", dropout: bool = False) -> Iterator[None]:
    """Forwards of these modules inside the context leave no trace and carry no gradient.

    Inside:

    - ``torch.no_grad`` (not ``inference_mode``, whose tensors break a later backward; it is suspended where it is on).
    - Batch normalisation in training mode uses the batch's statistics and does not move its running ones; what was frozen with
      ``eval()`` stays frozen. Every module with buffers named ``running_...`` counts as a normalisation.
    - Every other module below those given is in evaluation mode, which turns off dropout and drop path in whatever form they come.
      The modules given keep their own mode, because a model's forward may return something else in evaluation mode; unless
      they are layers of ``torch.nn`` themselves, which do not, or their code shows that it asks for its mode for dropout and drop path
      alone. In those that keep it, PyTorch's own dropout functions do nothing (:mod:`hvs_data.modules.functional_noise`). So the one noise
      that stays on is what the very ``forward`` of such a module draws itself.
    - Attention runs as in training, never by PyTorch's fused inference path. Neither autocast nor ``parametrize.cached`` keeps
      weights computed here, which would be cut off from the gradient.
    - A DistributedDataParallel wrapper among the modules does not broadcast buffers. Parameters that FSDP2 shards are gathered for
      the modules given, and sharded again afterwards; give the root too where they are parts of it.

    Afterwards, also after an exception: attributes (training flags and all others), buffers and hooks of all modules, and the random
    states of torch (CPU, and CUDA once it is in use), numpy and Python are what they were, bit for bit. Contexts nest. Nothing
    waits for the device. Hooks run as in any forward, so what they do outside the modules stays done. Not undone either: parameters or
    submodules put in place of others, changes made in place to parameters, to tensors that are not buffers and to containers in
    containers, and whatever is kept outside the modules.

    The random states are those of the process. The loader's threads do not draw from them (:mod:`hvs_data.drawing`); what other threads
    draw from them meanwhile is rolled back.

    On several ranks every rank must make the same number of forwards, as in training: synchronised batch normalisation and FSDP2
    communicate in them.

    Args:
        modules: the modules that will be called; of a compiled or DistributedDataParallel wrapper, the module inside counts as given too.
        bn: "batch" for batch statistics, "running" for running statistics, as in evaluation mode.
        dropout: keep dropout and drop path as they are in training.

    Raises:
        SelectionError: something else than a module, an unknown ``bn``, a TorchScript module, or a lazy module without parameters.
    """
    if bn not in BN_STATISTICS:
        raise SelectionError(
            f"bn must be one of {BN_STATISTICS}, got {bn!r}; it says which statistics batch normalisation uses while scoring"
        )
    walk = _every_module(modules)
    given = list(_given(modules))
    with _random_states_kept(), _uncached_autocast(), _uncached_parametrizations(), _plain_attention(), _no_gradient():
        with gathered(walk, given), nullcontext() if dropout else _silenced(given):
            before = _Snapshot(walk)
            try:
                _set_modes(walk, {id(module) for module in given}, bn, dropout)
                yield
            finally:
                before.restore()


def _every_module(modules: tuple[nn.Module, ...]) -> list[nn.Module]:
    walk: dict[int, nn.Module] = {}
    for root in modules:
        if not isinstance(root, nn.Module):
            raise SelectionError(
                f"scoring takes torch.nn.Module instances, got {type(root).__name__}; pass the modules that the forward calls"
            )
        walk.update((id(module), module) for module in root.modules())
    for module in walk.values():
        if isinstance(module, torch.jit.ScriptModule):
            raise SelectionError(
                "scoring needs modules whose flags Python can set, got a TorchScript module; pass the module that it was made from"
            )
        if isinstance(module, LazyModuleMixin) and module.has_uninitialized_params():
            raise SelectionError(
                f"{type(module).__name__} has no parameters yet, and scoring must not make them; run one forward of the model first"
            )
    return list(walk.values())


def _given(modules: tuple[nn.Module, ...]) -> Iterator[nn.Module]:
    """The modules that were passed, and what their wrappers hold."""
    for module in modules:
        inner: Any = module
        while isinstance(inner, nn.Module):
            yield inner
            wrapped = isinstance(inner, (nn.parallel.DistributedDataParallel, nn.DataParallel))
            inner = inner.module if wrapped else inner._modules.get("_orig_mod")


def _set_modes(walk: list[nn.Module], given: set[int], bn: str, dropout: bool) -> None:
    for module in walk:
        attributes = vars(module)  # an ordinary assignment takes longer than all that is decided here
        if isinstance(module, nn.parallel.DistributedDataParallel):
            attributes["require_forward_param_sync"] = False  # covers buffers too
        if not attributes.get("training"):  # compiled wrappers have no mode of their own
            continue
        if not _is_normalisation(module):
            attributes["training"] = dropout or (id(module) in given and _keeps_mode(module) and not use_of_mode(module).noise_alone)
        elif bn == "running":
            attributes["training"] = False
        elif attributes.get("track_running_stats"):
            attributes["track_running_stats"] = False


def _silenced(given: list[nn.Module]) -> AbstractContextManager[None]:
    """Switches off what modules that keep their mode would draw, where their code may draw at all: it costs some microseconds a call."""
    kept = [module for module in given if vars(module).get("training") and _keeps_mode(module)]
    return silent() if any(use_of_mode(module).unswitched for module in kept) else nullcontext()


def _keeps_mode(module: nn.Module) -> bool:
    return not _is_normalisation(module) and not _is_torch_layer(module)


def _is_normalisation(module: nn.Module) -> bool:
    return any(name.startswith("running_") for name in module._buffers)


def uses_batch_statistics(modules: Iterable[nn.Module]) -> bool:
    """Whether any of the modules normalises by its batch, so that an image's output depends on the others."""
    norms = [module for module in modules if isinstance(module, _BatchNorm) or _is_normalisation(module)]
    of_batch = [norm for norm in norms if not isinstance(norm, _InstanceNorm)]
    return any(norm.training or getattr(norm, "running_mean", norm) is None for norm in of_batch)


def _is_torch_layer(module: nn.Module) -> bool:
    defined = next(kind.__module__ for kind in type(module).__mro__ if not kind.__module__.startswith(_MADE_CLASSES))
    return defined.startswith("torch.nn.")


class _Snapshot:
    """Attributes and buffers of modules, to put them back."""

    def __init__(self, walk: list[nn.Module]):
        self._names = [(module, dict(vars(module)), dict(module._buffers)) for module in walk]
        self._containers = [
            (value, value.copy() if value else None)
            for _, attributes, _ in self._names
            for name, value in attributes.items()
            if type(value) in _CONTAINERS and name not in _NOT_CONTAINERS
        ]
        at_risk: dict[int, Tensor] = {}
        for module in walk:
            if type(module).forward not in _KEEP_BUFFERS:
                at_risk.update((id(buffer), buffer) for buffer in module._buffers.values() if buffer is not None)
        # Copies of all, not of those that will change: writes through ``.data`` leave a tensor's version as it was, and comparing
        # would wait for the device.
        self._contents = [(buffer, buffer.detach().clone()) for buffer in at_risk.values() if not _is_expanded(buffer)]

    def restore(self) -> None:
        for module, attributes, buffers in self._names:
            _put_back(vars(module), attributes)
            _put_back(module._buffers, buffers)
        for container, items in self._containers:
            _refill(container, items)
        for buffer, content in self._contents:
            # through .data: the buffer may be saved for a backward that is still to come, which would refuse a newer version
            buffer.data.copy_(content)


def _put_back(now: dict[str, Any], before: dict[str, Any]) -> None:
    if list(now) != list(before):  # the order of names is the order of a state_dict
        now.clear()
    now.update(before)


def _refill(container: Any, items: Any) -> None:
    """Put back a container's items, without touching what has not changed; None = it was empty."""
    if not items:
        if container:
            container.clear()
    elif not _holds_the_same(container, items):
        container.clear()
        container.extend(items) if isinstance(container, (list, deque)) else container.update(items)


def _holds_the_same(container: Any, items: Any) -> bool:
    if isinstance(container, set):
        return container == items
    # by identity: comparing tensors would wait for the device
    if isinstance(container, dict):
        return list(container) == list(items) and all(map(operator.is_, container.values(), items.values()))
    return len(container) == len(items) and all(map(operator.is_, container, items))


def _is_expanded(buffer: Tensor) -> bool:
    """Several elements share memory; nothing can be written to such a tensor, neither by a forward nor here."""
    if buffer.layout is not torch.strided:
        return False
    return any(step == 0 and length > 1 for step, length in zip(buffer.stride(), buffer.shape, strict=True))


@contextmanager
def _random_states_kept() -> Iterator[None]:
    python_state, numpy_state = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


@contextmanager
def _uncached_autocast() -> Iterator[None]:
    # A weight cast under no_grad and kept would cut the weight off from the training forward of the same autocast region.
    cached = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(cached)


@contextmanager
def _uncached_parametrizations() -> Iterator[None]:
    # The same of weights that are functions of parameters, in a training loop inside torch.nn.utils.parametrize.cached().
    cached = parametrize._cache_enabled
    parametrize._cache_enabled = 0
    try:
        yield
    finally:
        parametrize._cache_enabled = cached


@contextmanager
def _no_gradient() -> Iterator[None]:
    with torch.inference_mode(False), torch.no_grad():
        yield


@contextmanager
def _plain_attention() -> Iterator[None]:
    # In evaluation mode without gradient, attention layers would run fused from their weights: with other rounding than in
    # training, and past whatever has been put in place of their sublayers, such as adapters.
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
