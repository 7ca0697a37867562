"""The supervised contrastive loss against its formula, anchor by anchor, and labels on their way to it."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import hvs_data as hvs
from hvs_data import SelectionError
from hvs_data.objectives import SimCLR, SupCon
from products import UNIT

TEMPERATURE, LENGTH = 0.3, 16
SAME = nn.Identity()


def drawn(images: int, views: int, seed: int = 0) -> Tensor:
    """[B, V, D] in float64 that float32 can hold."""
    return torch.randn(images, views, LENGTH, generator=torch.Generator().manual_seed(seed)).double()


def by_anchors(z_BVD: Tensor, weight_BB: Tensor, i: int, j: int) -> Tensor:
    """Equation 2 of the paper (L_out), weights in place of the set of positives: [B], the mean of an image's two anchors."""
    z = F.normalize(torch.cat([z_BVD[:, i], z_BVD[:, j]]), dim=-1)
    images, total = len(z_BVD), []
    for anchor in range(2 * images):
        others = [a for a in range(2 * images) if a != anchor]
        similar = torch.stack([z[anchor] @ z[a] / TEMPERATURE for a in others])
        weight = torch.stack(
            [torch.tensor(1.0) if a % images == anchor % images else weight_BB[anchor % images, a % images] for a in others]
        )
        total.append(-(weight * (similar - similar.logsumexp(0))).sum() / weight.sum())
    return torch.stack(total).view(2, images).mean(0)


def error(images: int) -> float:
    """What float32 may add: of cosines (2 D + 8 units), of the log-sum-exp over 2 B entries, and of sums of as many positives."""
    cosine = (2 * LENGTH + 8) * UNIT
    size = 1 / TEMPERATURE + math.log(2 * images + 1) + 1
    return 3 * cosine / TEMPERATURE + (4 * images + 32) * UNIT * size + (2 * images + LENGTH + 8) * UNIT * 2 / TEMPERATURE


def same(labels: Tensor) -> Tensor:
    return ((labels[:, None] == labels) & (labels >= 0)[:, None]).double()


@pytest.mark.parametrize("labels", [[0, 1, 0, 2, 1, 0], [0, -1, 0, -1, 1, 1], [-1] * 6, [3] * 6, range(6)], ids=str)
def test_the_loss_of_every_image_is_that_of_the_formula(labels: Any) -> None:
    outputs, label_B = drawn(6, 4), torch.tensor(list(labels))
    losses = SupCon(encoder=SAME, temperature=TEMPERATURE).pair_losses(outputs.float(), labels=label_B)
    assert torch.equal(losses, losses.transpose(1, 2)) and losses.dtype == torch.float32
    for i, j in combinations(range(4), 2):
        assert (losses[:, i, j] - by_anchors(outputs, same(label_B), i, j)).abs().max() <= error(6)


def test_without_labels_it_is_simclrs() -> None:
    outputs = drawn(5, 3).float()
    losses = SupCon(encoder=SAME, temperature=TEMPERATURE).pair_losses(outputs, labels=torch.full((5,), -1))
    expected = SimCLR(encoder=SAME, temperature=TEMPERATURE).pair_losses(outputs)
    for i, j in combinations(range(3), 2):
        assert (losses[:, i, j] - expected[:, i, j]).abs().max() <= 2 * error(5)


def test_soft_and_several_labels_weigh_the_positives() -> None:
    outputs, label_B = drawn(6, 3), torch.tensor([0, 1, 2, -1, 1, 0])
    table_LC = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0], [0, 1, 1]])
    rows_BC = table_LC[label_B.clamp_min(0)] * (label_B >= 0)[:, None]
    given = SupCon(encoder=SAME, temperature=TEMPERATURE).pair_losses(outputs.float(), labels=rows_BC)
    by_table = SupCon(encoder=SAME, temperature=TEMPERATURE, table=table_LC).pair_losses(outputs.float(), labels=label_B)
    assert torch.equal(given, by_table)
    for i, j in combinations(range(3), 2):
        assert (given[:, i, j] - by_anchors(outputs, (rows_BC @ rows_BC.T).double(), i, j)).abs().max() <= error(6)


class Places(nn.Module):
    """Embeddings that are given for the pixels' places."""

    def __init__(self, outputs_BVD: Tensor):
        super().__init__()
        self.register_buffer("outputs", outputs_BVD.transpose(0, 1).flatten(0, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.outputs[pixels[:, 0, 0, 0].long()]


@pytest.mark.parametrize("seed", range(5))
def test_the_choice_is_that_of_brute_force(seed: int) -> None:
    outputs, label_B = drawn(6, 4, seed), torch.tensor([0, 1, 0, 1, 1, -1])
    candidates = torch.arange(24.0).view(4, 6, 1, 1, 1).expand(-1, -1, 3, 1, 1)
    selector = hvs.HardViewSelector(SupCon(encoder=Places(outputs.float()), temperature=TEMPERATURE))
    selection = selector.select(list(candidates.unbind(0)), labels=label_B)
    pairs = list(combinations(range(4), 2))
    losses = torch.stack([by_anchors(outputs, same(label_B), i, j) for i, j in pairs], dim=1)
    taken = torch.tensor([pairs.index(tuple(pair)) for pair in selection.pair.tolist()])
    assert (losses.amax(1) - losses[torch.arange(6), taken]).max() <= 2 * error(6)


class MeanColor(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.mean((2, 3))


def test_a_loaders_labels_reach_it() -> None:
    draw = np.random.default_rng(0)
    images = [(draw.integers(0, 256, (30, 40, 3), np.uint8), number % 3) for number in range(12)]
    seen: list[Tensor] = []

    class Noting(SupCon):
        def pair_losses(self, outputs: Tensor, labels: Tensor) -> Tensor:  # type: ignore[override]
            seen.append(labels.clone())
            return super().pair_losses(outputs, labels)

    views = hvs.ViewLoader(images, hvs.recipes.simsiam(4, 16), 6, num_threads=1)
    for score_size in (None, 8):
        loader = hvs.HardViewLoader(views, hvs.HardViewSelector(Noting(encoder=MeanColor()), score_size=score_size))
        labels = [batch.labels for batch in loader]
        assert len(seen) == 2 and all(map(torch.equal, labels, seen))
        seen.clear()


def test_missing_and_odd_labels_are_told_of() -> None:
    candidates = [torch.randn(4, 3, 8, 8) for _ in range(3)]
    selector = hvs.HardViewSelector(SupCon(encoder=MeanColor()))
    with pytest.raises(
        SelectionError, match=r"SupCon takes the images' labels, got none; .* selector\(candidates, params, labels=labels\)"
    ):
        selector(candidates)
    for labels in (torch.zeros(3, dtype=torch.int64), torch.zeros(4, 2, dtype=torch.int64), torch.zeros(4)):
        with pytest.raises(SelectionError, match=r"expected labels as integers \[4\] or floating \[4, C\]"):
            selector(candidates, labels=labels)
    assert len(selector(candidates, labels=torch.tensor([0, 1, 0, 1]))) == 2
