"""k nearest neighbours by cosine, whose votes are weighted: on a device, in blocks, so that memory does not grow with the images."""

# Axes: N fitted image, M tested image, F feature, K neighbour, L label.

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hvs_data.arguments.values import real_number
from hvs_data.errors import HvsError
from hvs_data.evaluation.extraction import Features, Images, check_same_length, checked_whole, features_of_both

# Fitted images whose features lie on the device at a time, and tested ones that are compared with them at a time: 256 MiB of cosines.
FITTED, TESTED = 2**15, 2**11


def knn_accuracy(
    encoder: Callable[[Tensor], Tensor],
    train: Images | Features,
    test: Images | Features,
    *,
    neighbours: int = 20,
    temperature: float | None = 0.07,
    **options: Any,
) -> float:
    """Share of the test images whose class the encoder's nearest training images name.

    ``hvs.evaluation.knn_accuracy(model.encoder, "photos/train", "photos/val")`` is all that a loop needs, after an epoch.

    Args:
        encoder: maps views [B, C, H, W] to features [B, F].
        train, test: labelled images, as :func:`features` takes them, or their features.
        neighbours, temperature: as in :func:`knn`.
        options: of :func:`features`, such as ``size``.

    Returns:
        From 0 to 1.

    Raises:
        HvsError: as :func:`features` and :func:`knn`.
    """
    fitted, tested = features_of_both(encoder, train, test, options)
    return knn(fitted, tested, neighbours, temperature, device=options.get("device"))


@torch.no_grad()
def knn(
    train: Features,
    test: Features,
    neighbours: int = 20,
    temperature: float | None = 0.07,
    *,
    device: torch.device | str | None = None,
) -> float:
    """Share of the test images whose class gets most of their neighbours' votes.

    Neighbours are the training images of the largest cosine, and each votes with exp(cosine / temperature): the protocol of Wu et al. 2018
    (arXiv 1805.01978), which DINO follows with 20 neighbours and .07.

    Args:
        train, test: their features.
        neighbours: that vote; all training images where there are fewer.
        temperature: of the votes, above 0; None lets all votes count alike.
        device: where cosines are taken; by default a CUDA device where there is one. Of equal votes the class of the smaller number wins.

    Raises:
        HvsError: features of different lengths, or an argument that means nothing.
    """
    check_same_length(train, test)
    number = None if temperature is None else real_number(temperature)
    if temperature is not None and (number is None or not number > 0):
        raise HvsError(f"temperature must be a number above 0, or None for equal votes, got {temperature!r}; it divides the cosines")
    count = min(checked_whole("neighbours", neighbours, "the number of training images that vote"), len(train.labels))
    where = torch.device(device if device is not None else "cuda" if torch.cuda.is_available() else "cpu")
    cosine_MK, index_MK = nearest(train.values, test.values, count, where)
    # the largest cosine is taken off, which changes no order and keeps the exponential finite
    vote_MK = torch.ones_like(cosine_MK) if number is None else torch.exp((cosine_MK - cosine_MK[:, :1]) / number)
    label_MK = train.labels.to(where)[index_MK]
    votes_ML = torch.zeros(len(vote_MK), int(train.labels.max()) + 1, dtype=torch.float64, device=where)
    votes_ML.scatter_add_(1, label_MK, vote_MK.double())
    return float((votes_ML.argmax(1) == test.labels.to(where)).double().mean())


def nearest(train_NF: Tensor, test_MF: Tensor, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines of each tested image's nearest fitted ones, falling, and their numbers: float32 and int64 [M, K]."""
    unit_MF = F.normalize(test_MF.to(device, torch.float32), dim=1)
    cosine_MK = torch.empty(len(unit_MF), 0, device=device)
    index_MK = torch.empty(len(unit_MF), 0, dtype=torch.int64, device=device)
    for start in range(0, len(train_NF), FITTED):
        block_NF = F.normalize(train_NF[start : start + FITTED].to(device, torch.float32), dim=1)
        parts = [(part @ block_NF.T).topk(min(count, len(block_NF))) for part in unit_MF.split(TESTED)]
        found_MK = torch.cat([cosine_MK, torch.cat([part.values for part in parts])], dim=1)
        where_MK = torch.cat([index_MK, torch.cat([part.indices for part in parts]) + start], dim=1)
        cosine_MK, order_MK = found_MK.topk(min(count, found_MK.shape[1]))
        index_MK = where_MK.gather(1, order_MK)
    return cosine_MK, index_MK
