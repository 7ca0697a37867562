"""Modules that a scoring forward calls and an objective does not show: scoring would not protect them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from hvs_data.errors import SelectionError


@contextmanager
def unseen_refused(shown: Iterable[nn.Module], owner: str) -> Iterator[None]:
    """Inside, this thread may call no module with parameters or buffers of others than the modules shown.

    Modules that are in evaluation mode and not trained have nothing to protect. Compiled ones are not looked into.

    Args:
        shown: what scoring protects.
        owner: the objective's name, for errors.

    Raises:
        SelectionError: on such a call, before it.
    """
    known = {id(module): module for root in shown for module in root.modules()}
    if any(module._compiled_call_impl is not None or "_orig_mod" in module._modules for module in known.values()):
        yield  # a hook would become part of their graphs
        return
    shown_tensors = {id(tensor) for module in known.values() for tensor in _own_tensors(module)}
    thread = threading.get_ident()

    def check(module: nn.Module, args: Any) -> None:
        if id(module) in known or threading.get_ident() != thread:
            return
        # a module that is made in the forward, around those that are shown, holds nothing of its own
        others = [tensor for part in module.modules() for tensor in _own_tensors(part) if id(tensor) not in shown_tensors]
        if any(module.training or tensor.requires_grad for tensor in others):
            raise SelectionError(
                f"expected scoring to call modules that {owner} shows, got {type(module).__name__}, which was not found behind its "
                "functions: its dropout would stay on and its batch normalisation move. Keep the model in an attribute of the objective, "
                "under any name (objective.network = model), or list it in modules()"
            )

    handle = register_module_forward_pre_hook(check)
    try:
        yield
    finally:
        handle.remove()


def _own_tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters(recurse=False)
    yield from module.buffers(recurse=False)
