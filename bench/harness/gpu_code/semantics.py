"""How it is noted what an instruction does, and what many of them share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from harness.gpu_code.listing import Instruction, Operand
from harness.gpu_code.machine import Machine

Lanes = NDArray[Any]
# What an instruction does for all lanes that execute it.
Does = Callable[[Machine, Instruction, Lanes], None]


class Table(dict[str, Does]):
    """What instructions do, by their names, as nvdisasm writes them, without the U of uniform ones."""

    def of(self, *names: str) -> Callable[[Does], Does]:
        """Notes that the decorated function is what these instructions do."""

        def note(function: Does) -> Does:
            self.update(dict.fromkeys(names, function))
            return function

        return note


def parts(operands: tuple[Operand, ...]) -> tuple[Operand, list[Operand], list[Operand], list[Operand]]:
    """The result, predicates that are written beside it, sources, and predicates that are read."""
    result, *rest = operands
    begin, end = 0, len(rest)
    while begin < end and rest[begin].kind == "predicate":
        begin += 1
    while end > begin and rest[end - 1].kind == "predicate":
        end -= 1
    return result, rest[:begin], rest[begin:end], rest[end:]
