"""One rank of docs/examples/distributed.py, recorded: torchrun ... distributed_example.py FOLDER ARGUMENTS_OF_THE_SCRIPT

Writes FOLDER/rankR.json: the losses, the indices of each batch's images, and what a witness saw (not with --fsdp, whose shards it could not
copy).
"""

from __future__ import annotations

import json
import runpy
import sys
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

import torch

import hvs_data as hvs
from example_scripts import EXAMPLES, SmallResNet, recorded_losses
from small_simsiam import pair_losses
from witness import Witness


def main() -> None:
    folder, *arguments = sys.argv[1:]
    torch.set_num_threads(1)
    warnings.simplefilter("error", hvs.StaleSelectionWarning)
    loaders: list[hvs.HardViewLoader] = []
    witnesses: list[Witness] = []
    batches: list[dict[str, Any]] = []

    def noted(batch: hvs.Batch) -> hvs.Batch:
        batches.append({"epoch": batch.epoch, "index": batch.index.tolist()})
        return batch

    def make(*given: Any, **options: Any) -> hvs.HardViewLoader:
        loader = original(*given, format=noted, **options)
        loaders.append(loader)
        if "--fsdp" not in arguments:
            objective = loader.selector.objective
            witnesses.append(Witness(loader, {"encoder": objective.encoder, "predictor": objective.predictor}, pair_losses))
        return loader

    original = hvs.HardViewLoader
    script = EXAMPLES / "distributed.py"
    with (
        recorded_losses() as losses,
        mock.patch.object(sys, "argv", [str(script), *arguments]),
        mock.patch.object(sys, "path", [str(script.parent), *sys.path]),
        mock.patch("torchvision.models.resnet18", SmallResNet),
        mock.patch.object(hvs, "HardViewLoader", make),
    ):
        runpy.run_path(str(script), run_name="__main__")
    found = {
        "losses": losses,
        "batches": batches,
        "checked": [witness.checked for witness in witnesses],
        "gained": [gain for witness in witnesses for gain in witness.gained],
    }
    rank, _ = loaders[0].loader._current_rank()
    Path(folder, f"rank{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
