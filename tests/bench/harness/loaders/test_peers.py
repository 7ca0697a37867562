"""The peers draw the same distribution of views as a recipe, and give batches of the same form.

Counts and means of N random draws are compared with what the recipe says; the bound is five standard errors, which a right
implementation passes but once in two million times, plus what rounding to 8 bits and a peer's own steps can shift.
"""

# Axes: N draw, C channel, H W pixels, S side of a view.

from __future__ import annotations

import colorsys
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import hvs_data as hvs
from hvs_data.recipes.spec import ColorJitter, Recipe

pytest.importorskip("albumentations", reason="the bench extra is not installed")
pytest.importorskip("cv2", reason="the bench extra is not installed")
from harness.loaders import peers  # noqa: E402

N = 300
S = 32
SEED = 0
PEERS = ("torchvision", "albumentations", "albumentations-area")


def recipe_of(**changes: Any) -> Recipe:
    """A recipe of S x S views in which nothing happens but what is named."""
    nothing = dict(scale=(1, 1), ratio=(1, 1), flip=0.0, jitter=ColorJitter(p=0), gray=0.0, blur=0.0)
    return hvs.recipes.simsiam(size=S).with_roles(**{**nothing, **changes})


def view_of(peer: str, recipe: Recipe) -> Callable[[np.ndarray], np.ndarray]:
    """uint8 [H, W, 3] -> a view [S, S, 3] on the 0-255 scale, seeded."""
    role = recipe.roles[0]
    if peer == "torchvision":
        torch.manual_seed(SEED)
        random.seed(SEED)
        transform = peers.torchvision_view(role, recipe)
        draw: Callable[[np.ndarray], torch.Tensor] = lambda image: transform(Image.fromarray(image))  # noqa: E731
    else:
        view = peers.albumentations_view(role, recipe, area=peer == "albumentations-area")
        view.seed(SEED)
        draw = view
    mean, std = np.array(recipe.mean), np.array(recipe.std)
    return lambda image: (draw(image).permute(1, 2, 0).numpy() * std + mean) * 255


def share_bound(p: float) -> float:
    return 5 * math.sqrt(p * (1 - p) / N)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """uint8 [S, S, 3], colourful, alike in no two directions."""
    return np.random.default_rng(1).integers(0, 256, (S, S, 3), dtype=np.uint8)


def same(view: np.ndarray, image: np.ndarray) -> bool:
    # the float32 steps of normalising and back stay far below half a level
    return bool(np.abs(view - image).max() < 0.01)


@pytest.mark.parametrize("peer", PEERS)
def test_with_everything_off_a_view_is_the_image_normalised(peer: str, picture: np.ndarray) -> None:
    assert same(view_of(peer, recipe_of())(picture), picture)


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize(
    ("changes", "expected", "p"),
    [
        ({"flip": 0.5}, lambda image, view: same(view, image[:, ::-1]), 0.5),
        ({"gray": 0.2}, lambda image, view: np.ptp(view, axis=-1).max() < 0.01, 0.2),
        ({"blur": 0.5, "sigma": (1.0, 2.0)}, lambda image, view: not same(view, image), 0.5),
        ({"jitter": ColorJitter(0.8, hue=0.0)}, lambda image, view: not same(view, image), 0.8),
        ({"solarize": 0.2}, lambda image, view: not same(view, image), 0.2),
    ],
    ids=["flip", "gray", "blur", "jitter", "solarize"],
)
def test_an_operation_is_drawn_as_often_as_the_recipe_says(
    peer: str, changes: dict[str, Any], expected: Callable[[np.ndarray, np.ndarray], bool], p: float, picture: np.ndarray
) -> None:
    view = view_of(peer, recipe_of(**changes))
    share = np.mean([expected(picture, view(picture)) for _ in range(N)])
    assert abs(share - p) <= share_bound(p)


@pytest.mark.parametrize("peer", PEERS)
def test_operations_are_drawn_apart_from_each_other(peer: str, picture: np.ndarray) -> None:
    view = view_of(peer, recipe_of(flip=0.5, gray=0.5))
    views = [view(picture) for _ in range(N)]
    flipped = [np.abs(its.mean(-1) - picture[:, ::-1].mean(-1)).mean() < np.abs(its.mean(-1) - picture.mean(-1)).mean() for its in views]
    gray = [np.ptp(its, axis=-1).max() < 0.01 for its in views]
    assert abs(np.mean(np.array(flipped) & np.array(gray)) - 0.25) <= share_bound(0.25)


def flat(*color: int) -> np.ndarray:
    return np.full((S, S, 3), color, dtype=np.uint8)


def halves() -> np.ndarray:
    image = flat(60, 60, 60)
    image[:, S // 2 :] = 140
    return image


def hue_of(view: np.ndarray) -> float:
    """Hue in turns, from -0.5 to 0.5 around red."""
    hue = colorsys.rgb_to_hsv(*(view[0, 0] / 255))[0]
    return (hue + 0.5) % 1 - 0.5


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize(
    ("strength", "image", "factor", "range_", "step"),
    [
        # a level in 100 is .01; contrast and saturation end in two roundings of what is measured
        ("brightness", flat(100, 100, 100), lambda view: view[0, 0, 0] / 100, (0.6, 1.4), 0.01),
        ("contrast", halves(), lambda view: (view[0, -1, 0] - view[0, 0, 0]) / 80, (0.6, 1.4), 0.025),
        ("saturation", flat(150, 100, 100), lambda view: (view[0, 0, 0] - view[0, 0, 1]) / 50, (0.6, 1.4), 0.04),
        # red with chroma 150: a level of green or blue is 1/6/150 of a turn; Pillow has 256 hues, OpenCV 180, and the table truncates
        ("hue", flat(200, 50, 50), hue_of, (-0.1, 0.1), 1 / 180 + 1 / 900),
    ],
    ids=["brightness", "contrast", "saturation", "hue"],
)
def test_factors_of_the_jitter_are_uniform_over_the_recipes_range(
    peer: str, strength: str, image: np.ndarray, factor: Callable[[np.ndarray], float], range_: tuple[float, float], step: float
) -> None:
    none = dict(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)
    jitter = ColorJitter(**{"p": 1.0, **none, strength: getattr(ColorJitter(), strength)})
    view = view_of(peer, recipe_of(jitter=jitter))
    drawn = np.array([factor(view(image)) for _ in range(N)])
    lo, hi = range_
    deviation = (hi - lo) / math.sqrt(12)
    assert lo - step <= drawn.min() and drawn.max() <= hi + step
    assert abs(drawn.mean() - (lo + hi) / 2) <= 5 * deviation / math.sqrt(N) + step
    # the spread of N uniform draws has the relative standard error sqrt((9/5 - 1) / 4 / N)
    assert abs(drawn.std() - deviation) <= deviation * 5 * math.sqrt(0.2 / N) + step


@pytest.mark.parametrize("peer", PEERS)
def test_sigmas_of_the_blur_follow_the_recipe(peer: str) -> None:
    lo, hi = 0.1, 2.0
    edge = flat(0, 0, 0)
    edge[:, S // 2 :] = 255
    view = view_of(peer, recipe_of(blur=1.0, sigma=(lo, hi)))
    distance = np.arange(S - 1) - (S // 2 - 1)
    # the slope across an edge is the blur's line spread; its second moment is sigma squared
    variance = np.array([(np.diff(view(edge)[S // 2, :, 0]) / 255 * distance**2).sum() for _ in range(N)])
    expected = (hi**3 - lo**3) / 3 / (hi - lo)
    deviation = math.sqrt((hi**5 - lo**5) / 5 / (hi - lo) - expected**2)
    # Rounding shifts a second moment by at most half a level times the sum of |d^2 - (d-1)^2| up to d = 7 on both sides: .19.
    # A Gaussian cut off at 3.5 sigma or more lacks less than .02 of its second moment, one of sigma .28 or less all of it (.07).
    assert abs(variance.mean() - expected) <= 5 * deviation / math.sqrt(N) + 0.19 + 0.02 * expected


@pytest.mark.parametrize("peer", PEERS)
def test_solarize_inverts_from_128_on(peer: str) -> None:
    levels = np.arange(256, dtype=np.uint8)
    image = np.repeat(levels.reshape(16, 16), 2, axis=0).repeat(2, axis=1)[..., None].repeat(3, axis=2)
    view = view_of(peer, recipe_of(solarize=1.0))(image)
    assert same(view, np.where(image < 128, image, 255 - image.astype(np.int64)))


@pytest.mark.parametrize("peer", PEERS)
def test_crops_are_distributed_as_our_boxes(peer: str) -> None:
    from scipy.stats import ks_2samp

    height, width = 180, 250
    y, x = np.mgrid[:height, :width]
    image = np.stack([x, y, np.zeros_like(x)], axis=-1).astype(np.uint8)
    recipe = recipe_of(scale=(0.2, 1), ratio=(3 / 4, 4 / 3))
    view = view_of(peer, recipe)
    inner = slice(4, S - 4)  # away from the border, where resizing a ramp gives a ramp

    def side(ramp_S: np.ndarray) -> tuple[float, float]:
        """Length and start of the box along a side, from the ramp of coordinates that it cut out."""
        slope, start = np.polyfit(np.arange(S)[inner], ramp_S[inner], 1)
        return slope * S, start + 0.5 - slope / 2

    boxes = []
    for _ in range(N):
        pixels = view(image)
        (wide, left), (tall, top) = side(pixels[..., 0].mean(0)), side(pixels[..., 1].mean(1))
        boxes.append([round(top), round(left), round(tall), round(wide)])
    shape = dict(height=torch.full((N,), height), width=torch.full((N,), width))
    ours = hvs.sample_views(recipe, seed=SEED, epoch=0, index=torch.arange(N), **shape).box[:, 0].numpy()
    theirs = np.array(boxes)

    for measure in (
        lambda box: box[:, 2] * box[:, 3],
        lambda box: box[:, 3] / box[:, 2],
        lambda box: box[:, 0] / (height - box[:, 2] + 1),
        lambda box: box[:, 1] / (width - box[:, 3] + 1),
    ):
        assert ks_2samp(measure(ours), measure(theirs)).pvalue > 1e-4


# --- loaders -----------------------------------------------------------------------------------------------------------


def loader_of(peer: str, paths: list[str], recipe: Recipe, batch_size: int, workers: int) -> Any:
    if peer == "torchvision":
        return peers.torchvision_loader(paths, recipe, batch_size, workers, SEED)
    return peers.albumentations_loader(paths, recipe, batch_size, workers, SEED, area=peer == "albumentations-area")


@pytest.mark.parametrize("peer", PEERS)
def test_a_loader_gives_one_batch_a_view_of_the_recipes_sizes(peer: str, photo_folder: Path) -> None:
    paths = sorted(map(str, photo_folder.iterdir()))
    recipe = hvs.recipes.dino(size=32, local_size=16)
    loader = loader_of(peer, paths, recipe, batch_size=3, workers=1)
    batches = [batch for batch in loader]
    assert len(batches) == len(loader) == len(paths) // 3
    for views, labels in batches:
        assert [tuple(view.shape) for view in views] == [(3, 3, 32, 32)] * 2 + [(3, 3, 16, 16)] * 8
        assert all(view.dtype == torch.float32 and view.is_contiguous() for view in views)
        assert labels.tolist() == [-1] * 3
    # normalised: zero is the mean, 2.64 is white in blue
    pixels = torch.cat([view.flatten() for views, _ in batches for view in views])
    assert -2.2 < pixels.min() < -0.5 and 0.5 < pixels.max() < 2.7


@pytest.mark.parametrize("peer", PEERS)
def test_no_two_views_are_alike_on_any_worker_or_epoch(peer: str, photo_folder: Path) -> None:
    recipe = hvs.recipes.simsiam(candidates=2, size=16)
    loader = loader_of(peer, [str(photo_folder / "0.jpg")] * 8, recipe, batch_size=2, workers=2)
    drawn = torch.cat([torch.cat(views) for _ in range(2) for views, _ in loader])
    assert len(drawn) == 32
    assert len(drawn.flatten(1).unique(dim=0)) == 32


def test_files_that_are_no_jpeg_go_through_pillow(photo_folder: Path) -> None:
    path = str(photo_folder / "6.png")
    pixels = peers.decode_simplejpeg(path)
    assert pixels.dtype == np.uint8 and (pixels == np.asarray(peers.decode_pillow(path))).all()
    gray = peers.decode_simplejpeg(str(photo_folder / "4.jpg"))
    assert gray.shape == (80, 200, 3) and (gray[..., :1] == gray).all()


def test_too_little_shared_memory_is_an_error(photo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = type("Status", (), {"f_bavail": 1, "f_frsize": 4096})
    monkeypatch.setattr(peers.os, "statvfs", lambda path: full)
    with pytest.raises(SystemExit, match="GiB of shared memory"):
        loader_of("torchvision", [str(photo_folder / "0.jpg")], hvs.recipes.simsiam(size=16), 1, 1)
