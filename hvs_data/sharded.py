"""Modules that FSDP2 shards (``torch.distributed.fsdp.fully_shard``): how to tell them."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from torch import nn


def fsdp_modules(modules: Iterable[nn.Module]) -> list[nn.Module]:
    """Those to which ``fully_shard`` was applied."""
    # Loading the package takes a second or two, and without it nothing is sharded.
    kind = getattr(sys.modules.get("torch.distributed.fsdp"), "FSDPModule", None)
    return [] if kind is None else [module for module in modules if isinstance(module, kind)]
