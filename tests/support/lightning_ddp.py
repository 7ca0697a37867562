"""Two processes of Lightning's DDP on hardest views: python lightning_ddp.py PHOTOS FOLDER; each writes what it saw to FOLDER."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch

import hvs_data as hvs
from hvs_data.integrations.lightning import HardViewCallback
from lightning_training import RECIPE, Watched, simsiam, trainer_of


def main(photos: str, folder: str) -> None:
    warnings.simplefilter("error", hvs.StaleSelectionWarning)
    torch.set_num_threads(1)
    batches: list[dict[str, Any]] = []

    def noting(batch: hvs.Batch) -> Any:
        batches.append({"epoch": batch.epoch, "index": batch.index.tolist()})
        return batch.views, batch.labels

    data: Any = Watched(photos, RECIPE, hvs.objectives.SimSiam, 4, format=noting)
    ranks = {"devices": 2, "strategy": "ddp", "use_distributed_sampler": True}
    trainer = trainer_of(Path(folder), max_epochs=2, callbacks=[HardViewCallback()], **ranks)
    module = simsiam()
    trainer.fit(module, data)
    found = {
        "batches": batches,
        "gained": data.witness.gained,
        "sampler": type(trainer.train_dataloader.sampler).__name__,
        "weights": [float(parameter.sum()) for parameter in module.parameters()],
    }
    Path(folder, f"rank{trainer.global_rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
