"""How speed is measured; that it is fast, no test says."""

from __future__ import annotations

import numpy as np
import pytest

import hvs_data as hvs
from hvs_data.checking import speed

IMAGES = [(np.random.default_rng(seed).integers(0, 256, (40, 60, 3), np.uint8), 0) for seed in range(20)]
RECIPE = hvs.recipes.simsiam(4, 16)


def test_every_stage_takes_some_time() -> None:
    found = speed.stages(hvs.open_source(IMAGES), hvs.recipes.dino(2, size=32, local_size=16), range(20))
    assert min(found.read, found.decode, found.render) > 0
    assert found.whole == found.read + found.decode + found.render
    assert getattr(found, found.largest) == max(found.read, found.decode, found.render)


def test_images_that_cannot_be_used_are_left_out() -> None:
    bad = (b"no image", 0)
    assert speed.stages(hvs.open_source([bad, *IMAGES]), RECIPE, range(21)).whole > 0
    with pytest.raises(hvs.HvsError, match="none of 1 images of the source can be used; hvs-data check tells why"):
        speed.stages(hvs.open_source([bad]), RECIPE, [0])


def test_images_are_counted_after_the_first_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.arange(0.0, 1000.0, 1.0))
    monkeypatch.setattr(speed.time, "perf_counter", lambda: float(next(clock)))

    class Loader:
        batch_size, dataset = 3, range(12)

        def __iter__(self) -> object:
            return iter([hvs.Batch([], np.zeros(3), np.zeros(3), None)] * 4)  # type: ignore[arg-type]

    # an epoch of four batches, two of which come before the clock; the clock, asked at the start, at each batch and at the end, ticks
    # three times an epoch: two epochs are six seconds, and at the first batch of the third one the seventh has passed
    assert speed.images_per_second(Loader, 7.0) == pytest.approx((2 * 6 + 3) / 8)  # type: ignore[arg-type]


def test_too_few_images_to_be_timed_are_refused() -> None:
    with pytest.raises(hvs.HvsError, match="more than 2 batches of 10 images, got 20 images; use a smaller batch"):
        speed.images_per_second(lambda: hvs.ViewLoader(IMAGES, RECIPE, 10, num_threads=1), 1.0)


@pytest.mark.parametrize(
    ("recipe", "candidates", "each"),
    [(hvs.recipes.simsiam(), 6, [6]), (hvs.recipes.byol(), 6, [3, 3]), (hvs.recipes.dino(), 4, [2, 2, 8])],
)
def test_candidates_are_dealt_to_the_roles_of_the_pair(recipe: hvs.recipes.Recipe, candidates: int, each: list[int]) -> None:
    assert [role.candidates for role in speed.with_candidates(recipe, candidates).roles] == each


def test_candidates_that_cannot_be_dealt_are_refused() -> None:
    with pytest.raises(hvs.HvsError, match="a multiple of 2 of at least 2 under recipe 'byol', got 5"):
        speed.with_candidates(hvs.recipes.byol(), 5)


def test_a_sample_is_spread_over_the_source() -> None:
    source = hvs.open_source(IMAGES)
    assert speed.some_of(source, 3) == [0, 10, 19] and speed.some_of(source, 50) == list(range(20))


@pytest.mark.parametrize(("images", "expected"), [(5, 20), (20, 20), (21, 40), (64, 80)])
def test_a_short_source_is_gone_through_again_and_again(images: int, expected: int) -> None:
    source = speed.at_least(hvs.open_source(IMAGES), images)
    loader = hvs.ViewLoader(source, RECIPE, 10, shuffle=False, num_threads=1)
    assert len(source) == expected and sum(len(batch.labels) for batch in loader) == expected
