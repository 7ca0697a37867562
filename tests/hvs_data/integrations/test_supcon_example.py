"""docs/examples/supcon.py: labels reach selection and loss, in a loop as that of SupContrast."""

# Axes: B image, V view, D embedding.

from __future__ import annotations

import torch

from example_scripts import EXAMPLES, falls, write_photos
from lightly_formulas import table
from multi_crop_terms import Candidates
from pair_formulas import unit
from script_twins import run_before, run_script, run_with_random_pairs, run_witnessed

SMALL = ("--batch-size", 8, "--size", 24)


def pair_losses(labels, z):
    """[B, V, V] of projections [B, V, D]: anchor by anchor, as the paper's equation 2."""

    def loss(i, j):
        views, classes = torch.cat([unit(z[:, i]), unit(z[:, j])]), torch.cat([labels, labels])
        losses = []
        for n, anchor in enumerate(views):
            others = [m for m in range(len(views)) if m != n]
            logits = views[others] @ anchor / 0.1
            positive = classes[others] == classes[n]
            losses.append(logits.exp().sum().log() - logits[positive].mean())
        return torch.stack(losses).view(2, -1).mean(0)

    return table(z.shape[1], loss)


def test_it_trains_on_the_hardest_pairs_of_every_step(tmp_path):
    seen = Candidates()

    def losses(parts, views):
        z = parts["model"](torch.cat(views)).unflatten(0, (len(views), -1)).transpose(0, 1)
        exact, rounded = (pair_losses(seen.batch.labels, z.to(dtype)) for dtype in (torch.float64, torch.float32))
        return exact, 4 * float((exact - rounded).nan_to_num().abs().max())

    run = run_witnessed(
        "supcon.py",
        write_photos(tmp_path, 32),
        *("--epochs", 6),
        *SMALL,
        modules_of=lambda objective: {"model": objective.encoder},
        pair_losses=losses,
        with_batch=seen.remember,
    )
    assert run.witness.checked == len(run.losses) == 6 * 4 and set(seen.batch.labels.tolist()) == {0, 1}
    assert falls(run.losses)
    assert min(run.witness.gained) >= -1e-4 and sum(run.witness.gained) > 0


def test_random_pairs_train_as_the_same_views_in_a_data_loader(tmp_path):
    photos = write_photos(tmp_path, 32)
    run = run_with_random_pairs("supcon.py", photos, *SMALL)
    assert len(run.losses) == len(run.batches) == 4
    assert run_before("supcon.py", run.batches, photos, *SMALL).losses == run.losses


def test_it_ran_before(tmp_path):
    run = run_script(EXAMPLES / "before" / "supcon.py", write_photos(tmp_path, 16), *SMALL)
    assert len(run.losses) == 2 and torch.tensor(run.losses).isfinite().all()
