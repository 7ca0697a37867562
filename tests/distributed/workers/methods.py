"""Every method's objective scores a model that FSDP2 shards as it scores the whole one, and leaves nothing in it."""

from shards import assert_same, everything, prepared, shard

import hvs_data as hvs
from traces import bits
from trainers import TRAINERS, make_candidates, started


def check_every_method_scores_a_sharded_model(*_):
    views = make_candidates()
    for name, make in TRAINERS.items():
        whole, parted = started(make), started(make)
        shard(parted.model)
        prepared(parted.model)
        expected, arrived = (hvs.HardViewSelector(trainer.objective) for trainer in (whole, parted))
        expected(views, **whole.select)
        before = everything(parted.model)
        arrived(views, **parted.select)
        assert_same(before, everything(parted.model), name)
        assert bits(arrived.last.losses) == bits(expected.last.losses), name
