"""The GPU renderer's compiled code spills nothing and takes no more instructions than its committed figures say; the bench of these."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

triton = pytest.importorskip("triton")
if os.environ.get("TRITON_INTERPRET") == "1" or triton.__version__.startswith("3.2."):
    pytest.skip("the interpreter compiles nothing, and Triton 3.2 tells in another way what it compiles", allow_module_level=True)

import gpu_model  # noqa: E402
import hvs_data as hvs  # noqa: E402
from gpu_model import FORM, GUARDED, PAGE, RESULT, SHOWN, grown, guarded, sample_of  # noqa: E402
from harness.gpu_code.architectures import H200  # noqa: E402
from harness.gpu_code.cases import CASES, Case  # noqa: E402
from harness.gpu_code.figures import instructions  # noqa: E402
from harness.measuring.schema import check_form  # noqa: E402
from harness.reporting.evidence import replaced  # noqa: E402
from harness.reporting.gpu_code import MARKS, docs_part, report  # noqa: E402


@pytest.fixture(autouse=True)
def nothing_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def committed() -> dict[str, Any]:
    return json.loads(RESULT.read_text())


def test_committed_figures_are_complete(committed: dict[str, Any]) -> None:
    check_form(committed, FORM)
    assert set(committed["guard"]["instructions"]) == set(GUARDED)
    for code in (committed["before"], committed["now"]):
        assert set(code["cases"]) == {case.name for case in CASES}
        assert all(H200.name in gpus for gpus in code["cases"].values())


def test_the_page_shows_the_committed_figures(committed: dict[str, Any]) -> None:
    page = PAGE.read_text()
    assert replaced(page, docs_part(committed, SHOWN, H200.name), MARKS) == page


@pytest.mark.parametrize("case", [case for case in CASES if case.name in GUARDED], ids=lambda case: case.name)
def test_no_kernel_spills_or_takes_more_instructions(case: Case, committed: dict[str, Any]) -> None:
    its = guarded(case)
    assert {kernel["kernel"]: kernel["spilled_bytes"] for kernel in its["kernels"]} == {kernel["kernel"]: 0 for kernel in its["kernels"]}
    version = committed["now"]["versions"]["triton"]
    if triton.__version__ != version:
        pytest.skip(f"nothing spills; the committed instructions are those that Triton {version} makes, this is {triton.__version__}")
    wrong = grown(instructions(its), committed["guard"]["instructions"][case.name])
    assert not wrong, "\n".join([*wrong, "if that is meant, run bench/gpu_model.py and commit its result"])


def test_growth_is_found() -> None:
    assert grown({"a": 109, "b": 5}, {"a": 100, "b": 50}) == []
    (line,) = grown({"a": 111, "b": 5}, {"a": 100, "b": 50})
    assert line.startswith("a: expected at most 1.10 x 100")
    assert grown({"a": 100}, {"a": 100, "b": 50}) == ["expected the kernels ['a', 'b'], got ['a']"]


def test_a_sample_takes_sizes_evenly() -> None:
    sizes = [(height, 10) for height in range(100)]
    assert [height for height, _ in sample_of(sizes, 4, 9).sizes] == [0, 25, 50, 75]
    assert [height for height, _ in sample_of(sizes[:2], 4, 9).sizes] == [0, 0, 1, 1]


SMALL = Case("small", hvs.recipes.simsiam(2, size=32), dtype=torch.float32)


def test_what_was_before_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(gpu_model, "CASES", [SMALL])
    monkeypatch.setattr(gpu_model, "GUARDED", [SMALL.name])
    monkeypatch.setattr(gpu_model, "GUARD_IMAGES", 2)
    monkeypatch.setattr(gpu_model, "GUARD_PROGRAMS", 8)
    out = tmp_path / "result.json"
    options = ["--images", "2", "--programs", "8", "--out", str(out)]
    assert gpu_model.main(options) == 0
    first = json.loads(out.read_text())
    check_form(first, FORM)
    assert first["before"] == first["now"] and set(first["now"]["cases"]["small"]) == {"H200"}
    for kernel in first["before"]["cases"]["small"]["H200"]["kernels"]:
        kernel["instructions"] *= 2
    first["before"]["cases"]["small"]["H200"]["kernels"][-1]["kernel"] = "gone"
    out.write_text(json.dumps(first))
    assert gpu_model.main(options) == 0
    second = json.loads(out.read_text())
    assert second["before"] == first["before"] and second["now"]["cases"] == first["now"]["cases"]
    assert gpu_model.main([*options, "--new-before"]) == 0
    assert json.loads(out.read_text())["before"] == second["now"]
    capsys.readouterr()
    out.unlink()
    assert gpu_model.main([*options, "--only", "small", "--lines"]) == 0
    printed = capsys.readouterr().out
    assert "modelled" in printed and "resize_and_color" in printed and "resize.py:" in printed and not out.exists()


def test_a_kernel_that_is_gone_is_still_told() -> None:
    kernel = {
        "kernel": "kept", "registers": 40, "warps_held": 48, "spilled_bytes": 0, "instructions": 5000, "wavefronts": 100,
        "memory_bytes": 3000, "ns": {"issue": 5.0, "L1": 2.0}, "bound_by": "issue",
    }  # fmt: skip
    its = {"crop_bytes": 1000, "output_bytes": 2000, "scratch_bytes": 0, "bound_ns": 1.0, "ns": 5.0, "kernels": [kernel]}
    was = {**its, "ns": 20.0, "kernels": [{**kernel, "instructions": 9000}, {**kernel, "kernel": "gone", "instructions": 7000}]}
    text = report("small", "H200", its, was)
    lines = {line.split()[0]: line for line in text.splitlines() if line}
    assert "9.0" in lines["kept"] and "5.0" in lines["kept"] and "7.0" in lines["gone"]
    assert "sum 5 ns, before 20; 20.0% of" in text
