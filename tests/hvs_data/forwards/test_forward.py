"""How rows reach the device of a forward."""

from types import SimpleNamespace

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import hvs_data as hvs
from fake_cuda import needs_fake_cuda
from hvs_data.forwards.forward import _extra


@needs_fake_cuda
def test_what_an_objective_wants_of_the_rows_travels_from_page_locked_memory(monkeypatch):
    """Fake tensors stand for those of a CUDA device, which is not here."""
    recipe = hvs.recipes.simsiam(candidates=4, size=16)
    params = hvs.sample_views(recipe, seed=0, epoch=0, index=range(3), height=[40] * 3, width=[50] * 3)
    locked = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: locked.append(tensor) or tensor)

    def extra(device):
        return _extra(None, "box", params, SimpleNamespace(slots=(0, 2)), slice(1, 3), torch.device(device))

    expected = torch.cat([params.box[1:3, 0], params.box[1:3, 2]])
    assert torch.equal(extra("cpu"), expected) and not locked
    with FakeTensorMode(allow_non_fake_inputs=True):
        on_device = extra("cuda")
    assert on_device.device.type == "cuda" and on_device.shape == expected.shape and len(locked) == 1
