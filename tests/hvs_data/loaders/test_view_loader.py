"""Batches of random views: what comes, in which order, and that every iteration ends."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import hvs_data as hvs
from hvs_data.errors import HvsError
from hvs_data.loaders.order import EpochOrder
from hvs_data.types import Batch

RECIPE = hvs.recipes.simsiam(candidates=3, size=24)


def threads_at_work() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("hvs-loader")]


def same(a: Batch, b: Batch) -> bool:
    tensors = [(x, y) for x, y in zip(a.views, b.views, strict=True)] + [(a.labels, b.labels), (a.index, b.index)]
    tensors += [(value, b.params.tensors()[name]) for name, value in a.params.tensors().items()]
    return a.epoch == b.epoch and all(torch.equal(x, y) for x, y in tensors)


def rendered_one_by_one(loader: hvs.ViewLoader, batch: Batch, seed: int, recipe: hvs.recipes.Recipe, **options: Any) -> list[list[Tensor]]:
    """Each image's views by the public functions alone, from its file."""
    views = []
    for index in batch.index.tolist():
        image = hvs.decode([(Path(loader.dataset.root) / loader.dataset.names[index]).read_bytes()])
        rows = hvs.sample_views(recipe, seed=seed, epoch=batch.epoch, index=[index], height=image.height, width=image.width)
        views.append([hvs.render(image, rows.views([v]), **options)[0, 0] for v in range(rows.num_views)])
    return views


# --- what a batch holds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", [RECIPE, hvs.recipes.dino(size=24, local_size=10, local_candidates=9)], ids=lambda recipe: recipe.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
@pytest.mark.parametrize("channels_last", [False, True])
def test_views_are_those_of_the_public_functions(photos: Path, recipe: hvs.recipes.Recipe, dtype: torch.dtype, channels_last: bool) -> None:
    loader = hvs.ViewLoader(photos, recipe, batch_size=8, seed=5, dtype=dtype, channels_last=channels_last)
    loader.set_epoch(2)
    batch = next(iter(loader))
    expected = rendered_one_by_one(loader, batch, 5, recipe, dtype=dtype)
    assert [tuple(view.shape) for view in batch.views] == [(8, 3, role.size, role.size) for role in recipe.slot_roles]
    for slot, view in enumerate(batch.views):
        assert view.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
        assert torch.equal(view, torch.stack([expected[b][slot] for b in range(8)]))
    assert batch.epoch == 2 and batch.selection is None
    assert batch.params.role == tuple(role.name for role in recipe.slot_roles)


def test_a_batch_is_what_trainers_unpack(photos: Path) -> None:
    loader = hvs.ViewLoader(photos, RECIPE, batch_size=8)
    for views, labels in loader:
        assert len(views) == 3 and labels.dtype == torch.int64
    batch = next(iter(loader))
    assert batch.labels.tolist() == [int(loader.dataset.labels[index]) for index in batch.index.tolist()]
    assert loader.dataset.classes == ("cat", "dog")


def test_a_batch_stays_as_it_is_while_it_is_kept(photos: Path) -> None:
    kept = [(batch, [view.clone() for view in batch.views]) for batch in hvs.ViewLoader(photos, RECIPE, batch_size=2, prefetch=1)]
    for batch, copies in kept:
        assert all(torch.equal(view, copy) for view, copy in zip(batch.views, copies, strict=True))


def test_memory_is_used_again_when_batches_are_dropped(photos: Path) -> None:
    places = [batch.views[0].untyped_storage().data_ptr() for batch in hvs.ViewLoader(photos, RECIPE, batch_size=1, prefetch=1)]
    assert len(places) == 22 and len(set(places)) <= 6


@pytest.mark.parametrize("kind", ["paths", "dataset", "arrays"])
def test_other_sources_give_the_same_views(photos: Path, kind: str) -> None:
    folder = hvs.open_source(photos)
    paths = [photos / folder.names[index] for index in range(len(folder))]
    source: Any = paths
    if kind == "dataset":
        source = [(path.read_bytes(), 1) for path in paths]
    elif kind == "arrays":
        source = [image.numpy() for image in hvs.decode([path.read_bytes() for path in paths])]
    by_source, by_folder = (list(hvs.ViewLoader(each, RECIPE, batch_size=8, seed=3)) for each in (source, folder))
    for a, b in zip(by_source, by_folder, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a.views, b.views, strict=True)) and torch.equal(a.index, b.index)
        assert set(a.labels.tolist()) == ({1} if kind == "dataset" else {-1})


def test_pillow_images_of_a_torchvision_dataset(photos: Path) -> None:
    from torchvision.datasets import ImageFolder

    plain = list(hvs.ViewLoader(photos, RECIPE, batch_size=8))
    transformed = list(hvs.ViewLoader(ImageFolder(str(photos), transform=lambda image: image), RECIPE, batch_size=8))
    assert all(same(a, b) for a, b in zip(plain, transformed, strict=True))


# --- order, epochs, length -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch_size", "drop_last", "sizes"), [(8, False, [8, 8, 6]), (8, True, [8, 8]), (11, True, [11, 11]), (50, False, [22])]
)
def test_the_length_is_that_of_an_epoch(photos: Path, batch_size: int, drop_last: bool, sizes: list[int]) -> None:
    loader = hvs.ViewLoader(photos, RECIPE, batch_size=batch_size, drop_last=drop_last)
    assert len(loader) == len(sizes)
    assert [len(batch.labels) for batch in loader] == sizes
    assert len(loader.sampler) == sum(sizes)


@pytest.mark.parametrize("shuffle", [True, False])
def test_the_order_is_that_of_seed_and_epoch(photos: Path, shuffle: bool) -> None:
    loader = hvs.ViewLoader(photos, RECIPE, batch_size=8, seed=9, shuffle=shuffle)
    for epoch in (0, 1):  # without set_epoch each iteration is the next epoch
        from_sampler = list(loader.sampler)
        expected = EpochOrder(22, 9, epoch)(np.arange(22)).tolist() if shuffle else list(range(22))
        batches = list(loader)
        assert torch.cat([batch.index for batch in batches]).tolist() == expected == from_sampler
        assert {batch.epoch for batch in batches} == {epoch}


def test_an_epoch_may_be_named_by_loader_or_sampler(photos: Path) -> None:
    loader = hvs.ViewLoader(photos, RECIPE, batch_size=8)
    seen = []
    for epoch in (3, 3, 0):
        (loader if epoch else loader.sampler).set_epoch(epoch)
        seen.append(list(loader))
    assert [batches[0].epoch for batches in seen] == [3, 3, 0]
    assert all(same(a, b) for a, b in zip(seen[0], seen[1], strict=True))
    assert not torch.equal(seen[0][0].views[0], seen[2][0].views[0])
    assert next(iter(loader)).epoch == 1


@pytest.mark.parametrize(("num_threads", "prefetch"), [(1, 0), (1, 2), (2, 1), (5, 3), (3, 40)])
def test_threads_and_prefetching_change_nothing(photos: Path, num_threads: int, prefetch: int) -> None:
    expected = list(hvs.ViewLoader(photos, RECIPE, batch_size=5, num_threads=2, prefetch=2))
    actual = list(hvs.ViewLoader(photos, RECIPE, batch_size=5, num_threads=num_threads, prefetch=prefetch))
    assert all(same(a, b) for a, b in zip(expected, actual, strict=True))


@pytest.mark.parametrize("limit", [1, 10_000, 20_000])
def test_large_images_are_rendered_a_few_at_a_time(photos: Path, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from hvs_data.loaders import production

    expected = list(hvs.ViewLoader(photos, RECIPE, batch_size=11, engine="reference"))
    held: list[int] = []
    rendered = production.Production._rendered

    def noting(self: Any, samples: list, *rest: Any) -> Any:
        held.append(sum(sample.pixels.nbytes for sample in samples[:-1]))
        return rendered(self, samples, *rest)

    monkeypatch.setattr(production, "MAX_GROUP_BYTES", limit)
    monkeypatch.setattr(production.Production, "_rendered", noting)
    actual = list(hvs.ViewLoader(photos, RECIPE, batch_size=11, engine="reference"))
    assert all(same(a, b) for a, b in zip(expected, actual, strict=True))
    assert len(held) > 4 and max(held) < limit


def test_views_do_not_depend_on_the_batch_or_the_other_slots(photos: Path) -> None:
    def views_of(batch_size: int, candidates: int) -> dict[int, Tensor]:
        loader = hvs.ViewLoader(photos, hvs.recipes.simsiam(candidates=candidates, size=24), batch_size=batch_size)
        return {int(i): batch.views[1][b] for batch in loader for b, i in enumerate(batch.index)}

    few, many = views_of(3, 2), views_of(22, 5)
    assert all(torch.equal(few[index], many[index]) for index in range(22))


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_every_step(photos: Path, world_size: int, drop_last: bool) -> None:
    options = {"batch_size": 4, "drop_last": drop_last, "seed": 1}
    ranks = [list(hvs.ViewLoader(photos, RECIPE, **options, rank=rank, world_size=world_size)) for rank in range(world_size)]
    assert len({len(batches) for batches in ranks}) == 1
    steps = [torch.cat([batch.index for batch in step]).tolist() for step in zip(*ranks, strict=True)]
    order = EpochOrder(22, 1, 0)(np.arange(44)).tolist()
    flat = [index for step in steps for index in step]
    assert flat == order[: len(flat)]
    assert len(flat) == 22 // (4 * world_size) * 4 * world_size if drop_last else 22 <= len(flat) < 22 + world_size
    alone = {
        int(i): batch.views[0][b] for batch in hvs.ViewLoader(photos, RECIPE, batch_size=22, seed=1) for b, i in enumerate(batch.index)
    }
    assert all(torch.equal(batch.views[0][b], alone[int(i)]) for batches in ranks for batch in batches for b, i in enumerate(batch.index))


# --- state -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [0, 1, 2, 4])
@pytest.mark.parametrize("threads_after", [1, 3])
def test_resuming_continues_where_it_stopped(photos: Path, stop: int, threads_after: int) -> None:
    def loader(**options: Any) -> hvs.ViewLoader:
        return hvs.ViewLoader(photos, RECIPE, batch_size=5, seed=2, **options)

    whole = loader()
    whole.set_epoch(6)
    expected = list(whole) + list(whole)
    interrupted = loader(prefetch=4)
    interrupted.set_epoch(6)
    iterator = iter(interrupted)
    got = [next(iterator) for _ in range(stop)]
    state = interrupted.state_dict()
    iterator.close()
    resumed = loader(num_threads=threads_after)
    resumed.load_state_dict(state)
    resumed.set_epoch(6)  # as a trainer's loop does
    assert len(resumed) == 5
    got += list(resumed) + list(resumed)
    assert [batch.index.tolist() for batch in got] == [batch.index.tolist() for batch in expected]
    assert all(same(a, b) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize("ranks_after", [1, 2, 4])
def test_resuming_on_other_ranks_continues_the_same_order(photos: Path, ranks_after: int) -> None:
    def loaders(world_size: int) -> list[hvs.ViewLoader]:
        return [hvs.ViewLoader(photos, RECIPE, batch_size=2, seed=2, rank=rank, world_size=world_size) for rank in range(world_size)]

    before = loaders(2)
    iterators = [iter(loader) for loader in before]
    seen = [index for _ in range(3) for iterator in iterators for index in next(iterator).index.tolist()]
    states = [loader.state_dict() for loader in before]
    assert states[0] == states[1]
    after = loaders(ranks_after)
    for loader in after:
        loader.load_state_dict(states[0])
    seen += [index for step in zip(*after, strict=True) for batch in step for index in batch.index.tolist()]
    order = EpochOrder(22, 2, 0)(np.arange(44)).tolist()
    assert seen == order[: len(seen)] and 22 <= len(seen) < 22 + ranks_after


def test_the_state_after_an_epoch_is_the_next_ones_beginning(photos: Path) -> None:
    loader = hvs.ViewLoader(photos, RECIPE, batch_size=11)
    list(loader)
    resumed = hvs.ViewLoader(photos, RECIPE, batch_size=11)
    resumed.load_state_dict(loader.state_dict())
    assert all(same(a, b) for a, b in zip(loader, resumed, strict=True))


def test_a_state_is_small_and_plain(photos: Path) -> None:
    import json

    loader = hvs.ViewLoader(photos, RECIPE, batch_size=4)
    next(iter(loader))
    state = loader.state_dict()
    assert json.loads(json.dumps(state)) == state and len(json.dumps(state)) < 300


@pytest.mark.parametrize(
    ("change", "message"),
    [({"version": 99}, "version 1"), ({"seed": 3}, "seed = 0"), ({"length": 21}, "length = 22"), ({"fingerprint": "x"}, "fingerprint")],
)
def test_the_state_of_another_loader_is_refused(photos: Path, change: dict[str, Any], message: str) -> None:
    loader = hvs.ViewLoader(photos, RECIPE, batch_size=4)
    with pytest.raises(HvsError, match=message):
        loader.load_state_dict({**loader.state_dict(), **change})


# --- every iteration ends ------------------------------------------------------------------------------------------------


def test_threads_end_with_the_epoch(photos: Path) -> None:
    list(hvs.ViewLoader(photos, RECIPE, batch_size=4, num_threads=3))
    assert threads_at_work() == []


def test_threads_end_on_break(photos: Path) -> None:
    for _ in hvs.ViewLoader(photos, RECIPE, batch_size=2, num_threads=3):
        assert threads_at_work()
        break
    gc.collect()
    assert threads_at_work() == []


def test_threads_end_on_an_exception_of_the_trainer(photos: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        for _ in hvs.ViewLoader(photos, RECIPE, batch_size=2):
            1 / 0  # noqa: B018
    gc.collect()
    assert threads_at_work() == []


def test_threads_begin_with_the_first_batch(photos: Path) -> None:
    iterator = iter(hvs.ViewLoader(photos, RECIPE, batch_size=2))
    assert threads_at_work() == []
    next(iterator)
    assert threads_at_work()
    iterator.close()
    assert threads_at_work() == []


def test_two_iterations_at_once(photos: Path) -> None:
    loader = hvs.ViewLoader(photos, RECIPE, batch_size=8)
    expected = list(loader), list(loader)
    loader.set_epoch(0)
    for batches in zip(loader, loader, *expected, strict=True):
        assert same(batches[0], batches[2]) and same(batches[1], batches[3])


INTERRUPTED = """
import sys, threading, time
import hvs_data as hvs
loader = hvs.ViewLoader(sys.argv[1], hvs.recipes.simsiam(size=24), batch_size=2, num_threads=3)
try:
    for epoch in range(10**6):
        for number, batch in enumerate(loader):
            if number == 3:
                print("training", flush=True)
except KeyboardInterrupt:
    print("interrupted", [t.name for t in threading.enumerate() if t.name.startswith("hvs")], flush=True)
"""


def test_ctrl_c_ends_everything(photos: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", INTERRUPTED, str(photos)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "training\n"
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and out.splitlines()[-1] == "interrupted []" and err == ""


def test_the_interpreter_ends_with_an_iteration_left_open(photos: Path) -> None:
    code = "import sys\nimport hvs_data as hvs\nloader = hvs.ViewLoader(sys.argv[1], hvs.recipes.simsiam(size=24), batch_size=2)"
    code += "\nit = iter(loader)\nnext(it)\nprint('end')"
    done = subprocess.run([sys.executable, "-c", code, str(photos)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


# --- bad requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recipe": "simsiam"}, "recipe must be a Recipe"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1"),
        ({"batch_size": 2.0}, "batch_size"),
        ({"seed": -1}, r"seed must be a whole number of at least 0 and below 2\*\*64"),
        ({"seed": None}, "seed"),
        ({"num_threads": 0}, "num_threads"),
        ({"prefetch": -1}, "prefetch"),
        ({"engine": "opencv"}, "engine must be one of"),
        ({"device": "warp"}, "device"),
        ({"dtype": torch.float64}, "dtype"),
        ({"dtype": torch.uint8, "normalize": True}, "uint8"),
        ({"max_bad_share": 2}, "max_bad_share"),
        ({"rank": 3, "world_size": 2}, "rank"),
        ({"batch_size": 23, "drop_last": True}, "at least 23 images"),
        ({"source": "/nowhere/at/all"}, "does not exist"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(photos: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(HvsError, match=message):
        hvs.ViewLoader(**{"source": photos, "recipe": RECIPE, "batch_size": 4, **options})


@pytest.mark.parametrize("epoch", [-1, 1.5, None, 2**32])
def test_an_epoch_is_a_number(photos: Path, epoch: Any) -> None:
    with pytest.raises(HvsError, match="epoch"):
        hvs.ViewLoader(photos, RECIPE, batch_size=4).set_epoch(epoch)


def test_it_says_what_it_is(photos: Path) -> None:
    text = repr(hvs.ViewLoader(photos, RECIPE, batch_size=4, num_threads=3))
    assert "22 images" in text and "'simsiam'" in text and "6 batches of 4" in text and "'fused'" in text and "3 threads" in text
