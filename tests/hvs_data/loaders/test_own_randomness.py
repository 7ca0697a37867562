"""What stages and datasets of the user's own draw: by identity, whatever the threads, and apart from the trainer's own numbers."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import hvs_data as hvs
from hvs_data.loaders.hard_view_loader import HardViewLoader
from hvs_data.loaders.view_loader import ViewLoader
from hvs_data.types import Batch

IMAGES = 24
PIXELS = np.random.default_rng(0).integers(0, 255, (IMAGES, 24, 32, 3), dtype=np.uint8)
RECIPE = hvs.recipes.simsiam(candidates=3, size=8)


def flips_of_torch(x: Tensor) -> Tensor:
    return torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(-2), x)


def shade_of_numpy(x: Tensor) -> Tensor:
    return x * float(np.random.uniform(0.5, 1))


def shade_of_python(x: Tensor) -> Tensor:
    return x * random.uniform(0.5, 1)


def noise_of_all(x: Tensor) -> Tensor:
    return shade_of_python(shade_of_numpy(F.dropout(x, 0.1)))


def with_generator(x: Tensor, generator: torch.Generator) -> Tensor:
    return x * torch.rand((), generator=generator)


def with_rng(x: Tensor, *, draw: np.random.Generator) -> Tensor:
    return x * float(draw.random())


def with_keys(x: Tensor, keys: Tensor) -> Tensor:
    return x * hvs.uniform(keys, 1)[:, :, None, None]


STAGES: dict[str, Any] = {
    stage.__name__: stage for stage in (flips_of_torch, shade_of_numpy, shade_of_python, noise_of_all, with_generator, with_rng)
} | {"with_keys": hvs.Stage(with_keys, batched=True)}


class Shaded(torch.utils.data.Dataset[Any]):
    """Items that draw their brightness from each library."""

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        factor = np.random.uniform(0.8, 1) * random.uniform(0.8, 1) * float(torch.rand(()) / 5 + 0.8)
        return (PIXELS[index] * factor).astype(np.uint8), index


class ShadedByArgument(Shaded):
    def __getitem__(self, index: int, rng: np.random.Generator | None = None) -> tuple[np.ndarray, int]:
        assert rng is not None
        return (PIXELS[index] * rng.uniform(0.5, 1)).astype(np.uint8), index


class ShadedSource(hvs.Source):
    fingerprint = "shaded"

    def __len__(self) -> int:
        return IMAGES

    def read(self, index: int) -> hvs.Sample:
        return hvs.Sample(*Shaded()[index])


def plain_dataset() -> list[tuple[np.ndarray, int]]:
    return [(pixels, index) for index, pixels in enumerate(PIXELS)]


def make_loader(source: Any = None, stage: Any = None, **options: Any) -> ViewLoader:
    options = {"batch_size": 6, "num_threads": 2, "seed": 5, "normalize": False} | options
    return hvs.ViewLoader(plain_dataset() if source is None else source, RECIPE, extra_stage=stage, **options)


def by_index(batches: Iterator[Batch] | ViewLoader) -> dict[int, Tensor]:
    """Every image's views [V, 3, S, S]."""
    return {int(index): torch.stack(views) for batch in batches for index, *views in zip(batch.index, *batch.views, strict=True)}


def assert_equal(ours: dict[int, Tensor], expected: dict[int, Tensor]) -> None:
    assert ours.keys() == expected.keys()
    for index, views in expected.items():
        assert torch.equal(ours[index], views), index


def process_state() -> tuple[Any, ...]:
    return torch.get_rng_state().numpy().tobytes(), repr(np.random.get_state()), random.getstate()


SOURCES: dict[str, Callable[[], Any]] = {"items": Shaded, "with an argument": ShadedByArgument, "a source": ShadedSource}
CASES = [pytest.param(None, stage, id=name) for name, stage in STAGES.items()]
CASES += [pytest.param(make(), None, id=name) for name, make in SOURCES.items()]


@pytest.mark.parametrize(("source", "stage"), CASES)
def test_equal_seeds_give_equal_runs(source: Any, stage: Any) -> None:
    before = process_state()
    expected = by_index(make_loader(source, stage, num_threads=1, prefetch=0))
    for options in ({"num_threads": 4, "prefetch": 2}, {"num_threads": 2, "batch_size": 5, "shuffle": False}):
        random.seed(7)
        assert_equal(by_index(make_loader(source, stage, **options)), expected)
    random.setstate(before[2])

    # each image and view has numbers of its own, and every epoch new ones
    loader = make_loader(source, stage, seed=6)
    other_seed, other_epoch, plain = by_index(loader), by_index(loader), by_index(make_loader(seed=6))
    assert all(not torch.equal(other_seed[index], plain[index]) for index in plain) or stage is flips_of_torch
    assert any(not torch.equal(other_seed[index], other_epoch[index]) for index in plain)

    # stopped, resumed, and on two ranks
    loader = make_loader(source, stage)
    begun = dict(itertools.chain.from_iterable(by_index([batch]).items() for batch in itertools.islice(loader, 2)))
    state = loader.state_dict()
    for rank in range(2):
        resumed = make_loader(source, stage, batch_size=3, rank=rank, world_size=2)
        resumed.load_state_dict(state)
        begun |= by_index(resumed)
    assert_equal(begun, expected)
    assert process_state() == before


@pytest.mark.parametrize("stage", [flips_of_torch, shade_of_numpy, with_generator], ids=lambda stage: stage.__name__)
def test_views_of_one_image_draw_apart(stage: Any) -> None:
    """A stage that decides once a call must not decide once for a group of images and all their views."""
    same_view = hvs.recipes.Recipe("same", (hvs.recipes.Role(candidates=4, size=8, scale=(1, 1), flip=0, gray=0, blur=0,
        jitter=hvs.recipes.ColorJitter(p=0), ratio=(4 / 3, 4 / 3)),))  # fmt: skip
    source = [(PIXELS[0], 0)] * 12
    views = next(iter(hvs.ViewLoader(source, same_view, 12, extra_stage=stage, num_threads=1))).views
    patterns = torch.stack(views, 1).flatten(2).unique(dim=1)
    drawn = {tuple(row.flatten().tolist()) for row in torch.stack(views, 1).flatten(0, 1)}
    # of 48 views, either both outcomes of a coin or 48 factors
    assert len(drawn) == (2 if stage is flips_of_torch else 48)
    if stage is flips_of_torch:
        heads = [[torch.equal(view[image], views[0][0]) for view in views] for image in range(12)]
        assert any(len(set(row)) == 2 for row in heads) and len({tuple(row) for row in heads}) > 2
    assert patterns.shape[0] == 12


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 16), nn.ReLU(), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(F.interpolate(x, (8, 8)))


def hard_loader(model: Encoder, source: Any = None, stage: Any = None, score_size: int | None = None, **options: Any) -> HardViewLoader:
    objective = hvs.objectives.SimSiam(encoder=model, predictor=nn.Identity())
    selector = hvs.HardViewSelector(objective, score_size=score_size)
    return hvs.HardViewLoader(make_loader(source, stage, **options), selector)


def trained(stage: Any, source: Any = None, epochs: int = 3, **options: Any) -> tuple[list[Tensor], list[Tensor], list[float]]:
    """A trainer with dropout that draws from all libraries itself: its weights, the batches it got, and what it drew."""
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    model = Encoder()
    loader = hard_loader(model, source, stage, **options)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    batches, drawn = [], []
    for batch in itertools.chain.from_iterable(itertools.repeat(loader, epochs)):
        mixed = float(np.random.beta(1, 1)) * random.random()
        drawn.append(mixed)
        loss = (model(batch.views[0]) - mixed * model(batch.views[1])).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        batches += [view.clone() for view in batch.views]
    return [weight.detach().clone() for weight in model.parameters()], batches, [*drawn, float(torch.rand(()))]


@pytest.mark.parametrize(("source", "stage"), CASES)
def test_the_trainers_own_numbers_are_what_they_would_be(source: Any, stage: Any) -> None:
    """Threads that draw beside a trainer and its scoring neither take from its generators nor have theirs rolled back."""
    plain_draws = trained(None)[2]
    weights, batches, draws = trained(stage, source, num_threads=1, prefetch=0)
    assert draws == plain_draws
    for options in ({"num_threads": 4, "prefetch": 2}, {"num_threads": 2, "prefetch": 1}):
        again_weights, again_batches, again_draws = trained(stage, source, **options)
        assert again_draws == draws
        assert all(torch.equal(a, b) for a, b in zip(again_batches, batches, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(again_weights, weights, strict=True))


@pytest.mark.parametrize("library", ["torch", "numpy", "python"])
def test_scoring_does_not_repeat_what_threads_draw(library: str) -> None:
    """Scoring puts back the process' generators, from which threads drew meanwhile: batches repeated the numbers of earlier ones."""
    drawn: list[float] = []
    draw = {"torch": lambda: float(torch.rand(())), "numpy": np.random.rand, "python": random.random}[library]

    def stage(x: Tensor) -> Tensor:
        drawn.append(float(draw()))
        return x

    for _ in itertools.chain.from_iterable(itertools.repeat(hard_loader(Encoder(), stage=stage), 4)):
        pass
    assert len(drawn) == 4 * IMAGES * 3 and len(set(drawn)) == len(drawn)


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_a_view_rendered_again_draws_the_same(stage: Any) -> None:
    """Scored small and rendered again at full size: as the full view of a loader without selection."""
    full = by_index(make_loader(stage=stage))
    seen = []
    for batch in hard_loader(Encoder(), stage=stage, score_size=6):
        assert batch.selection is not None and batch.selection.scored
        for index, pair, *views in zip(batch.index, batch.selection.slots, *batch.views, strict=True):
            assert torch.equal(torch.stack(views), full[int(index)][pair])
            seen.append(int(index))
        again = hvs.render([PIXELS[i] for i in batch.index], batch.params, normalize=False, extra_stage=stage, num_threads=2)
        assert torch.equal(again, torch.stack([full[int(i)] for i in batch.index]))
    assert sorted(seen) == list(range(IMAGES))


def test_what_is_scored_small_drew_as_at_full_size() -> None:
    drawn: dict[int, set[float]] = {}

    def stage(x: Tensor, keys: Tensor) -> Tensor:
        drawn.setdefault(int(keys[0]), set()).add(float(torch.rand(())))
        return x

    for _ in hard_loader(Encoder(), stage=stage, score_size=6):
        pass
    assert len(drawn) == IMAGES * 3 and all(len(numbers) == 1 for numbers in drawn.values())


def test_a_read_that_is_begun_again_draws_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hvs_data.sources.retry.sleep", lambda seconds: None)
    failing = set(range(0, IMAGES, 3))

    class Flaky(ShadedSource):
        def read(self, index: int) -> hvs.Sample:
            sample = super().read(index)
            if index in failing:
                failing.discard(index)
                raise TimeoutError("storage is slow")
            return sample

    assert_equal(by_index(make_loader(Flaky())), by_index(make_loader(ShadedSource())))
    assert not failing


def test_a_stage_that_draws_needs_rows_with_a_key() -> None:
    params = replace(next(iter(make_loader())).params, key=None)
    images = [PIXELS[0]] * 6
    assert hvs.render(images, params, extra_stage=lambda x: 1 - x).shape == (6, 3, 3, 8, 8)
    for stage in (flips_of_torch, shade_of_numpy, with_generator, with_keys):
        with pytest.raises(hvs.HvsError, match="rows with a key"):
            hvs.render(images, params, extra_stage=stage)
