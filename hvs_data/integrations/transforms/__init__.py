"""Recipes from the transform pipelines of torchvision, lightly and the official repositories of published methods."""

from hvs_data.integrations.transforms.recipe import recipe_from
from hvs_data.integrations.transforms.report import ApproximateRecipeWarning, InexpressiblePart, TransformsError

__all__ = ["ApproximateRecipeWarning", "InexpressiblePart", "TransformsError", "recipe_from"]
