"""Hard view selection for self-supervised pretraining.

The public names below load their modules when they are first used, so that ``import hvs_data`` costs little more than
importing torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hvs_data import evaluation, formats, objectives, policies, recipes, rules
    from hvs_data.drawing.by_key import uniform
    from hvs_data.errors import BadImagesError, DecodeError, HvsError, MissingDependencyError, RecipeError, SelectionError, SourceError
    from hvs_data.forwards.tokens import KeepTokens
    from hvs_data.integrations.transforms.recipe import recipe_from
    from hvs_data.loaders.hard_view_loader import HardViewLoader
    from hvs_data.loaders.view_loader import ViewLoader
    from hvs_data.modules.freshness import StaleSelectionWarning
    from hvs_data.modules.trace_free import scoring
    from hvs_data.monitoring.monitor import Monitor
    from hvs_data.objectives.base import Objective
    from hvs_data.pipelines.decode import decode
    from hvs_data.pipelines.render import render
    from hvs_data.pipelines.stage import Stage
    from hvs_data.rows.boxes import iou
    from hvs_data.rows.sampling import sample_views
    from hvs_data.selection.harmful import HardnessWarning
    from hvs_data.selection.selector import HardViewSelector
    from hvs_data.sources import open_source
    from hvs_data.sources.base import Sample, Source
    from hvs_data.sources.mixture import mixture
    from hvs_data.types.batch import Batch
    from hvs_data.types.images import ImageBatch
    from hvs_data.types.rows import RenderSpec, ViewParams
    from hvs_data.types.selection import Selection

_HOME_OF = {
    "BadImagesError": "errors",
    "Batch": "types",
    "DecodeError": "errors",
    "HardViewLoader": "loaders.hard_view_loader",
    "HardViewSelector": "selection.selector",
    "HardnessWarning": "selection.harmful",
    "HvsError": "errors",
    "ImageBatch": "types",
    "KeepTokens": "forwards.tokens",
    "MissingDependencyError": "errors",
    "Monitor": "monitoring.monitor",
    "Objective": "objectives.base",
    "RecipeError": "errors",
    "RenderSpec": "types",
    "Sample": "sources.base",
    "Selection": "types",
    "SelectionError": "errors",
    "Source": "sources.base",
    "Stage": "pipelines.stage",
    "StaleSelectionWarning": "modules.freshness",
    "SourceError": "errors",
    "ViewLoader": "loaders.view_loader",
    "ViewParams": "types",
    "decode": "pipelines.decode",
    "iou": "rows.boxes",
    "mixture": "sources.mixture",
    "open_source": "sources",
    "recipe_from": "integrations.transforms.recipe",
    "render": "pipelines.render",
    "sample_views": "rows.sampling",
    "scoring": "modules.trace_free",
    "uniform": "drawing.by_key",
}
_SUBMODULES = ("evaluation", "formats", "objectives", "policies", "recipes", "rules")

__all__ = [*_HOME_OF, *_SUBMODULES]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
