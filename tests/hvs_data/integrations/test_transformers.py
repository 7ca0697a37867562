"""Hugging Face's Trainer on hardest views: its own loop, accumulation, precision and resuming, with the real package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import hvs_data as hvs
from example_scripts import falls, recorded_losses, run_script, write_photos
from hvs_data.integrations.transformers import EpochBatches, _skipping_in_place, log_numbers, train_on
from small_simsiam import TOLERANCE, SmallSimSiam, pair_losses
from witness import PlainViews, Witness

transformers = pytest.importorskip("transformers")
accelerate = pytest.importorskip("accelerate")
pytestmark = [
    pytest.mark.filterwarnings("error::hvs_data.StaleSelectionWarning"),
    pytest.mark.usefixtures("alone"),
]
RECIPE = hvs.recipes.simsiam(candidates=3, size=16)
NAMED = hvs.formats.named_views("x1", "x2", labels=None)


@pytest.fixture
def alone() -> Iterator[None]:
    """One thread, and none of Accelerate's state left behind: it is shared by all Trainers of a process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerate.state.GradientState._reset_state()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"), 52)


class Model(nn.Module):
    """As Hugging Face's models: named arguments, and a dict with the loss."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = SmallSimSiam()

    def forward(self, x1: Tensor, x2: Tensor) -> dict[str, Tensor]:
        return {"loss": self.net(x1, x2)}


def make_trainer(folder: Path, *, data: Any = None, evaluated: Any = None, collator: Any = None, **options: Any) -> Any:
    settings = {"num_train_epochs": 1, "per_device_train_batch_size": 12, "learning_rate": 5e-2, "optim": "sgd"}
    quiet = {"save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True, "report_to": []}
    arguments = transformers.TrainingArguments(str(folder), use_cpu=True, **{**settings, **quiet, **options})
    return transformers.Trainer(Model(), arguments, data_collator=collator, train_dataset=data, eval_dataset=evaluated)


def candidates(photos: Path, **options: Any) -> hvs.ViewLoader:
    """52 images in batches of 12: five steps an epoch, the last one of four images."""
    return hvs.ViewLoader(photos, RECIPE, **{"batch_size": 12, "seed": 1, "format": NAMED, **options})


def hard_loader(photos: Path, trainer: Any, selector: dict[str, Any] | None = None, **options: Any) -> hvs.HardViewLoader:
    objective = hvs.objectives.SimSiam(trainer.model.net)
    return hvs.HardViewLoader(candidates(photos, **options), hvs.HardViewSelector(objective, **(selector or {})))


def losses_of(trainer: Any, **options: Any) -> list[float]:
    with recorded_losses() as losses:
        trainer.train(**options)
    return losses


def parts(trainer: Any) -> dict[str, nn.Module]:
    return {"encoder": trainer.model.net.encoder, "predictor": trainer.model.net.predictor}


# ---- trained for real ----


def test_every_batch_is_the_hardest_under_the_weights_of_its_step(photos: Path, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, num_train_epochs=4)
    loader = hard_loader(photos, trainer)
    witness = Witness(loader, parts(trainer), pair_losses, tolerance=TOLERANCE)
    train_on(trainer, loader)
    losses = losses_of(trainer)
    assert witness.checked == len(losses) == 20 and falls(losses)
    assert min(witness.gained) >= -TOLERANCE and sum(witness.gained) > 0


def test_the_example_trains(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    losses, selections = run_script("with_transformers.py", photos, "--batch-size", 12, "--size", 32, "--epochs", 4)
    assert falls(losses) and len(losses) == len(selections) == 16
    gained = [float((selection.loss - selection.losses[:, selection.legal].mean(1)).min()) for selection in selections]
    assert min(gained) >= 0 and max(gained) > 0


@pytest.mark.parametrize("accumulated", [1, 2])
def test_random_pairs_train_as_from_a_plain_dataset(accumulated: int, photos: Path, tmp_path: Path) -> None:
    """The optimizer steps, and the schedule moves, at the same batches: five of them, which two do not divide."""
    trainer = make_trainer(tmp_path / "ours", gradient_accumulation_steps=accumulated)
    train_on(trainer, hard_loader(photos, trainer, {"policy": "random"}))
    got = losses_of(trainer)

    def collate(items: list[Any]) -> dict[str, Tensor]:
        return {name: torch.stack([views[number] for views, _ in items]) for number, name in enumerate(("x1", "x2"))}

    views = (hvs.Batch(batch.views[:2], batch.labels, batch.index, batch.params) for batch in candidates(photos, format=None))
    again = make_trainer(
        tmp_path / "plain",
        data=PlainViews(views),
        collator=collate,
        gradient_accumulation_steps=accumulated,
        train_sampling_strategy="sequential",
    )
    assert got == losses_of(again) and len(got) == 5
    pairs = zip(trainer.model.state_dict().values(), again.model.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert trainer.state.global_step == again.state.global_step == -(-5 // accumulated)


# ---- batches ahead, epochs, resuming ----


def test_batches_that_are_fetched_together_are_chosen_with_the_weights_that_train_on_them(photos: Path, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, num_train_epochs=2, gradient_accumulation_steps=2)
    loader = hard_loader(photos, trainer)
    chosen: list[hvs.Selection] = []

    def noting(batch: hvs.Batch) -> Any:
        chosen.append(batch.selection)
        return NAMED(batch)

    loader.format = noting
    fresh: list[bool] = []
    trainer.model.register_forward_pre_hook(lambda module, given: fresh.append(loader.selector.is_fresh(chosen[len(fresh)])))
    train_on(trainer, loader)
    assert len(losses_of(trainer)) == 10 and fresh == [True] * 10


def seen_epochs(photos: Path, trainer: Any) -> tuple[hvs.HardViewLoader, list[tuple[int, list[int]]]]:
    seen: list[tuple[int, list[int]]] = []

    def noting(batch: hvs.Batch) -> Any:
        seen.append((batch.epoch, batch.index.tolist()))
        return NAMED(batch)

    return hard_loader(photos, trainer, format=noting), seen


def test_epochs_are_the_trainers(photos: Path, tmp_path: Path) -> None:
    """Also when it begins again in the middle of one."""
    trainer = make_trainer(tmp_path, max_steps=7)
    loader, seen = seen_epochs(photos, trainer)
    train_on(trainer, loader)
    trainer.train()
    trainer.train()
    plain = candidates(photos, format=None)
    expected = [(batch.epoch, batch.index.tolist()) for _ in range(2) for batch in plain][:7]
    assert seen == expected * 2


@pytest.mark.parametrize(("accumulated", "stop"), [(1, 2), (1, 5), (2, 4)])
def test_a_run_that_goes_on_equals_an_unbroken_one(accumulated: int, stop: int, photos: Path, tmp_path: Path) -> None:
    """Draws of the policy and the schedule of scoring included, which depend on the selector's step."""

    def run(**options: Any) -> list[float]:
        trainer = make_trainer(
            tmp_path, num_train_epochs=2, gradient_accumulation_steps=accumulated, save_strategy="steps", save_steps=stop
        )
        train_on(trainer, hard_loader(photos, trainer, {"policy": "softmax", "every": 2}))
        return losses_of(trainer, **options)

    unbroken = run()
    steps_an_epoch = -(-5 // accumulated)
    batches = 5 * (stop // steps_an_epoch) + accumulated * (stop % steps_an_epoch)
    assert run(resume_from_checkpoint=str(tmp_path / f"checkpoint-{stop}")) == unbroken[batches:]
    assert len(unbroken) == 10


def test_other_loaders_are_skipped_as_before() -> None:
    original = transformers.trainer.skip_first_batches
    inner: list[Any] = []

    class Trainer:
        def train(self) -> None:
            inner.append(transformers.trainer.skip_first_batches(torch.utils.data.DataLoader(range(9), batch_size=3), 2))
            raise KeyError

    trainer = Trainer()
    with pytest.raises(KeyError):
        _skipping_in_place(trainer.train)()
    assert [batch.tolist() for batch in inner[0]] == [[6, 7, 8]]
    assert transformers.trainer.skip_first_batches is original


# ---- logging ----


def test_a_monitors_numbers_are_logged_with_the_trainers_own(photos: Path, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, num_train_epochs=2, logging_strategy="steps", logging_steps=4)
    loader = hard_loader(photos, trainer)
    log_numbers(trainer, hvs.Monitor(loader))
    told: list[hvs.Selection] = []
    loader.selector.watchers.append(told.append)
    train_on(trainer, loader)
    trainer.train()
    history = trainer.state.log_history
    logged = {entry["step"]: entry["hvs/iou_chosen"] for entry in history if "hvs/iou_chosen" in entry}
    means = {stop: float(torch.cat([selection.iou for selection in told[stop - 4 : stop]]).double().mean()) for stop in (4, 8)}
    assert logged == pytest.approx(means, abs=1e-12)
    assert [entry["step"] for entry in history if "loss" in entry] == [4, 8]


# ---- precision, evaluation, compiled ----


def test_scoring_runs_in_the_trainers_precision(photos: Path, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, bf16=True)
    loader = hard_loader(photos, trainer)
    witness = Witness(loader, parts(trainer), pair_losses, tolerance=TOLERANCE, context=lambda: torch.autocast("cpu", torch.bfloat16))
    train_on(trainer, loader)
    assert loader.selector.autocast == torch.bfloat16
    seen: list[torch.dtype] = []
    trainer.model.net.encoder[-1].register_forward_hook(lambda module, given, output: seen.append(output.dtype))
    assert len(losses_of(trainer)) == witness.checked == 5 and set(seen) == {torch.bfloat16}


def test_evaluation_in_between_changes_nothing(photos: Path, tmp_path: Path) -> None:
    """After it, and from ``from_pretrained``, a model is in evaluation mode, and batch normalisation would be scored as such."""
    plain = make_trainer(tmp_path / "plain")
    train_on(plain, hard_loader(photos, plain))
    evaluated = [{"x1": torch.zeros(3, 16, 16), "x2": torch.ones(3, 16, 16)}] * 4
    other = make_trainer(tmp_path / "evaluated", evaluated=evaluated, eval_strategy="steps", eval_steps=2)
    train_on(other, hard_loader(photos, other))
    other.model.eval()
    assert losses_of(plain) == losses_of(other)


def test_a_compiled_model_is_scored_all_the_same(photos: Path, tmp_path: Path) -> None:
    """With the "eager" backend, which traces and guards as any does, and computes the same numbers."""
    runs = []
    for options in ({}, {"torch_compile": True, "torch_compile_backend": "eager"}):
        trainer = make_trainer(tmp_path, **options)
        pairs: list[list[list[int]]] = []

        def noting(batch: hvs.Batch, pairs: list[Any] = pairs) -> Any:
            pairs.append(batch.selection.pair.tolist())
            return NAMED(batch)

        train_on(trainer, hard_loader(photos, trainer, format=noting))
        runs.append((losses_of(trainer), pairs))
        assert (trainer.model_wrapped is trainer.model) == (not options)
    assert runs[0] == runs[1] and len(runs[0][1]) == 5


# ---- what is refused ----


@pytest.mark.parametrize(
    ("trainer_options", "loader_options", "message"),
    [
        ({"auto_find_batch_size": True}, {}, "got auto_find_batch_size; switch it off"),
        ({"per_device_train_batch_size": 8}, {}, "pass per_device_train_batch_size=12 to TrainingArguments"),
        ({}, {"format": None}, r"pass format=hvs_data\.formats\.named_views"),
    ],
)
def test_what_does_not_fit_the_trainer_is_refused(
    trainer_options: dict[str, Any], loader_options: dict[str, Any], message: str, photos: Path, tmp_path: Path
) -> None:
    trainer = make_trainer(tmp_path, **trainer_options)
    with pytest.raises(hvs.HvsError, match=message):
        train_on(trainer, hard_loader(photos, trainer, **loader_options))


def test_other_loaders_devices_models_and_batches_are_refused(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(tmp_path)
    with pytest.raises(hvs.HvsError, match="got list; pass a dataset to the Trainer instead"):
        train_on(trainer, [])  # type: ignore[arg-type]
    loader = hard_loader(photos, trainer, format=hvs.formats.views_and_labels)
    train_on(trainer, loader)
    with pytest.raises(hvs.HvsError, match="a dict of the arguments of the model's forward, got tuple"):
        trainer.train()
    monkeypatch.setattr(trainer, "model_init", Model)
    with pytest.raises(hvs.HvsError, match="got model_init, which makes others"):
        train_on(trainer, loader)
    monkeypatch.undo()
    monkeypatch.setattr(type(loader), "device", torch.device("cuda", 0))
    with pytest.raises(hvs.HvsError, match=r"on cuda:0; make it with ViewLoader\(\.\.\., device=training_args\.device\)"):
        train_on(trainer, loader)


def test_random_views_alone_can_be_trained_on(photos: Path, tmp_path: Path) -> None:
    """Of a recipe of two, without selection."""
    trainer = make_trainer(tmp_path, num_train_epochs=2)
    loader = hvs.ViewLoader(photos, hvs.recipes.simsiam(candidates=2, size=16), batch_size=12, format=NAMED)
    train_on(trainer, loader)
    assert len(losses_of(trainer)) == 10


def test_skipping_and_the_epoch_may_come_in_any_order(photos: Path, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    loader, seen = seen_epochs(photos, trainer)
    first = EpochBatches(trainer, loader)
    first.set_epoch(4)
    second = first.skipping(3)
    list(second)
    third = EpochBatches(trainer, loader).skipping(3)
    third.set_epoch(4)
    list(third)
    assert seen[:2] == seen[2:] and [epoch for epoch, _ in seen] == [4] * 4 and len(third) == 5
