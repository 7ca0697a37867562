"""Published pipelines, all of them: lightly's as installed, solo-learn's and LeJEPA's written out in torchvision's classes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from lightly import transforms as lightly
from PIL import ImageOps
from torchvision import transforms as v1
from torchvision.transforms import v2

import hvs_data as hvs
from hvs_data.integrations.transforms import TransformsError
from hvs_data.recipes import ColorJitter, Role

pytestmark = pytest.mark.filterwarnings("ignore::hvs_data.integrations.transforms.ApproximateRecipeWarning")

CONVERTED = """
AIMTransform BYOLTransform BYOLView1Transform BYOLView2Transform CAPITransform DINOTransform DINOViewTransform DenseCLTransform
FastSiamTransform IBOTTransform IBOTViewTransform MAETransform MMCRTransform MSNTransform MSNViewTransform MoCoV1Transform MoCoV2Transform
SMoGTransform SimCLRTransform SimCLRViewTransform SimSiamTransform SimSiamViewTransform SmoGViewTransform SwaVTransform TiCoTransform
TiCoView1Transform TiCoView2Transform
""".split()
# Solarizing before the blur, colours before the crop, parts without a crop of their own, and what is of another kind.
REFUSED = """
AmplitudeRescaleTransform DetConSTransform DetConSViewTransform FDATransform FDAView1Transform FDAView2Transform PIRLTransform
PhaseShiftTransform RFFT2DTransform RandomFrequencyMaskTransform SwaVViewTransform VICRegLTransform VICRegLViewTransform VICRegTransform
VICRegViewTransform WMSETransform
""".split()
NEED_ARGUMENTS = {"AddGridTransform", "IRFFT2DTransform"}  # of grids of labels, and of frequencies


def test_every_transform_of_lightly_is_here() -> None:
    known = {*CONVERTED, *REFUSED, *NEED_ARGUMENTS}
    assert {name for name in dir(lightly) if name.endswith("Transform")} <= known


@pytest.mark.parametrize("name", CONVERTED)
def test_lightlys_that_become_recipes(name: str) -> None:
    assert hvs.recipe_from(getattr(lightly, name)()).num_views


@pytest.mark.parametrize("name", REFUSED)
def test_lightlys_that_do_not(name: str) -> None:
    with pytest.raises(TransformsError):
        hvs.recipe_from(getattr(lightly, name)())


# --- solo-learn --------------------------------------------------------------------------------------------------------


class Solarization:
    def __call__(self, image: Any) -> Any:
        return ImageOps.solarize(image)


STRONG, WEAK, OF_BYOL, OF_SWAV = (0.8, 0.8, 0.8, 0.2), (0.4, 0.4, 0.4, 0.1), (0.4, 0.4, 0.2, 0.1), (0.6, 0.6, 0.6, 0.2)
# github.com/vturrisi/solo-learn, scripts/pretrain/*/augmentations/*.yaml: of each kind of view the smallest share of the area, the largest,
# jitter, blur and solarize with their probabilities, size and number. No equalization anywhere; grey .2, jitter .8 where there is any.
View = tuple[float, float, Any, float, float, int, int]


def pair(size: int, blurs: tuple[float, float] = (1.0, 0.1)) -> list[View]:
    return [(0.08, 1, OF_BYOL, blurs[0], 0, size, 1), (0.08, 1, OF_BYOL, blurs[1], 0.2, size, 1)]


def of_size(size: int) -> dict[str, list[View]]:
    return {
        "asymmetric": pair(size, (1.0, 0.1) if size > 32 else (0, 0)),
        "reconstruction": [(0.08, 1, None, 0, 0, size, 1)],
        "ressl": [(0.08, 1, OF_BYOL, 0.5, 0, size, 1), (0.08, 1, None, 0, 0, size, 1)],
        "symmetric": [(0.08, 1, STRONG, 0.5, 0, size, 2)],
        "symmetric_weak": [(0.08, 1, WEAK, 0.5, 0, size, 2)],
    }


SOLO_LEARN: dict[str, list[View]] = {
    **{f"cifar/{name}": views for name, views in of_size(32).items()},
    **{f"imagenet-100/{name}": views for name, views in of_size(224).items()},
    **{f"imagenet/{name}": views for name, views in of_size(224).items() if name != "ressl"},
    "custom/asymmetric": pair(224),
    "custom/symmetric": [(0.08, 1, STRONG, 0.5, 0, 224, 2)],
    "imagenet-100/vicreg": [(0.2, 1, OF_BYOL, 0.5, 0.1, 224, 2)],
    "imagenet-100/wmse": [(0.2, 1, STRONG, 0.2, 0, 224, 2), (0.2, 1, STRONG, 0.2, 0, 96, 6)],
    "imagenet-100-multicrop/asymmetric": [*pair(224), (0.08, 1, OF_BYOL, 0, 0, 96, 6)],
    "imagenet-100-multicrop/symmetric": [(0.08, 1, STRONG, 0.5, 0, 224, 2), (0.08, 1, STRONG, 0, 0, 96, 6)],
    "cifar-multicrop/swav": [
        (0.2, 1, OF_SWAV, 0, 0, 32, 1), (0.2, 1, OF_SWAV, 0, 0.2, 32, 1), (0.08, 0.5, STRONG, 0.1, 0.1, 18, 6),
    ],
}  # fmt: skip


def pipeline(view: View) -> v1.Compose:
    least, most, jitter, blur, solarize, size, _ = view
    parts: list[Any] = [v1.RandomResizedCrop(size, (least, most), interpolation=v1.InterpolationMode.BICUBIC)]
    if jitter is not None:
        parts += [v1.RandomApply([v1.ColorJitter(*jitter)], 0.8), v1.RandomGrayscale(0.2)]
    parts += [v1.RandomApply([v1.GaussianBlur(23, (0.1, 2.0))], blur), v1.RandomApply([Solarization()], solarize)]
    return v1.Compose([*parts, v1.RandomHorizontalFlip(0.5), v1.ToTensor(), v1.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])


def role_of(view: View) -> Role:
    least, most, jitter, blur, solarize, size, count = view
    colors = ColorJitter(0, 0, 0, 0, 0) if jitter is None else ColorJitter(0.8, *jitter)
    gray = 0.0 if jitter is None else 0.2
    return Role("view", count, count, size, (least, most), jitter=colors, gray=gray, blur=blur, solarize=solarize)


def test_all_of_solo_learns_files_are_here() -> None:
    assert len(SOLO_LEARN) == 21


@pytest.mark.parametrize("name", SOLO_LEARN)
def test_solo_learns(name: str) -> None:
    views = SOLO_LEARN[name]
    recipe = hvs.recipe_from([pipe for view in views for pipe in [pipeline(view)] * view[-1]])
    assert recipe.interpolation == "bicubic"
    assert tuple(replace(role, name="view") for role in recipe.roles) == tuple(map(role_of, views))


# --- LeJEPA ------------------------------------------------------------------------------------------------------------


def test_lejepas_minimal_example() -> None:
    """github.com/rbalestr-lab/lejepa, MINIMAL.md: training and evaluation."""
    end = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
    train = v2.Compose(
        [
            v2.RandomResizedCrop(128, scale=(0.08, 1.0)),
            v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
            v2.RandomGrayscale(p=0.2),
            v2.RandomApply([v2.GaussianBlur(kernel_size=7, sigma=(0.1, 2.0))]),
            v2.RandomApply([v2.RandomSolarize(threshold=128)], p=0.2),
            v2.RandomHorizontalFlip(),
            *end,
        ]
    )
    recipe = hvs.recipe_from([train] * 4)
    jitter = ColorJitter(0.8, 0.8, 0.8, 0.8, 0.2)
    assert recipe.roles == (Role("view", 4, 4, 128, (0.08, 1.0), jitter=jitter, solarize=0.1),) and recipe.blur_kernel == 7
    assert hvs.recipe_from(v2.Compose([v2.Resize(128), v2.CenterCrop(128), *end])).roles == hvs.recipes.evaluation(128, 128).roles
