"""What must hold on several ranks: the checks in workers/, run by 2 and by 4 gloo processes that torchrun starts on this machine.

All checks of a launch run one after another in the same processes, since starting these takes longer than most checks. A check that
fails on one rank ends the launch, and those after it are reported as not finished.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import hvs_data as hvs
from hvs_data.loaders.order import EpochOrder
from ranks import checks_of, launch

WORKERS = Path(__file__).parent / "workers"
SCRIPTS = [script for script in sorted(WORKERS.glob("*.py")) if checks_of(script) and script.stem != "on_cuda"]
CHECKS = [pytest.param(script.stem, check, id=f"{script.stem}-{check[6:]}") for script in SCRIPTS for check in checks_of(script)]

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="torch is built without distributed")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """22 images: no multiple of a batch on 2 or 4 ranks."""
    root = tmp_path_factory.mktemp("photos")
    draw = np.random.default_rng(5)
    for number in range(22):
        pixels = draw.integers(0, 256, (20 + number, 40 - number, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{number:02}.png")
    return root


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A folder in which one launch leaves what the next one takes up."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory, photos, shared):
    return launch(2, SCRIPTS, tmp_path_factory.mktemp("two"), photos, shared)


@pytest.fixture(scope="module")
def four_ranks(tmp_path_factory, photos, shared, two_ranks):
    return launch(4, SCRIPTS, tmp_path_factory.mktemp("four"), photos, shared)


@pytest.mark.parametrize(("script", "check"), CHECKS)
def test_on_two_ranks(script, check, two_ranks):
    assert two_ranks[script, check] == ""


@pytest.mark.parametrize(("script", "check"), CHECKS)
def test_on_four_ranks(script, check, four_ranks):
    assert four_ranks[script, check] == ""


@pytest.mark.parametrize("ranks", [2, 4])
def test_one_process_goes_on_where_several_stopped(ranks, photos, shared, two_ranks, four_ranks):
    stop = json.loads((shared / f"{ranks}.json").read_text())
    loader = hvs.ViewLoader(photos, hvs.recipes.simsiam(size=8), 5, seed=stop["state"]["seed"], engine="reference", num_threads=2)
    loader.load_state_dict(stop["state"])
    rest = [index for batch in loader for index in batch.index.tolist()]
    order = EpochOrder(len(loader.dataset), stop["state"]["seed"], stop["state"]["epoch"])
    assert stop["samples"] + rest == order(range(len(loader.dataset))).tolist()


def test_a_rank_that_fails_is_reported_and_holds_up_nothing(tmp_path):
    script = tmp_path / "failing.py"
    script.write_text(
        "import torch.distributed as dist\n"
        "def check_first(*_): pass\n"
        "def check_second(*_):\n    assert dist.get_rank() == 0, 'on purpose'\n"
        "def check_third(*_): pass\n"
    )
    found = launch(2, [script], tmp_path)
    assert found["failing", "check_first"] == ""
    assert "rank 1" in found["failing", "check_second"] and "on purpose" in found["failing", "check_second"]
    assert "not finished" in found["failing", "check_third"]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_device(tmp_path):
    """Two ranks on one device, which only gloo allows."""
    found = launch(2, [WORKERS / "on_cuda.py"], tmp_path)
    assert "".join(found.values()) == ""
