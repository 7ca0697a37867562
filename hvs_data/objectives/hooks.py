"""Hooks for the time of a forward, and where they would not run."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from hvs_data.errors import SelectionError


def refuse_compiled(modules: Iterable[nn.Module], targets: Iterable[nn.Module], option: str) -> None:
    """Check that a hook on the targets would run: a compiled module takes no notice of hooks that come after its first forward, and keeps
    those that it was compiled with for forwards that come later.

    Raises:
        SelectionError: a module that is compiled holds one of the targets.
    """
    wanted = {id(target) for target in targets}
    for module in {id(inner): inner for root in modules for inner in root.modules()}.values():
        is_compiled = module._compiled_call_impl is not None or "_orig_mod" in module._modules
        if is_compiled and any(id(inner) in wanted for inner in module.modules()):
            raise SelectionError(
                f"{option} needs modules that are not compiled themselves, got a compiled {type(module).__name__}, whose graphs take "
                "no notice of what changes while scoring; let the selector compile the scoring forward with compile=True"
            )
