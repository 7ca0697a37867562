"""Numbers and lists of numpy, torch and omegaconf are taken wherever plain ones are; booleans, texts and shares of a whole are not."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import hvs_data as hvs
from hvs_data.arguments import values

WHOLE: dict[str, Callable[[int], Any]] = {
    "int": int,
    "numpy.int64": np.int64,
    "numpy.uint8": np.uint8,
    "array": np.array,
    "tensor": torch.tensor,
}
REAL: dict[str, Callable[[float], Any]] = {
    "float": float,
    "numpy.float64": np.float64,
    "numpy.float32": np.float32,
    "array": np.array,
    "tensor": lambda number: torch.tensor(number, dtype=torch.float64),
    "fraction": Fraction,
}


@pytest.mark.parametrize("kind", WHOLE)
def test_whole_numbers(kind: str) -> None:
    made = values.whole_number(WHOLE[kind](8))
    assert made == 8 and type(made) is int and values.real_number(WHOLE[kind](8)) == 8.0


@pytest.mark.parametrize("kind", REAL)
def test_real_numbers(kind: str) -> None:
    made = values.real_number(REAL[kind](0.5))
    assert made == 0.5 and type(made) is float and values.whole_number(REAL[kind](0.5)) is None


@pytest.mark.parametrize(
    "value",
    [True, np.True_, np.array(True), torch.tensor(True), "8", None, 1j, [8], np.array([8]), torch.tensor([8]), b"8"],
    ids=repr,
)
def test_what_is_no_number(value: Any) -> None:
    assert values.whole_number(value) is None and values.real_number(value) is None


def test_numbers_past_all_bounds_stay_past_them() -> None:
    assert values.real_number(10**400) == math.inf and values.real_number(-(10**400)) == -math.inf


@pytest.mark.parametrize("made", [list, tuple, np.array, torch.tensor, lambda items: omegaconf().OmegaConf.create(list(items))])
def test_lists(made: Callable[[Any], Any]) -> None:
    assert values.listed(made([0.5, 0.25])) == (0.5, 0.25)


@pytest.mark.parametrize("value", ["ab", b"ab", 3, None, {"a": 1}, np.zeros((2, 2)), torch.tensor(1.0)], ids=repr)
def test_what_is_no_list(value: Any) -> None:
    assert values.listed(value) is None


def omegaconf() -> Any:
    return pytest.importorskip("omegaconf")


# ---- where arguments are taken ----

CONFIGURATION = """
recipe: {candidates: 4, size: 16, mean: [0.5, 0.4, 0.3], std: [0.2, 0.2, 0.2]}
roles: {scale: [0.3, 1.0], ratio: [0.75, 1.5], sigma: [0.1, 1.0], blur: 0.5, gray: 1}
masking: {patch_size: 8, ratio: [0.0, 0.3], variance: [0.0, 0.2], aspect: [0.5, 2.0]}
loader: {batch_size: 3, seed: 7, prefetch: 1, num_threads: 1, max_bad_share: 0, timeout: 60, retries: 2}
selector: {score_size: {view: 12}, every: 2, probability: 0.5, warmup: 1, limit: 3, seed: 5, prefilter: 3}
"""


def as_numpy(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: as_numpy(item) for name, item in value.items()}
    return np.array(value) if isinstance(value, list) else np.float64(value) if isinstance(value, float) else np.int64(value)


def configured(kind: str) -> Any:
    made = omegaconf().OmegaConf.create(CONFIGURATION)
    plain = omegaconf().OmegaConf.to_container(made)
    return {"plain": plain, "omegaconf": made, "numpy": as_numpy(plain)}[kind]


class Distance(hvs.Objective):
    def encode(self, pixels: Tensor) -> Tensor:
        return pixels.mean((2, 3))

    def pair_losses(self, outputs: Tensor) -> Tensor:
        return torch.cdist(outputs, outputs)


def recipe_of(settings: Any) -> hvs.recipes.Recipe:
    recipe = hvs.recipes.simsiam(**settings["recipe"])
    return replace(recipe.with_roles(**settings["roles"]), masking=hvs.recipes.Masking(**settings["masking"]))


def run(kind: str, photos: Path) -> tuple[list[tuple[list[int], list[list[int]]]], str]:
    """What is chosen in an epoch, and the state after it as text."""
    settings = configured(kind)
    views = hvs.ViewLoader(photos, recipe_of(settings), **settings["loader"])
    assert type(views.batch_size) is int
    hard = hvs.HardViewLoader(views, hvs.HardViewSelector(Distance(), **settings["selector"]))
    batches = [(batch.index.tolist(), batch.selection.slots.tolist()) for batch in hard]
    return batches, json.dumps(hard.state_dict())


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from PIL import Image

    root = tmp_path_factory.mktemp("photos")
    for number in range(7):
        pixels = np.random.default_rng(number).integers(0, 255, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{number}.png")
    return root


@pytest.mark.parametrize("kind", ["omegaconf", "numpy"])
def test_a_configuration_is_taken_as_plain_numbers_are(kind: str, photos: Path) -> None:
    """Mechanism: numbers and lists were asked for by type; `mean=cfg.mean` and `batch_size=np.int64(8)` were refused."""
    assert recipe_of(configured(kind)) == recipe_of(configured("plain"))
    json.dumps(asdict(recipe_of(configured(kind))))  # plain throughout
    assert run(kind, photos) == run("plain", photos)


def test_hydra_makes_recipes_and_loaders(photos: Path) -> None:
    instantiate = pytest.importorskip("hydra.utils").instantiate
    settings = omegaconf().OmegaConf.create(
        {
            "_target_": "hvs_data.ViewLoader",
            "source": str(photos),
            "batch_size": 3,
            "recipe": {"_target_": "hvs_data.recipes.simsiam", "candidates": 4, "size": 16, "mean": [0.5, 0.5, 0.5]},
        }
    )
    loader = instantiate(settings)
    assert len(loader) == 3 and loader.recipe == hvs.recipes.simsiam(4, size=16, mean=(0.5, 0.5, 0.5))
    rule = instantiate({"_target_": "hvs_data.rules.MinIoU", "iou": 0.2})
    assert rule == hvs.rules.MinIoU(0.2)


def test_a_configurations_list_of_paths_is_a_list_of_paths(photos: Path) -> None:
    paths = sorted(map(str, photos.iterdir()))
    source = hvs.open_source(omegaconf().OmegaConf.create(paths))
    assert [source.name_of(index) for index in range(len(source))] == paths


NET = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
TAKEN: dict[str, Callable[[], Any]] = {
    "rows": lambda: hvs.sample_views(hvs.recipes.simsiam(), seed=np.uint64(3), epoch=torch.tensor(1), index=[0], height=[9], width=[9]),
    "rank": lambda: hvs.ViewLoader([np.zeros((8, 8, 3), np.uint8)] * 4, hvs.recipes.simsiam(), 2, rank=np.int64(1), world_size=np.int64(2)),
    "decoding": lambda: hvs.decode([np.zeros((8, 8, 3), np.uint8)], num_threads=np.int64(1)),
    "temperature": lambda: hvs.objectives.SimCLR(encoder=NET, temperature=np.float32(0.2)),
    "iterations": lambda: hvs.objectives.SwAV(encoder=NET, prototypes=NET, iterations=np.int64(3)),
    "keep_tokens": lambda: hvs.KeepTokens(np.float64(0.5)),
    "schedules": lambda: hvs.HardViewSelector(Distance(), policy="softmax", temperature=lambda step: np.float32(0.5)),
    "rule": lambda: hvs.rules.MinArea(np.float32(0.25)),
    "candidates": lambda: hvs.recipes.dino(np.int64(4), np.int64(6), local_views=np.int64(3)),
    "epoch": lambda: hvs.ViewLoader([np.zeros((8, 8, 3), np.uint8)] * 4, hvs.recipes.simsiam(), 2).set_epoch(np.int64(3)),
}
REFUSED: dict[str, Callable[[], Any]] = {
    "batch_size": lambda: hvs.ViewLoader([np.zeros((8, 8, 3), np.uint8)], hvs.recipes.simsiam(), batch_size=np.True_),
    "a share": lambda: hvs.ViewLoader([np.zeros((8, 8, 3), np.uint8)], hvs.recipes.simsiam(), batch_size=8.0),  # type: ignore[arg-type]
    "mean": lambda: hvs.recipes.simsiam(mean="abc"),
    "scale": lambda: hvs.recipes.simsiam().with_roles(scale=np.array([True, True])),
    "seed": lambda: hvs.HardViewSelector(Distance(), seed=torch.tensor(True)),
    "seed as text": lambda: hvs.HardViewSelector(Distance(), seed="1"),  # type: ignore[arg-type]
    "rank as text": lambda: hvs.ViewLoader([np.zeros((8, 8, 3), np.uint8)], hvs.recipes.simsiam(), rank="0", world_size="1"),  # type: ignore[arg-type]
    "rank as a bool": lambda: hvs.ViewLoader([np.zeros((8, 8, 3), np.uint8)], hvs.recipes.simsiam(), rank=False, world_size=True),
    "threads": lambda: hvs.decode([np.zeros((8, 8, 3), np.uint8)], num_threads="2"),  # type: ignore[arg-type]
    "a rule": lambda: hvs.rules.MinIoU("0.2"),  # type: ignore[arg-type]
    "probability": lambda: hvs.HardViewSelector(Distance(), probability=np.float64("nan")),
}


@pytest.mark.parametrize("name", TAKEN)
def test_taken(name: str) -> None:
    TAKEN[name]()


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_message(name: str) -> None:
    with pytest.raises(hvs.HvsError, match=" must | takes a number "):
        REFUSED[name]()
