"""Decoding and loading the odd and broken images that others collected; see gather.py, which fetches them."""

from __future__ import annotations

import importlib.util
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import hvs_data as hvs
from hvs_data.pipelines.decode import decode_image
from hvs_data.sources.folder import open_paths
from isolated import run_isolated
from verdicts import EQUAL, KEPT, NOT_EIGHT_BITS

pytestmark = pytest.mark.slow

# Least numbers of files, and of those among them that decode, so that an empty or half-gathered folder does not pass.
SETS = {"pillow": (900, 500), "pngsuite": (150, 140), "exif": (16, 16)}
# The largest images that the default limit lets pass, decoded twice, for the comparison: 2**27 pixels of 3 bytes, and Pillow's of 4.
HEADROOM_MIB = 2048


def gathered(name: str) -> Path:
    spec = importlib.util.spec_from_file_location("gather", Path(__file__).with_name("gather.py"))
    assert spec is not None and spec.loader is not None
    gather = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gather)
    folder = gather.default_folder() / name
    if not folder.is_dir():
        pytest.skip("not gathered on this machine; python tests/odd_images/gather.py does it")
    return folder


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", SETS)
def test_each_is_decoded_as_by_pillow_or_refused_with_a_reason(name: str) -> None:
    folder = gathered(name)
    files = files_of(folder)
    least, least_decoded = SETS[name]
    outcomes = list(run_isolated("verdicts:verdict_on_file", map(str, files), headroom_mib=HEADROOM_MIB))
    broken = {}
    verdicts: Counter[str] = Counter()
    for path, outcome in zip(files, outcomes, strict=True):
        if "died" in outcome or not set(outcome["result"]) <= set(KEPT):
            broken[str(path.relative_to(folder))] = outcome
        else:
            verdicts[outcome["result"][0]] += 1
    assert not broken, json.dumps(broken, indent=1)
    assert len(files) >= least and verdicts[EQUAL] + verdicts[NOT_EIGHT_BITS] >= least_decoded, verdicts
    print(name, dict(verdicts), "slowest", max(outcome["seconds"] for outcome in outcomes), "s, grown", outcomes[-1]["grown_mib"], "MiB")


@pytest.mark.parametrize("name", SETS)
def test_the_loader_goes_through_all_of_them(name: str, tmp_path: Path) -> None:
    files = files_of(gathered(name))
    log = tmp_path / "quarantine.jsonl"
    recipe = hvs.recipes.simsiam(candidates=2, size=16)
    # files, whatever their names say: Pillow's include archives
    loader = hvs.ViewLoader(open_paths(files), recipe, batch_size=16, shuffle=False, max_bad_share=1, quarantine=log)
    batches = list(loader)
    assert sum(len(batch.labels) for batch in batches) == len(files)
    assert all(torch.isfinite(view).all() for batch in batches for view in batch.views)
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    bad = {line["path"]: line["reason"] for line in lines}
    assert len(bad) == len(loader.quarantine) == loader.counters["bad"]
    for path in files:
        data = path.read_bytes()
        try:
            decode_image(data)
        except hvs.DecodeError as error:
            assert bad.pop(os.fspath(path)) == f"DecodeError: {error}"
    assert not bad
    # each position has its own image, or another one that can be read
    for position, index in enumerate(torch.cat([batch.index for batch in batches]).tolist()):
        assert index == position or position in loader.quarantine.reasons


@pytest.mark.parametrize("kind", ["Landscape", "Portrait"])
def test_all_orientations_show_the_same_picture(kind: str) -> None:
    folder = gathered("exif")
    upright = [decode_image((folder / f"{kind}_{number}.jpg").read_bytes(), exif_orientation=True) for number in range(1, 9)]
    small = [np.asarray(Image.fromarray(pixels).resize((60, 40), Image.Resampling.BOX)).astype(float) for pixels in upright]
    for number, pixels in enumerate(small):
        # a number is painted into each picture, and all are JPEG: the average differs little; of another orientation, by tens
        assert np.abs(pixels - small[0]).mean() < 8, number + 1
