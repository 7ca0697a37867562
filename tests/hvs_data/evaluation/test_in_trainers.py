"""k-NN while a trainer trains, as docs/evaluation.md has it, changes nothing of the training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import hvs_data as hvs

DRAW = np.random.default_rng(0)
# two classes that differ by colour
IMAGES = [(np.full((30, 34, 3), 60 + 120 * (n % 2), np.uint8) + DRAW.integers(0, 40, (30, 34, 3), np.uint8), n % 2) for n in range(16)]


@pytest.mark.filterwarnings("ignore")  # what Lightning warns of is its own
def test_a_lightning_callback_logs_it_and_leaves_the_training_alone() -> None:
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.encoder = nn.Sequential(nn.Conv2d(3, 8, 5, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
            self.dropout = nn.Dropout(0.3)

        def training_step(self, batch: Any, number: int) -> Tensor:
            (x1, x2), _ = batch
            return -torch.cosine_similarity(self.dropout(self.encoder(x1)), self.encoder(x2)).mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    class Neighbours(lightning.Callback):  # type: ignore[misc, name-defined]
        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            module.log("knn", hvs.evaluation.knn_accuracy(module.encoder, IMAGES[:8], IMAGES[8:], neighbours=3, size=16))

    def trained(callbacks: list[Any]) -> tuple[Module, Any]:
        module = Module()
        torch.manual_seed(1)
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = lightning.Trainer(max_epochs=2, accelerator="cpu", devices=1, callbacks=callbacks, **quiet)
        trainer.fit(module, hvs.ViewLoader(IMAGES, hvs.recipes.simsiam(2, 16), 4, drop_last=True, num_threads=1))
        return module, trainer

    with_it, trainer = trained([Neighbours()])
    assert float(trainer.callback_metrics["knn"]) == 1.0
    without, _ = trained([])
    assert all(torch.equal(value, without.state_dict()[name]) for name, value in with_it.state_dict().items())
