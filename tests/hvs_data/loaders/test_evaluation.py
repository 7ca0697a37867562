"""One view an image, without randomness: a loader in place of a DataLoader of torchvision's Resize, CenterCrop and Normalize."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import InterpolationMode, v2

import hvs_data as hvs


def loader_of(photos: Path, recipe: hvs.recipes.Recipe, **options: Any) -> hvs.ViewLoader:
    return hvs.ViewLoader(photos, recipe, 5, shuffle=False, format=hvs.formats.images_and_labels, num_threads=2, **options)


def plain_loader(photos: Path, size: int, resize: int, interpolation: InterpolationMode) -> DataLoader:
    transforms = v2.Compose(
        [
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),  # of floats, which are not rounded on the way
            v2.Resize(resize, interpolation, antialias=True),
            v2.CenterCrop(size),
            v2.Lambda(lambda x: x.clamp(0, 1)),  # bicubic weights overshoot
            v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    return DataLoader(ImageFolder(photos, transforms), batch_size=5)


@pytest.mark.parametrize(("size", "resize"), [(24, None), (24, 24), (40, 30)])
@pytest.mark.parametrize("interpolation", [InterpolationMode.BILINEAR, InterpolationMode.BICUBIC])
def test_a_plain_loop_gets_what_a_dataloader_gave(photos: Path, size: int, resize: int | None, interpolation: InterpolationMode) -> None:
    loader = loader_of(photos, hvs.recipes.evaluation(size, resize, interpolation=interpolation.value))
    plain = plain_loader(photos, size, resize or round(size * 256 / 224), interpolation)
    assert len(loader) == len(plain)
    for _ in range(2):  # no epoch differs
        for (images, labels), (expected, targets) in zip(loader, plain, strict=True):
            assert torch.equal(labels, targets) and images.shape == expected.shape
            # values of up to 2.7 in float32, summed in another order, and divided by .22
            assert torch.allclose(images, expected, atol=5e-6, rtol=0)


def test_the_last_batch_is_smaller_and_a_run_goes_on_where_it_stood(photos: Path) -> None:
    loader = loader_of(photos, hvs.recipes.evaluation(24))
    batches = list(loader)
    assert sum(len(images) for images, _ in batches) == len(loader.dataset) and len(batches[-1][0]) == len(loader.dataset) % 5
    first, again = loader_of(photos, hvs.recipes.evaluation(24)), loader_of(photos, hvs.recipes.evaluation(24))
    assert len(list(islice(first, 2))) == 2
    again.load_state_dict(first.state_dict())
    assert all(torch.equal(images, expected) for (images, _), (expected, _) in zip(again, batches[2:], strict=True))


def test_the_default_resize_is_torchvisions_of_published_evaluations() -> None:
    assert hvs.recipes.evaluation().roles[0].resize == 256
    assert [hvs.recipes.evaluation(size).roles[0].resize for size in (96, 299, 384, (96, 224))] == [110, 342, 439, 256]
    with pytest.raises(hvs.RecipeError, match="size"):
        hvs.recipes.evaluation(0)


# --- every operation, in loaders that select -----------------------------------------------------------------------------

TURNED: dict[str, Any] = {"vertical_flip": 0.5, "turn": 0.5, "posterize": 0.3}
EVERYTHING: dict[str, Any] = {**TURNED, "erase": hvs.recipes.Erasing(0.7, value="noise"), "resize": 40, "crop": "random", "padding": 5}


class Toy(torch.nn.Module):
    """A model for SimSiam's loss, of averaged pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(3), torch.nn.Flatten())
        self.predictor = torch.nn.Identity()


def hard_loader(photos: Path, recipe: hvs.recipes.Recipe, **options: Any) -> hvs.HardViewLoader:
    selector = hvs.HardViewSelector(hvs.objectives.SimSiam(Toy()), **options)
    return hvs.HardViewLoader(hvs.ViewLoader(photos, recipe, 4, seed=3, num_threads=2, drop_last=True), selector)


def test_chosen_views_are_rendered_in_full_as_their_rows_say(photos: Path) -> None:
    recipe = hvs.recipes.simsiam(candidates=4, size=32).with_roles(**EVERYTHING)
    loader = hard_loader(photos, recipe, score_size=16)
    batches = list(loader)
    for batch in batches[:2]:
        assert batch.selection is not None and batch.views[0].shape[-1] == 32
        images = [hvs.decode([(Path(loader.dataset.root) / loader.dataset.names[i]).read_bytes()])[0] for i in batch.index.tolist()]
        chosen = batch.params.take(batch.selection.slots)
        assert torch.equal(torch.stack(batch.views, 1), hvs.render(images, chosen))
    first, again = (hard_loader(photos, recipe, score_size=16) for _ in range(2))
    assert len(list(islice(first, 1))) == 1
    again.load_state_dict(first.state_dict())
    for batch, expected in zip(again, batches[1:], strict=True):
        assert all(torch.equal(view, other) for view, other in zip(batch.views, expected.views, strict=True))
