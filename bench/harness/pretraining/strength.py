"""Strength of the augmentation, beside what a method publishes: the axis along which hard views help or harm."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hvs_data.recipes.spec import Recipe
from hvs_data.types import LOCAL


@dataclass(frozen=True)
class Strength:
    """Changes of a recipe's views; None leaves a recipe as it is.

    Attributes:
        crop: lower bound of a crop's share of the image's area, of all roles but local ones.
        color: factor of the ranges of brightness, contrast, saturation and hue, and, up to 1, of the probability of grey.
    """

    crop: float | None = None
    color: float | None = None

    def of(self, recipe: Recipe) -> Recipe:
        """The recipe with these changes."""
        roles = []
        for role in recipe.roles:
            if self.crop is not None and role.name != LOCAL:
                role = replace(role, scale=(self.crop, max(self.crop, role.scale[1])))
            if self.color is not None:
                its = role.jitter
                ranges = {name: self.color * getattr(its, name) for name in ("brightness", "contrast", "saturation", "hue")}
                role = replace(role, jitter=replace(its, **ranges), gray=min(1.0, self.color) * role.gray)
            roles.append(role)
        return replace(recipe, roles=tuple(roles))

    def as_json(self) -> dict[str, float]:
        """What differs from the recipe."""
        return {name: float(value) for name, value in (("crop", self.crop), ("color", self.color)) if value is not None}

    def in_words(self) -> str:
        """Such as "crops from 0.2, colours x 0.5"; empty without changes."""
        words = [] if self.crop is None else [f"crops from {self.crop:g}"]
        return ", ".join(words if self.color is None else [*words, f"colours x {self.color:g}"])
