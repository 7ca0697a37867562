"""A small SimSiam under Lightning, on hardest views, with a witness of them; for both of Lightning's packages."""

# Axes: V view, S side of a square view.

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

import hvs_data as hvs
from hvs_data.integrations.lightning import HardViewDataModule
from pair_formulas import cosine
from products import UNIT
from witness import Witness

RECIPE = hvs.recipes.simsiam(candidates=4, size=16)
LENGTH = 8
# The witness runs the same float32 forward on the same batch; a cosine in float32 errs by (2 D + 8) units (pair_formulas), and so may that
# of the chosen pair and that of the hardest.
TOLERANCE = 2 * (2 * LENGTH + 8) * UNIT


def simsiam(style: str = "lightning.pytorch", **hooks: Any) -> Any:
    """A small SimSiam as a LightningModule of one of the packages."""
    package = importlib.import_module(style)

    class SimSiam(package.LightningModule):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            body = [nn.Conv2d(3, 8, 5, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
            self.encoder = nn.Sequential(*body, nn.Linear(8, LENGTH))
            self.predictor = nn.Sequential(nn.Linear(LENGTH, 4), nn.ReLU(), nn.Linear(4, LENGTH))
            self.seen: list[Any] = []

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            (x1, x2), *_ = batch["hard"] if isinstance(batch, dict) else batch
            self.seen.append(x1)
            z1, z2 = self.encoder(x1), self.encoder(x2)
            p1, p2 = self.predictor(z1), self.predictor(z2)
            return -(cosine_similarity(p1, z2.detach()).mean() + cosine_similarity(p2, z1.detach()).mean()) / 2

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)

    for name, hook in hooks.items():
        setattr(SimSiam, name, hook)
    torch.manual_seed(0)
    return SimSiam()


def trainer_of(folder: Path, style: str = "lightning.pytorch", **options: Any) -> Any:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    where = {"accelerator": "cpu", "devices": 1, "default_root_dir": folder, "max_epochs": 1}
    return importlib.import_module(style).Trainer(**{**quiet, **where, **options})


def data_of(photos: Path, **options: Any) -> Any:
    settings = {"objective": hvs.objectives.SimSiam, "batch_size": 8, "seed": 1, **options}
    return HardViewDataModule(photos, RECIPE, **settings)


def pair_losses(modules: Any, candidates: list[Tensor]) -> Tensor:
    z = modules["encoder"](torch.cat(candidates))
    z, p = (out.double().unflatten(0, (len(candidates), -1)).transpose(0, 1) for out in (z, modules["predictor"](z)))
    cosine_BVV = cosine(p[:, :, None], z[:, None])
    return -(cosine_BVV + cosine_BVV.transpose(1, 2)) / 2


class Watched(HardViewDataModule):
    """A data module with a witness of its loader."""

    witness: Any = None

    def train_dataloader(self) -> Any:
        loader = super().train_dataloader()
        if self.witness is None:
            module = self.trainer.lightning_module
            parts = {"encoder": module.encoder, "predictor": module.predictor}
            self.witness = Witness(loader, parts, pair_losses, tolerance=TOLERANCE)
        return loader
