"""Every method's objective scores a model that FSDP2 shards as it scores the whole one, and leaves nothing in it."""

from shards import assert_same, everything, prepared, shard

import hvs_data as hvs
from distillers import DISTILLERS, RECIPE
from multi_crop import make_pixels
from traces import bits
from trainers import TRAINERS, make_candidates, started


def check_two_view_methods(*_):
    for name, make in TRAINERS.items():
        assert_scores_are_the_same(name, make, make_candidates(), lambda model: [model])


def check_distillation(*_):
    """Student and teacher are roots of their own, whose forwards are called."""
    for name, make in DISTILLERS.items():
        assert_scores_are_the_same(name, make, make_pixels(RECIPE, 5), lambda model: [model["student"], model["teacher"]])


def assert_scores_are_the_same(name, make, views, roots):
    whole, parted = started(make), started(make)
    shard(*roots(parted.model))
    prepared(parted.model)
    expected, arrived = (hvs.HardViewSelector(trainer.objective) for trainer in (whole, parted))
    expected(views, **whole.select)
    before = everything(parted.model)
    arrived(views, **parted.select)
    assert_same(before, everything(parted.model), name)
    assert bits(arrived.last.losses) == bits(expected.last.losses), name
    assert bits(arrived.last.slots) == bits(expected.last.slots), name
