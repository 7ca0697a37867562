"""Lightning on hardest views, under both of its names: the data module, the callback, and where trainers bite."""

from __future__ import annotations

import copy
import importlib
import json
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from torch.utils.data import DataLoader

import hvs_data as hvs
from example_scripts import falls, recorded_losses, run_script, write_photos
from hvs_data.errors import HvsError
from hvs_data.integrations.lightning import HardViewCallback, HardViewDataModule, statistics_of
from hvs_data.integrations.lightning_precision import check_strategy
from pair_formulas import cosine
from products import UNIT
from witness import PlainViews, Witness

pl = pytest.importorskip("lightning.pytorch")

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore"),  # what Lightning warns of is its own
    pytest.mark.filterwarnings("error::hvs_data.StaleSelectionWarning"),
]
STYLES = ("lightning.pytorch", "pytorch_lightning")
RECIPE = hvs.recipes.simsiam(candidates=4, size=16)
LENGTH = 8
# The witness runs the same float32 forward on the same batch; a cosine in float32 errs by (2 D + 8) units (pair_formulas), and so may that
# of the chosen pair and that of the hardest.
TOLERANCE = 2 * (2 * LENGTH + 8) * UNIT


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 photos: four batches of eight."""
    return write_photos(tmp_path_factory.mktemp("photos"), 32)


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
    """With one package loaded, and imported after ours, the other is not loaded."""
    code = f"""
import sys
from hvs_data.integrations.lightning import HardViewCallback, HardViewDataModule
import hvs_data as hvs
assert not any("lightning" in name.split(".")[0] for name in sys.modules)
import pytorch_lightning
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


# ---- precision ----


PRECISIONS = {
    "32-true": torch.float32,
    "bf16-mixed": torch.float32,
    "16-mixed": torch.float32,
    "bf16-true": torch.bfloat16,
    "16-true": torch.float16,
    "64-true": torch.float32,
}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_scores_are_those_of_the_trainers_precision(precision: str, photos: Path, tmp_path: Path) -> None:
    """In a training step, and so in the trainer's own context, a selector with nothing set gives the same losses, bit for bit."""
    batches: list[hvs.Batch] = []
    source = hvs.open_source(photos)

    def noting(batch: hvs.Batch) -> Any:
        batches.append(batch)
        return batch.views, batch.labels

    def training_step(self: Any, batch: Any, batch_idx: int) -> Tensor:
        (handed_out, _), chosen = batch, batches[-1]
        assert chosen.views[0].dtype == PRECISIONS[precision] and handed_out[0].dtype == self.predictor[0].weight.dtype
        images = hvs.decode([source.read(index).data for index in chosen.index.tolist()])
        candidates = hvs.render(images, chosen.params, size=16, dtype=chosen.views[0].dtype).to(handed_out[0].dtype)
        assert torch.equal(losses_of(self, candidates, chosen), chosen.selection.losses.nan_to_num(9))
        with torch.autocast("cpu", enabled=False):
            full = SimpleNamespace(encoder=copy.deepcopy(self.encoder).float(), predictor=copy.deepcopy(self.predictor).float())
            exact = losses_of(full, candidates.float(), chosen)
        assert torch.equal(exact, chosen.selection.losses.nan_to_num(9)) == (precision == "32-true")
        return self.predictor(self.encoder(handed_out[0])).square().mean()

    def losses_of(model: Any, candidates: Tensor, chosen: hvs.Batch) -> Tensor:
        objective = hvs.objectives.SimSiam(encoder=model.encoder, predictor=model.predictor)
        return hvs.HardViewSelector(objective).select(candidates, chosen.params).losses.nan_to_num(9)

    data = data_of(photos, format=noting)
    trainer = trainer_of(tmp_path, precision=precision, callbacks=[HardViewCallback()])
    trainer.fit(simsiam(training_step=training_step), data)
    assert len(batches) == 4


def test_a_loader_that_was_made_before_scores_in_mixed_precision(photos: Path, tmp_path: Path) -> None:
    module = simsiam()
    loader = hvs.HardViewLoader(hvs.ViewLoader(photos, RECIPE, 8), hvs.HardViewSelector(hvs.objectives.SimSiam(module)))
    with pytest.raises(HvsError, match="in the trainer's precision 'bf16-true', got one that was made without the trainer"):
        trainer_of(tmp_path, precision="bf16-true", callbacks=[HardViewCallback()]).fit(module, loader)
    trainer_of(tmp_path, precision="bf16-mixed", callbacks=[HardViewCallback()]).fit(simsiam(), loader)
    assert loader.selector.autocast == torch.bfloat16


def test_an_objective_keeps_its_attributes_in_any_precision(photos: Path, tmp_path: Path) -> None:
    class Scaled(hvs.objectives.SimSiam):
        scale = 1.0

        def pair_losses(self, outputs: Any) -> Tensor:
            return self.scale * super().pair_losses(outputs)

    module = simsiam()
    objective = Scaled(module)
    data = data_of(photos, objective=objective)
    trainer_of(tmp_path, precision="bf16-true").fit(module, data)
    used = data.loader.selector.objective
    objective.scale = 3.0
    assert isinstance(used, Scaled) and used.scale == 3.0 and used.modules() == objective.modules()
    assert "encode" not in vars(objective) and type(objective) is Scaled


# ---- checks and logs ----


class Numbers(pl.loggers.Logger):
    """Keeps what it is given."""

    name = version = "numbers"

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, *arguments: Any, **options: Any) -> None:
        pass


@pytest.mark.parametrize("format", [None, lambda batch: batch, hvs.formats.as_dict], ids=["tuple", "batch", "dict"])
def test_the_callback_logs_the_selection_of_each_batch(format: Any, photos: Path, tmp_path: Path) -> None:
    selections: list[hvs.Selection] = []

    def noting(batch: hvs.Batch) -> Any:
        selections.append(batch.selection)
        return (format or hvs.formats.views_and_labels)(batch)

    def training_step(self: Any, batch: Any, batch_idx: int) -> Tensor:
        view = batch["views"][0] if isinstance(batch, dict) else batch[0][0]
        return self.predictor(self.encoder(view)).sum()

    logger = Numbers()
    data = data_of(photos, format=noting, selector={"every": 2})
    trainer_of(tmp_path, logger=logger, log_every_n_steps=1, callbacks=[HardViewCallback()]).fit(simsiam(training_step=training_step), data)
    assert len(selections) == 4 and data.loader.format is noting
    for number, (selection, (step, logged)) in enumerate(zip(selections, logger.rows, strict=True)):
        assert step == number
        pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
        iou = torch.stack([hvs.iou(selection.params)[:, i, j] for i, j in pairs], 1).mean()
        # means of at most 48 numbers: 48 units each, of numbers of at most 1
        assert logged["hvs/iou"] == pytest.approx(float(selection.iou.mean()), abs=48 * UNIT)
        assert logged["hvs/random_iou"] == pytest.approx(float(iou), abs=48 * UNIT)
        assert selection.scored == (number % 2 == 0)
        if selection.scored:  # else Lightning shows the last number again
            losses = torch.stack([selection.losses[:, i, j] for i, j in pairs], 1)
        assert logged["hvs/loss"] == pytest.approx(float(losses.amax(1).mean()), abs=48 * UNIT)
        assert logged["hvs/random_loss"] == pytest.approx(float(losses.mean()), abs=48 * UNIT)


def test_statistics_leave_out_what_is_not_finite() -> None:
    losses = torch.tensor([[[torch.nan, 1.0], [1.0, torch.nan]], [[torch.nan, torch.inf], [torch.inf, torch.nan]]])
    legal = torch.tensor([[False, True], [False, False]])
    found = statistics_of(hvs.Selection(torch.tensor([[0, 1], [0, 1]]), losses, legal, torch.tensor(1)))
    assert found == {"loss": torch.tensor(1.0), "random_loss": torch.tensor(1.0)}
    combined = hvs.Selection(torch.tensor([[0, 1]]), losses[:1], legal, torch.tensor(0), combination_loss=torch.tensor([7.0]))
    assert statistics_of(combined) == {"loss": torch.tensor(7.0)}


def test_batches_whose_tensors_are_copies_are_logged_too(photos: Path, tmp_path: Path) -> None:
    def on_after_batch_transfer(self: Any, batch: Any, dataloader_idx: int) -> Any:
        views, labels = batch
        return [view.clone() for view in views], labels.clone()

    logger = Numbers()
    trainer = trainer_of(tmp_path, logger=logger, log_every_n_steps=1, callbacks=[HardViewCallback("own/")])
    trainer.fit(simsiam(on_after_batch_transfer=on_after_batch_transfer), data_of(photos))
    assert len(logger.rows) == 4 and all("own/loss" in row for _, row in logger.rows)


class Endless:
    """Batches without a length, beside which Lightning fetches ahead."""

    def __iter__(self) -> Iterator[Tensor]:
        while True:
            yield torch.zeros(1)


def test_fetching_ahead_is_noticed(photos: Path, tmp_path: Path) -> None:
    module = simsiam()
    loader = hvs.HardViewLoader(hvs.ViewLoader(photos, RECIPE, 4), hvs.HardViewSelector(hvs.objectives.SimSiam(module)))
    loaders = pl.utilities.CombinedLoader({"hard": loader, "other": Endless()}, "max_size_cycle")
    trainer = trainer_of(tmp_path, callbacks=[HardViewCallback()], max_steps=3)
    with pytest.raises(hvs.StaleSelectionWarning, match="with other weights: something fetches batches ahead"):
        trainer.fit(module, loaders)
    assert loader.format is None  # left as it was


def test_batches_that_are_not_trained_on_are_noticed(photos: Path, tmp_path: Path) -> None:
    data = data_of(photos, batch_size=4)

    def on_train_batch_end(self: Any, *arguments: Any) -> None:
        if self.trainer.global_step == 3:
            next(iter(data.loader))

    with pytest.raises(hvs.StaleSelectionWarning, match="expected the views of selection 3 after those of 2, got those of 4"):
        trainer_of(tmp_path, callbacks=[HardViewCallback()]).fit(simsiam(on_train_batch_end=on_train_batch_end), data)


def test_a_warning_comes_once(photos: Path, tmp_path: Path) -> None:
    """Weights that something moves between a batch and its step."""

    def on_before_batch_transfer(self: Any, batch: Any, dataloader_idx: int) -> Any:
        with torch.no_grad():
            self.encoder[0].bias.add_(0)
        return batch

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer_of(tmp_path, callbacks=[HardViewCallback()]).fit(
            simsiam(on_before_batch_transfer=on_before_batch_transfer), data_of(photos)
        )
    stale = [warning for warning in caught if issubclass(warning.category, hvs.StaleSelectionWarning)]
    assert len(stale) == 1 and "got selection 0 with other weights" in str(stale[0].message)


def test_the_callback_needs_one_hard_loader(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(HvsError, match="one HardViewLoader among the training loaders, got 0"):
        trainer_of(tmp_path, callbacks=[HardViewCallback()]).fit(simsiam(), hvs.ViewLoader(photos, RECIPE, 8))


# ---- where trainers bite ----


def test_the_loader_is_made_once_a_fit(photos: Path, tmp_path: Path) -> None:
    data, made = data_of(photos), []
    note = lambda self: made.append(data.loader)  # noqa: E731
    trainer = trainer_of(tmp_path, max_epochs=3, reload_dataloaders_every_n_epochs=1)
    trainer.fit(simsiam(on_train_epoch_start=note), data)
    assert len(made) == 3 and all(loader is made[0] for loader in made)
    trainer_of(tmp_path).fit(simsiam(on_train_epoch_start=note), data)
    assert made[-1] is not made[0] and data.loader.selector.step == 4


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


def test_a_run_goes_on_from_the_middle_of_an_epoch(photos: Path, tmp_path: Path) -> None:
    def run(folder: str, **options: Any) -> tuple[list[Any], dict[str, Tensor]]:
        seen: list[Any] = []

        def noting(batch: hvs.Batch) -> Any:
            seen.append((batch.epoch, batch.index.tolist(), batch.selection.pair.tolist()))
            return batch.views, batch.labels

        saving = pl.callbacks.ModelCheckpoint(tmp_path / folder, "{step}", every_n_train_steps=1, save_top_k=-1)
        settings = {"max_epochs": 3, "callbacks": [saving, HardViewCallback()], "enable_checkpointing": True}
        trainer = trainer_of(tmp_path, **settings, max_steps=options.pop("steps", -1))
        module = simsiam()
        trainer.fit(module, data_of(photos, format=noting, selector={"policy": "softmax", "every": 2}), **options)
        return seen, module.state_dict()

    expected, weights = run("unbroken")
    first, _ = run("stopped", steps=6)
    rest, resumed = run("resumed", ckpt_path=tmp_path / "stopped" / "step=6.ckpt")
    assert first + rest == expected and len(expected) == 12
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


def test_overfit_batches_is_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(HvsError, match="overfit_batches, which puts another in place; pass limit_train_batches"):
        trainer_of(tmp_path, overfit_batches=2).fit(simsiam(), data_of(photos))


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
    """Two processes of Lightning's own DDP: every image once, equally many steps, no sampler put in."""
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
    assert ranks[0]["weights"] == ranks[1]["weights"] and all(rank["sampler"] == "EpochSampler" for rank in ranks)
