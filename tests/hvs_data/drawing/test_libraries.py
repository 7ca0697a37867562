"""numpy's and Python's own functions: from the thread's stream inside the context, what they were elsewhere."""

from __future__ import annotations

import copy
import pickle
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest

from hvs_data.drawing.context import drawing
from hvs_data.drawing.numbers import Numbers

DRAWS: dict[str, Callable[[], Any]] = {
    "np.rand": lambda: np.random.rand(3).tolist(),
    "np.choice": lambda: np.random.choice(1000, 5).tolist(),
    "np.beta": lambda: np.random.beta(1, 2),
    "np.sample": lambda: np.random.sample(),
    "np.permutation": lambda: np.random.permutation(99).tolist(),
    "np.default_rng": lambda: np.random.default_rng().random(),
    "random": lambda: random.random(),
    "random.randint": lambda: random.randint(0, 10**9),
    "random.sample": lambda: random.sample(range(999), 5),
    "random.getrandbits": lambda: random.getrandbits(64),
    "random.gauss": lambda: random.gauss(0, 1),
    "random.shuffle": lambda: (items := list(range(99)), random.shuffle(items))[0],
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_draws_belong_to_an_identity(draw: Callable[[], Any]) -> None:
    before = repr(np.random.get_state()), random.getstate()
    drawn = []
    for identity in (1, 1, 2):
        with drawing(Numbers((identity,))):
            drawn.append((draw(), draw()))
    assert drawn[0] == drawn[1] and drawn[0][0] != drawn[0][1] and drawn[0][0] != drawn[2][0]
    assert (repr(np.random.get_state()), random.getstate()) == before


def test_streams_of_the_libraries_differ() -> None:
    with drawing(Numbers((1,))):
        assert len({np.random.random(), random.random(), np.random.default_rng().random()}) == 3


def test_seeding_in_a_context_reaches_no_further() -> None:
    before = repr(np.random.get_state()), random.getstate()
    with drawing(Numbers((1,))):
        np.random.seed(3)
        random.seed(3)
        drawn = np.random.rand(), random.random()
    assert drawn == (np.random.RandomState(3).rand(), random.Random(3).random())
    assert (repr(np.random.get_state()), random.getstate()) == before
    with drawing(Numbers((1,))):
        assert np.random.rand() != drawn[0]


def test_outside_they_are_what_they_were() -> None:
    with drawing(Numbers((1,))):
        pass
    np.random.seed(3)
    random.seed(3)
    assert (np.random.rand(), random.random()) == (np.random.RandomState(3).rand(), random.Random(3).random())
    assert np.random.default_rng(5).random() == np.random.default_rng(5).random()
    assert np.random.default_rng().random() != np.random.default_rng().random()
    assert random.choice.__name__ == "choice" and "uniform" in repr(np.random.uniform)
    for function in (np.random.rand, np.random.seed, random.random, random.uniform):
        assert callable(pickle.loads(pickle.dumps(function))) and copy.deepcopy(function) is function


def test_other_threads_draw_from_the_process() -> None:
    np.random.seed(0)
    random.seed(0)
    inside, done = threading.Event(), threading.Event()

    def work() -> None:
        with drawing(Numbers((1,))):
            np.random.rand(), random.random()
            inside.set()
            done.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    assert inside.wait(10)
    drawn = np.random.rand(), random.random()
    done.set()
    thread.join()
    assert drawn == (np.random.RandomState(0).rand(), random.Random(0).random())


def test_numba_compiles_what_names_them() -> None:
    with drawing(Numbers((1,))):
        pass

    @numba.njit
    def draw() -> float:
        np.random.seed(3)
        return np.random.rand() + random.random()

    assert 0 <= draw() < 2


SCRIPT = """
import random, sys, types
user = types.ModuleType("user")
sys.modules["user"] = user
taken = "from random import random, randint\\nfrom numpy.random import rand\\n"
exec(taken + "def draw(): return random(), randint(0, 10**9), rand()", vars(user))
import hvs_data
import numpy.random
assert type(random.random).__module__ == "builtins", "importing the package must exchange nothing"
from hvs_data.drawing.context import drawing
from hvs_data.drawing.numbers import Numbers
drawn = []
for identity in (1, 1, 2):
    with drawing(Numbers((identity,))):
        drawn.append(user.draw())
assert drawn[0] == drawn[1] and not set(drawn[0]) & set(drawn[2])
"""


def test_names_that_modules_took_before_are_exchanged_too() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, timeout=120)
