"""Small kernels, compiled for GPUs and executed on the CPU: what they compute, beside NumPy, and what they take, beside Python."""

# Axes: P program, N element.

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from harness.gpu_code import cubin, emulator
from harness.gpu_code.launches import recorded
from harness.gpu_code.machine import Machine, UnknownCodeError
from harness.gpu_code.memory import Memory, MemoryFaultError

ARCHITECTURES = (80, 90, 100)


def executed(kernel: Any, grid: tuple[int, ...], *arguments: Any, architecture: int = 90, **options: Any) -> Machine:
    """All programs of a launch, executed."""
    with recorded(architecture) as launches:
        kernel[grid](*arguments, **options)
    (launch,) = launches
    memory = Memory({argument.name: argument.value for argument in launch.arguments if argument.type.startswith("*")})
    machine = Machine(launch, cubin.read(launch.cubin), memory, range(launch.programs))
    emulator.execute(machine)
    return machine


def accesses(machine: Machine, name: str) -> list[int]:
    """Passes through the L1 cache of each instruction of a name, those without any left out."""
    found = zip(machine.code.instructions, machine.wavefronts.tolist(), strict=True)
    return [passes for instruction, passes in found if instruction.name == name and passes]


# --- what is counted ---------------------------------------------------------------------------------------------------


@triton.jit
def loops(rows, columns, values, out):
    p = tl.program_id(0)
    most = tl.load(columns + p)
    total = 0.0
    for r in range(tl.load(rows + p)):
        for c in range(most):
            total += tl.load(values + 16 * r + c)
    tl.store(out + p, total)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_loops_take_as_many_turns_as_in_python(architecture: int) -> None:
    rows, columns = torch.tensor([0, 1, 3, 7, 2], dtype=torch.int32), torch.tensor([5, 0, 1, 6, 13], dtype=torch.int32)
    values, out = torch.arange(16.0 * 8), torch.zeros(5)
    machine = executed(loops, (5,), rows, columns, values, out, architecture=architecture, num_warps=1)
    taken = [[values[16 * r + c].item() for r in range(height) for c in range(width)] for height, width in zip(rows, columns, strict=True)]
    assert out.tolist() == [sum(its) for its in taken]
    # whatever the compiler unrolled: every turn has one load, and so have the two bounds
    assert sum(accesses(machine, "LDG")) == sum(map(len, taken)) + 2 * len(taken)
    assert sum(accesses(machine, "STG")) == len(taken)


@triton.jit
def branches(kinds, values, out):
    p = tl.program_id(0)
    kind = tl.load(kinds + p)
    if kind == 0:
        return
    total = tl.load(values)
    while kind != 0:
        step = kind & 3
        kind = kind >> 2
        if step == 1:
            total += tl.load(values + 1)
        elif step == 2:
            total = total * tl.load(values + 2) + tl.load(values + 3)
        else:
            total = -total
    tl.store(out + p, total)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_program_takes_its_own_branches(architecture: int) -> None:
    steps = [[], [1], [2, 1], [3, 3, 2], [1, 1, 2, 3]]
    kinds = torch.tensor([sum(step << 2 * place for place, step in enumerate(its)) for its in steps], dtype=torch.int32)
    values, out = torch.tensor([3.0, 5.0, 2.0, -4.0]), torch.full((5,), -1.0)
    machine = executed(branches, (5,), kinds, values, out, architecture=architecture, num_warps=1)
    does = {1: lambda x: x + 5, 2: lambda x: 2 * x - 4, 3: lambda x: -x}
    expected, loads = [-1.0], 1  # the first one loads its kind, and leaves
    for its in steps[1:]:
        value, loads = 3.0, loads + 2
        for step in its:
            value, loads = does[step](value), loads + {1: 1, 2: 2, 3: 0}[step]
        expected.append(value)
    assert out.tolist() == expected
    assert sum(accesses(machine, "LDG")) == loads


@triton.jit
def leaves_early(flags, out):
    p = tl.program_id(0)
    if (tl.load(flags + p // 3) != 0) & (p % 3 != 0):
        return
    tl.store(out + p, 1.0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_programs_leave_where_all_conditions_hold(architecture: int) -> None:
    flags, out = torch.tensor([0, 1, -1, 0], dtype=torch.int32), torch.zeros(12)
    executed(leaves_early, (12,), flags, out, architecture=architecture, num_warps=1)
    assert out.tolist() == [float(p % 3 == 0 or flags[p // 3] == 0) for p in range(12)]


@triton.jit
def strided(values, out, stride, block: tl.constexpr):
    lane = tl.arange(0, block)
    tl.store(out + lane, tl.load(values + lane * stride))


@pytest.mark.parametrize(("stride", "start", "lines"), [(1, 0, 1), (1, 1, 2), (2, 0, 2), (3, 0, 3), (32, 0, 32), (40, 0, 32)])
def test_an_access_passes_the_cache_once_for_each_line_of_128_bytes(stride: int, start: int, lines: int) -> None:
    values, out = torch.arange(2000.0), torch.zeros(32)
    machine = executed(strided, (1,), values[start:], out, stride, num_warps=1, block=32)
    assert torch.equal(out, values[start:][: 32 * stride : stride])
    assert accesses(machine, "LDG") == [lines] and accesses(machine, "STG") == [1]
    sectors = {4 * (start + lane * stride) // 32 for lane in range(32)}
    assert machine.traffic(written=False) == {"values": 32 * len(sectors)}
    assert machine.traffic(written=True) == {"out": 128}


def test_wide_accesses_take_a_pass_for_128_bytes() -> None:
    values, out = torch.arange(128.0), torch.zeros(128)
    machine = executed(strided, (1,), values, out, 1, num_warps=1, block=128)
    assert torch.equal(out, values)
    # sixteen bytes a lane
    assert accesses(machine, "LDG") == [4] and accesses(machine, "STG") == [4]


# --- what is computed --------------------------------------------------------------------------------------------------


@triton.jit
def whole_numbers(a, b, out, block: tl.constexpr):
    lane = tl.arange(0, block)
    x, y = tl.load(a + lane), tl.load(b + lane)
    shift = y & 31
    tl.store(out + lane, x // y)
    tl.store(out + block + lane, x % y)
    tl.store(out + 2 * block + lane, (x.to(tl.int64) * y).to(tl.int64) // 1000)
    tl.store(out + 3 * block + lane, tl.minimum(x + 7, y) - tl.maximum(x, -y))
    tl.store(out + 4 * block + lane, (x >> shift) ^ (x << shift))
    tl.store(out + 5 * block + lane, (x.to(tl.uint32, bitcast=True) // 10).to(tl.int64))
    tl.store(out + 6 * block + lane, tl.where((x.to(tl.int64) << 7) > y.to(tl.int64) * 9, x, tl.abs(y)))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_whole_numbers(architecture: int) -> None:
    draw = np.random.default_rng(0)
    a = draw.integers(-(2**31), 2**31, 256).astype(np.int32)
    b = np.where(draw.random(256) < 0.5, draw.integers(1, 100, 256), draw.integers(1, 2**31, 256)).astype(np.int32)
    a[:4], b[:4] = (0, -1, 1, -(2**31)), (1, 1, 2**31 - 1, 3)
    out = torch.zeros(7, 256, dtype=torch.int64)
    executed(whole_numbers, (1,), torch.from_numpy(a), torch.from_numpy(b), out, architecture=architecture, block=256)
    x, y = a.astype(np.int64), b.astype(np.int64)

    def towards_zero(above: Any, below: Any) -> Any:
        return np.sign(above) * (abs(above) // below)

    def wrapped(value: Any) -> Any:
        return value.astype(np.int32).astype(np.int64)

    shift = (b & 31).astype(np.int32)
    expected = [
        towards_zero(x, y),
        x - y * towards_zero(x, y),
        towards_zero(x * y, 1000),
        wrapped(wrapped(np.minimum(wrapped(x + 7), y)) - np.maximum(x, -y)),
        ((a >> shift) ^ (a << shift)).astype(np.int64),
        a.view(np.uint32).astype(np.int64) // 10,
        np.where(128 * x > 9 * y, x, y),
    ]
    assert np.array_equal(out.numpy(), np.stack(expected))


@triton.jit
def divided(a, b, out, block: tl.constexpr):
    lane = tl.arange(0, block)
    tl.store(out + lane, tl.div_rn(tl.load(a + lane), tl.load(b + lane)))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_quotients_are_those_of_ieee_the_slow_way_too(architecture: int) -> None:
    draw = np.random.default_rng(0)
    a, b = (np.exp2(draw.uniform(-140, 127, 512)).astype(np.float32) * draw.choice([-1, 1], 512).astype(np.float32) for _ in range(2))
    a[:6], b[:6] = (0, 1, np.inf, np.nan, 1e-45, -1), (1, 0, 2, 1, 3, np.inf)
    out = torch.zeros(512)
    machine = executed(divided, (1,), torch.from_numpy(a), torch.from_numpy(b), out, architecture=architecture, block=512)
    with np.errstate(all="ignore"):
        expected = a / b
    assert np.array_equal(out.numpy(), expected, equal_nan=True)
    # some lanes went the slow way, and came back to the others
    calls = [issued for its, issued in zip(machine.code.instructions, machine.issued, strict=True) if its.name == "CALL"]
    assert 0 < sum(calls) <= machine.launch.warps * len(calls)


@triton.jit
def doubles(a, b, out, whole, block: tl.constexpr):
    lane = tl.arange(0, block)
    x, y = tl.load(a + lane).to(tl.float64), tl.load(b + lane).to(tl.float64)
    value = tl.maximum(x / y - 0.5, -x) * 3.0
    tl.store(out + lane, value.to(tl.float32))
    tl.store(whole + lane, value.to(tl.int32))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_doubles_and_conversions(architecture: int) -> None:
    draw = np.random.default_rng(0)
    a, b = (draw.uniform(-50, 50, 256).astype(np.float32) for _ in range(2))
    out, whole = torch.zeros(256), torch.zeros(256, dtype=torch.int32)
    executed(doubles, (1,), torch.from_numpy(a), torch.from_numpy(b), out, whole, architecture=architecture, block=256)
    x, y = a.astype(np.float64), b.astype(np.float64)
    value = np.maximum(x / y - 0.5, -x) * 3
    assert np.array_equal(out.numpy(), value.astype(np.float32)) and np.array_equal(whole.numpy(), value.astype(np.int32))


@triton.jit
def across_lanes(values, sums, turned, block: tl.constexpr):
    row = tl.arange(0, block)
    tile = tl.load(values + row[:, None] * block + row[None, :])
    tl.store(sums + row, tl.sum(tile.to(tl.int32), axis=0))
    tl.store(sums + block + row, tl.min(tile.to(tl.int32), axis=1))
    tl.store(turned + row[:, None] * block + row[None, :], tl.trans(tile))


@pytest.mark.parametrize(("dtype", "architecture"), [(torch.uint8, 80), (torch.int16, 90), (torch.int32, 100)])
def test_lanes_and_warps_exchange_what_they_hold(dtype: torch.dtype, architecture: int) -> None:
    values = torch.randint(0, 100, (64, 64), generator=torch.Generator().manual_seed(0)).to(dtype)
    sums, turned = torch.zeros(2, 64, dtype=torch.int32), torch.zeros_like(values)
    executed(across_lanes, (1,), values, sums, turned, architecture=architecture, block=64)
    assert torch.equal(turned, values.T)
    assert torch.equal(sums, torch.stack([values.sum(0), values.amin(1).long()]).int())


@triton.jit
def rounded(values, out, block: tl.constexpr):
    lane = tl.arange(0, block)
    tl.store(out + lane, tl.load(values + lane).to(out.dtype.element_ty))


@pytest.mark.parametrize(("dtype", "architecture"), [(torch.bfloat16, 80), (torch.float16, 90), (torch.bfloat16, 100)])
def test_halves_are_rounded_to_nearest_and_ties_to_even(dtype: torch.dtype, architecture: int) -> None:
    draw = torch.Generator().manual_seed(0)
    values = torch.randn(256, generator=draw) * 100
    values[:3] = torch.tensor([1 + 2.0**-8, 1 + 3 * 2.0**-8, 1 + 2.0**-11])  # in the middle
    out = torch.zeros(256, dtype=dtype)
    executed(rounded, (1,), values, out, architecture=architecture, block=256)
    assert torch.equal(out, values.to(dtype))


# --- what is refused ---------------------------------------------------------------------------------------------------


def test_an_access_beyond_an_allocation_is_named_with_its_line() -> None:
    with pytest.raises(MemoryFaultError, match="at 400 of 400 bytes, values") as caught:
        executed(strided, (1,), torch.zeros(100), torch.zeros(128), 1, num_warps=1, block=128)
    (note,) = caught.value.__notes__
    assert "strided, test_emulator.py line" in note and "LDG" in note


def test_an_unknown_instruction_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(emulator.KNOWN, "LDG")
    with pytest.raises(UnknownCodeError) as caught:
        executed(strided, (1,), torch.zeros(32), torch.zeros(32), 1, num_warps=1, block=32)
    assert "LDG" in caught.value.__notes__[0]


def test_nothing_is_left_of_what_stood_for_the_driver() -> None:
    values: list[Tensor] = [torch.zeros(32), torch.zeros(32)]
    before = triton.runtime.driver._active, triton.runtime.jit.JITFunction.run
    with recorded(90) as launches:
        strided[(1,)](*values, 1, block=32)
    assert (triton.runtime.driver._active, triton.runtime.jit.JITFunction.run) == before
    # a stride of 1 is a constant of the code, and no argument of it
    assert [(its.name, its.type) for its in launches[0].arguments] == [("values", "*fp32"), ("out", "*fp32")]
