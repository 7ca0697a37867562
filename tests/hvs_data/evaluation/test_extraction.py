"""Features of centre views: in order, once each, without a trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import hvs_data as hvs
from hvs_data.evaluation import Features, features, knn_accuracy, linear_accuracy

# images of one colour each, of two classes that differ by it
LEVELS = [20, 30, 40, 50, 60, 200, 210, 220, 230, 240]
IMAGES = [(np.full((30 + k, 40, 3), level, np.uint8), int(level > 100)) for k, level in enumerate(LEVELS)]


class Encoder(nn.Module):
    """[N, 3, S, S] -> mean colours [N, 3]; remembers the mode that it was called in, and moves statistics in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.frozen = nn.BatchNorm2d(3).eval()

    def forward(self, pixels: Tensor) -> Tensor:
        self.mode = self.training, self.norm.training
        return self.frozen(self.norm(pixels)).mean((2, 3))


def test_in_the_order_of_the_source_and_without_a_trace() -> None:
    encoder = Encoder().train()
    encoder.frozen.eval()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    found = features(encoder, IMAGES, size=16, batch_size=4)
    mean, std = (torch.tensor(its) for its in (hvs.RenderSpec.mean, hvs.RenderSpec.std))
    expected = (torch.tensor(LEVELS)[:, None] / 255 - mean) / std
    # two normalisations with statistics 0 and 1 divide by sqrt(1 + eps) each
    torch.testing.assert_close(found.values, expected / (1 + 1e-5), rtol=1e-5, atol=1e-5)
    assert found.labels.tolist() == [label for _, label in IMAGES]
    assert encoder.mode == (False, False) and encoder.training and encoder.norm.training and not encoder.frozen.training
    assert all(torch.equal(value, encoder.state_dict()[name]) for name, value in before.items())


def test_one_call_each() -> None:
    assert knn_accuracy(Encoder(), IMAGES, IMAGES, neighbours=3, size=16) == 1.0
    assert linear_accuracy(Encoder(), IMAGES, IMAGES, size=16, inverse_penalty=1.0) == 1.0


def test_a_loader_of_ones_own_does() -> None:
    pixels = torch.rand(10, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(10) % 2
    loader = DataLoader(TensorDataset(pixels, labels), batch_size=4)
    found = features(Encoder(), loader)
    torch.testing.assert_close(found.values, pixels.mean((2, 3)) / (1 + 1e-5), rtol=1e-5, atol=1e-6)
    assert torch.equal(found.labels, labels)
    as_lists = [([view], label) for view, label in loader]
    assert torch.equal(features(Encoder(), iter(as_lists)).values, found.values)


def test_a_view_loader_does_whatever_its_order() -> None:
    recipe = hvs.recipes.simsiam(2, 16).with_roles(candidates=1, emitted=1, jitter=hvs.recipes.ColorJitter(p=0), gray=0, blur=0)
    loader = hvs.ViewLoader(IMAGES, recipe, 4, seed=1)
    found = features(Encoder(), loader)
    assert found.labels.tolist() == [label for _, label in IMAGES]
    torch.testing.assert_close(found.values, features(Encoder(), IMAGES, size=16).values, rtol=1e-5, atol=1e-5)


def test_images_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    from PIL import Image

    for number, (pixels, label) in enumerate(IMAGES):
        folder = tmp_path / str(label)
        folder.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (tmp_path / "0" / "2.png").write_bytes(b"no image")
    found = features(Encoder(), tmp_path, size=16, batch_size=3)
    assert found.labels.tolist() == [0] * 4 + [1] * 5
    assert (found.values[:, 0].diff() > 0).all()


def test_features_may_be_kept_in_half_the_memory() -> None:
    half, full = (features(Encoder(), IMAGES, size=16, dtype=dtype).values for dtype in (torch.float16, torch.float32))
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), full, rtol=2**-11, atol=0)


@pytest.mark.parametrize(
    ("encoder", "images", "words"),
    [
        (lambda view: view, IMAGES, r"maps 10 views to features \[10, F\], got \[10, 3, 16, 16\]"),
        (lambda view: view.mean((2, 3)) * float("nan"), IMAGES, "expected finite features"),
        (lambda view: view.mean((2, 3)), [pixels for pixels, _ in IMAGES], "expected a label of every image, got 10 of 10 without"),
        (lambda view: view.mean((2, 3)), iter([]), "expected at least one image"),
        (lambda view: view.mean((2, 3)), iter([torch.zeros(2, 3, 4, 4)]), "expected batches of views"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(encoder: Any, images: Any, words: str) -> None:
    with pytest.raises(hvs.HvsError, match=words):
        features(encoder, images, size=16)


def test_features_check_themselves() -> None:
    with pytest.raises(hvs.HvsError, match=r"got \[3\] and \[3\]"):
        Features(torch.zeros(3), torch.zeros(3, dtype=torch.int64))
