"""Lightning on hardest views, under both of its names: every batch is the hardest, nothing else changes, and where trainers bite."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

import hvs_data as hvs
from example_scripts import falls, recorded_losses, run_script, write_photos
from hvs_data.errors import HvsError
from hvs_data.integrations.lightning import HardViewCallback, HardViewDataModule
from hvs_data.integrations.lightning_precision import check_strategy
from lightning_training import RECIPE, TOLERANCE, Watched, data_of, simsiam, trainer_of
from witness import PlainViews

pl = pytest.importorskip("lightning.pytorch")

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore"),  # what Lightning warns of is its own
    pytest.mark.filterwarnings("error::hvs_data.StaleSelectionWarning"),
]
STYLES = ("lightning.pytorch", "pytorch_lightning")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 photos: four batches of eight."""
    return write_photos(tmp_path_factory.mktemp("photos"), 32)


# ---- trained for real ----


def test_the_example_trains(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    losses, selections = run_script("lightning_simsiam.py", photos, "--batch-size", 8, "--size", 32, "--epochs", 6)
    assert falls(losses) and len(losses) == len(selections) == 6 * 4
    gained = [selection.loss - selection.losses[:, selection.legal].mean(1) for selection in selections]
    assert min(float(gained_B.min()) for gained_B in gained) >= 0 and all(float(gained_B.mean()) > 0 for gained_B in gained)


def test_the_example_runs_as_it_stands(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    losses, _ = run_script("lightning_simsiam.py", photos, "--batch-size", 16, "--size", 32, small=False)
    assert len(losses) == 2 and torch.tensor(losses).isfinite().all()


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({}, 8),
        ({"accumulate_grad_batches": 3}, 8),
        ({"limit_train_batches": 3}, 6),
        ({"reload_dataloaders_every_n_epochs": 1}, 8),
        ({"profiler": "simple"}, 8),
        ({"gradient_clip_val": 0.1, "use_distributed_sampler": True}, 8),
        ({"val": True, "num_sanity_val_steps": 2, "val_check_interval": 2}, 8),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else "",
)
def test_every_batch_is_the_hardest_under_the_weights_of_its_step(
    options: dict[str, Any], steps: int, photos: Path, tmp_path: Path
) -> None:
    hooks, extra = {}, {}
    if options.pop("val", False):
        validation = DataLoader([(torch.zeros(3, 16, 16), 0)] * 6, batch_size=2)

        def validation_step(self: Any, batch: Any, batch_idx: int) -> None:
            assert not self.encoder.training
            self.log("val", self.encoder(batch[0]).mean())

        hooks, extra = {"validation_step": validation_step}, {"val_dataloaders": validation}
    data: Any = Watched(photos, RECIPE, hvs.objectives.SimSiam, 8, seed=1, **extra)
    trainer_of(tmp_path, max_epochs=2, callbacks=[HardViewCallback()], **options).fit(simsiam(**hooks), data)
    assert data.witness.checked == steps
    assert min(data.witness.gained) >= -TOLERANCE and sum(data.witness.gained) > 0


def test_random_pairs_train_as_from_a_plain_dataset(photos: Path, tmp_path: Path) -> None:
    def run(data: Any) -> tuple[list[float], dict[str, Tensor]]:
        module = simsiam()
        with recorded_losses() as losses:
            trainer_of(tmp_path, callbacks=[HardViewCallback()] if isinstance(data, HardViewDataModule) else []).fit(module, data)
        return losses, module.state_dict()

    losses, weights = run(data_of(photos, selector={"policy": "random"}))
    views = hvs.ViewLoader(photos, RECIPE, 8, seed=1)
    plain = PlainViews(hvs.Batch(batch.views[:2], batch.labels, batch.index, batch.params) for batch in views)
    expected, expected_weights = run(DataLoader(plain, batch_size=8))
    assert losses == expected and len(losses) == 4
    assert all(torch.equal(weights[name], expected_weights[name]) for name in expected_weights)


# ---- both packages ----


@pytest.mark.parametrize("style", STYLES)
def test_each_import_style(style: str, photos: Path, tmp_path: Path) -> None:
    """Both packages are loaded here, and neither takes objects of the other."""
    pytest.importorskip(style)
    for other in STYLES:
        pytest.importorskip(other)
    data, module = data_of(photos), simsiam(style, validation_step=lambda self, batch, batch_idx: None)
    trainer_of(tmp_path, style, callbacks=[HardViewCallback()]).fit(module, datamodule=data)
    assert isinstance(data, HardViewDataModule) and type(data).__name__ == "HardViewDataModule"
    assert len(module.seen) == 4


def test_one_package_is_enough(photos: Path, tmp_path: Path) -> None:
    """With one package loaded, the other is not; and none before a class is asked for."""
    code = f"""
import sys
import hvs_data.integrations.lightning
import hvs_data as hvs
assert not any("lightning" in name.split(".")[0] for name in sys.modules)
import pytorch_lightning
from hvs_data.integrations.lightning import HardViewCallback, HardViewDataModule
data = HardViewDataModule({str(photos)!r}, hvs.recipes.simsiam(), hvs.objectives.SimSiam)
assert isinstance(data, pytorch_lightning.LightningDataModule) and isinstance(HardViewCallback(), pytorch_lightning.Callback)
assert "lightning.pytorch" not in sys.modules
"""
    pytest.importorskip("pytorch_lightning")
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_data_module_and_a_callback_are_pickled(photos: Path) -> None:
    data, callback = pickle.loads(pickle.dumps((data_of(photos, num_threads=2), HardViewCallback("own/"))))
    assert isinstance(data, pl.LightningDataModule) and data.loader_options == {"seed": 1, "num_threads": 2}
    assert isinstance(callback, pl.Callback) and callback.prefix == "own/" and callback.state_key == "HardViewCallback"


# ---- where trainers bite ----


def test_the_loader_is_made_once_a_fit(photos: Path, tmp_path: Path) -> None:
    data, made = data_of(photos), []
    note = lambda self: made.append(data.loader)  # noqa: E731
    trainer = trainer_of(tmp_path, max_epochs=3, reload_dataloaders_every_n_epochs=1)
    trainer.fit(simsiam(on_train_epoch_start=note), data)
    assert len(made) == 3 and all(loader is made[0] for loader in made)
    trainer_of(tmp_path).fit(simsiam(on_train_epoch_start=note), data)
    assert made[-1] is not made[0] and data.loader.selector.step == 4


def test_labels_may_be_made_of_the_batch(photos: Path, tmp_path: Path) -> None:
    """In the batch that the module is given, too."""
    table = torch.arange(100) + 7
    seen: list[tuple[Tensor, Tensor]] = []

    def noting(batch: hvs.Batch) -> Any:
        seen.append((batch.labels, table[batch.index]))
        return batch.views, batch.labels

    trainer_of(tmp_path).fit(simsiam(), data_of(photos, format=noting, labels=lambda batch: table[batch.index]))
    assert len(seen) == 4 and all(torch.equal(given, expected) for given, expected in seen)


def test_epochs_are_the_trainers(photos: Path, tmp_path: Path) -> None:
    def run(**options: Any) -> list[tuple[int, list[int]]]:
        seen: list[tuple[int, list[int]]] = []

        def noting(batch: hvs.Batch) -> Any:
            seen.append((batch.epoch, batch.index.tolist()))
            return batch.views, batch.labels

        trainer_of(tmp_path, max_epochs=2, **options).fit(simsiam(), data_of(photos, format=noting))
        return seen

    whole = run()
    assert [epoch for epoch, _ in whole] == [0] * 4 + [1] * 4
    assert run(limit_train_batches=3) == whole[:3] + whole[4:7]
    assert run(limit_train_batches=0.5) == whole[:2] + whole[4:6]


@pytest.mark.parametrize("selector", [{"policy": "softmax", "every": 2}, {"prefilter": 3}], ids=["drawn", "by rows"])
def test_a_run_goes_on_from_the_middle_of_an_epoch(selector: dict[str, Any], photos: Path, tmp_path: Path) -> None:
    """A prefilter too goes on with what it has learned: from 24 pairs a step, 256 of them after 11, used from the 19th step on."""

    def run(folder: str, **options: Any) -> tuple[list[Any], dict[str, Tensor]]:
        seen: list[Any] = []

        def noting(batch: hvs.Batch) -> Any:
            seen.append((batch.epoch, batch.index.tolist(), batch.selection.pair.tolist()))
            return batch.views, batch.labels

        saving = pl.callbacks.ModelCheckpoint(tmp_path / folder, "{step}", every_n_train_steps=2, save_top_k=-1)
        settings = {"max_epochs": 8, "callbacks": [saving, HardViewCallback()], "enable_checkpointing": True}
        trainer = trainer_of(tmp_path, **settings, max_steps=options.pop("steps", -1))
        module = simsiam()
        trainer.fit(module, data_of(photos, format=noting, selector=selector), **options)
        return seen, module.state_dict()

    expected, weights = run("unbroken")
    first, _ = run("stopped", steps=22)
    rest, resumed = run("resumed", ckpt_path=tmp_path / "stopped" / "step=22.ckpt")
    assert first + rest == expected and len(expected) == 32
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)


def test_the_tuner(photos: Path, tmp_path: Path) -> None:
    from lightning.pytorch.tuner import Tuner

    data, module = data_of(photos), simsiam()
    module.lr = 0.1
    trainer = trainer_of(tmp_path, callbacks=[HardViewCallback()])
    assert Tuner(trainer).lr_find(module, datamodule=data, num_training=6) is not None
    assert Tuner(trainer).scale_batch_size(module, datamodule=data, init_val=4, max_trials=3, steps_per_trial=2) == data.batch_size == 16
    trainer.fit(module, data)
    assert data.loader.batch_size == 16 and data.loader.selector.step == 2


def loader_of(photos: Path, module: Any, **options: Any) -> hvs.HardViewLoader:
    views = hvs.ViewLoader(photos, RECIPE, 8, seed=1, **options)
    return hvs.HardViewLoader(views, hvs.HardViewSelector(hvs.objectives.SimSiam(module)), format=hvs.formats.views_and_labels)


def test_overfit_batches_needs_a_fixed_order(photos: Path, tmp_path: Path) -> None:
    """Mechanism: Lightning puts a sampler in the place of one that shuffles; its own error names no remedy for a loader made by hand."""
    with pytest.raises(HvsError, match="got one that shuffles; make it with .*shuffle=False"):
        trainer_of(tmp_path, overfit_batches=2).fit(simsiam(), data_of(photos))
    module = simsiam()
    with pytest.raises(HvsError, match="got one that shuffles; make it with .*shuffle=False"):
        trainer_of(tmp_path, overfit_batches=2, callbacks=[HardViewCallback()]).fit(module, loader_of(photos, module))


@pytest.mark.parametrize("how", ["data module", "loader", "loader without the callback"])
def test_overfit_batches_trains_on_the_same_images_where_the_order_is_fixed(how: str, photos: Path, tmp_path: Path) -> None:
    module, seen = simsiam(), []

    def noting(batch: hvs.Batch) -> Any:
        seen.append(batch.index.tolist())
        return batch.views, batch.labels

    callbacks = [] if how.endswith("callback") else [HardViewCallback()]
    trainer = trainer_of(tmp_path, overfit_batches=2, max_epochs=3, callbacks=callbacks)
    if how == "data module":
        trainer.fit(module, data_of(photos, format=noting, shuffle=False))
    else:
        hard = loader_of(photos, module, shuffle=False)
        hard.format = noting
        trainer.fit(module, hard)
    assert len(seen) == 6 and seen == seen[:2] * 3


def test_a_step_that_fetches_its_batches_is_told_nothing_false(photos: Path, tmp_path: Path) -> None:
    """Mechanism: when such a step begins, the batch at hand is the one before it, whose weights have moved since."""

    def training_step(self: Any, dataloader_iter: Any) -> Any:
        batch, _, _ = next(dataloader_iter)
        loss = trained(self, batch, 0)
        losses.append(float(loss))
        return loss

    losses: list[float] = []
    trained = type(simsiam()).training_step
    module = simsiam(training_step=training_step)
    trainer = trainer_of(tmp_path, max_epochs=2, callbacks=[HardViewCallback()])
    selections: list[hvs.Selection] = []

    def noting(batch: hvs.Batch) -> Any:
        selections.append(batch.selection)
        return batch.views, batch.labels

    trainer.fit(module, data_of(photos, format=noting))  # StaleSelectionWarning is an error here
    assert len(losses) == len(selections) == 8
    assert {"hvs/loss", "hvs/random_loss", "hvs/iou", "hvs/random_iou"} <= trainer.callback_metrics.keys()
    assert float(trainer.callback_metrics["hvs/loss"]) == float(selections[-1].loss.mean())
    assert float(trainer.callback_metrics["hvs/iou"]) == float(selections[-1].iou.mean())


# ---- classes ----


@pytest.mark.parametrize("style", STYLES)
def test_the_classes_are_real_subclasses(style: str) -> None:
    """Mechanism: LightningCLI asks issubclass of the class, before there is an instance."""
    package = pytest.importorskip(style)
    from hvs_data.integrations import lightning

    assert issubclass(lightning.HardViewDataModule, package.LightningDataModule)
    assert issubclass(lightning.HardViewCallback, package.Callback)

    class Own(lightning.HardViewDataModule):
        pass

    assert issubclass(Own, package.LightningDataModule) and issubclass(Own, HardViewDataModule)
    assert not issubclass(HardViewDataModule, Own)


class Command(HardViewDataModule):
    """What a command line makes: plain arguments."""

    def __init__(self, root: str, batch_size: int = 8):
        super().__init__(root, RECIPE, hvs.objectives.SimSiam, batch_size, seed=1)


class CommandModule(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        made = simsiam()
        self.encoder, self.predictor, self.seen = made.encoder, made.predictor, made.seen

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return type(simsiam()).training_step(self, batch, batch_idx)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_the_command_line_takes_a_data_module(photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("jsonargparse")
    from lightning.pytorch.cli import LightningCLI

    quiet = ["--trainer.logger=false", "--trainer.enable_checkpointing=false", "--trainer.enable_progress_bar=false"]
    limits = ["--trainer.max_epochs=1", "--trainer.accelerator=cpu", f"--trainer.default_root_dir={tmp_path}"]
    arguments = ["fit", f"--data.root={photos}", "--data.batch_size=16", *quiet, *limits]
    cli = LightningCLI(CommandModule, Command, args=arguments, save_config_callback=None)
    assert isinstance(cli.datamodule, Command) and cli.datamodule.loader.batch_size == 16
    assert cli.trainer.global_step == 2


@pytest.mark.parametrize("style", STYLES)
def test_a_subclass_is_of_the_trainers_package(style: str, photos: Path, tmp_path: Path) -> None:
    """Mechanism: with both packages among its bases, each takes the other's methods for overridden ones, and calls them."""
    for each in STYLES:
        pytest.importorskip(each)
    data, module = Command(str(photos)), simsiam(style, validation_step=lambda self, batch, batch_idx: None)
    trainer_of(tmp_path, style, callbacks=[HardViewCallback()]).fit(module, datamodule=data)
    assert len(module.seen) == 4 and isinstance(data, Command) and type(data).__name__ == "Command"
    copied = pickle.loads(pickle.dumps(Command(str(photos))))
    assert isinstance(copied, Command) and copied.batch_size == 8


@pytest.mark.parametrize("profiler", ["advanced", "pytorch"])
def test_profilers(profiler: str, photos: Path, tmp_path: Path) -> None:
    module = simsiam()
    trainer_of(tmp_path, profiler=profiler, callbacks=[HardViewCallback()], limit_train_batches=3).fit(module, data_of(photos))
    assert len(module.seen) == 3


def test_what_cannot_be_scored_is_refused(photos: Path) -> None:
    fsdp = type("FSDPStrategy", (), {})
    with pytest.raises(HvsError, match="got Own, whose parameters scoring cannot gather; take ModelParallelStrategy"):
        check_strategy(SimpleNamespace(strategy=type("Own", (fsdp,), {})()))
    check_strategy(SimpleNamespace(strategy=pl.strategies.DDPStrategy()))
    with pytest.raises(HvsError, match="got str; pass hvs_data.objectives.SimSiam"):
        data_of(photos, objective="simsiam")
    with pytest.raises(HvsError, match="that the trainer leaves open, got device, world_size"):
        data_of(photos, device="cpu", world_size=2)
    with pytest.raises(HvsError, match="in the hands of a trainer"):
        data_of(photos).train_dataloader()


@pytest.mark.slow
def test_ranks_share_an_epoch(tmp_path: Path) -> None:
    """Two processes of Lightning's own DDP: every image once, equally many steps, no sampler put in, the hardest pairs on each rank."""
    photos = write_photos(tmp_path / "photos", 22)
    script = Path(__file__).parents[2] / "support" / "lightning_ddp.py"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    arguments = [sys.executable, "-W", "ignore", str(script), str(photos), str(tmp_path)]
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment, timeout=200)
    assert done.returncode == 0, done.stderr[-4000:]
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)]
    for epoch in range(2):
        batches = [[batch["index"] for batch in rank["batches"] if batch["epoch"] == epoch] for rank in ranks]
        assert len(batches[0]) == len(batches[1]) == 3
        assert sorted(index for rank in batches for batch in rank for index in batch) == list(range(22))
    for rank in ranks:
        assert len(rank["gained"]) == len(rank["batches"]) == 6  # each checked by a witness of its own
        assert min(rank["gained"]) >= -TOLERANCE and sum(rank["gained"]) > 0
    assert ranks[0]["weights"] == ranks[1]["weights"] and all(rank["sampler"] == "EpochSampler" for rank in ranks)
