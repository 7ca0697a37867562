"""Which engine renders on CUDA, and what is said where none can: decided from names alone, without a device."""

from __future__ import annotations

import pytest
import torch

from hvs_data.errors import HvsError
from hvs_data.pipelines import engine
from hvs_data.pipelines.engine import choose_engine

CUDA = torch.device("cuda")


@pytest.mark.parametrize("name", ["auto", "fused"])
def test_on_cuda_the_fused_engine_is_that_of_triton(name: str, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("triton")
    from hvs_data.pipelines.triton_engine import TritonEngine

    engine._announce.cache_clear()
    with caplog.at_level("INFO", logger="hvs_data"):
        chosen = [choose_engine(name, CUDA) for _ in range(2)]
    assert all(isinstance(one, TritonEngine) and one.name == "fused" for one in chosen)
    said = ["engine=\"auto\" renders with the engine 'fused' on cuda"] if name == "auto" else []
    assert [record.getMessage() for record in caplog.records] == said


def test_graphs_are_replayed_on_cuda_alone_by_an_engine_that_keeps_them() -> None:
    pytest.importorskip("triton")
    first, second = (choose_engine("fused-graph", CUDA) for _ in range(2))
    assert first.name == second.name == "fused-graph"
    assert first._render_views.__self__ is not second._render_views.__self__
    with pytest.raises(HvsError, match='"fused-graph" replays CUDA graphs, got images on cpu; pass engine="fused"'):
        choose_engine("fused-graph", torch.device("cpu"))


def test_without_triton_auto_takes_the_reference_and_fused_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    assert choose_engine("auto", CUDA).name == "reference"
    with pytest.raises(HvsError, match="with the package triton, .*; got images on cuda and no triton; run: pip install triton"):
        choose_engine("fused", CUDA)
    assert choose_engine("fused", torch.device("cpu")).name == "fused"


def test_other_devices_are_refused_by_name() -> None:
    with pytest.raises(HvsError, match='got images on meta; decode to the CPU, or pass engine="reference"'):
        choose_engine("fused", torch.device("meta"))
    assert choose_engine("auto", torch.device("meta")).name == "reference"
