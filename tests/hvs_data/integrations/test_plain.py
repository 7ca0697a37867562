"""docs/examples/plain.py: a loop as that of facebookresearch/simsiam."""

# Axes: B image, V view, D embedding.

import torch

from example_scripts import EXAMPLES, falls, write_photos
from lightly_methods import cosine, table
from script_twins import run_before, run_script, run_with_random_pairs, run_witnessed

SMALL = ("--batch-size", 8, "--size", 24, "--lr", 3.0)


def modules_of(objective):
    return {"encoder": objective.encoder, "predictor": objective.predictor}


def pair_losses(networks, views):
    """-1/2 [cos(p_i, z_j) + cos(p_j, z_i)], all views in one batch, whose statistics normalise them."""
    z = networks["encoder"](torch.cat(views))
    p, z = (each.double().unflatten(0, (len(views), -1)).transpose(0, 1) for each in (networks["predictor"](z), z))
    return table(len(views), lambda i, j: -(cosine(p[:, i], z[:, j]) + cosine(p[:, j], z[:, i])) / 2)


def test_it_trains_on_the_hardest_pairs_of_every_step(tmp_path):
    run = run_witnessed("plain.py", write_photos(tmp_path, 32), "--epochs", 4, *SMALL, modules_of=modules_of, pair_losses=pair_losses)
    assert run.witness.checked == len(run.losses) == 4 * 4
    assert falls(run.losses)
    assert min(run.witness.gained) >= 0 and sum(run.witness.gained) > 0


def test_random_pairs_train_as_the_same_views_in_a_data_loader(tmp_path):
    photos = write_photos(tmp_path, 32)
    run = run_with_random_pairs("plain.py", photos, *SMALL)
    assert len(run.losses) == len(run.batches) == 4
    assert run_before("plain.py", run.batches, photos, *SMALL).losses == run.losses


def test_it_ran_before(tmp_path):
    run = run_script(EXAMPLES / "before" / "plain.py", write_photos(tmp_path, 16), *SMALL)
    assert len(run.losses) == 2 and falls([1.0, *run.losses, -1.0])
