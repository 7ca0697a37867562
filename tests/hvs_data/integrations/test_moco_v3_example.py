"""docs/examples/moco_v3.py: a loop as that of facebookresearch/moco-v3, whose forward moves the momentum encoder."""

# Axes: B image, V view, D embedding.

from __future__ import annotations

import torch

import lightly_formulas as formulas
from example_scripts import EXAMPLES, write_photos
from hardest_sets import in_both_types
from script_twins import run_before, run_script, run_with_random_pairs, run_witnessed

SMALL = ("--batch-size", 8, "--size", 24)


def modules_of(objective):
    names = ("encoder", "predictor", "momentum_encoder")
    return {name: getattr(objective, name) for name in names}


def pair_losses(parts, views):
    q = parts["predictor"](parts["encoder"](torch.cat(views)))
    k = parts["momentum_encoder"](torch.cat(views))
    outputs = [output.unflatten(0, (len(views), -1)).transpose(0, 1) for output in (q, k)]
    return in_both_types(lambda given: formulas.moco_v3(*given, 0.2), outputs)


def test_it_trains_on_the_hardest_pairs_of_every_step(tmp_path):
    run = run_witnessed("moco_v3.py", write_photos(tmp_path, 32), "--epochs", 6, *SMALL, modules_of=modules_of, pair_losses=pair_losses)
    assert run.witness.checked == len(run.losses) == 6 * 4
    assert torch.tensor(run.losses).isfinite().all()
    assert min(run.witness.gained) >= -1e-4 and sum(run.witness.gained) > 0


def test_random_pairs_train_as_the_same_views_in_a_data_loader(tmp_path):
    photos = write_photos(tmp_path, 32)
    run = run_with_random_pairs("moco_v3.py", photos, *SMALL)
    assert len(run.losses) == len(run.batches) == 4
    assert run_before("moco_v3.py", run.batches, photos, *SMALL).losses == run.losses


def test_it_ran_before(tmp_path):
    run = run_script(EXAMPLES / "before" / "moco_v3.py", write_photos(tmp_path, 16), *SMALL)
    assert len(run.losses) == 2 and torch.tensor(run.losses).isfinite().all()
