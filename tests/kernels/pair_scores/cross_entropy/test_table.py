"""Which implementation computes the table, and what is refused."""

import pytest
import torch

from cross_entropies import material
from hvs_data import SelectionError
from hvs_data.kernels.pair_scores.cross_entropy import blocks
from hvs_data.kernels.pair_scores.cross_entropy.table import cross_entropy_table


@pytest.mark.parametrize("backend", ["auto", "blocks"])
def test_on_the_cpu_it_is_computed_in_blocks(backend, monkeypatch):
    teacher, student, center = material(2, 2, [2, 3], 20)
    expected = blocks.cross_entropy_table(teacher, student, center, 0.04, 0.1)
    calls = []
    monkeypatch.setattr(blocks, "cross_entropy_table", lambda *args: calls.append(args) or expected)
    assert cross_entropy_table(teacher, student, center, 0.04, 0.1, backend=backend) is expected
    assert len(calls) == 1


T, S, L, C = torch.zeros(2, 4, 9), torch.zeros(2, 4, 9), torch.zeros(2, 7, 9), torch.zeros(9)


@pytest.mark.parametrize(
    ("teacher", "students", "center", "message"),
    [
        (T[0], [S], C, r"the teacher's \[B, T, K\]"),
        (T.long(), [S], C, "got torch.int64"),
        (T, [], C, "one or two tensors"),
        (T, [S, S, S], C, "one or two tensors"),
        (T, [S, L[:1]], C, r"got torch.float32 \[2, 4, 9\] on cpu and .*\[1, 7, 9\]"),
        (T, [S, L[..., :8]], C, r"\[2, 7, 8\]"),
        (T, [S, L.to("meta")], C, "on meta"),
        (T, [S], C[:8], r"a centre of shape \[9\].* got \[8\]"),
        (T, [S], C[None], r"got \[1, 9\]"),
        (T, [S], C.to("meta"), r"on cpu, got \[9\] on meta"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(teacher, students, center, message):
    with pytest.raises(SelectionError, match=message):
        cross_entropy_table(teacher, students, center, 0.04, 0.1)


def test_a_backend_that_cannot_run_is_refused():
    with pytest.raises(SelectionError, match="backend 'triton' needs CUDA tensors, got logits on cpu"):
        cross_entropy_table(T, [S], C, 0.04, 0.1, backend="triton")
    with pytest.raises(SelectionError, match="backend must be one of"):
        cross_entropy_table(T, [S], C, 0.04, 0.1, backend="cuda")
