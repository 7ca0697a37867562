"""Which pairs of views may be chosen, told from their rows: rules for the selector's option ``allowed``.

A rule is a function of rows: it takes :class:`hvs_data.ViewParams` [B, V] and returns bool [B, V, V] on the CPU, True where views i and j
may be chosen as a pair. Any function of that kind is one; those below are objects that compare equal when they say the same, and join:
``MinIoU(0.2) & MinArea(0.1)`` allows what both allow, ``|`` what one of them does, also with a function of one's own.
"""

# Axes: B image, V view slot.

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from hvs_data.arguments.values import listed, real_number
from hvs_data.errors import SelectionError
from hvs_data.rows.boxes import iou
from hvs_data.types.rows import ViewParams

__all__ = ["All", "Either", "MaxIoU", "MinArea", "MinIoU", "Rule"]

RowRule: TypeAlias = Callable[[ViewParams], Tensor]


class Rule(ABC):
    """Base of the rules by name."""

    @abstractmethod
    def __call__(self, rows: ViewParams) -> Tensor:
        """bool [B, V, V] on the CPU."""

    def __and__(self, other: RowRule) -> Rule:
        return All((self, other)) if callable(other) else NotImplemented

    def __rand__(self, other: RowRule) -> Rule:
        return All((other, self)) if callable(other) else NotImplemented

    def __or__(self, other: RowRule) -> Rule:
        return Either((self, other)) if callable(other) else NotImplemented

    def __ror__(self, other: RowRule) -> Rule:
        return Either((other, self)) if callable(other) else NotImplemented


@dataclass(frozen=True)
class MinIoU(Rule):
    """Pairs that overlap enough to show the same thing: the intersection over union of their boxes is at least ``iou``, from 0 to 1."""

    iou: float

    def __post_init__(self) -> None:
        _check_share("MinIoU", self.iou, "the least overlap (IoU) of a pair")

    def __call__(self, rows: ViewParams) -> Tensor:
        return iou(rows) >= float(self.iou)


@dataclass(frozen=True)
class MaxIoU(Rule):
    """Pairs that differ enough: the intersection over union of their boxes is at most ``iou``, from 0 to 1."""

    iou: float

    def __post_init__(self) -> None:
        _check_share("MaxIoU", self.iou, "the greatest overlap (IoU) of a pair")

    def __call__(self, rows: ViewParams) -> Tensor:
        return iou(rows) <= float(self.iou)


@dataclass(frozen=True)
class MinArea(Rule):
    """Pairs of two views that each show at least this share of the image's area, from 0 to 1: the unit of a recipe's ``scale``.

    Raises:
        SelectionError: a number that is no share, or rows that do not know the image's size (``ViewParams.image_size``).
    """

    share: float

    def __post_init__(self) -> None:
        _check_share("MinArea", self.share, "the least part of the image that each view of a pair shows")

    def __call__(self, rows: ViewParams) -> Tensor:
        if rows.image_size is None:
            raise SelectionError(
                "MinArea expected rows that know the size of their image, got rows with image_size=None; take rows of sample_views or of a "
                "loader's batch, or write image_size= [B, 2] into rows of your own"
            )
        area_BV = rows.source_box[..., 2:].to(torch.float64).prod(-1) / rows.image_size.to(torch.float64).prod(-1)[:, None]
        large_BV = area_BV >= float(self.share)
        return large_BV[:, :, None] & large_BV[:, None, :]


@dataclass(frozen=True)
class SimilarColor(Rule):
    """Pairs of similar colours: the factors of brightness, contrast and saturation of the two views, and their shifts of hue in turns,
    differ by at most ``most`` each, and both views are grey or neither is. Grey views have no saturation and no hue to differ in."""

    most: float

    def __post_init__(self) -> None:
        number = real_number(self.most)
        if number is None or number < 0:
            raise SelectionError(f"SimilarColor takes a number of at least 0, got {self.most!r}; it is the most by which colours differ")

    def __call__(self, rows: ViewParams) -> Tensor:
        gray_BV = rows.gray.bool()
        both_gray_BVV = gray_BV[:, :, None] & gray_BV[:, None, :]
        similar_BVV = gray_BV[:, :, None] == gray_BV[:, None, :]
        for name in ("brightness", "contrast", "saturation", "hue"):
            value_BV = getattr(rows, name).to(torch.float64)
            apart_BVV = (value_BV[:, :, None] - value_BV[:, None, :]).abs()
            if name == "hue":
                apart_BVV = torch.minimum(apart_BVV, 1 - apart_BVV)  # shifts lie on a circle
            near_BVV = apart_BVV <= float(self.most)
            similar_BVV = similar_BVV & (near_BVV | both_gray_BVV if name in ("saturation", "hue") else near_BVV)
        return similar_BVV


@dataclass(frozen=True)
class All(Rule):
    """What all of some rules allow."""

    rules: tuple[RowRule, ...]

    def __call__(self, rows: ViewParams) -> Tensor:
        return torch.stack([table_of(rule, rows) for rule in self.rules]).all(0)


@dataclass(frozen=True)
class Either(Rule):
    """What at least one of some rules allows."""

    rules: tuple[RowRule, ...]

    def __call__(self, rows: ViewParams) -> Tensor:
        return torch.stack([table_of(rule, rows) for rule in self.rules]).any(0)


def rule_of(allowed: object) -> RowRule | None:
    """The rule that an argument ``allowed`` asks for: None, a function of rows, or a list of such, all of which must allow a pair.

    Raises:
        SelectionError: something else.
    """
    many = None if isinstance(allowed, (np.ndarray, Tensor)) else listed(allowed)
    rules = many if many is not None else () if allowed is None else (allowed,)
    if not all(callable(rule) and not isinstance(rule, type) for rule in rules):
        raise SelectionError(
            "allowed must be a function of rows (ViewParams [B, V] -> bool [B, V, V]), a rule such as rules.MinIoU(0.2), a list of "
            f"these, or None, got {allowed!r}"
        )
    return None if not rules else rules[0] if len(rules) == 1 else All(tuple(rules))


def table_of(rule: RowRule, rows: ViewParams) -> Tensor:
    """What a rule says of rows: bool [B, V, V] on the CPU.

    Raises:
        SelectionError: a function that returns something else.
    """
    table = rule(rows)
    expected = (rows.batch_size, rows.num_views, rows.num_views)
    if isinstance(table, np.ndarray):
        table = torch.from_numpy(table)
    if not isinstance(table, Tensor) or table.dtype != torch.bool or tuple(table.shape) != expected:
        arrived = f"{table.dtype} of shape {tuple(table.shape)}" if isinstance(table, Tensor) else type(table).__name__
        raise SelectionError(
            f"allowed expected a function of rows that returns bool of shape {expected}, True where two views may be chosen as a pair, "
            f"got {arrived}; write a comparison, such as lambda rows: hvs_data.iou(rows) >= 0.2"
        )
    return table.cpu()


def _check_share(name: str, value: object, meaning: str) -> None:
    number = real_number(value)
    if number is None or not 0 <= number <= 1:
        raise SelectionError(f"{name} takes a number from 0 to 1, got {value!r}; it is {meaning}")
