"""Swapped prediction view by view against the formula in float64, and its codes against what a code must be."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from hvs_data.kernels.pair_scores.swapped import blocks, reference
from products import UNIT, LargestTensor

# Axes: B image, L entry of a queue, V view, D embedding, K prototype.


def draw(images, views, prototypes, waiting, seed=0, length=8):
    """Similarities of vectors at length 1."""
    generator = torch.Generator().manual_seed(seed)
    prototypes_KD = F.normalize(torch.randn(prototypes, length, generator=generator), dim=1)
    z = F.normalize(torch.randn(images, views, length, generator=generator), dim=-1)
    queue = F.normalize(torch.randn(waiting, length, generator=generator), dim=-1)
    return z @ prototypes_KD.T, queue @ prototypes_KD.T if waiting else None


def code_error(samples, prototypes, epsilon, iterations):
    """Of a code in float32, relative, for similarities of at most 1."""
    # An exponential's argument is a quotient less the largest one, both at most 1 / epsilon: off by 3 / epsilon units and so the
    # exponential by as much, and by 2 units of its own. Each entry is divided at most 2 T times (a unit each). The factor that scales a
    # prototype or a sample so far is one over a sum of positive terms, off by what the terms are off, which is that and the other side's
    # factor, and by N + 1 or K + 1 units. So each half of an iteration adds as much, and code = entry times both factors.
    half = 3 / epsilon + 2 + 2 * iterations + max(samples, prototypes) + 1
    return 4 * iterations * half * UNIT


def bound_of(logits_BVK, samples, expected, temperature, epsilon, iterations):
    prototypes = logits_BVK.shape[2]
    # CE = lse - sum code * s / temperature: the code's error, K + 4 units of the sum's terms, and for the log-sum-exp those of its
    # arguments (2 / temperature) and of a sum of K exponentials.
    size = 1 / temperature + torch.log(torch.tensor(float(prototypes)))
    return (code_error(samples, prototypes, epsilon, iterations) + (3 * prototypes + 16) * UNIT) * 2 * size


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 8),
    st.integers(1, 4),
    st.integers(1, 12),
    st.integers(0, 6),
    st.sampled_from([0.1, 0.5, 1.0]),
    st.sampled_from([0.05, 0.3]),
    st.integers(1, 4),
    st.integers(0, 99),
)
def test_the_table_is_that_of_the_formula(images, views, prototypes, waiting, temperature, epsilon, iterations, seed):
    logits, queue = draw(images, views, prototypes, waiting, seed)
    table = blocks.swapped_table(logits, queue, temperature, epsilon, iterations)
    expected = reference.swapped_table(logits.double(), None if queue is None else queue.double(), temperature, epsilon, iterations)
    assert table.dtype == torch.float32
    bound = bound_of(logits, images + waiting, expected, temperature, epsilon, iterations)
    assert float((table - expected).abs().max()) <= bound


@pytest.mark.parametrize("waiting", [0, 5])
def test_other_views_foretell_the_codes_too(waiting):
    """As all views' table has it, of whose views just the first ones have codes."""
    logits, queue = draw(7, 5, 9, waiting, 3)
    table = blocks.swapped_table(logits[:, :2], queue, 0.1, 0.05, 3, others_BWK=logits[:, 2:])
    assert torch.equal(table, blocks.swapped_table(logits, queue, 0.1, 0.05, 3)[:, :2, 2:])
    expected = reference.swapped_table(
        logits[:, :2].double(), None if queue is None else queue.double(), 0.1, 0.05, 3, others_BWK=logits[:, 2:].double()
    )
    assert float((table - expected).abs().max()) <= bound_of(logits, 7 + waiting, expected, 0.1, 0.05, 3)


def test_codes_are_distributions_that_come_to_use_all_prototypes_alike():
    images, prototypes, iterations = 30, 6, 8
    logits, _ = draw(images, 1, prototypes, 0)
    codes = [blocks.sinkhorn(logits[:, 0], None, 0.3, count) for count in range(1, iterations + 1)]
    for code_BK in codes:
        # each entry was divided by a sum off by K units, and the sum of the quotients is off by as much
        torch.testing.assert_close(code_BK.sum(1), torch.ones(images), rtol=0, atol=2 * (prototypes + 1) * UNIT)
    uneven = [float((code_BK.double().sum(0) - images / prototypes).abs().sum()) for code_BK in codes]
    assert uneven[-1] < uneven[0]
    for before, after in zip(uneven, uneven[1:], strict=False):
        # an iteration never makes the sums more uneven in L1; codes add up to the number of images
        assert after <= before + 2 * images * code_error(images, prototypes, 0.3, iterations)


def test_similarities_too_large_for_exp_are_no_danger():
    logits = torch.tensor([[5.0, 4.0], [4.5, 5.0]])
    assert bool((logits / 0.05).exp().isinf().any())
    code = blocks.sinkhorn(logits, None, 0.05, 3)
    expected = reference.sinkhorn(logits.double(), 0.05, 3)
    # similarities of up to 5 instead of 1
    assert float(((code - expected) / expected).abs().max()) <= 5 * code_error(2, 2, 0.05, 3)


def test_a_prototype_out_of_reach_takes_no_part():
    logits = torch.tensor([[0.0, 0.1, -50.0], [0.1, 0.0, -50.0]])
    code = blocks.sinkhorn(logits, None, 0.05, 3)
    assert torch.equal(code[:, 2], torch.zeros(2)) and bool(code.isfinite().all())


def test_processes_together_make_the_codes_of_one():
    logits, _ = draw(8, 1, 5, 0)
    halves = logits[:, 0].chunk(2)

    def reduce_with(other):
        """Stands in for the process that has the other half, whose sums it replays."""
        state = {"code": (other / 0.05).float(), "max": None}

        def reduce(values, how):
            if how == "max":
                together = torch.maximum(values, state["code"].amax())
                state["code"] = (state["code"] - together).exp()
                return together
            if state.get("sum") is not None:
                state["code"] = state["code"] / state["sum"]
                state["code"] = state["code"] / state["code"].sum(1, keepdim=True)
            state["sum"] = values + state["code"].sum(0)
            return state["sum"]

        return reduce

    whole = blocks.sinkhorn(logits[:, 0], None, 0.05, 3)
    parts = [blocks.sinkhorn(half, None, 0.05, 3, reduce_with(halves[1 - k])) for k, half in enumerate(halves)]
    assert float(((torch.cat(parts) - whole) / whole).abs().max()) <= 2 * code_error(8, 5, 0.05, 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_arithmetic_is_float32_whatever_the_inputs_are(dtype):
    logits, queue = (tensor.to(dtype) for tensor in draw(6, 3, 5, 4))
    table = blocks.swapped_table(logits, queue, 0.1, 0.05, 3)
    assert torch.equal(table, blocks.swapped_table(logits.float(), queue.float(), 0.1, 0.05, 3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(blocks.swapped_table(logits, queue, 0.1, 0.05, 3), table)


def test_a_nan_reaches_the_codes_of_its_view():
    logits, _ = draw(4, 3, 5, 0)
    logits[2, 1, 0] = torch.nan
    nan = torch.zeros(4, 3, 3, dtype=torch.bool)
    nan[:, 1] = True  # codes of view 1 are made over all images
    nan[2, :, 1] = True  # predictions are of one image
    assert torch.equal(blocks.swapped_table(logits, None, 0.1, 0.05, 3).isnan(), nan)


def test_one_view_is_worked_on_at_a_time():
    logits, queue = draw(32, 5, 200, 16)
    with LargestTensor() as largest:
        blocks.swapped_table(logits, queue, 0.1, 0.05, 3)
    assert largest.elements <= (32 + 16) * 200
