"""The chosen global views once more, at other sizes: what a recipe's twins ask for."""

# Axes: B image, K chosen global view.

from __future__ import annotations

from dataclasses import replace

from hvs_data.errors import HvsError
from hvs_data.loaders.production import Product
from hvs_data.recipes.spec import Recipe
from hvs_data.types.batch import Batch
from hvs_data.types.rows import LOCAL


def with_twins(batch: Batch, product: Product) -> Batch:
    """The batch with its recipe's twins, rendered now from the product's images.

    Args:
        batch: as it is handed out, views and selection.
        product: what it was made of, with its images if there are twins.
    """
    twins = product.twins
    if not twins:
        return batch
    if batch.selection is None:
        rows_BK = batch.params.views([slot for slot, role in enumerate(batch.params.role) if role != LOCAL])
    else:
        rows_BK = batch.params.take(batch.selection.slots[:, : batch.selection.global_views + batch.selection.extra_views])
    rendered = [product.render(rows_BK if twin.distorted else rows_BK.undistorted(), [twin.size] * rows_BK.num_views) for twin in twins]
    return replace(batch, twins=rendered)


def check_twins(recipe: Recipe, *, scaled_decode: bool, staged: bool) -> None:
    """Refuse options of a loader that would change twins.

    Raises:
        HvsError: see above.
    """
    if recipe.twins and scaled_decode:
        raise HvsError("twins are rendered from images of full size, got scaled_decode=True; leave one of the two out")
    if staged and any(not twin.distorted for twin in recipe.twins):
        raise HvsError(
            "twins that are not distorted are rendered without extra_stage, got one; pass Twin(size, distorted=True), or apply the stage "
            "in the step"
        )
