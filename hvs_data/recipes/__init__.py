"""Recipes: frozen descriptions of a distribution of views, and presets for the published methods."""

from hvs_data.recipes.files import from_dict, load, save, to_dict
from hvs_data.recipes.masking import Masking
from hvs_data.recipes.presets import barlow_twins, byol, dino, dinov2, evaluation, ibot, moco_v2, moco_v3, msn, simclr, simsiam, vicreg
from hvs_data.recipes.spec import ColorJitter, Erasing, Recipe, Role, Twin

__all__ = [
    "ColorJitter",
    "Erasing",
    "Masking",
    "Recipe",
    "Role",
    "Twin",
    "barlow_twins",
    "byol",
    "dino",
    "dinov2",
    "evaluation",
    "from_dict",
    "ibot",
    "load",
    "moco_v2",
    "moco_v3",
    "msn",
    "save",
    "simclr",
    "simsiam",
    "to_dict",
    "vicreg",
]
