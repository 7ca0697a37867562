"""Two processes of Lightning's DDP on hardest views: python lightning_ddp.py PHOTOS FOLDER; each writes what it saw to FOLDER."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import nn

import hvs_data as hvs
from hvs_data.integrations.lightning import HardViewCallback, HardViewDataModule


class SimSiam(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 5, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.predictor = nn.Linear(8, 8)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        (x1, x2), _ = batch
        return -nn.functional.cosine_similarity(self.predictor(self.encoder(x1)), self.encoder(x2).detach()).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def main(photos: str, folder: str) -> None:
    warnings.simplefilter("error", hvs.StaleSelectionWarning)
    batches: list[dict[str, Any]] = []

    def noting(batch: hvs.Batch) -> Any:
        batches.append({"epoch": batch.epoch, "index": batch.index.tolist()})
        return batch.views, batch.labels

    torch.manual_seed(0)
    data = HardViewDataModule(photos, hvs.recipes.simsiam(candidates=3, size=16), hvs.objectives.SimSiam, 4, format=noting)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=True,
        callbacks=[HardViewCallback()],
    )
    module = SimSiam()
    trainer.fit(module, data)
    found = {
        "batches": batches,
        "sampler": type(trainer.train_dataloader.sampler).__name__,
        "weights": [float(parameter.sum()) for parameter in module.parameters()],
    }
    Path(folder, f"rank{trainer.global_rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
