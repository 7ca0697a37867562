"""Philox 4x32-10 against the published known answers and against the algorithm written out in plain integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvs_data.drawing.philox import philox_4x32, split_64, to_integer, to_unit

MAX_WORD = 2**32 - 1
words = st.integers(0, MAX_WORD)

# From the file kat_vectors of Random123, "philox4x32 10".
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def hexadecimal(text: str) -> tuple[int, ...]:
    return tuple(int(word, 16) for word in text.split())


def scalar_philox(counter: tuple[int, ...], key: tuple[int, ...], rounds: int) -> list[int]:
    """Section 4.3 of Salmon et al. 2011, one counter at a time."""
    left_0, right_0, left_1, right_1 = counter
    for number in range(rounds):
        round_key = [(word + number * weyl) % 2**32 for word, weyl in zip(key, (0x9E3779B9, 0xBB67AE85), strict=True)]
        high_0, low_0 = divmod(left_0 * 0xD2511F53, 2**32)
        high_1, low_1 = divmod(left_1 * 0xCD9E8D57, 2**32)
        left_0, right_0, left_1, right_1 = high_1 ^ right_0 ^ round_key[0], low_1, high_0 ^ right_1 ^ round_key[1], low_0
    return [left_0, right_0, left_1, right_1]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_known_answers(counter: str, key: str, answer: str) -> None:
    assert scalar_philox(hexadecimal(counter), hexadecimal(key), rounds=10) == list(hexadecimal(answer))
    c0, c1, c2, c3 = hexadecimal(counter)
    k0, k1 = hexadecimal(key)
    drawn = philox_4x32((c0, c1, c2, c3), (k0, k1))
    assert drawn.dtype == np.uint32
    assert drawn.tolist() == list(hexadecimal(answer))


@given(counter=st.tuples(words, words, words, words), key=st.tuples(words, words), rounds=st.integers(1, 16))
def test_agrees_with_the_scalar_algorithm(counter: tuple[int, int, int, int], key: tuple[int, int], rounds: int) -> None:
    assert philox_4x32(counter, key, rounds=rounds).tolist() == scalar_philox(counter, key, rounds)


def test_counters_of_every_integer_type_broadcast() -> None:
    rows = np.array([[0], [1], [MAX_WORD]], dtype=np.uint32)
    columns = np.arange(5, dtype=np.int64)
    drawn = philox_4x32((rows, columns, 7, np.uint8(255)), key=(1, 2))
    assert drawn.shape == (3, 5, 4)
    for i, row in enumerate(rows[:, 0].tolist()):
        for j in range(5):
            assert drawn[i, j].tolist() == scalar_philox((row, j, 7, 255), (1, 2), rounds=10)


def test_no_counters_give_no_words() -> None:
    assert philox_4x32((np.zeros((0, 3), dtype=np.int64), 0, 0, 0), key=(0, 0)).shape == (0, 3, 4)


@given(st.integers(0, 2**64 - 1))
def test_split_64_is_undone_by_joining(value: int) -> None:
    low, high = split_64(value)
    assert 0 <= low <= MAX_WORD and 0 <= high <= MAX_WORD
    assert (high << 32) + low == value


def test_to_unit_at_its_ends() -> None:
    unit = to_unit(np.array([0, 1, MAX_WORD], dtype=np.uint32))
    assert unit.dtype == np.float64
    assert unit.tolist() == [2.0**-33, 3 * 2.0**-33, 1 - 2.0**-33]


@given(word=words, size=st.integers(1, 2**31 - 1))
def test_to_integer_is_the_exact_fraction_of_size(word: int, size: int) -> None:
    drawn = to_integer(np.array([word], dtype=np.uint32), size)
    assert drawn.dtype == np.int64
    assert drawn.tolist() == [word * size // 2**32]


def test_to_integer_reaches_both_ends_for_every_size() -> None:
    sizes = np.array([1, 2, 3, 24, 2**31 - 1])
    ends = to_integer(np.array([[0], [MAX_WORD]], dtype=np.uint32), sizes)
    assert ends[0].tolist() == [0] * 5
    assert ends[1].tolist() == (sizes - 1).tolist()
