"""docs/examples/distributed.py under torchrun: hardest pairs on every rank, and a restart that goes on exactly, by DDP and by FSDP2."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

import example_scripts

pytestmark = [
    pytest.mark.skipif(not torch.distributed.is_available(), reason="torch is built without distributed"),
    pytest.mark.slow,
]
PHOTOS, BATCH, STEPS, SAVED = 40, 4, 5, 3  # images, images of a rank's batch, steps of an epoch on two ranks, steps before the checkpoint
SUPPORT = os.path.dirname(example_scripts.__file__)


def run(ranks, folder, photos, *arguments):
    """What each rank of the script saw."""
    folder.mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}", "--rdzv-backend=c10d"]
    command += ["--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1", os.path.join(SUPPORT, "distributed_example.py"), str(folder)]
    command += [str(photos), "--epochs=2", f"--batch-size={BATCH}", "--size=24", "--lr=0.5", f"--save-every={SAVED}", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": SUPPORT}
    done = subprocess.run(command, env=environment, cwd=folder.parent, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(ranks)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return example_scripts.write_photos(tmp_path_factory.mktemp("photos"), PHOTOS)


@pytest.fixture(scope="module", params=[[], ["--fsdp"]], ids=["ddp", "fsdp2"])
def whole(request, photos, tmp_path_factory):
    """A run of two epochs, which has left the checkpoint of the second one's third step; its folder and arguments."""
    folder = tmp_path_factory.mktemp("whole")
    return run(2, folder / "seen", photos, *request.param), folder, request.param


def indices(ranks, epoch):
    return [index for rank in ranks for batch in rank["batches"] if batch["epoch"] == epoch for index in batch["index"]]


def test_every_rank_has_its_share_of_each_epoch_and_the_same_steps(whole):
    ranks, _, _ = whole
    for epoch in range(2):
        assert sorted(indices(ranks, epoch)) == list(range(PHOTOS))
    assert all(len(rank["losses"]) == 2 * STEPS for rank in ranks)
    assert all(example_scripts.falls(rank["losses"]) for rank in ranks)


def test_every_rank_trains_on_its_hardest_pairs_of_each_step(whole):
    ranks, _, arguments = whole
    if arguments:
        pytest.skip("a witness copies the model, which shards cannot be")
    for rank in ranks:
        assert rank["checked"] == [2 * STEPS]
        assert min(rank["gained"]) >= 0 and sum(rank["gained"]) > 0


def test_a_restart_goes_on_as_if_nothing_had_happened(whole, photos):
    ranks, folder, arguments = whole
    for before, after in zip(ranks, run(2, folder / "again", photos, "--resume", *arguments), strict=True):
        left = STEPS - SAVED
        assert after["batches"] == before["batches"][-left:]
        assert after["losses"] == before["losses"][-left:]


def test_a_restart_on_one_process_trains_on_the_images_that_were_left(whole, photos):
    ranks, folder, arguments = whole
    left = {index for rank in ranks for batch in rank["batches"][-(STEPS - SAVED) :] for index in batch["index"]}
    (alone,) = run(1, folder / "alone", photos, "--resume", "--save-every=99", *arguments)
    assert {batch["epoch"] for batch in alone["batches"]} == {1}
    assert sorted(index for batch in alone["batches"] for index in batch["index"]) == sorted(left)


def test_a_checkpoint_of_an_epochs_end_goes_on_with_the_next_epoch(photos, tmp_path):
    steps = PHOTOS // BATCH
    run(1, tmp_path / "first", photos, "--epochs=1", f"--save-every={steps}")
    (rest,) = run(1, tmp_path / "rest", photos, "--resume", "--save-every=99")
    assert len(rest["losses"]) == steps
    assert sorted(indices([rest], 1)) == list(range(PHOTOS))
