"""Fake tensors that stand for those of a CUDA device which is not here."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode


def _there() -> bool:
    try:
        with FakeTensorMode():
            return torch.empty(1, device="cuda")[None].device.type == "cuda"
    except RuntimeError:
        return False


needs_fake_cuda = pytest.mark.skipif(not _there(), reason="the fake tensors of PyTorch 2.6 stand for a CUDA device only where there is one")
