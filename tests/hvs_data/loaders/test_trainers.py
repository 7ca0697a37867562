"""Checkpoints of Lightning, Accelerate and torchdata, where they are installed: a run that goes on sees what an unbroken one sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import hvs_data as hvs

RECIPE = hvs.recipes.simsiam(candidates=3, size=8)
# what these packages warn of is theirs
pytestmark = pytest.mark.filterwarnings("ignore")


class Flat(hvs.Objective):
    """Scores pixels as they are."""

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.flatten(1)


def make(photos: Path) -> hvs.HardViewLoader:
    """22 images in batches of 4: six steps an epoch, the last one of two."""
    return hvs.HardViewLoader(hvs.ViewLoader(photos, RECIPE, batch_size=4, seed=1), hvs.HardViewSelector(Flat(), policy="softmax"))


def seen(batch: hvs.Batch) -> tuple[int, list[int], float]:
    return batch.epoch, batch.index.tolist(), float(batch.views[0].double().sum())


def unbroken(photos: Path, epochs: int) -> list[tuple[int, list[int], float]]:
    loader = make(photos)
    return [seen(batch) for _ in range(epochs) for batch in loader]


# --- Lightning -----------------------------------------------------------------------------------------------------------


def lightning() -> Any:
    for name in ("lightning.pytorch", "pytorch_lightning"):
        try:
            return __import__(name, fromlist=["Trainer"])
        except ImportError:
            continue
    pytest.skip("Lightning is not installed")


def lightning_run(folder: Path, photos: Path, *, epochs: int, every: int, steps: int = -1, checkpoint: Path | None = None) -> list[Any]:
    """What a module sees of an `epochs` long run with a checkpoint every so many steps, stopped after some steps."""
    pl = lightning()
    batches: list[Any] = []

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch: hvs.Batch, _: int) -> torch.Tensor:
            batches.append(seen(batch))
            return self.layer(torch.ones(1, 1)).sum()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    callback = pl.callbacks.ModelCheckpoint(folder, filename="{step}", every_n_train_steps=every, save_top_k=-1)
    trainer = pl.Trainer(
        max_epochs=epochs,
        max_steps=steps,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback],
        default_root_dir=folder,
    )
    trainer.fit(Module(), make(photos), ckpt_path=checkpoint)
    return batches


@pytest.mark.parametrize("stop", [1, 4, 6, 8])
def test_lightning_goes_on_from_any_step(stop: int, photos: Path, tmp_path: Path) -> None:
    expected = unbroken(photos, 3)
    assert lightning_run(tmp_path / "unbroken", photos, epochs=3, every=100) == expected
    before = lightning_run(tmp_path / "run", photos, epochs=3, every=stop, steps=stop)
    assert before == expected[:stop]
    after = lightning_run(tmp_path / "again", photos, epochs=3, every=100, checkpoint=tmp_path / "run" / f"step={stop}.ckpt")
    assert before + after == expected


# --- Accelerate ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [0, 1, 5, 6, 9])
def test_accelerate_goes_on_from_any_step(stop: int, photos: Path, tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate")

    def run(folder: Path, *, resume: bool) -> list[Any]:
        accelerator = accelerate.Accelerator(cpu=True)
        model = torch.nn.Linear(1, 1)
        model, optimizer, loader = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1), make(photos))
        accelerator.register_for_checkpointing(loader)
        if resume:
            accelerator.load_state(str(folder))
        batches: list[Any] = []
        if stop == 0 and not resume:
            accelerator.save_state(str(folder))
            return batches
        for epoch in range(loader.state_dict()["epoch"], 3):
            loader.set_epoch(epoch)
            for batch in loader:
                batches.append(seen(batch))
                accelerator.backward(model(torch.ones(1, 1)).sum())
                optimizer.step()
                if len(batches) == stop and not resume:
                    accelerator.save_state(str(folder))
                    return batches
        return batches

    before = run(tmp_path / "state", resume=False)
    assert before + run(tmp_path / "state", resume=True) == unbroken(photos, 3)


# --- torchdata -------------------------------------------------------------------------------------------------------------


def test_the_convention_of_torchdata(photos: Path) -> None:
    """Its own protocol, where it is installed; what the protocol asks for everywhere is in test_state.py."""
    stateful = pytest.importorskip("torch.distributed.checkpoint.stateful").Stateful
    assert isinstance(make(photos), stateful) and isinstance(make(photos).loader, stateful)


def test_a_checkpoint_of_torch_distributed_holds_the_loader(photos: Path, tmp_path: Path) -> None:
    checkpoint = pytest.importorskip("torch.distributed.checkpoint")
    loader = make(photos)
    iterator = iter(loader)
    for _ in range(2):
        next(iterator)
    checkpoint.save({"loader": loader}, checkpoint_id=tmp_path / "checkpoint")
    rest = [seen(batch) for batch in iterator]
    resumed = make(photos)
    checkpoint.load({"loader": resumed}, checkpoint_id=tmp_path / "checkpoint")
    assert [seen(batch) for batch in resumed] == rest
