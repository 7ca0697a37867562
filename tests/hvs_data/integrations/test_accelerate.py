"""Accelerate on hardest views: its own loop, accumulation, precision and checkpoints, with the real package."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import hvs_data as hvs
from example_scripts import falls, run_script, write_photos
from hvs_data.integrations.accelerate import PreparedLoader, prepare_loader
from small_simsiam import TOLERANCE, pair_losses, small_simsiam
from witness import PlainViews, Witness

accelerate = pytest.importorskip("accelerate")
pytestmark = [
    pytest.mark.filterwarnings("error::hvs_data.StaleSelectionWarning"),
    pytest.mark.usefixtures("alone"),
]
RECIPE = hvs.recipes.simsiam(candidates=3, size=16)


@pytest.fixture
def alone() -> Iterator[None]:
    """One thread, and none of Accelerate's state left behind: it is shared by all Accelerators of a process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerate.state.GradientState._reset_state()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"), 52)


def candidates(photos: Path, **options: Any) -> hvs.ViewLoader:
    """52 images in batches of 12: five steps an epoch, the last one of four images."""
    return hvs.ViewLoader(photos, RECIPE, **{"batch_size": 12, "seed": 1, **options})


def hard_loader(photos: Path, model: Any, selector: dict[str, Any] | None = None, **options: Any) -> hvs.HardViewLoader:
    return hvs.HardViewLoader(candidates(photos, **options), hvs.HardViewSelector(hvs.objectives.SimSiam(model), **(selector or {})))


def train(accelerator: Any, model: nn.Module, optimizer: Any, loader: Iterable[Any], epochs: int) -> tuple[list[float], list[bool]]:
    """As a loop of Accelerate's guides: the loss of every batch, and whether the optimizer's step after it was a real one."""
    losses, stepped = [], []
    for _ in range(epochs):
        for (x1, x2), *_ in loader:
            with accelerator.accumulate(model):
                loss = model(x1, x2)
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
            losses.append(float(loss.detach()))
            stepped.append(accelerator.sync_gradients)
    return losses, stepped


def prepared(**options: Any) -> tuple[Any, Any, Any]:
    accelerator = accelerate.Accelerator(cpu=True, **options)
    model = small_simsiam()
    return accelerator, *accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))


# ---- trained for real ----


def test_every_batch_is_the_hardest_under_the_weights_of_its_step(photos: Path) -> None:
    accelerator, model, optimizer = prepared(gradient_accumulation_steps=2)
    loader = hard_loader(photos, model)
    witness = Witness(loader, {"encoder": model.encoder, "predictor": model.predictor}, pair_losses, tolerance=TOLERANCE)
    losses, _ = train(accelerator, model, optimizer, prepare_loader(accelerator, loader), 5)
    assert witness.checked == len(losses) == 25 and falls(losses)
    assert min(witness.gained) >= -TOLERANCE and sum(witness.gained) > 0


def test_the_example_trains(photos: Path) -> None:
    losses, selections = run_script("with_accelerate.py", photos, "--batch-size", 12, "--size", 32, "--epochs", 4)
    assert falls(losses) and len(losses) == len(selections) == 16
    gained = [float((selection.loss - selection.losses[:, selection.legal].mean(1)).min()) for selection in selections]
    assert min(gained) >= 0 and max(gained) > 0


def test_random_pairs_train_as_from_a_prepared_data_loader(photos: Path) -> None:
    """Also where gradients are left over at the end of each epoch."""
    accelerator, model, optimizer = prepared(gradient_accumulation_steps=2)
    loader = prepare_loader(accelerator, hard_loader(photos, model, {"policy": "random"}))
    got = train(accelerator, model, optimizer, loader, 2)
    # the second epoch has other views, so each is a dataset of its own
    views = candidates(photos)
    first_two = [PlainViews(hvs.Batch(batch.views[:2], batch.labels, batch.index, batch.params) for batch in views) for _ in range(2)]
    accelerator, again, optimizer = prepared(gradient_accumulation_steps=2)
    parts = [train(accelerator, again, optimizer, accelerator.prepare(DataLoader(plain, batch_size=12)), 1) for plain in first_two]
    assert got == tuple(first + second for first, second in zip(*parts, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))


# ---- the end of an epoch ----


def test_gradients_left_over_are_stepped_on_at_the_end_of_each_epoch(photos: Path) -> None:
    accelerator, model, optimizer = prepared(gradient_accumulation_steps=2)
    loader = prepare_loader(accelerator, hard_loader(photos, model))
    assert train(accelerator, model, optimizer, loader, 2)[1] == [False, True, False, True, True] * 2
    assert not accelerator.gradient_state.in_dataloader


@pytest.mark.parametrize(("drop_last", "expected"), [(False, [False, True, True]), (True, [False, True])])
def test_the_end_is_found_by_a_loader_that_goes_on_in_the_middle(drop_last: bool, expected: list[bool], photos: Path) -> None:
    accelerator, model, optimizer = prepared(gradient_accumulation_steps=2)
    loader = prepare_loader(accelerator, hard_loader(photos, model, drop_last=drop_last))
    assert loader.skip_batches(2) == 2
    assert train(accelerator, model, optimizer, loader, 1)[1] == expected


def test_a_loop_that_is_left_leaves_no_loader_behind(photos: Path) -> None:
    accelerator, model, _ = prepared()
    loader = prepare_loader(accelerator, hard_loader(photos, model))
    for _ in loader:
        assert accelerator.gradient_state.active_dataloader is loader
        break
    assert not accelerator.gradient_state.in_dataloader


# ---- what Accelerate does to loaders ----


def test_prepare_hands_our_loaders_back(photos: Path) -> None:
    accelerator, model, _ = prepared(dataloader_config=accelerate.DataLoaderConfiguration(dispatch_batches=True, even_batches=True))
    for loader in (candidates(photos), hard_loader(photos, model), prepare_loader(accelerator, hard_loader(photos, model))):
        assert accelerator.prepare(loader) is loader


def test_skip_first_batches_is_refused_with_the_remedy(photos: Path) -> None:
    accelerator, model, _ = prepared()
    for loader in (candidates(photos), hard_loader(photos, model), prepare_loader(accelerator, hard_loader(photos, model))):
        with pytest.raises(AttributeError, match=r"loader\.skip_batches\(n\)"):
            accelerator.skip_first_batches(loader, 2)
        assert not hasattr(loader, "batch_sampler")


def test_all_else_is_the_loaders_own(photos: Path) -> None:
    accelerator, model, _ = prepared()
    loader = hard_loader(photos, model)
    got = prepare_loader(accelerator, loader)
    assert isinstance(got, PreparedLoader) and len(got) == len(loader) == 5
    assert got.sampler is loader.sampler and got.dataset is loader.dataset and got.batch_size == 12
    got.set_epoch(3)
    assert got.state_dict() == loader.state_dict() and loader.state_dict()["epoch"] == 3


@pytest.mark.parametrize("stop", [1, 5, 7])
def test_save_state_takes_the_loaders_place_along(stop: int, photos: Path, tmp_path: Path) -> None:
    def run(*, resume: bool) -> list[float]:
        accelerator, model, optimizer = prepared()
        loader = prepare_loader(accelerator, hard_loader(photos, model, {"policy": "softmax"}))
        if resume:
            accelerator.load_state(str(tmp_path / "state"))
        losses: list[float] = []
        for epoch in range(loader.state_dict()["epoch"], 3):
            loader.set_epoch(epoch)
            for (x1, x2), _ in loader:
                loss = model(x1, x2)
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
                losses.append(float(loss.detach()))
                if not resume and len(losses) == stop:
                    accelerator.save_state(str(tmp_path / "state"))
        return losses

    unbroken = run(resume=False)
    assert run(resume=True) == unbroken[stop:] and len(unbroken) == 15


# ---- precision, wrappers ----


def test_scoring_runs_in_the_accelerators_precision(photos: Path) -> None:
    accelerator, model, optimizer = prepared(mixed_precision="bf16")
    loader = hard_loader(photos, model)
    got = prepare_loader(accelerator, loader)
    assert loader.selector.autocast == torch.bfloat16
    # products of bfloat16 are the same for both, since it is one forward; cosines in float32 of values that were rounded once
    witness = Witness(
        loader,
        {"encoder": model.encoder, "predictor": model.predictor},
        pair_losses,
        tolerance=TOLERANCE,
        context=lambda: torch.autocast("cpu", torch.bfloat16),
    )
    seen: list[torch.dtype] = []
    model.encoder[-1].register_forward_hook(lambda module, given, output: seen.append(output.dtype))
    losses, _ = train(accelerator, model, optimizer, got, 2)
    assert witness.checked == len(losses) == 10 and set(seen) == {torch.bfloat16}


@pytest.mark.parametrize(("precision", "own", "expected"), [("no", None, None), ("bf16", torch.float16, torch.float16)])
def test_an_autocast_of_its_own_is_kept(precision: str, own: Any, expected: Any, photos: Path) -> None:
    accelerator, model, _ = prepared(mixed_precision=precision)
    loader = hard_loader(photos, model, {"autocast": own})
    prepare_loader(accelerator, loader)
    assert loader.selector.autocast is expected


def test_autocast_that_is_switched_off_is_so_while_scoring(photos: Path) -> None:
    accelerator, model, _ = prepared(mixed_precision="bf16", kwargs_handlers=[accelerate.utils.AutocastKwargs(enabled=False)])
    loader = hard_loader(photos, model)
    prepare_loader(accelerator, loader)
    assert loader.selector.autocast is None


class Pair(nn.Module):
    """Called as ``model(pixels)``, and compiled as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = small_simsiam()

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        z = self.inner.encoder(pixels)
        return self.inner.predictor(z), z


@pytest.mark.parametrize("whole", [False, True])
def test_a_model_that_accelerate_compiles_is_scored_all_the_same(whole: bool, photos: Path) -> None:
    """With the "eager" backend, which traces and guards as any does."""
    accelerator = accelerate.Accelerator(cpu=True, dynamo_backend="eager", mixed_precision="bf16")
    plain = Pair() if whole else small_simsiam()
    model = accelerator.prepare(plain)
    assert model is not plain
    loader = prepare_loader(accelerator, hard_loader(photos, model))
    expected = hard_loader(photos, Pair() if whole else small_simsiam(), {"autocast": torch.bfloat16})
    for got, batch in zip(loader, expected, strict=True):
        assert torch.equal(got.selection.pair, batch.selection.pair)
        assert loader.selector.is_fresh(got.selection)


# ---- what is refused ----


def test_what_cannot_be_prepared_is_refused(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accelerator, model, _ = prepared()
    with pytest.raises(hvs.HvsError, match=r"got DataLoader; pass others to accelerator\.prepare"):
        prepare_loader(accelerator, DataLoader([1]))  # type: ignore[arg-type]
    loader = hard_loader(photos, model)
    monkeypatch.setattr(type(loader), "device", torch.device("cuda", 0))
    with pytest.raises(hvs.HvsError, match=r"on cuda:0; make it with ViewLoader\(\.\.\., device=accelerator\.device\)"):
        prepare_loader(accelerator, loader)
    monkeypatch.undo()
    monkeypatch.setattr(type(accelerator), "split_batches", True)
    prepare_loader(accelerator, loader)  # one process: a batch is a batch
    monkeypatch.setattr(type(accelerator), "num_processes", 4)
    with pytest.raises(hvs.HvsError, match="pass batch_size / 4"):
        prepare_loader(accelerator, loader)
