"""Rows that several tests take."""

from __future__ import annotations

import pytest

import hvs_data as hvs
from hvs_data.recipes import dino
from hvs_data.types import ViewParams


@pytest.fixture
def params() -> ViewParams:
    """Rows of 5 images with 2 + 2 global and 8 local slots."""
    return hvs.sample_views(dino(candidates=4), seed=0, epoch=0, index=range(5), height=range(200, 205), width=range(300, 305))
