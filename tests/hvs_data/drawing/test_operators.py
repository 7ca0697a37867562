"""torch's operators that draw: from the thread's stream inside the context, from the process' generator elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, distributions, nn
from torchvision.transforms import v2

from hvs_data.drawing.context import drawing
from hvs_data.drawing.numbers import Numbers
from hvs_data.errors import HvsError


def image() -> Tensor:
    return torch.linspace(0, 1, 3 * 20 * 20).reshape(1, 3, 20, 20)


DRAWS: dict[str, Callable[[], Tensor]] = {
    "rand": lambda: torch.rand(9),
    "rand, out": lambda: torch.rand(9, out=torch.empty(9)),
    "randn": lambda: torch.randn(9),
    "randint": lambda: torch.randint(1000, (9,)),
    "randint from": lambda: torch.randint(-1000, 1000, (9,)),
    "randperm": lambda: torch.randperm(99),
    "rand_like": lambda: torch.rand_like(torch.empty(9)),
    "randn_like": lambda: torch.randn_like(torch.empty(9)),
    "randint_like": lambda: torch.randint_like(torch.empty(9), 1000),
    "randint_like from": lambda: torch.randint_like(torch.empty(9), -1000, 1000),
    "uniform_": lambda: torch.empty(9).uniform_(2, 3),
    "normal_": lambda: torch.empty(9).normal_(),
    "random_": lambda: torch.empty(9).random_(),
    "exponential_": lambda: torch.empty(9).exponential_(),
    "cauchy_": lambda: torch.empty(9).cauchy_(),
    "geometric_": lambda: torch.empty(9).geometric_(0.01),
    "log_normal_": lambda: torch.empty(9).log_normal_(),
    "bernoulli_": lambda: torch.empty(99).bernoulli_(0.5),
    "bernoulli": lambda: torch.bernoulli(torch.full((99,), 0.5)),
    "multinomial": lambda: torch.multinomial(torch.ones(99), 9),
    "normal": lambda: torch.normal(torch.zeros(9), torch.ones(9)),
    "normal of numbers": lambda: torch.normal(0.0, 1.0, (9,)),
    "poisson": lambda: torch.poisson(torch.full((99,), 9.0)),
    "binomial": lambda: torch.binomial(torch.full((99,), 9.0), torch.full((99,), 0.5)),
    "Beta": lambda: distributions.Beta(1.0, 2.0).sample((9,)),
    "Gamma": lambda: distributions.Gamma(1.0, 2.0).rsample((9,)),
    "Uniform": lambda: distributions.Uniform(1.0, 2.0).rsample((9,)),
    "dropout": lambda: F.dropout(torch.ones(99)),
    "dropout of a module": lambda: nn.Dropout2d()(torch.ones(2, 99, 1, 1)),
    "alpha_dropout": lambda: F.alpha_dropout(torch.ones(99), training=True),
    "native_dropout": lambda: torch.native_dropout(torch.ones(99), 0.5, True)[0],
    "rrelu": lambda: F.rrelu(-torch.ones(99), training=True),
    "gumbel_softmax": lambda: F.gumbel_softmax(torch.ones(99)),
    "LSTM": lambda: nn.LSTM(3, 4, 2, dropout=0.5)(torch.ones(9, 2, 3))[0],
    "attention": lambda: F.scaled_dot_product_attention(*torch.linspace(-1, 1, 216).reshape(3, 1, 1, 18, 4), dropout_p=0.5),
    "trunc_normal_": lambda: nn.init.trunc_normal_(torch.empty(9)),
    "vmap": lambda: torch.vmap(lambda x: x + torch.rand(2), randomness="different")(torch.zeros(9, 2)),
    "v2.RandomErasing": lambda: v2.RandomErasing(p=1)(image()),
    "v2.ColorJitter": lambda: v2.ColorJitter(0.4, 0.4, 0.4, 0.1)(image()),
    "v2.RandomRotation": lambda: v2.RandomRotation(90)(image()),
    "v2.RandomPerspective": lambda: v2.RandomPerspective(p=1)(image()),
    "v2.GaussianNoise": lambda: v2.GaussianNoise()(image()),
    "compiled": torch.compile(lambda: torch.rand(9), backend="aot_eager"),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_draws_belong_to_an_identity(draw: Callable[[], Tensor]) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    drawn = []
    for identity in (1, 1, 2):
        with torch.no_grad(), drawing(Numbers((identity,))):
            drawn.append((draw(), draw()))
    (first, following), (again, following_again), (other, _) = drawn
    assert torch.equal(first, again) and torch.equal(following, following_again)
    assert not torch.equal(first, following) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)

    # outside of the context all is as ever
    torch.manual_seed(3)
    plain = draw()
    torch.manual_seed(3)
    assert torch.equal(draw(), plain) and not torch.equal(torch.get_rng_state(), before)


def test_seeding_in_a_context_reaches_no_further() -> None:
    """As datasets do that change an image and its mask alike."""
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with drawing(Numbers((1,))):
        torch.manual_seed(3)
        image, state = torch.rand(3), torch.get_rng_state()
        following = torch.rand(3)
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(3)
            mask = torch.rand(3)
        after = torch.rand(3)
        torch.set_rng_state(state)
        assert torch.equal(torch.rand(3), following) and torch.equal(torch.rand(3), after)
        assert torch.initial_seed() == 3
        seeds = torch.seed(), torch.seed()
    assert torch.equal(image, mask) and torch.equal(image, torch.rand(3, generator=torch.Generator().manual_seed(3)))
    assert torch.equal(torch.get_rng_state(), before) and torch.initial_seed() == 1 and len(set(seeds)) == 2
    with drawing(Numbers((1,))):
        assert not torch.equal(torch.rand(3), image)
        assert (torch.seed(), torch.seed()) == seeds


def test_distributions_are_those_of_torch() -> None:
    """The operators that are put together here, by their first two moments: 5 standard errors of 40,000 numbers."""
    like = torch.empty(40_000)
    with drawing(Numbers((7,))):
        uniform, normal, whole = torch.rand_like(like), torch.randn_like(like), torch.randint_like(like, 3, 9)
        kept, mask = torch.native_dropout(torch.ones(40_000), 0.25, True)
    assert uniform.min() >= 0 and uniform.max() < 1 and abs(uniform.mean() - 0.5) < 5 * (1 / 12 / 40_000) ** 0.5
    assert abs(normal.mean()) < 5 / 200 and abs(normal.var() - 1) < 5 * (2 / 40_000) ** 0.5
    assert whole.unique().tolist() == [3, 4, 5, 6, 7, 8]
    assert kept.unique().tolist() == [0, pytest.approx(1 / 0.75)] and torch.equal(kept > 0, mask)
    assert abs(mask.float().mean() - 0.75) < 5 * (0.25 * 0.75 / 40_000) ** 0.5


def test_a_generator_of_the_callers_own_is_left_alone() -> None:
    expected = torch.rand(9, generator=torch.Generator().manual_seed(3))
    with drawing(Numbers((1,))):
        assert torch.equal(torch.rand(9, generator=torch.Generator().manual_seed(3)), expected)


def test_other_threads_draw_from_the_process() -> None:
    torch.manual_seed(0)
    expected = torch.rand(5)
    torch.manual_seed(0)
    inside, done = threading.Event(), threading.Event()

    def work() -> None:
        with drawing(Numbers((1,))):
            torch.rand(3)
            inside.set()
            done.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    assert inside.wait(10)
    drawn = torch.rand(5)
    done.set()
    thread.join()
    assert torch.equal(drawn, expected)


def test_contexts_nest_and_end_with_an_error() -> None:
    with drawing(Numbers((1,))):
        outer = torch.rand(3), torch.rand(3)
    with drawing(Numbers((1,))):
        first = torch.rand(3)
        with pytest.raises(KeyError), drawing(Numbers((2,))):
            torch.rand(3)
            raise KeyError
        assert torch.equal(torch.stack([first, torch.rand(3)]), torch.stack(outer))
    before = torch.get_rng_state()
    torch.rand(1)
    assert not torch.equal(torch.get_rng_state(), before)


def test_dropout_that_takes_no_generator_is_refused() -> None:
    q = torch.rand(1, 1, 4, 8)
    attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    with drawing(Numbers((1,))):
        attend(q, q, q, 0.0)
        with pytest.raises(HvsError, match="takes no generator; put the module"):
            attend(q, q, q, 0.5)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_device() -> None:
    device = torch.device("cuda")
    torch.cuda.manual_seed(1)
    before = torch.cuda.get_rng_state()
    drawn = []
    for identity in (1, 1, 2):
        with drawing(Numbers((identity,))):
            drawn.append(
                [torch.rand(9, device=device), torch.empty(9, device="cuda:0").normal_(), F.dropout(torch.ones(99, device=device))]
            )
    assert all(torch.equal(a, b) and not torch.equal(a, c) for a, b, c in zip(*drawn, strict=True))
    assert torch.equal(torch.cuda.get_rng_state(), before)
