"""Pretraining on hardest pairs, as a user of the package writes it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import torch

import hvs_data as hvs
from hvs_data.demo.model import SimSiam, simsiam_loss
from hvs_data.demo.records import StepRecord
from hvs_data.demo.settings import Settings
from hvs_data.demo.timing import Clock, TimedSelector
from hvs_data.recipes.spec import ColorJitter, Recipe
from hvs_data.sources.base import Source


def pretrain(photos: Source, model: SimSiam, settings: Settings) -> Iterator[tuple[StepRecord, hvs.Batch]]:
    """Train until the time is up or the steps are done.

    Args:
        photos: at least a batch of them.
        model: trained in place.
        settings: how.

    Yields:
        after every step what happened in it, and its batch.

    Raises:
        HvsError: a loss that is not finite, or what the loaders raise.
    """
    recipe = views_of(settings)
    candidates = hvs.ViewLoader(photos, recipe, settings.batch_size, seed=settings.seed, drop_last=True, channels_last=True)
    selector = TimedSelector(hvs.objectives.SimSiam(model), score_size=settings.score_size)
    loader = hvs.HardViewLoader(candidates, selector)

    model.train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=settings.momentum, weight_decay=settings.weight_decay)
    clock = Clock(settings, selector)
    for _epoch in count():
        for batch in loader:
            clock.views_are_there()
            optimizer.param_groups[0]["lr"] = clock.learning_rate
            (x1, x2), _labels = batch
            loss = simsiam_loss(model, x1, x2)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield clock.record(batch, loss.item()), batch
            if clock.is_over:
                return


def views_of(settings: Settings) -> Recipe:
    """SimSiam's views, by default with gentler changes of colour.

    The published ones (hue by up to a tenth of a turn, a fifth of the views grey) teach a model to ignore colour, which is what tells one
    kind of fruit from another; on ImageNet, shape is left to learn from.
    """
    recipe = hvs.recipes.simsiam(candidates=settings.candidates, size=settings.size)
    if settings.published_colors:
        return recipe
    return recipe.with_roles(gray=0.0, jitter=ColorJitter(saturation=0.2, hue=0.02))
