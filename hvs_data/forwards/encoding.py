"""An objective's forwards as a selector makes them: with fewer tokens, compiled, or as they are."""

# Axes: N image of a forward.

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

from hvs_data.arguments.values import real_number, type_name
from hvs_data.errors import SelectionError
from hvs_data.forwards.compiled import Compile, compile_arguments, compiled
from hvs_data.forwards.tokens import KeepTokens, TokenDropping
from hvs_data.modules.functional_noise import INDIFFERENT, silent, use_in
from hvs_data.modules.reachable import reachable_functions, reachable_modules
from hvs_data.modules.unseen import unseen_refused
from hvs_data.objectives.base import Objective, Outputs
from hvs_data.objectives.hooks import refuse_compiled


class Encoding:
    """What a selector calls of an objective.

    Args:
        objective: whose ``encode`` and ``encode_local`` are called.
        keep_tokens: share of patch tokens, or more about it; None keeps all.
        compile: see :func:`hvs_data.forwards.compiled.compile_arguments`.

    Raises:
        SelectionError: a setting that means nothing, or does not fit the objective.
    """

    def __init__(self, objective: Objective, keep_tokens: float | KeepTokens | None = None, compile: Compile = False):
        self.objective = objective
        is_share = isinstance(keep_tokens, bool) or real_number(keep_tokens) is not None
        setting: Any = KeepTokens(keep_tokens) if is_share else keep_tokens  # type: ignore[arg-type]
        if not isinstance(setting, KeepTokens | None):
            raise SelectionError(f"keep_tokens must be a share of the patches, a KeepTokens, or None, got {keep_tokens!r}")
        self._tokens = None if setting is None else TokenDropping(setting, objective)
        self._compile = compile
        self._arguments = compile_arguments(compile)
        self._draws: bool | None = None  # whether functions among the objective's parts may draw noise
        self._compiled: dict[str, Callable[..., Outputs]] = {}

    def with_tokens(self, keep_tokens: float | KeepTokens | None) -> Encoding:
        """The same with another share of tokens."""
        return Encoding(self.objective, keep_tokens, self._compile)

    @property
    def encode(self) -> Callable[..., Outputs]:
        """[N, 3, S, S] and extras by name -> outputs with first axis N."""
        return self._as_set("encode")

    @property
    def encode_local(self) -> Callable[..., Outputs]:
        """The same for local views."""
        return self._as_set("encode_local")

    def levers(self) -> AbstractContextManager[None]:
        """The context in which the forwards run. Nothing of it is left afterwards."""
        if self._tokens is None:
            return self.objective.around_forwards()
        if self._arguments is None:
            refuse_compiled(self.objective.modules(), self._tokens.first_blocks(), "keep_tokens")
        return self._both(self._tokens)

    @contextmanager
    def guards(self, first: bool, dropout: bool, prepare: Any = None) -> Iterator[None]:
        """The context that keeps functions of the user's in order, as scoring keeps modules.

        Args:
            first: whether nothing was scored so far; then modules are looked for that the objective does not show.
            dropout: whether dropout stays on.
            prepare: what else runs, and needs no protection: it is the trainer's own.

        Raises:
            SelectionError: see :func:`unseen_refused`.
        """
        with ExitStack() as stack:
            if self._draws is None:
                self._draws = use_in(reachable_functions(self.objective)) != INDIFFERENT
            if self._draws and not dropout:
                stack.enter_context(silent())
            if first and self._arguments is None:
                stack.enter_context(unseen_refused([*self.objective.modules(), *reachable_modules(prepare)], type_name(self.objective)))
            yield

    @contextmanager
    def _both(self, tokens: TokenDropping) -> Iterator[None]:
        with self.objective.around_forwards(), tokens.applied():
            yield

    def spares_teacher(self) -> bool:
        """Whether a teacher's outputs are those of its own forward of the same views."""
        if self._tokens is None:
            return True
        teacher = {id(module) for root in reachable_modules(getattr(self.objective, "teacher", None)) for module in root.modules()}
        return not any(id(block) in teacher for block in self._tokens.first_blocks())

    def _as_set(self, name: str) -> Callable[..., Outputs]:
        encode = getattr(self.objective, name)
        if self._arguments is None:
            return encode
        if name not in self._compiled:
            self._compiled[name] = compiled(encode, self._arguments)
        return self._compiled[name]
