"""What the arms train on: controls that choose as they say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import hvs_data as hvs
from harness.pretraining import arms, methods
from harness.pretraining.training import Setup, Training

SIZES = methods.Sizes(view=16, width=8, stem_stride=2, batch=4)


def fed(name: str, folder: Path) -> list[hvs.Batch]:
    method = methods.build("simsiam", SIZES, seed=0)
    arm = arms.ARMS[name]
    paths = [str(path) for path in sorted(folder.glob("*.jpg"))] * 4
    loader = hvs.ViewLoader(paths, arm.recipe(method), 4, seed=1, num_threads=1)
    return list(arms.feed(arm, loader, method, seed=1, steps=len(loader)))


def test_jointcrop_views_are_those_of_the_rows_that_it_names(photo_folder: Path) -> None:
    batch = fed("jointcrop", photo_folder)[0]
    paths = [str(path) for path in sorted(photo_folder.glob("*.jpg"))] * 4
    images = hvs.decode([Path(paths[place]).read_bytes() for place in batch.index])
    pixels = hvs.render(images, batch.params, size=16)
    for view, rendered in zip(batch.views, pixels.unbind(1), strict=True):
        torch.testing.assert_close(view, rendered)


def test_arms_choose_as_they_say(photo_folder: Path) -> None:
    for name in arms.arms_of("simsiam"):
        for batch in fed(name, photo_folder):
            assert [tuple(view.shape[1:]) for view in batch.views] == [(3, 16, 16)] * 2
    for batch in fed("smallest-iou", photo_folder):
        assert batch.selection is not None and batch.selection.iou is not None
        torch.testing.assert_close(batch.selection.iou, hvs.iou(batch.params)[:, batch.selection.legal].amin(1))
    for easiest, hardest in zip(fed("easiest", photo_folder), fed("hardest", photo_folder), strict=True):
        assert (easiest.selection.loss <= hardest.selection.loss).all()
        torch.testing.assert_close(hardest.selection.loss, hardest.selection.losses[:, hardest.selection.legal].amax(1))


def test_arms_that_share_draws_vary_in_the_rest_alone(photo_folder: Path) -> None:
    for name, same, other in (("hard-crops", "brightness", "box"), ("hard-colors", "box", "brightness")):
        for batch in fed(name, photo_folder):
            for slots in (slice(0, 2), slice(2, 4)):
                first, second = getattr(batch.params, same)[:, slots].unbind(1)
                assert torch.equal(first, second)
                assert not torch.equal(*getattr(batch.params, other)[:, slots].unbind(1))
            assert batch.selection is not None
            assert (batch.selection.pair[:, 0] < 2).all() and (batch.selection.pair[:, 1] >= 2).all()


def test_a_third_view_comes_with_the_pair_of_the_view_that_shows_most(photo_folder: Path) -> None:
    for name in set(arms.arms_of("byol")) - set(arms.arms_of("simsiam")):
        for batch in fed(name, photo_folder):
            assert batch.selection is not None and len(batch.views) == 3
            area = batch.params.box[..., 2:].prod(-1)
            slots = batch.selection.slots
            assert torch.equal(area.gather(1, slots[:, :1])[:, 0], area.amax(1))
            assert all(len(set(of_image)) == 3 for of_image in slots.tolist())
            assert batch.selection.scored == (name == "third-hard")
    assert {"third-random", "third-hard"} <= set(arms.arms_of("byol"))


def test_all_pairs_come_from_all_candidates(photo_folder: Path) -> None:
    assert {name for name, arm in arms.arms_of("simclr").items() if arm.all_pairs is not None} == {"all-pairs", "soft-pairs"}
    for name in ("all-pairs", "soft-pairs"):
        source = hvs.open_source([str(path) for path in sorted(photo_folder.glob("*.jpg"))] * 2)
        training = Training(Setup("simclr", SIZES), arms.ARMS[name], source, steps=2, seed=1)
        assert training.method.pairs_temperature == arms.ARMS[name].all_pairs
        assert all(len(batch.views) == 4 and batch.selection is None for batch in training.loader)
        assert list(training.run()) == [1, 2]


def test_arms_that_change_over_a_run_begin_at_random(photo_folder: Path) -> None:
    for name in ("warmed-up", "tempered"):
        batches = fed(name, photo_folder)
        asked = [batch.selection is not None and batch.selection.scored for batch in batches]
        # a warm-up ends with its last step, and a ramp leaves its first value after it
        end = len(batches) / 4
        assert asked == [step >= end if name == "warmed-up" else step > end for step in range(len(batches))] and not all(asked)


def test_the_random_arm_draws_every_pair() -> None:
    method = methods.build("simsiam", SIZES, seed=0)
    selector = hvs.HardViewSelector(method.objective(), **arms.ARMS["random"].arguments(16))
    counts = torch.zeros(4, 4)
    views = [torch.randn(60, 3, 16, 16) for _ in range(4)]
    for _ in range(20):
        selection = selector.select(views)
        assert selection.scored
        for first, second in selection.pair.tolist():
            counts[first, second] += 1
    # 1,200 draws of 6 pairs: 200 each with a deviation of sqrt(1200 * 5/36) = 12.9
    assert (counts[selection.legal] - 200).abs().max() < 5 * 12.9


@pytest.mark.parametrize(("name", "precision"), [("simclr", "bfloat16"), ("simsiam", "float32"), ("dino", "float32")])
def test_a_training_on_scored_pairs_is_the_training_on_the_same_pairs_unscored(name: str, precision: str, photo_folder: Path) -> None:
    # so that what the random arm and vanilla differ by, whose pairs follow the same law, is what runs differ by: scoring adds nothing
    setup = Setup(name, SIZES, precision)
    paths = [str(path) for path in sorted(photo_folder.glob("*.jpg"))] * 4
    scored = Training(setup, arms.ARMS["random"], hvs.open_source(paths), steps=6, seed=3)
    fed: list[list[torch.Tensor]] = []
    train = scored.trained_on

    def noted(batch: hvs.Batch) -> float:
        assert batch.selection is not None and batch.selection.scored
        fed.append([view.clone() for view in batch.views])
        return train(batch)

    scored.trained_on = noted
    losses = [scored.columns["loss"][-1] for _ in scored.run()]
    unscored = Training(setup, arms.ARMS["vanilla"], hvs.open_source(paths), steps=6, seed=3)
    batch = next(iter(unscored.loader))
    for views, loss in zip(fed, losses, strict=True):
        assert unscored.trained_on(replace(batch, views=views)) == loss
        unscored.step += 1
    for mine, its in zip(scored.method.model.state_dict().values(), unscored.method.model.state_dict().values(), strict=True):
        assert torch.equal(mine, its)


def test_words_tell_settings_apart() -> None:
    words = {name: arm.in_words(32) for name, arm in arms.ARMS.items()}
    assert len(set(words.values())) == len(words)
    assert words["half-size"] == "4 candidates, score_size=16" != arms.ARMS["half-size"].in_words(64)
