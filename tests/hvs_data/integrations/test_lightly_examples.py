"""docs/examples/lightly_*.py of more than one method: every batch the hardest, the losses of a plain dataset, and training."""

# Axes: B image, V view, D embedding, S set of views.

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import hvs_data as hvs
import lightly_formulas as formulas
from example_scripts import EXAMPLES, falls, write_photos
from example_scripts import run_script as run_as_it_stands
from hardest_sets import gain_of_the_hardest, in_both_types
from lightly_methods import Copyable
from script_twins import run_before, run_script, run_with_random_pairs, run_witnessed

TWO_VIEWS = ("--batch-size", 12, "--size", 32)
MULTI_CROP = ("--batch-size", 12, "--size", 32, 16)
NETWORKS = (("encoder", "projector"), ("target_encoder", "target_projector"), ("momentum_encoder", "momentum_projector"))


class Seen:
    """The latest batch of a script and its objective; momentum networks as they were when it was chosen."""

    def remember(self, batch: hvs.Batch, loader: hvs.HardViewLoader) -> None:
        self.batch, self.objective = batch, loader.selector.objective
        for part in self.momentum:
            part.note()

    def modules_of(self, objective: Any) -> dict[str, nn.Module]:
        names = [*(name for names in NETWORKS for name in names), "predictor", "prototypes"]
        found = {name: getattr(objective, name, None) for name in names}
        momentum = {name: Copyable(part, True) for name, part in found.items() if part and name.startswith(("target", "momentum"))}
        self.momentum = list(momentum.values())
        return {name: momentum.get(name, part) for name, part in found.items() if part}


def outputs_of(parts: Mapping[str, nn.Module], views: list[Tensor]) -> list[Tensor]:
    """Projections [B, V, D] of the networks that there are, and predictions; all views of a size in one batch."""
    sizes = list(dict.fromkeys(view.shape[-1] for view in views))
    groups = [torch.cat([view for view in views if view.shape[-1] == size]) for size in sizes]

    def through(*names: str) -> Tensor:
        found = []
        for pixels in groups:
            for name in names:
                pixels = parts[name](pixels)
            found.append(pixels.unflatten(0, (-1, len(views[0]))))
        return torch.cat(found).transpose(0, 1)

    networks = [names for names in NETWORKS if names[0] in parts]
    outputs = [through(*names) for names in networks] + ([through(*NETWORKS[0], "predictor")] if "predictor" in parts else [])
    return [parts["prototypes"](nn.functional.normalize(z, dim=-1)) for z in outputs] if "prototypes" in parts else outputs


Losses = Callable[..., Tensor]


def queue_of(objective: Any) -> Tensor:
    queue_DK = objective.queue()
    return queue_DK.T if queue_DK.shape[0] < queue_DK.shape[1] else queue_DK


# From the outputs and what the trainer's loss keeps, to the loss of every pair.
PAIRS: dict[tuple[str, ...], Losses] = {
    ("lightly_two_views.py", "--method", "simclr"): lambda seen, z: formulas.simclr(z, 0.5),
    ("lightly_two_views.py", "--method", "dcl"): lambda seen, z: formulas.dcl(z, 0.1),
    ("lightly_two_views.py", "--method", "dclw"): lambda seen, z: formulas.dcl(z, 0.1, 0.5),
    ("lightly_two_views.py", "--method", "vicreg"): lambda seen, z: formulas.vicreg(z, 25),
    ("lightly_two_views.py", "--method", "barlow_twins"): lambda seen, z: formulas.barlow_twins(z, 0.005),
    ("lightly_momentum.py", "--method", "byol"): lambda seen, z, target, p: formulas.byol(p, target),
    ("lightly_momentum.py", "--method", "moco"): lambda seen, q, k: formulas.moco(q, k, queue_of(seen.objective), 0.2),
    ("lightly_momentum.py", "--method", "tico"): lambda seen, z, m: formulas.tico(z, m, seen.objective.covariance(), 0.9, 8),
    ("lightly_nnclr.py",): lambda seen, z, p: formulas.nnclr(z, p, queue_of(seen.objective), 0.5),
}


def swav_of(logits: Tensor) -> Callable[[list[int]], Tensor]:
    code = torch.stack([formulas.codes(view) for view in logits.unbind(1)], 1)
    return lambda slots: formulas.swav(logits[:, slots], code[:, slots], 2)


# The same, to the loss [B] of a set of slots.
SETS: dict[tuple[str, ...], Callable[..., Callable[[list[int]], Tensor]]] = {
    ("lightly_lejepa.py",): lambda z: lambda slots: formulas.lejepa(z[:, slots], 2),
    ("lightly_swav.py",): lambda logits: swav_of(logits),
    ("lightly_fast_siam.py",): lambda z, p: lambda slots: formulas.fast_siam(z[:, slots], p[:, slots]),
    ("lightly_mmcr.py",): lambda z, target: lambda slots: formulas.mmcr(z[:, slots], target[:, slots]),
}
SCRIPTS = [*PAIRS, *SETS, ("lightly_msn.py",)]  # whose witness is in test_lightly.py


def arguments_of(script: tuple[str, ...]) -> tuple[Any, ...]:
    return *script[1:], *(MULTI_CROP if script[0] in ("lightly_lejepa.py", "lightly_msn.py", "lightly_swav.py") else TWO_VIEWS)


@pytest.mark.parametrize("script", PAIRS, ids="-".join)
def test_it_trains_on_the_hardest_pairs_of_every_step(script: tuple[str, ...], tmp_path: Path) -> None:
    seen = Seen()
    run = run_witnessed(
        script[0],
        write_photos(tmp_path, 36),
        *("--epochs", 5),
        *arguments_of(script),
        modules_of=seen.modules_of,
        pair_losses=lambda parts, views: in_both_types(lambda outputs: PAIRS[script](seen, *outputs), outputs_of(parts, views)),
        with_batch=seen.remember,
    )
    assert run.witness is not None and run.witness.checked == len(run.losses) == 5 * 3
    # the others' move with what they are compared with: a queue, a covariance, the hardest views of 11 other photos
    assert falls(run.losses) or script[-1] != "byol"
    assert torch.tensor(run.losses).isfinite().all() and min(run.witness.gained) >= -1e-4 and sum(run.witness.gained) > 0


@pytest.mark.parametrize("script", SETS, ids="-".join)
def test_it_trains_on_the_hardest_sets_of_every_step(script: tuple[str, ...], tmp_path: Path) -> None:
    seen, gained = Seen(), []

    def check(parts: Mapping[str, nn.Module], views: list[Tensor]) -> Tensor:
        outputs = outputs_of(parts, views)
        gained.append(gain_of_the_hardest(SETS[script], outputs, seen.batch.selection, seen.batch.params.role))
        return torch.zeros(len(views[0]), len(views), len(views))

    run = run_witnessed(
        script[0],
        write_photos(tmp_path, 36),
        *("--epochs", 2 if script[0] == "lightly_swav.py" else 5),  # of 5,544 sets each
        *arguments_of(script),
        modules_of=seen.modules_of,
        pair_losses=check,
        with_batch=seen.remember,
    )
    assert len(gained) == len(run.losses) and len(gained) in (6, 15) and min(gained) > 0
    assert falls(run.losses)


@pytest.mark.parametrize("script", SCRIPTS, ids="-".join)
def test_random_views_train_as_the_same_views_in_a_data_loader(script: tuple[str, ...], tmp_path: Path) -> None:
    photos = write_photos(tmp_path, 36)
    run = run_with_random_pairs(script[0], photos, *arguments_of(script))
    assert len(run.losses) == len(run.batches) == 3
    assert run_before(script[0], run.batches, photos, *arguments_of(script)).losses == run.losses


@pytest.mark.parametrize("script", SCRIPTS, ids="-".join)
def test_it_ran_before(script: tuple[str, ...], tmp_path: Path) -> None:
    run = run_script(EXAMPLES / "before" / script[0], write_photos(tmp_path, 24), *arguments_of(script))
    assert len(run.losses) == 2 and torch.tensor(run.losses).isfinite().all()


@pytest.mark.parametrize("script", sorted({script[0] for script in SCRIPTS}))
def test_it_runs_as_it_stands(script: str, tmp_path: Path) -> None:
    """With the whole ResNet."""
    losses, _ = run_as_it_stands(script, write_photos(tmp_path, 12), *arguments_of((script,)), small=False)
    assert len(losses) == 1 and torch.tensor(losses).isfinite().all()
