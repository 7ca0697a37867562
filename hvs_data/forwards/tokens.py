"""Fewer tokens while scoring: a vision transformer's blocks are given a regular subset of the patches."""

# Axes: N image of a forward, L token, D feature.

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from torch import nn

from hvs_data.arguments.values import real_number, type_name, whole_number
from hvs_data.errors import SelectionError
from hvs_data.forwards.kept_tokens import KeptTokens
from hvs_data.modules.reachable import reachable_modules
from hvs_data.modules.transformers import PATCH_EMBEDDINGS, STACKS, VisionTransformer, named_transformers, vision_transformers
from hvs_data.objectives.base import Objective


@dataclass(frozen=True)
class KeepTokens:
    """How many of a vision transformer's patch tokens pass its blocks while scoring.

    All views keep the patches at the same places: evenly spread over the grid, the same in every step. Class, register and distillation
    tokens stay. Rotary positions that blocks are called with are kept with their tokens. Nothing is drawn and the device is asked nothing.

    Attributes:
        share: of the patch tokens, above 0 and at most 1; at least one patch stays.
        blocks: the first block of each transformer, in whose input tokens are dropped: modules that take tokens [N, L, D] as their first
            argument. None finds them in the objective's modules, for transformers of timm, torchvision, Hugging Face, lightly and the
            official DINO, iBOT, DINOv2 and DINOv3 code.
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
        self._kept: dict[tuple[int, int], KeptTokens] = {}
        self.transformers()  # an objective without one is refused here

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the blocks of every transformer are given the kept tokens only. The hooks go with the context."""
        with ExitStack() as stack:
            for transformer in self.transformers():
                # the same hooks each time, for a forward that is compiled
                key = id(transformer.blocks[0]), transformer.prefix
                kept = self._kept.setdefault(key, KeptTokens(float(self.setting.share), transformer.prefix))
                stack.enter_context(kept.applied(transformer))
            yield

    def first_blocks(self) -> list[nn.Module]:
        """The blocks whose input loses tokens."""
        return [transformer.blocks[0] for transformer in self.transformers()]

    def transformers(self) -> list[VisionTransformer]:
        """The transformers that lose tokens. Looked up anew, as blocks may be exchanged."""
        setting = self.setting
        teacher = [] if setting.teacher else reachable_modules(getattr(self.objective, "teacher", None))
        whole = {id(module) for root in teacher for module in root.modules()}
        walk = {id(module): module for root in self.objective.modules() for module in root.modules() if id(module) not in whole}
        if setting.blocks is not None:
            assert setting.prefix is not None
            return named_transformers(setting.blocks, setting.prefix, list(walk.values()))
        found = vision_transformers(walk.values())
        if not found:
            raise SelectionError(
                f"keep_tokens found no vision transformer in the modules of {type_name(self.objective)} ({_names(walk.values())}): none "
                f"has a patch embedding ({', '.join(PATCH_EMBEDDINGS)}) and blocks ({', '.join(STACKS)}); name the first block of each: "
                "keep_tokens=KeepTokens(0.5, blocks=[vit.stages[0]], prefix=1)"
            )
        return found


def _names(modules: Iterable[nn.Module]) -> str:
    names = list(dict.fromkeys(type_name(module) for module in modules))
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
