"""stable-pretraining on hardest views: its Module, forward functions and Manager, with the real package (make test-stable-pretraining)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import hvs_data as hvs
from example_scripts import falls, recorded_losses, run_script, write_photos
from hardest_sets import gain_of_the_hardest
from hvs_data.integrations.lightning import HardViewCallback, HardViewDataModule
from lightly_formulas import lejepa
from small_simsiam import unit
from witness import PlainViews, Witness

spt = pytest.importorskip("stable_pretraining")
pl = pytest.importorskip("lightning.pytorch")
pytestmark = [
    pytest.mark.filterwarnings("error::hvs_data.StaleSelectionWarning"),
    pytest.mark.usefixtures("alone"),
]
WIDTH, LENGTH, TEMPERATURE = 16, 12, 0.5
# As error_of_contrast in pair_formulas: 2 (2 D + 8) units of float32 over the temperature for the products, and (2 K + 16) units of
# 1 / t + log(K + 1) + 1 for the log-sum-exp of the K = 24 similarities of a batch of 12. The chosen pair and the hardest may err both.
TOLERANCE = 2 * 2**-24 * (2 * (2 * LENGTH + 8) / TEMPERATURE + (2 * 24 + 16) * (1 / TEMPERATURE + 4.3))
RECIPE = hvs.recipes.simclr(candidates=3, size=16)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """One thread, and the package's run folder in one of the test's own."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    spt.set(cache_dir=str(tmp_path / "cache"))
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"), 48)


def make_module() -> Any:
    from stable_pretraining.forward import simclr

    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, WIDTH, 5, stride=2), nn.BatchNorm2d(WIDTH), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return spt.Module(
        forward=simclr,
        backbone=backbone,
        projector=nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU(), nn.Linear(WIDTH, LENGTH)),
        simclr_loss=spt.losses.NTXEntLoss(temperature=TEMPERATURE),
        optim={"optimizer": {"type": "AdamW", "lr": 1e-2}, "scheduler": "CosineAnnealingLR"},
    )


def make_data(photos: Path, module: Any, **options: Any) -> HardViewDataModule:
    objective = hvs.objectives.SimCLR(module, temperature=TEMPERATURE)
    return HardViewDataModule(photos, RECIPE, objective, 12, format=hvs.formats.stable_pretraining, seed=1, drop_last=True, **options)


def losses_of(folder: Path, module: Any, data: Any, **options: Any) -> list[float]:
    """Of a training by the package's Manager, step by step."""
    quiet = {"accelerator": "cpu", "devices": 1, "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(**{"max_epochs": 2, "num_sanity_val_steps": 0, "default_root_dir": folder, **quiet, **options})
    with recorded_losses() as losses:
        spt.Manager(trainer=trainer, module=module, data=data, seed=0)()
    return losses


def pair_losses(parts: Mapping[str, nn.Module], views: list[Tensor]) -> Tensor:
    """[B, V, V] of SimCLR's formula, image by image: both directions against the views of all other images."""
    z = parts["projector"](parts["backbone"](torch.cat(views))).double().unflatten(0, (len(views), -1))
    z_VBD = unit(z)
    count, images = z_VBD.shape[:2]
    other = ~torch.eye(images, dtype=torch.bool)
    losses_BVV = torch.full((images, count, count), torch.nan, dtype=torch.float64)
    for i in range(count):
        for j in range(count):
            if i != j:
                terms = []
                for a, b in ((i, j), (j, i)):
                    across, within = (z_VBD[a] @ z_VBD[k].T / TEMPERATURE for k in (b, a))
                    total = torch.cat([across, within.where(other, -torch.inf)], 1).logsumexp(1)
                    terms.append(total - across.diagonal())
                losses_BVV[:, i, j] = (terms[0] + terms[1]) / 2
    return losses_BVV


def test_every_batch_is_the_hardest_under_the_weights_of_its_step(photos: Path, tmp_path: Path) -> None:
    module = make_module()
    data = make_data(photos, module)
    witnesses: list[Witness] = []

    class Watch(pl.Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            parts = {"backbone": module.backbone, "projector": module.projector}
            witnesses.append(Witness(data.loader, parts, pair_losses, tolerance=TOLERANCE))

    losses = losses_of(tmp_path, module, data, max_epochs=5, callbacks=[Watch(), HardViewCallback()])
    (witness,) = witnesses
    assert witness.checked == len(losses) == 20 and falls(losses)
    assert min(witness.gained) >= -TOLERANCE and sum(witness.gained) > 0


def test_the_example_trains(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    losses, selections = run_script("with_stable_pretraining.py", photos, "--batch-size", 12, "--size", 32, "--epochs", 3, small=False)
    assert falls(losses) and len(losses) == len(selections) == 12
    gained = [float((selection.loss - selection.losses[:, selection.legal].mean(1)).min()) for selection in selections]
    assert min(gained) >= 0 and max(gained) > 0


# ---- LeJEPA ----


class Pretraining(pl.LightningModule):  # type: ignore[name-defined, misc]
    """The package's LeJEPA, without the random paths of its transformer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        projector = nn.Sequential(nn.Linear(192, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU(), nn.Linear(WIDTH, LENGTH))
        self.model = spt.methods.LeJEPA("vit_tiny_patch16_224", projector, n_slices=32, drop_path_rate=0.0)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        views = {name: view["image"] for name, view in batch["views"].items()}
        parts = ([view for name, view in views.items() if name.startswith(kind)] for kind in ("global", "local"))
        return self.model(*parts).loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


MULTI_CROP = hvs.recipes.dino(4, 6, 32, 16, local_views=4)
QUIET = {"accelerator": "cpu", "devices": 1, "logger": False, "enable_progress_bar": False, "enable_checkpointing": False}


def test_lejepa_is_trained_on_the_hardest_sets(photos: Path, tmp_path: Path) -> None:
    module, gained = Pretraining(), []
    objective = hvs.objectives.LeJEPA(module.model)
    data = HardViewDataModule(photos, MULTI_CROP, objective, 12, format=hvs.formats.stable_pretraining, seed=1, drop_last=True)

    def check(parts: Mapping[str, nn.Module], views: list[Tensor]) -> Tensor:
        groups = [torch.cat([view for view in views if view.shape[-1] == side]) for side in (32, 16)]
        z = [parts["projector"](parts["backbone"](group)).unflatten(0, (-1, len(views[0]))) for group in groups]
        selection = data.loader.selector.last
        roles = [role.name for role in MULTI_CROP.slot_roles]
        gained.append(gain_of_the_hardest(lambda z: lambda slots: lejepa(z[:, slots], 2), [torch.cat(z).transpose(0, 1)], selection, roles))
        return torch.zeros(len(views[0]), len(views), len(views))

    class Watch(pl.Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            Witness(data.loader, {"backbone": module.model.backbone, "projector": module.model.projector}, check)

    with recorded_losses() as losses:
        trainer = pl.Trainer(max_epochs=3, default_root_dir=tmp_path, callbacks=[Watch(), HardViewCallback()], **QUIET)
        trainer.fit(module, data)
    assert len(gained) == len(losses) == 12 and min(gained) > 0 and all(torch.tensor(losses).isfinite())


def test_the_example_of_lejepa_trains(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    script = "with_stable_pretraining_lejepa.py"
    losses, selections = run_script(script, photos, "--batch-size", 12, "--size", 32, 16, "--epochs", 3, small=False)
    assert falls(losses) and len(losses) == len(selections) == 12
    assert {tuple(selection.slots.shape) for selection in selections} == {(12, 6)}


class NamedSamples(PlainViews):
    """As its datasets with a MultiViewTransform of named views."""

    def __getitem__(self, number: int) -> dict[str, Any]:  # type: ignore[override]
        views, label = super().__getitem__(number)
        names = ["global_1", "global_2", *(f"local_{local}" for local in range(1, 5))]
        return {"views": {name: {"image": view, "label": label} for name, view in zip(names, views, strict=True)}}


def test_lejepa_trains_on_random_views_as_from_a_plain_dataset(photos: Path, tmp_path: Path) -> None:
    def losses_on(loader: Any) -> list[float]:
        module = Pretraining()
        with recorded_losses() as losses:
            trainer = pl.Trainer(max_epochs=1, default_root_dir=tmp_path, **QUIET)
            trainer.fit(module, loader(module))
        return losses

    def random_views(module: Any) -> Any:
        options = {"format": hvs.formats.stable_pretraining, "seed": 1, "drop_last": True, "selector": {"policy": "random"}}
        return HardViewDataModule(photos, MULTI_CROP, hvs.objectives.LeJEPA(module.model), 12, **options)

    views = hvs.ViewLoader(photos, MULTI_CROP, batch_size=12, seed=1, drop_last=True)
    first = [0, 2, 4, 5, 6, 7]
    plain = NamedSamples(hvs.Batch([batch.views[slot] for slot in first], batch.labels, batch.index, batch.params) for batch in views)
    got = losses_on(random_views)
    assert got == losses_on(lambda module: DataLoader(plain, batch_size=12)) and len(got) == 4


class Samples(PlainViews):
    """As its own datasets with a MultiViewTransform: an item is a dict of views, each a dict."""

    def __getitem__(self, number: int) -> dict[str, Any]:  # type: ignore[override]
        views, label = super().__getitem__(number)
        return {"views": [{"image": view, "label": label} for view in views]}


def test_random_pairs_train_as_from_a_plain_dataset(photos: Path, tmp_path: Path) -> None:
    module = make_module()
    got = losses_of(tmp_path, module, make_data(photos, module, selector={"policy": "random"}), max_epochs=1)
    views = hvs.ViewLoader(photos, RECIPE, batch_size=12, seed=1, drop_last=True)
    plain = Samples(hvs.Batch(batch.views[:2], batch.labels, batch.index, batch.params) for batch in views)
    again = make_module()
    expected = losses_of(tmp_path, again, spt.data.DataModule(train=DataLoader(plain, batch_size=12)), max_epochs=1)
    assert got == expected and len(got) == 4
    assert all(torch.equal(a, b) for a, b in zip(module.state_dict().values(), again.state_dict().values(), strict=True))


def test_probes_take_labels_from_the_views(photos: Path, tmp_path: Path) -> None:
    """Callbacks of the package, with networks and optimizers of their own."""
    module = make_module()
    accuracy = pytest.importorskip("torchmetrics").classification.MulticlassAccuracy(2)
    linear = nn.Linear(WIDTH, 2)
    before = linear.weight.detach().clone()
    probe = spt.callbacks.OnlineProbe(module, "probe", "embedding", "label", linear, nn.CrossEntropyLoss(), metrics={"accuracy": accuracy})
    losses = losses_of(tmp_path, module, make_data(photos, module), callbacks=[probe, HardViewCallback()])
    assert len(losses) == 8 and all(torch.tensor(losses).isfinite())
    assert not torch.equal(linear.weight, before)


def test_it_scores_in_the_trainers_precision(photos: Path, tmp_path: Path) -> None:
    module = make_module()
    seen: set[torch.dtype] = set()
    module.projector.register_forward_hook(lambda part, given, output: seen.add(output.dtype))
    data = make_data(photos, module)
    losses_of(tmp_path, module, data, precision="bf16-mixed", callbacks=[HardViewCallback()])
    assert seen == {torch.bfloat16} and data.loader is not None and data.loader.selector.autocast == torch.bfloat16
