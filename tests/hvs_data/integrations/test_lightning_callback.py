"""The callback for Lightning: what it logs, and what it warns of."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import hvs_data as hvs
from example_scripts import write_photos
from hvs_data.errors import HvsError
from hvs_data.integrations.lightning import HardViewCallback, statistics_of
from lightning_training import RECIPE, data_of, simsiam, trainer_of
from products import UNIT

pl = pytest.importorskip("lightning.pytorch")

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore"),  # what Lightning warns of is its own
    pytest.mark.filterwarnings("error::hvs_data.StaleSelectionWarning"),
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """32 photos: four batches of eight."""
    return write_photos(tmp_path_factory.mktemp("photos"), 32)


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
    assert found == {"loss": torch.tensor(1.0), "non_finite": torch.tensor(1.0), "random_loss": torch.tensor(1.0)}
    combined = hvs.Selection(torch.tensor([[0, 1]]), losses[:1], legal, torch.tensor(0), combination_loss=torch.tensor([7.0]))
    assert statistics_of(combined) == {"loss": torch.tensor(7.0), "non_finite": torch.tensor(0.0)}


def test_a_monitors_numbers_arrive_in_a_csv_file(photos: Path, tmp_path: Path) -> None:
    selections: list[hvs.Selection] = []

    def noting(batch: hvs.Batch) -> Any:
        selections.append(batch.selection)
        return hvs.formats.views_and_labels(batch)

    logger, callback = pl.loggers.CSVLogger(tmp_path), HardViewCallback()
    data = data_of(photos, format=noting)
    trainer_of(tmp_path, logger=logger, log_every_n_steps=2, max_epochs=2, callbacks=[callback]).fit(simsiam(), data)
    with open(Path(logger.log_dir) / "metrics.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["hvs/iou_chosen"]]
    assert [int(row["step"]) for row in rows] == [1, 3, 5, 7] and len(selections) == 8
    for row, pair in zip(rows, zip(selections[::2], selections[1::2], strict=True), strict=True):
        told = hvs.Monitor()
        for selection in pair:
            told.observe(selection)
        numbers = told.numbers()
        numbers.pop("hvs/rows_r2", None)  # which remembers earlier steps too
        assert numbers.keys() <= row.keys()
        # Lightning's numbers are float32, some of them near 1 less near 1
        assert {name: float(row[name]) for name in numbers} == pytest.approx(numbers, rel=2**-23)
    assert rows[-1]["hvs/rows_r2"] and callback.monitor.numbers() == {}
    assert [step for step, _ in callback.monitor._history.points()] == [1, 3, 5, 7]


def test_a_callback_without_a_monitor_logs_as_before(photos: Path, tmp_path: Path) -> None:
    logger, callback = Numbers(), HardViewCallback(monitor=False)
    trainer_of(tmp_path, logger=logger, log_every_n_steps=1, callbacks=[callback]).fit(simsiam(), data_of(photos))
    names = {name for _, row in logger.rows for name in row if name.startswith("hvs/")}
    assert names == {"hvs/loss", "hvs/random_loss", "hvs/iou", "hvs/random_iou", "hvs/non_finite"} and callback.monitor is None


def test_batches_whose_tensors_are_copies_are_logged_too(photos: Path, tmp_path: Path) -> None:
    def on_after_batch_transfer(self: Any, batch: Any, dataloader_idx: int) -> Any:
        views, labels = batch
        return [view.clone() for view in views], labels.clone()

    logger = Numbers()
    trainer = trainer_of(tmp_path, logger=logger, log_every_n_steps=1, callbacks=[HardViewCallback("own/")])
    trainer.fit(simsiam(on_after_batch_transfer=on_after_batch_transfer), data_of(photos))
    assert len(logger.rows) == 4 and all("own/loss" in row for _, row in logger.rows)


def test_promising_pairs_stand_for_no_random_one(photos: Path, tmp_path: Path) -> None:
    logger = Numbers()
    trainer = trainer_of(tmp_path, logger=logger, log_every_n_steps=1, callbacks=[HardViewCallback()])
    trainer.fit(simsiam(), data_of(photos, selector={"prefilter": 3}))
    assert len(logger.rows) == 4
    assert all({"hvs/loss", "hvs/iou", "hvs/random_iou"} <= row.keys() and "hvs/random_loss" not in row for _, row in logger.rows)


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
