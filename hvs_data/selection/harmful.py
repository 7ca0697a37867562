"""Settings under which the hardest pairs were seen to make features worse, told before a training is spent on them."""

from __future__ import annotations

from hvs_data.arguments.sizes import height_width
from hvs_data.policies.base import Policy
from hvs_data.recipes.spec import Recipe
from hvs_data.types.rows import LOCAL


class HardnessWarning(UserWarning):
    """Chosen views, settings that make them, or a model's outputs, that a training is unlikely to gain from."""


# Measured in docs/evidence.md: SimCLR on views of 32 pixels with crops from .08, and the hardest of 16 candidates told from rows alone.
SMALL_VIEW = 64  # pixels
SMALL_CROP = 0.2  # of the area
MANY_FROM_ROWS = 8  # candidates for the pair; of many local ones nothing was measured
LARGE_CROP = 0.6  # of the area: pairs of such crops overlap whatever is chosen, and many candidates were seen to help


def seen_to_hurt(recipe: Recipe, policy: Policy, ruled: bool, prefilter: int | None) -> list[str]:
    """What of these settings was seen to hurt, each as a message that says what to do; none for settings that were not.

    Args:
        recipe: of the candidates.
        policy: the selector's.
        ruled: whether a rule says which pairs may be chosen: then the caller has set a limit, and nothing is said.
        prefilter: the selector's.
    """
    of_pair = [role for role in recipe.roles if role.name != LOCAL]
    candidates = sum(role.candidates for role in of_pair)
    if policy.seeks <= 0 or ruled or candidates <= 2:
        return []
    found = []
    cropped = [role for role in of_pair if role.crop == "random_resized"]
    small = [role for role in cropped if role.scale[0] < SMALL_CROP and max(height_width(role.size)) <= SMALL_VIEW]
    if small:
        found.append(
            f"expected crops from {SMALL_CROP:g} of the area for views of {SMALL_VIEW} pixels or less under policy {policy.name!r}, got "
            f"crops from {small[0].scale[0]:g} for views of {small[0].size}: random pairs of such crops overlap little already, and "
            "training on their hardest pairs made features worse where it was measured (k-NN by 1.8 and 5.3 points). Write "
            "recipe.with_roles(scale=(0.2, 1)), or keep the pairs that overlap: HardViewSelector(policy='feasible')"
        )
    if prefilter == 2 and candidates > MANY_FROM_ROWS and any(role.scale[0] < LARGE_CROP for role in cropped):
        found.append(
            f"expected at most {MANY_FROM_ROWS} candidates where rows alone choose the pair (prefilter=2, budget='cheap'), got "
            f"{candidates}: the hardest pair of so many hardly overlaps, and training on such pairs made features worse where it was "
            "measured (16 candidates, k-NN by 6 points). Draw fewer, cut larger crops with "
            f"recipe.with_roles(scale=({LARGE_CROP:g}, 1)), or keep the pairs that overlap: HardViewSelector(policy='feasible')"
        )
    return found
