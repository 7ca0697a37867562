"""docs/examples/plain.py: a loop as that of facebookresearch/simsiam."""

# Axes: B image, V view, D embedding.

from example_scripts import EXAMPLES, falls, write_photos
from script_twins import run_before, run_script, run_with_random_pairs, run_witnessed
from small_simsiam import pair_losses

SMALL = ("--batch-size", 8, "--size", 24, "--lr", 3.0)


def modules_of(objective):
    return {"encoder": objective.encoder, "predictor": objective.predictor}


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
