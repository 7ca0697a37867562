"""``hvs-data range``: the numbers of a recipe from a folder of arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import hvs_data as hvs
from hvs_data.commands.main import main


def test_the_printed_lines_make_the_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw = np.random.default_rng(0)
    images = [draw.integers((0, 1000), (500, 4000), (32, 32, 2)).astype(np.uint16) for _ in range(6)]
    for number, image in enumerate(images):
        np.save(tmp_path / f"{number}.npy", image)
    np.save(tmp_path / "other.npy", images[0][..., :1])
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY")
    assert main(["range", str(tmp_path), "--image", "npy", "--percentiles", "1", "99"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(
        "# 6 images of uint16, 2 channels, percentiles 1 and 99; 2 of another kind, or that cannot be read, left out\n"
    )
    names = {"recipe": hvs.recipes.simsiam(4)}
    exec(printed, names)
    recipe = names["recipe"]
    pool = np.stack(images).reshape(-1, 2)
    # all pixels of these small images are looked at; printed to six digits, and four
    expected = np.percentile(pool, (1, 99), axis=0).T
    np.testing.assert_allclose(recipe.value_range, expected, rtol=1e-5)
    unit = ((pool - expected[:, 0]) / (expected[:, 1] - expected[:, 0])).clip(0, 1)
    np.testing.assert_allclose((recipe.mean, recipe.std), (unit.mean(0), unit.std(0)), rtol=1e-3)
    assert hvs.recipes.from_dict(hvs.recipes.to_dict(recipe)) == recipe


def test_what_gives_no_range_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "0.npy", np.zeros((4, 4, 2), np.uint16))
    for arguments, message in (
        (["--image", "npy"], "values that differ in every channel, got 0 at both percentiles, (0.1, 99.9), of channel 0"),
        (["--image", "npy", "--percentiles", "9", "1"], "--percentiles must satisfy 0 <= LOW < HIGH <= 100, got 9 1"),
        ([], "hvs.open_source(folder, image='npy') takes files of that one"),
    ):
        assert main(["range", str(tmp_path), *arguments]) == 2
        assert message in capsys.readouterr().err
