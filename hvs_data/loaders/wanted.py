"""What is rendered of a batch's candidates, decided when the batch is begun."""

# Axes: G image of a group, K rendered view.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from hvs_data.arguments.sizes import Size
from hvs_data.recipes.spec import Recipe
from hvs_data.selection.narrowing import Narrowing
from hvs_data.types.rows import ViewParams


@dataclass(frozen=True)
class Wanted:
    """Views of each image, and their sizes. What is equal renders the same pixels.

    Attributes:
        sizes: K sizes in pixels.
        narrowing: tells which K slots of an image's rows; None for all, in order.
    """

    sizes: tuple[Size, ...]
    narrowing: Narrowing | None = None

    @staticmethod
    def all_of(recipe: Recipe, sizes_V: Sequence[Size] | None = None) -> Wanted:
        """All views of a recipe, at its own sizes by default."""
        return Wanted(tuple(sizes_V or (role.size for role in recipe.slot_roles)))

    def slots(self, params: ViewParams) -> Tensor | None:
        """The slots of these images' views that are rendered: int64 [G, K]; None for all."""
        return None if self.narrowing is None else self.narrowing.slots(params.batch_size, params)
