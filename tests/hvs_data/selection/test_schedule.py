"""In which steps a selector scores: by the step alone, on every rank and after every resume."""

import numpy as np
import pytest
import torch
from scipy import stats

import hvs_data as hvs
from hvs_data import Objective, SelectionError
from hvs_data.drawing.steps import WHAT, WHETHER, WHICH, numbers_of, unit_numbers
from hvs_data.selection.schedule import Schedule

ALPHA = 1e-4


class Hardest23(Objective):
    """The pair (1, 2) of three views is the hardest."""

    calls = 0

    def encode(self, pixels):
        self.calls += 1
        return pixels.flatten(1)

    def pair_losses(self, outputs):
        losses = torch.zeros(len(outputs), 3, 3)
        losses[:, 1, 2] = 1
        return losses


VIEWS = [torch.zeros(2, 3, 1, 1)] * 3


def scored(steps=12, **options):
    """Which steps score, as told beforehand and as done."""
    selector = hvs.HardViewSelector(Hardest23(), **options)
    done = []
    for step in range(steps):
        told = selector.scores(step)
        selection = selector.select(VIEWS)
        assert selection.step == step and selector.step == step + 1 and selection.scored is told
        # what was not scored is the first pair, and says so
        assert selection.pair.tolist() == ([[1, 2]] if told else [[0, 1]]) * 2
        assert selection.policy == ("hardest" if told else "random")
        assert selection.losses.isnan().all() == (not told)
        done.append(told)
    assert selector.objective.calls == sum(done)
    return done


def test_by_default_every_step_scores():
    assert scored() == [True] * 12


@pytest.mark.parametrize("every", [1, 2, 3, 5])
def test_every_kth_step_scores(every):
    assert scored(every=every) == [step % every == 0 for step in range(12)]


def test_no_step_of_the_warmup_scores():
    assert scored(warmup=4, every=3) == [step >= 4 and step % 3 == 0 for step in range(12)]


def test_a_schedule_may_be_a_function_of_the_step():
    assert scored(every=lambda step: 1 if step < 5 else 4) == [step < 5 or step % 4 == 0 for step in range(12)]
    assert scored(probability=lambda step: float(step >= 6)) == [step >= 6 for step in range(12)]


def test_a_share_of_the_steps_scores():
    schedule = Schedule(every=1, probability=0.3, warmup=0, seed=4)
    count = sum(schedule.scores(step) for step in range(3000))
    assert stats.binomtest(count, 3000, 0.3).pvalue > ALPHA
    assert not any(Schedule(1, 0.0, 0, 4).scores(step) for step in range(100))
    assert scored(probability=0.5, seed=1) == scored(probability=0.5, seed=1) != scored(probability=0.5, seed=2)
    assert scored(probability=1) == [True] * 12


def test_a_resumed_run_goes_on_with_its_schedule():
    options = {"probability": 0.5, "every": 2, "warmup": 3, "policy": "softmax", "temperature": 1.0, "seed": 9}
    whole = hvs.HardViewSelector(Hardest23(), **options)
    expected = [whole.select(VIEWS) for _ in range(30)]
    first = hvs.HardViewSelector(Hardest23(), **options)
    for _ in range(13):
        first.select(VIEWS)
    state = first.state_dict()
    assert all(isinstance(value, int) for value in state.values())
    second = hvs.HardViewSelector(Hardest23(), **options)
    second.load_state_dict(state)
    for selection in expected[13:]:
        resumed = second.select(VIEWS)
        assert (resumed.step, resumed.scored, resumed.pair.tolist()) == (selection.step, selection.scored, selection.pair.tolist())
    with pytest.raises(SelectionError, match="seed 1, got seed 9"):
        hvs.HardViewSelector(Hardest23(), seed=1).load_state_dict(state)


def test_a_refused_call_is_no_step():
    selector = hvs.HardViewSelector(Hardest23())
    with pytest.raises(SelectionError):
        selector.select(VIEWS[:1])
    assert selector.step == 0


def test_rows_are_enough_where_nothing_is_scored():
    recipe = hvs.recipes.simsiam(candidates=3)
    params = hvs.sample_views(recipe, seed=0, epoch=0, index=[0, 1], height=[9, 9], width=[9, 9])
    selector = hvs.HardViewSelector(Hardest23(), every=2)
    with pytest.raises(SelectionError, match="expected candidates.*got None with ViewParams"):
        selector.select(None, params)
    selector.select(VIEWS, params)
    with pytest.raises(SelectionError, match="got None with None"):
        selector.select(None)
    selection = selector.select(None, params)
    assert selection.pair.tolist() == [[0, 1]] * 2 and selection.params is params and selection.step == 1
    assert selector.objective.calls == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every must be a whole number of at least 1.*got 0"),
        ({"every": 1.5}, "every"),
        ({"every": True}, "every"),
        ({"probability": 1.1}, "probability must be a number from 0 to 1.*got 1.1"),
        ({"probability": "half"}, "probability"),
        ({"warmup": -1}, "warmup must be a whole number"),
        ({"warmup": 2.0}, "warmup"),
    ],
)
def test_a_schedule_that_means_nothing_is_refused(options, message):
    with pytest.raises(SelectionError, match=message):
        hvs.HardViewSelector(Hardest23(), **options)


def test_what_a_function_returns_is_checked_at_its_step():
    selector = hvs.HardViewSelector(Hardest23(), every=lambda step: 1 - step)
    selector.select(VIEWS)
    with pytest.raises(SelectionError, match="every must be .* got 0 at step 1"):
        selector.select(VIEWS)


# ---- the draws ----


def test_draws_are_uniform_and_tell_all_keys_apart():
    keys = [(0, 0, WHETHER, 0), (1, 0, WHETHER, 0), (2**63, 0, WHETHER, 0), (0, 1, WHETHER, 0), (0, 2**40, WHETHER, 0)]
    keys += [(0, 0, WHICH, 0), (0, 0, WHAT, 0), (0, 0, WHETHER, 1)]
    drawn = [unit_numbers(seed, step, purpose, 1001, stream) for seed, step, purpose, stream in keys]
    for numbers in drawn:
        assert numbers.shape == (1001,) and stats.kstest(numbers, "uniform").pvalue > ALPHA
    assert len(np.unique(np.concatenate(drawn))) == 1001 * len(keys)
    # more numbers begin with the same ones
    assert np.array_equal(unit_numbers(0, 0, WHETHER, 3), drawn[0][:3])


def test_draws_by_key_are_uniform_and_belong_to_the_key():
    keys = np.random.default_rng(0).integers(0, 2**63, 3000)
    told = {
        (seed, step, purpose): numbers_of(keys, seed, step, purpose) for seed in (0, 7) for step in (0, 2**40) for purpose in (WHICH, WHAT)
    }
    for numbers in told.values():
        assert numbers.shape == (3000,) and stats.kstest(numbers, "uniform").pvalue > ALPHA
    # 24,000 numbers of 32 bits: less than 1 in 10 such sets has a pair alike by chance, and none has 10
    assert len(np.unique(np.concatenate(list(told.values())))) > 24_000 - 10
    order = np.random.default_rng(1).permutation(3000)[:50]
    assert np.array_equal(numbers_of(keys[order], 7, 0, WHICH), told[7, 0, WHICH][order])


def test_the_draws_are_pinned():
    """A change of these would give other choices to a run that is resumed."""
    assert unit_numbers(1, 2, WHICH, 3, stream=4).tolist() == PINNED
    assert numbers_of(np.array([0, 5, 2**62 + 3]), 1, 2, WHICH).tolist() == PINNED_BY_KEY


PINNED = [0.2170556035125628, 0.14768613956402987, 0.15247680887114257]
PINNED_BY_KEY = [0.31130064639728516, 0.6494088507024571, 0.5153355879010633]
