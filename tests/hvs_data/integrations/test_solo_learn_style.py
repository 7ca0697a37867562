"""Modules as solo-learn writes them, in Lightning, on hardest views.

The package itself needs versions of torch and Lightning that are years old. What its methods ask of a loader is written anew here, after
``BaseMethod`` and ``BaseMomentumMethod`` in vturrisi/solo-learn: batches ``[indexes, views, targets]``, parts named backbone, classifier,
projector, predictor and momentum_..., an online classifier with metrics on the targets, and momentum parts that move after each batch.
"""

# Axes: B image, V view, D embedding.

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy
from torch.utils.data import DataLoader

import hvs_data as hvs
from example_scripts import falls, recorded_losses, run_script, write_photos
from hvs_data.integrations.lightning import HardViewCallback, HardViewDataModule
from small_simsiam import TOLERANCE, unit
from witness import PlainViews, Witness

pl = pytest.importorskip("lightning.pytorch")
pytestmark = [
    pytest.mark.filterwarnings("error::hvs_data.StaleSelectionWarning"),
    pytest.mark.usefixtures("one_thread"),
]
RECIPE = hvs.recipes.simsiam(candidates=3, size=16)
WIDTH, LENGTH, IMAGES = 16, 12, 48


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"), IMAGES)


class SimSiam(pl.LightningModule):
    """As solo/methods/simsiam.py on solo/methods/base.py."""

    num_large_crops = 2

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Conv2d(3, WIDTH, 5, 2), nn.BatchNorm2d(WIDTH), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(WIDTH, 2)
        self.projector = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU(), nn.Linear(WIDTH, LENGTH))
        self.predictor = nn.Sequential(nn.Linear(LENGTH, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, LENGTH))
        self.seen: list[tuple[list[int], list[int]]] = []
        self.validated = 0

    def forward(self, X: Tensor) -> dict[str, Tensor]:
        feats = self.backbone(X.to(memory_format=torch.channels_last))
        z = self.projector(feats)
        return {"logits": self.classifier(feats.detach()), "feats": feats, "z": z, "p": self.predictor(z)}

    def base_training_step(self, batch: list[Any]) -> tuple[dict[str, list[Tensor]], Tensor]:
        indexes, X, targets = batch
        assert type(batch) is list and len(X) == self.num_large_crops
        self.seen.append((indexes.tolist(), targets.tolist()))
        each = [self(x) for x in X]
        outs = {key: [out[key] for out in each] for key in each[0]}
        accuracy = torch.stack([(logits.argmax(1) == targets).float().mean() for logits in outs["logits"]]).mean()
        class_loss = sum(cross_entropy(logits, targets, ignore_index=-1) for logits in outs["logits"]) / len(X)
        self.log_dict({"train_class_loss": class_loss, "train_acc1": accuracy}, on_epoch=True, sync_dist=True)
        return outs, class_loss

    def training_step(self, batch: list[Any], batch_idx: int) -> Tensor:
        outs, class_loss = self.base_training_step(batch)
        (z1, z2), (p1, p2) = outs["z"], outs["p"]
        neg_cos_sim = -(cosine_similarity(p1, z2.detach()).mean() + cosine_similarity(p2, z1.detach()).mean()) / 2
        return neg_cos_sim + class_loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.validated += 1
        self.log("val_loss", cross_entropy(self(batch[0])["logits"], batch[1]))

    def configure_optimizers(self) -> Any:
        parts = [self.backbone, self.projector, self.predictor]
        groups = [{"params": part.parameters()} for part in parts] + [{"params": self.classifier.parameters(), "lr": 0.1}]
        optimizer = torch.optim.SGD(groups, lr=0.05, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)]


class BYOL(SimSiam):
    """As solo/methods/byol.py: momentum parts, moved after each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.momentum_backbone = copy.deepcopy(self.backbone).requires_grad_(False)
        self.momentum_projector = copy.deepcopy(self.projector).requires_grad_(False)

    def training_step(self, batch: list[Any], batch_idx: int) -> Tensor:
        outs, class_loss = self.base_training_step(batch)
        with torch.no_grad():
            targets = [self.momentum_projector(self.momentum_backbone(x)) for x in batch[1]]
        p1, p2 = outs["p"]
        return sum(2 - 2 * cosine_similarity(p, z).mean() for p, z in ((p1, targets[1]), (p2, targets[0]))) + class_loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        pairs = ((self.backbone, self.momentum_backbone), (self.projector, self.momentum_projector))
        for online, momentum in pairs:
            for mine, other in zip(online.parameters(), momentum.parameters(), strict=True):
                other.data.mul_(0.9).add_(mine.data, alpha=0.1)


def table(views: int, loss: Callable[[int, int], Tensor]) -> Tensor:
    """[B, V, V] of a loss [B] of two views."""
    columns = {(i, j): loss(i, j) for i, j in permutations(range(views), 2)}
    nothing = torch.full_like(columns[0, 1], torch.nan)
    return torch.stack([torch.stack([columns.get((i, j), nothing) for j in range(views)], 1) for i in range(views)], 1)


def outputs(parts: Mapping[str, nn.Module], names: str, views: list[Tensor]) -> list[Tensor]:
    """What each part gives for all views in one batch, as vectors of length 1, [B, V, D] in float64."""
    pixels, found = torch.cat(views), []
    for name in names.split():
        pixels = parts[name](pixels)
        found.append(unit(pixels.double()).unflatten(0, (len(views), -1)).transpose(0, 1))
    return found


def simsiam_losses(parts: Mapping[str, nn.Module], views: list[Tensor]) -> Tensor:
    _, z, p = outputs(parts, "backbone projector predictor", views)
    return table(len(views), lambda i, j: -((p[:, i] * z[:, j]).sum(-1) + (p[:, j] * z[:, i]).sum(-1)) / 2)


def byol_losses(parts: Mapping[str, nn.Module], views: list[Tensor]) -> Tensor:
    *_, p = outputs(parts, "backbone projector predictor", views)
    _, z = outputs(parts, "momentum_backbone momentum_projector", views)
    return table(len(views), lambda i, j: 4 - 2 * (p[:, i] * z[:, j]).sum(-1) - 2 * (p[:, j] * z[:, i]).sum(-1))


# BYOL's loss holds four times as much of a cosine, and a constant: 16 units more (see its error in pair_formulas)
METHODS = {
    "SimSiam": (SimSiam, hvs.objectives.SimSiam, simsiam_losses, TOLERANCE),
    "BYOL": (BYOL, hvs.objectives.BYOL, byol_losses, 4 * TOLERANCE),
}
PARTS = ("backbone", "projector", "predictor", "momentum_backbone", "momentum_projector")


def make_data(photos: Path, objective: Any = hvs.objectives.SimSiam, **options: Any) -> HardViewDataModule:
    return HardViewDataModule(photos, RECIPE, objective, 12, format=hvs.formats.with_index, seed=1, drop_last=True, **options)


def losses_of(folder: Path, module: Any, data: Any, epochs: int = 1, **options: Any) -> list[float]:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = pl.Trainer(max_epochs=epochs, accelerator="cpu", devices=1, default_root_dir=folder, **{**quiet, **options})
    with recorded_losses() as losses:
        trainer.fit(module, data)
    return losses


@pytest.mark.parametrize("name", METHODS)
def test_every_batch_is_the_hardest_under_the_weights_of_its_step(name: str, photos: Path, tmp_path: Path) -> None:
    kind, objective, pair_losses, tolerance = METHODS[name]
    module, data, witnesses = kind(), make_data(photos, objective), []

    class Watch(pl.Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            parts = {part: getattr(module, part) for part in PARTS if hasattr(module, part)}
            witnesses.append(Witness(data.loader, parts, pair_losses, tolerance=tolerance))

    losses = losses_of(tmp_path, module, data, 6, callbacks=[Watch(), HardViewCallback()])
    (witness,) = witnesses
    assert witness.checked == len(losses) == 24 and falls(losses)
    assert min(witness.gained) >= -tolerance and sum(witness.gained) > 0


def test_the_example_trains(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On photos of one class: generated ones do not tell of theirs, and the loss of the classifier would hide the method's."""
    monkeypatch.chdir(tmp_path)
    one_class = tmp_path / "photos" / "all"
    one_class.mkdir(parents=True)
    for path in photos.rglob("*.jpg"):
        (one_class / path.name).write_bytes(path.read_bytes())
    losses, selections = run_script("solo_learn_style.py", one_class.parent, "--batch-size", 12, "--size", 32, "--epochs", 3, small=False)
    assert falls(losses) and len(losses) == len(selections) == 12
    gained = [float((selection.loss - selection.losses[:, selection.legal].mean(1)).min()) for selection in selections]
    assert min(gained) >= 0 and max(gained) > 0


class Indexed(PlainViews):
    """As solo-learn's dataset_with_index: an item is ``(index, views, target)``."""

    def __getitem__(self, number: int) -> tuple[int, list[Tensor], Tensor]:  # type: ignore[override]
        return number, *super().__getitem__(number)


def test_random_pairs_train_as_from_a_plain_dataset(photos: Path, tmp_path: Path) -> None:
    module, again = SimSiam(), SimSiam()
    got = losses_of(tmp_path, module, make_data(photos, selector={"policy": "random"}))
    views = hvs.ViewLoader(photos, RECIPE, batch_size=12, seed=1, drop_last=True)
    plain = Indexed(hvs.Batch(batch.views[:2], batch.labels, batch.index, batch.params) for batch in views)
    assert got == losses_of(tmp_path, again, DataLoader(plain, batch_size=12)) and len(got) == 4
    assert all(torch.equal(a, b) for a, b in zip(module.state_dict().values(), again.state_dict().values(), strict=True))
    assert [targets for _, targets in module.seen] == [targets for _, targets in again.seen]


def test_targets_belong_to_the_indexes_and_validation_disturbs_nothing(photos: Path, tmp_path: Path) -> None:
    """With a sanity check before the first step, and a validation in the middle of each epoch."""
    module, alone = SimSiam(), SimSiam()
    validation = DataLoader([(torch.zeros(3, 16, 16), 1)] * 6, batch_size=3)
    data = make_data(photos, val_dataloaders=validation)
    losses = losses_of(tmp_path, module, data, 2, val_check_interval=2, callbacks=[HardViewCallback()])
    assert losses == losses_of(tmp_path, alone, make_data(photos), 2, callbacks=[HardViewCallback()])
    assert module.validated == 2 + 2 * 2 * 2 and data.loader is not None
    indexes = [index for batch, _ in module.seen for index in batch]
    assert len(indexes) == 2 * IMAGES and sorted(indexes[:IMAGES]) == list(range(IMAGES))
    labels = {index: label for batch, targets in module.seen for index, label in zip(batch, targets, strict=True)}
    assert labels == {index: data.loader.dataset.read(index).label for index in range(IMAGES)}
