"""The Triton kernel: on CPU tensors in Triton's interpreter, compiled for GPUs that need not be there, and on CUDA."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from compiled_ahead import compiled_ahead
from cross_entropies import bound, material, tables
from interpreted import take_indices

triton = pytest.importorskip("triton")

# The interpreter must be chosen before triton is imported, so these tests run in a process of their own, see the first one.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if INTERPRETED:
    take_indices()
interpreted = pytest.mark.skipif(not INTERPRETED, reason="runs in the interpreter's process")
TEMPERATURES = (0.04, 0.1)


@pytest.mark.skipif(INTERPRETED, reason="starts this process")
def test_in_the_interpreter():
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__))]
    done = subprocess.run(command, env=environment, cwd=Path(__file__).parents[4], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{INTERPRETED_TESTS} passed" in done.stdout


@pytest.mark.skipif(INTERPRETED, reason="launches nothing")
def test_no_batch_is_too_large_for_a_launch(monkeypatch):
    """Devices take 65,535 programs along the second and third axis of a launch, and 2**31 - 1 along the first."""
    from hvs_data.kernels.pair_scores.cross_entropy import triton_kernel

    grids = []

    class Recorder:
        def __getitem__(self, grid):
            grids.append(grid)
            return lambda *arguments, **options: None

    monkeypatch.setattr(triton_kernel, "cross_entropy_segment", Recorder())
    triton_kernel.cross_entropy_table(torch.zeros(70_000, 2, 4), [torch.zeros(70_000, 3, 4)], None, 0.04, 0.1)
    assert grids == [(70_000, 1, 1)]


@pytest.fixture
def kernel(monkeypatch):
    from hvs_data.kernels.pair_scores.cross_entropy import triton_kernel

    # Outputs that were not written show; segments small enough to be several.
    make = torch.Tensor.new_empty
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda self, *args, **kwargs: make(self, *args, **kwargs).fill_(torch.nan))
    monkeypatch.setattr(triton_kernel, "SEGMENT", 64)
    monkeypatch.setattr(triton_kernel, "BLOCK_K", 16)
    return triton_kernel


def assert_table(kernel, teacher, student, center, temperatures=TEMPERATURES, joins=20):
    table = kernel.cross_entropy_table(teacher, student, center, *temperatures)
    expected = tables(teacher, student, center, *map(float, temperatures))
    assert table.dtype == torch.float32
    np.testing.assert_allclose(table, expected, rtol=0, atol=bound(teacher, student, center, *map(float, temperatures), joins=joins))


SHAPES = [(2, 4, [4, 5], 150), (1, 1, [1], 1), (3, 2, [2], 64), (1, 2, [2, 1], 65), (1, 17, [17, 50], 20)]


@interpreted
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_entry_is_the_cross_entropy_of_its_two_views(kernel, shape):
    assert_table(kernel, *material(*shape, spread=2.0))


@interpreted
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_logits_lose_nothing_more(kernel, dtype):
    assert_table(kernel, *material(2, 2, [2, 3], 100, dtype=dtype))


@interpreted
def test_without_a_centre_and_with_temperatures_as_tensors(kernel):
    teacher, student, _ = material(2, 2, [2, 3], 100)
    assert_table(kernel, teacher, student, None, (torch.tensor(0.0625), torch.tensor(0.125)))


@interpreted
def test_strided_logits(kernel):
    teacher, student, center = material(3, 2, [2, 3], 100)
    across = [logits.transpose(0, 1).contiguous().transpose(0, 1) for logits in (teacher, *student)]
    assert_table(kernel, across[0], across[1:], center)
    assert_table(kernel, *(torch.stack([teacher] * 2, dim=-1)[..., 0], student, torch.stack([center] * 2, dim=-1)[..., 0]))


@interpreted
def test_what_is_not_finite_stays_in_its_own_entries(kernel):
    for value in (torch.nan, torch.inf):
        teacher, student, center = material(2, 2, [2, 3], 100)
        teacher[0, 1, 5] = value
        student[1][1, 2, 90] = value
        bad = torch.zeros(2, 2, 5, dtype=torch.bool)
        bad[0, 1], bad[1, :, 4] = True, True
        assert torch.equal(~kernel.cross_entropy_table(teacher, student, center, *TEMPERATURES).isfinite(), bad)


@interpreted
def test_prototypes_that_the_teacher_leaves_out(kernel):
    """-inf in whole segments, the first one included."""
    teacher, student, center = material(2, 2, [2], 200)
    teacher[..., :130] = -torch.inf
    table = kernel.cross_entropy_table(teacher, student, center, *TEMPERATURES)
    x = ((teacher - center) / 0.04).double().softmax(-1)[..., 130:]
    y = (student[0].double() / 0.1).log_softmax(-1)[..., 130:]
    tolerance = bound(teacher[..., 130:], student, center[130:], *TEMPERATURES, joins=20)
    np.testing.assert_allclose(table, -(x[:, :, None] * y[:, None]).sum(-1), rtol=0, atol=tolerance)


INTERPRETED_TESTS = len(SHAPES) + 2 + 4


# ---- for a GPU ----


@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
@pytest.mark.parametrize(("architecture", "logits", "tile_s"), [(80, "bf16", 32), (90, "fp16", 32), (90, "fp32", 64)])
def test_it_compiles_for_gpus(architecture, logits, tile_s, monkeypatch, tmp_path):
    from hvs_data.kernels.pair_scores.cross_entropy import triton_kernel

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel = triton_kernel.cross_entropy_segment
    constants = {
        "has_center": True,
        "has_second": True,
        "segment": triton_kernel.SEGMENT,
        "block_k": triton_kernel.BLOCK_K,
        "tile_t": triton_kernel.TILE_T,
        "tile_s": tile_s,
    }
    whole = {"images", "teachers", "firsts", "seconds", "prototypes"}
    signature = {
        name: f"*{logits}" if name in ("teacher", "first", "second") else "i32" if name in whole or name.startswith("stride") else "*fp32"
        for name in kernel.arg_names
        if name not in constants
    }
    compiled = compiled_ahead(kernel, architecture, signature, constants)
    assert f".target sm_{architecture}" in compiled.asm["ptx"] and compiled.asm["cubin"]
    # products of float32 factors as they are: tensor cores would round them
    assert "fma.rn.f32" in compiled.asm["ptx"] and "mma" not in compiled.asm["ptx"]
    assert compiled.metadata.shared <= 96 * 1024


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available() or INTERPRETED, reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 4, [4, 16], 65536), (1, 17, [17, 50], 5000), (2, 2, [2], 1)], ids=str)
def test_on_cuda(shape, dtype):
    from hvs_data.kernels.pair_scores.cross_entropy import reference
    from hvs_data.kernels.pair_scores.cross_entropy.table import cross_entropy_table

    teacher, student, center = material(*shape, dtype=dtype)
    expected = reference.cross_entropy_table(teacher.double(), [s.double() for s in student], center.double(), *TEMPERATURES)
    on_device = teacher.cuda(), [s.cuda() for s in student], center.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        table = cross_entropy_table(*on_device, *TEMPERATURES, backend="triton")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    tolerance = bound(teacher, student, center, *TEMPERATURES, joins=4096 // 64 + shape[3] // 4096 + 1)
    np.testing.assert_allclose(table.cpu(), expected, rtol=0, atol=tolerance)
    assert torch.equal(table, cross_entropy_table(*on_device, *TEMPERATURES, backend="auto"))
