"""The engine "dali-kornia" where its packages are missing, and on devices that it does not know."""

from __future__ import annotations

import sys

import pytest
import torch

from hvs_data.errors import HvsError, MissingDependencyError
from hvs_data.pipelines.engine import choose_engine


@pytest.mark.parametrize(("missing", "package"), [("nvidia.dali", "nvidia.dali"), ("kornia", "kornia")])
@pytest.mark.parametrize(("cuda", "extra"), [(None, "cuda13"), ("13.0", "cuda13"), ("12.8", "cuda12")])
def test_a_missing_package_is_named_with_its_extra(
    missing: str, package: str, cuda: str | None, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if missing == "nvidia.dali":
        pytest.importorskip("kornia", reason="the other package is looked for first")
    for name in [name for name in sys.modules if name.startswith("hvs_data.pipelines.dali_") or f"{name}.".startswith(f"{missing}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    with pytest.raises(MissingDependencyError, match=rf"dali-kornia.*'{package}'.*hvs_data\[{extra}\]"):
        choose_engine("dali-kornia", torch.device("cpu"))


def test_other_devices_are_refused() -> None:
    with pytest.raises(HvsError, match="on the CPU and on CUDA devices, got images on meta"):
        choose_engine("dali-kornia", torch.device("meta"))
