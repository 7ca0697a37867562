"""The law of a converted recipe against torchvision's own draws and pixels, and what converting imports."""

# Axes: N draws, B image, V view, S side.

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms as v1
from torchvision.transforms import v2

import hvs_data as hvs
from hvs_data.types import ViewParams
from render_bounds import assert_within, normalize_error, row_error, solarize_error
from render_material import photo

DRAWS = 4000
# Of all comparisons here, about 100, none may fail by chance but with a probability of 1e-4: each may with ALPHA.
ALPHA = 1e-6


# --- distributions ------------------------------------------------------------------------------------------------------


def largest_distance(first: Sequence[float], second: Sequence[float]) -> float:
    """Of the distribution functions of two samples."""
    first, second = np.sort(first), np.sort(second)
    at = np.concatenate([first, second])
    return float(abs(np.searchsorted(first, at, "right") / len(first) - np.searchsorted(second, at, "right") / len(second)).max())


def assert_same_distribution(first: Any, second: Any) -> None:
    # Dvoretzky, Kiefer, Wolfowitz with Massart's constant: a sample of n is further than e from its law with a probability of at most
    # 2 exp(-2 n e^2), for discrete laws too. Half of ALPHA for each sample.
    bound = sum(math.sqrt(math.log(4 / ALPHA) / (2 * len(sample))) for sample in (first, second))
    assert largest_distance(np.asarray(first), np.asarray(second)) <= bound


def assert_probability(happened_N: Tensor, p: float) -> None:
    # Hoeffding: the frequency is further than e from p with a probability of at most 2 exp(-2 n e^2)
    assert abs(happened_N.double().mean().item() - p) <= math.sqrt(math.log(2 / ALPHA) / (2 * len(happened_N)))


def random_pipeline(seed: int) -> tuple[v2.Compose, dict[str, Any]]:
    """A pipeline with drawn numbers, and its parts by name, to be asked for draws of their own."""
    draw = np.random.default_rng(seed)
    low, high = sorted(draw.uniform(0.05, 1, 2))
    narrow, wide = sorted(np.exp(draw.uniform(-1, 1, 2)))
    sigma = sorted(draw.uniform(0.1, 3, 2))
    p = dict(zip(("flip", "jitter", "gray", "blur", "solarize"), draw.uniform(0.1, 0.9, 5).tolist(), strict=True))
    parts = {
        "crop": v2.RandomResizedCrop(32, scale=(low, high), ratio=(narrow, wide)),
        "jitter": v2.ColorJitter(*draw.uniform(0.1, 1.3, 3).tolist(), float(draw.uniform(0.05, 0.5))),
        "blur": v2.GaussianBlur(23, tuple(sigma)),
    }
    steps = [
        parts["crop"],
        v2.RandomApply([parts["jitter"]], p["jitter"]),
        v2.RandomGrayscale(p["gray"]),
        v2.RandomApply([parts["blur"]], p["blur"]),
        v2.RandomSolarize(128, p["solarize"]),
    ]
    steps.insert(int(draw.integers(len(steps) + 1)), v2.RandomHorizontalFlip(p["flip"]))
    return v2.Compose([*steps, v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]), {**parts, "p": p}


@pytest.mark.parametrize("seed", range(6))
def test_rows_are_drawn_as_torchvision_draws(seed: int) -> None:
    transforms, parts = random_pipeline(seed)
    height, width = [(37, 53), (200, 150), (30, 120), (96, 31), (64, 64), (11, 13)][seed]
    one = [1] * DRAWS
    rows = hvs.sample_views(
        hvs.recipe_from(transforms),
        seed=seed,
        epoch=0,
        index=list(range(DRAWS)),
        height=[height * each for each in one],
        width=[width * each for each in one],
    )
    torch.manual_seed(seed)
    image = torch.empty(3, height, width, dtype=torch.uint8)
    drawn = [parts["crop"].make_params([image]) for _ in one]
    for position, side in enumerate(("top", "left", "height", "width")):
        assert_same_distribution(rows.box[:, 0, position].numpy(), [each[side] for each in drawn])
    for name, happened in happenings(rows).items():
        assert_probability(happened, parts["p"][name])
    factors = [parts["jitter"].make_params([]) for _ in one]
    jittered = happenings(rows)["jitter"]
    for name in ("brightness", "contrast", "saturation", "hue"):
        assert_same_distribution(getattr(rows, name)[jittered, 0].numpy(), [each[f"{name}_factor"] for each in factors])
    # the first, and the last operation
    for place in (0, 3):
        assert_same_distribution(rows.order[jittered, 0, place].numpy(), [int(each["fn_idx"][place]) for each in factors])
    blurred = happenings(rows)["blur"]
    sigmas = [parts["blur"].make_params([])["sigma"][0] for _ in one]
    assert_same_distribution(rows.blur_sigma[blurred, 0].numpy(), sigmas)


def happenings(rows: ViewParams) -> dict[str, Tensor]:
    """Which of the random operations happened, bool [N] each, of the only view."""
    return {
        "flip": rows.flip[:, 0],
        "jitter": rows.brightness[:, 0] != 1,
        "gray": rows.gray[:, 0],
        "blur": rows.blur_sigma[:, 0] > 0,
        "solarize": rows.solarize[:, 0],
    }


def test_another_law_would_be_noticed() -> None:
    """The bounds are not so wide that anything passes: .1 in a probability, or a scale from .3 instead of .2, is seen."""
    draw = np.random.default_rng(0)
    with pytest.raises(AssertionError):
        assert_probability(torch.from_numpy(draw.random(DRAWS) < 0.5), 0.6)
    with pytest.raises(AssertionError):
        assert_same_distribution(draw.uniform(0.2, 1, DRAWS), draw.uniform(0.3, 1, DRAWS))


# --- pixels --------------------------------------------------------------------------------------------------------------

# torchvision's grey of tensors has .2989 for .299
GRAY_GAP = 1e-4
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.3, 0.25]


@pytest.mark.parametrize(
    "order", ["crop flip gray blur solarize", "flip crop blur gray solarize", "crop solarize flip", "crop blur", "crop gray"]
)
def test_a_pipeline_without_chance_gives_its_pixels(order: str) -> None:
    """Every part is always applied with fixed numbers: rendering equals torchvision's pipeline, run in float64."""
    size = (24, 33) if order == "crop blur" else 24
    parts = {
        "crop": v2.RandomResizedCrop(size, scale=(1, 1), ratio=(1, 1)),
        "flip": v2.RandomHorizontalFlip(1.0),
        "gray": v2.RandomGrayscale(1.0),
        "blur": v2.GaussianBlur(7, 1.25),
        "solarize": v2.RandomSolarize(128 / 255, p=1.0),
    }
    to_float = [v2.ToImage(), v2.ToDtype(torch.float64, scale=True)]
    names = order.split()
    transforms = v2.Compose([*to_float, *(parts[name] for name in names), v2.Normalize(MEAN, STD)])
    with pytest.warns(UserWarning, match="float64"):
        recipe = hvs.recipe_from(transforms)
    images = [photo(side, side, seed=side) for side in (48, 61, 24, 9)]
    sides = [len(image) for image in images]
    rows = hvs.sample_views(recipe, seed=3, epoch=1, index=list(range(4)), height=sides, width=sides)
    pixels = hvs.render(hvs.ImageBatch(images), rows, size=size, engine="reference", dtype=torch.float32)
    folded = v2.Compose([*to_float, *(parts[name] for name in names if name != "solarize")])
    for b, image in enumerate(images):
        expected = transforms(image.permute(2, 0, 1))
        error: Tensor | float = row_error(rows, b, 0, size, torch.float32, gray_gap=GRAY_GAP)
        if "solarize" in names:
            error = solarize_error(folded(image.permute(2, 0, 1)), error, 128 / 255, torch.float32)
        assert_within(pixels[b, 0], expected, normalize_error(error, STD, torch.float32))


def test_pillows_pixels_are_near() -> None:
    """The usual pipeline of Pillow images, jitter left out: off by the rounding after each of its operations."""
    size = 32
    crop = v1.RandomResizedCrop(size, scale=(1, 1), ratio=(1, 1))
    recipe = hvs.recipe_from(v1.Compose([crop, v1.RandomGrayscale(1.0), v1.RandomHorizontalFlip(1.0), v1.ToTensor()]))
    image = photo(61, 61)
    rows = hvs.sample_views(recipe, seed=0, epoch=0, index=[0], height=[61], width=[61])
    pixels = hvs.render(hvs.ImageBatch([image]), rows, size=size, engine="fused")[0, 0]
    expected = v1.Compose([crop, v1.RandomGrayscale(1.0), v1.RandomHorizontalFlip(1.0), v1.ToTensor()])(Image.fromarray(image.numpy()))
    # Pillow rounds after both passes of its resize and after the grey: three halves of a level, as positive weights that sum to 1 hand
    # them on. Its weights of 22 bits add 2e-6, those of 16 bits of the grey, and float32 here, 1e-5.
    assert_within(pixels, expected, 1.5 / 255 + 1.2e-5)


# --- imports -------------------------------------------------------------------------------------------------------------


def test_converting_imports_nothing() -> None:
    program = """
import sys
import hvs_data as hvs
from torchvision import transforms as T
from lightly.transforms import DINOTransform

one_view = T.Compose([T.RandomResizedCrop(8), T.ColorJitter(.4), T.GaussianBlur(3), T.ToTensor(), T.Normalize([.5] * 3, [1.] * 3)])
hvs.recipe_from
before = set(sys.modules)
hvs.recipe_from([one_view] * 2)
hvs.recipe_from(DINOTransform())
print(*(set(sys.modules) - before))
"""
    assert run(program) == []


def test_the_helper_itself_imports_no_package_of_transforms() -> None:
    assert run("import sys, hvs_data as hvs; hvs.recipe_from; print(*{'torchvision', 'lightly', 'PIL.Image'} & set(sys.modules))") == []


def run(program: str) -> list[str]:
    """The words that a program prints."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.split()
