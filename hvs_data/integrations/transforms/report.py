"""What a recipe cannot express of a pipeline, gathered so that all of it is told at once."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from hvs_data.errors import RecipeError

ELSEWHERE = (
    "drop it, or, if it takes float tensors, pass it as ViewLoader(extra_stage=...), which is called with each finished view, [1, 3, S, S] "
    "of values 0-1, before it is normalised, and draws for every view anew"
)


class ApproximateRecipeWarning(UserWarning):
    """A recipe's views differ from those of the transforms that it was made from, by little and for a known reason."""


@dataclass(frozen=True)
class InexpressiblePart:
    """A part of a pipeline that no recipe expresses.

    Attributes:
        path: where it stands, such as ``transforms[1].RandomApply[0]``.
        part: what stands there, a class's name.
        why: what of it a recipe lacks.
        remedy: what to do.
    """

    path: str
    part: str
    why: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path} ({self.part}): {self.why}; {self.remedy}"


class TransformsError(RecipeError):
    """Transforms that no recipe equals.

    Attributes:
        parts: every part that cannot be expressed.
    """

    def __init__(self, parts: tuple[InexpressiblePart, ...]):
        many = f"{len(parts)} parts of these transforms have" if len(parts) > 1 else "a part of these transforms has"
        super().__init__("\n".join([f"{many} no equal in a recipe:", *(f"- {part}" for part in parts)]))
        self.parts = parts


class InexpressibleError(Exception):
    """Raised and caught in this package while one part is read; the walk adds where the part stands."""

    def __init__(self, why: str, remedy: str = ELSEWHERE):
        super().__init__(why)
        self.why = why
        self.remedy = remedy


class Report:
    """Parts that cannot be expressed, and differences that are small and known; each is told once."""

    def __init__(self) -> None:
        self._parts: dict[InexpressiblePart, None] = {}  # in order, without repetition
        self._differences: dict[str, None] = {}

    def refuse(self, path: str, part: str, why: str, remedy: str = ELSEWHERE) -> None:
        self._parts[InexpressiblePart(path, part, why, remedy)] = None

    @property
    def parts(self) -> tuple[InexpressiblePart, ...]:
        """What was refused so far."""
        return tuple(self._parts)

    def differs(self, difference: str) -> None:
        self._differences[difference] = None

    def raise_if_refused(self) -> None:
        """
        Raises:
            TransformsError: something was refused.
        """
        if self._parts:
            raise TransformsError(self.parts)

    def warn(self, stacklevel: int) -> None:
        """One ApproximateRecipeWarning with all differences, if there are any."""
        if self._differences:
            text = "the recipe's views differ a little from those of the transforms:"
            warnings.warn("\n".join([text, *(f"- {line}" for line in self._differences)]), ApproximateRecipeWarning, stacklevel + 1)
