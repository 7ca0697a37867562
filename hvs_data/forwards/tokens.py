"""Fewer tokens while scoring: a vision transformer's blocks are given a regular subset of the patches."""

# Axes: N image of a forward, L token, D feature, P patch, G side of the grid of patches, K kept patch.

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hvs_data.arguments.values import real_number, type_name, whole_number
from hvs_data.errors import SelectionError
from hvs_data.modules.reachable import reachable_modules
from hvs_data.modules.transformers import PATCH_EMBEDDINGS, STACKS, first_blocks
from hvs_data.objectives.base import Objective
from hvs_data.objectives.parts import describe

# Two irrational steps whose multiples spread evenly over the unit square (Roberts 2018, "The unreasonable effectiveness of quasirandom
# sequences": 1/x and 1/x^2 with x^3 = x + 1), in whole numbers of 2^-32 so that every device orders the patches alike.
_STEPS = (3242174889, 2447445414)


@dataclass(frozen=True)
class KeepTokens:
    """How many of a vision transformer's patch tokens pass its blocks while scoring.

    All views keep the patches at the same places: evenly spread over the grid, the same in every step. Class, register and distillation
    tokens stay. Nothing is drawn and the device is asked nothing.

    Attributes:
        share: of the patch tokens, above 0 and at most 1; at least one patch stays.
        blocks: the first block of each transformer, in whose input tokens are dropped: modules that take tokens [N, L, D] as their first
            argument. None finds them in the objective's modules, for transformers of timm, torchvision, Hugging Face, lightly and the
            official DINO, iBOT and DINOv2 code.
        prefix: tokens before the patches that always stay; None reads it off the transformer. To be given with ``blocks``.
        teacher: whether a teacher's tokens are dropped too; False lets it see whole views, so that ``keep_teacher`` can hand on what it
            returns.

    Raises:
        SelectionError: a value that means nothing.
    """

    share: float
    blocks: Sequence[nn.Module] | None = None
    prefix: int | None = None
    teacher: bool = True

    def __post_init__(self) -> None:
        share = real_number(self.share)
        if share is None or not 0 < share <= 1:
            raise SelectionError(f"keep_tokens must be a number above 0 and at most 1, or None, got {self.share!r}; a share of patches")
        if (self.blocks is None) != (self.prefix is None):
            raise SelectionError(
                "KeepTokens takes blocks= and prefix= together, or neither, got only one of them; a block does not tell how many of its "
                "tokens, such as the class token, come before the patches"
            )
        if self.blocks is not None and not (len(self.blocks) and all(isinstance(block, nn.Module) for block in self.blocks)):
            arrived = ", ".join(map(type_name, self.blocks))
            raise SelectionError(f"KeepTokens takes blocks= as a list of modules, the first block of each transformer, got [{arrived}]")
        if self.prefix is not None and (whole_number(self.prefix) is None or self.prefix < 0):
            raise SelectionError(f"KeepTokens takes prefix= as a whole number of at least 0, got {self.prefix!r}; a class token makes it 1")


class TokenDropping:
    """Drops tokens in the transformers of an objective for the time of a context.

    Args:
        setting: how many, and where.
        objective: whose modules are searched.

    Raises:
        SelectionError: no transformer, an objective whose outputs belong to single patches, or one without the teacher that is asked for.
    """

    def __init__(self, setting: KeepTokens, objective: Objective):
        if "mask" in objective.extras:
            raise SelectionError(
                f"keep_tokens does not go with {type(objective).__name__}, whose loss needs an output for every masked patch; leave it "
                "out, or score by the class tokens alone: objectives.DINO with functions that return a network's class logits"
            )
        if not setting.teacher and not list(reachable_modules(getattr(objective, "teacher", None))):
            raise SelectionError(
                "KeepTokens(teacher=False) needs an objective whose attribute 'teacher' holds modules, such as DINO, got "
                f"{type_name(objective)}"
            )
        self.setting = setting
        self.objective = objective
        self._hooks: dict[int, Any] = {}
        self.first_blocks()  # an objective without a transformer is refused here

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the first block of every transformer is given the kept tokens only. The hooks go with the context."""
        with ExitStack() as stack:
            for block, prefix in self.first_blocks():
                # one function for each prefix: a compiled forward meets the same hook every time
                hook = self._hooks.setdefault(prefix, _dropping(float(self.setting.share), prefix))
                stack.callback(block.register_forward_pre_hook(hook, with_kwargs=True).remove)
            yield

    def first_blocks(self) -> list[tuple[nn.Module, int]]:
        """The blocks whose input loses tokens, and the tokens before the patches. Looked up anew, as blocks may be exchanged."""
        setting = self.setting
        if setting.blocks is not None:
            assert setting.prefix is not None
            return [(block, setting.prefix) for block in setting.blocks]
        teacher = [] if setting.teacher else reachable_modules(getattr(self.objective, "teacher", None))
        whole = {id(module) for root in teacher for module in root.modules()}
        walk = {id(module): module for root in self.objective.modules() for module in root.modules() if id(module) not in whole}
        found = first_blocks(walk.values())
        if not found:
            raise SelectionError(
                f"keep_tokens found no vision transformer in the modules of {type_name(self.objective)} ({_names(walk.values())}): none "
                f"has a patch embedding ({', '.join(PATCH_EMBEDDINGS)}) and blocks ({', '.join(STACKS)}); name the first block of each: "
                "keep_tokens=KeepTokens(0.5, blocks=[vit.stages[0]], prefix=1)"
            )
        return found


def kept_patches(side: int, share: float, device: torch.device) -> Tensor:
    """Places of the kept patches in a grid of side G, evenly spread: int64 [K] in rising order, K = share G^2, rounded, at least 1.

    Ordered by a low-discrepancy lattice, every leading part of which covers the grid evenly.
    """
    place_P = torch.arange(side * side, device=device)
    value_P = (place_P // side * _STEPS[0] + place_P % side * _STEPS[1]) % 2**32
    kept = max(1, math.floor(side * side * share + 0.5))
    return value_P.argsort(stable=True)[:kept].sort().values


def _dropping(share: float, prefix: int) -> Any:
    def drop_tokens(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        tokens = args[0] if args else None
        if not isinstance(tokens, Tensor) or tokens.ndim != 3:
            raise SelectionError(
                f"keep_tokens expected tokens [N, L, D] as the first argument of {type_name(block)}, got {describe(tokens)}"
            )
        others = [*args[1:], *kwargs.values()]
        if any(_holds_tensor(other) for other in others):
            raise SelectionError(
                f"keep_tokens expected {type_name(block)} to be called with tokens alone, got tensors beside them, such as the positions "
                "of a rotary embedding, which belong to all tokens; transformers whose blocks take positions cannot drop tokens here"
            )
        patches = tokens.shape[1] - prefix
        side = math.isqrt(max(patches, 0))
        if side == 0 or side * side != patches:
            raise SelectionError(
                f"keep_tokens expected {prefix} tokens and then a square grid of patches in {type_name(block)}, got {tokens.shape[1]} "
                "tokens; give the number of other tokens with keep_tokens=KeepTokens(share, blocks=, prefix=), or square views"
            )
        kept_K = kept_patches(side, share, tokens.device) + prefix
        kept = torch.cat([tokens[:, :prefix], tokens[:, kept_K]], dim=1)
        return (kept, *args[1:]), kwargs

    return drop_tokens


def _holds_tensor(value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, (tuple, list)) and any(_holds_tensor(item) for item in value))


def _names(modules: Iterable[nn.Module]) -> str:
    names = list(dict.fromkeys(type_name(module) for module in modules))
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
