"""Kinds of instructions, samples of programs, and what is estimated from them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from harness.gpu_code.counting import count, sampled
from harness.gpu_code.launches import recorded


def test_programs_are_taken_evenly() -> None:
    assert sampled(5, None).tolist() == sampled(5, 8).tolist() == [0, 1, 2, 3, 4]
    for seed in range(20):
        programs = sampled(1000, 10, seed)
        assert np.array_equal(programs // 100, np.arange(10))
    assert np.array_equal(sampled(1000, 10, 7), sampled(1000, 10, 7))


@triton.jit
def scaled(values, turns, out, block: tl.constexpr):
    p = tl.program_id(0)
    lane = p * block + tl.arange(0, block)
    value = tl.load(values + lane)
    for _ in range(tl.load(turns + p)):
        value = tl.sqrt(value) * 3.0
    tl.store(out + lane, value)


def test_a_sample_stands_for_all_programs() -> None:
    programs, block = 64, 32
    values, out = torch.rand(programs * block), torch.zeros(programs * block)
    turns = torch.full((programs,), 5, dtype=torch.int32)
    with recorded(90) as launches:
        scaled[(programs,)](values, turns, out, num_warps=1, block=block)
    every, some = count(launches[0], {}), count(launches[0], {}, most=16)
    assert every == some
    expected = values
    for _ in range(5):
        expected = torch.sqrt(expected) * 3
    # the hardware's square root is approximate: two units of float32 each time
    assert torch.allclose(out, expected, rtol=5 * 2**-22, atol=0)
    assert sum(every.by_kind.values()) == sum(every.by_line.values()) == every.issued
    assert every.by_kind["load"] == 2 * programs and every.by_kind["store"] == programs
    assert every.written == {"out": 4.0 * programs * block}
    assert every.read == {"values": 4.0 * programs * block, "turns": 32.0 * programs}
    # one pass for each block, and one for the number of turns
    assert every.wavefronts == 3 * programs


def test_more_turns_take_more_instructions() -> None:
    values, out = torch.rand(64), torch.zeros(64)
    issued = []
    for least in (0, 8, 16, 24):
        with recorded(90) as launches:
            scaled[(2,)](values, torch.tensor([least, least], dtype=torch.int32), out, num_warps=1, block=32)
        issued.append(count(launches[0], {}).issued)
    # whatever is unrolled, eight turns take as much as the next eight
    assert issued[2] - issued[1] == pytest.approx(issued[3] - issued[2]) and issued[0] < issued[1]
