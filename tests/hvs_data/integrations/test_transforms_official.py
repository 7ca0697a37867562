"""The published pipelines, built of the parts that the official repositories build them of, against the presets of hvs.recipes."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter, ImageOps
from torchvision import transforms as v1
from torchvision.transforms import v2

import hvs_data as hvs
from hvs_data.integrations.transforms import ApproximateRecipeWarning, TransformsError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NORMALIZE = v1.Normalize(mean=MEAN, std=STD)
PILLOW = pytest.mark.filterwarnings("ignore::hvs_data.integrations.transforms.ApproximateRecipeWarning")

# --- the repositories' classes: names, attributes and what they draw, in words of our own ----------------------------------


def classes_of_simsiam() -> Any:
    class GaussianBlur:
        def __init__(self, sigma=(0.1, 2.0)):
            self.sigma = sigma

        def __call__(self, image):
            return image.filter(ImageFilter.GaussianBlur(radius=random.uniform(self.sigma[0], self.sigma[1])))

    class Solarize:
        def __call__(self, image):
            return ImageOps.solarize(image)

    class TwoCropsTransform:
        def __init__(self, base_transform):
            self.base_transform = base_transform

        def __call__(self, image):
            return [self.base_transform(image), self.base_transform(image)]

    return GaussianBlur, Solarize, TwoCropsTransform


def class_of_moco_v3() -> Any:
    class TwoCropsTransform:
        def __init__(self, base_transform1, base_transform2):
            self.base_transform1 = base_transform1
            self.base_transform2 = base_transform2

    return TwoCropsTransform


def classes_of_barlow_twins() -> Any:
    class GaussianBlur:
        def __init__(self, p):
            self.p = p

        def __call__(self, image):
            if random.random() < self.p:
                image = image.filter(ImageFilter.GaussianBlur(random.random() * 1.9 + 0.1))
            return image

    class Solarization:
        def __init__(self, p):
            self.p = p

        def __call__(self, image):
            return ImageOps.solarize(image) if random.random() < self.p else image

    class Transform:
        def __init__(self, transform, transform_prime):
            self.transform = transform
            self.transform_prime = transform_prime

    return GaussianBlur, Solarization, Transform


def classes_of_vicregl() -> Any:
    class GaussianBlur:
        def __init__(self):
            pass

        def __call__(self, image):
            return image.filter(ImageFilter.GaussianBlur(np.random.rand() * 1.9 + 0.1))

    class Solarization:
        def __call__(self, image):
            return ImageOps.solarize(image)

    return GaussianBlur, Solarization


def classes_of_dino() -> Any:
    class GaussianBlur:
        def __init__(self, p=0.5, radius_min=0.1, radius_max=2.0):
            self.prob = p
            self.radius_min = radius_min
            self.radius_max = radius_max

        def __call__(self, image):
            if random.random() > self.prob:
                return image
            return image.filter(ImageFilter.GaussianBlur(radius=random.uniform(self.radius_min, self.radius_max)))

    return GaussianBlur, classes_of_barlow_twins()[1]


def classes_of_solo_learn() -> Any:
    class Solarization:
        def __init__(self, threshold=128):
            self.threshold = threshold

        def __call__(self, image):
            return ImageOps.solarize(image, self.threshold)

    class NCropAugmentation:
        def __init__(self, transform, num_crops):
            self.transform = transform
            self.num_crops = num_crops

    class FullTransformPipeline:
        def __init__(self, transforms):
            self.transforms = transforms

    return Solarization, NCropAugmentation, FullTransformPipeline


class Multicrop:
    """What DINO's, iBOT's and DINOv2's multi-crop objects hold."""

    def __init__(self, **attributes: Any):
        vars(self).update(attributes)


# --- their pipelines --------------------------------------------------------------------------------------------------------


def colours(brightness: float = 0.4, contrast: float = 0.4, saturation: float = 0.4, hue: float = 0.1) -> list[Any]:
    return [v1.RandomApply([v1.ColorJitter(brightness, contrast, saturation, hue)], p=0.8), v1.RandomGrayscale(p=0.2)]


def simsiam() -> Any:
    blur, _, two_crops = classes_of_simsiam()
    crop, flip = v1.RandomResizedCrop(224, scale=(0.2, 1.0)), v1.RandomHorizontalFlip()
    return two_crops(v1.Compose([crop, *colours(), v1.RandomApply([blur([0.1, 2.0])], p=0.5), flip, v1.ToTensor(), NORMALIZE]))


def moco_v3() -> Any:
    blur, solarize, _ = classes_of_simsiam()

    def view(blur_p: float, solarize_p: float | None) -> Any:
        solarized = [] if solarize_p is None else [v1.RandomApply([solarize()], p=solarize_p)]
        blurred = v1.RandomApply([blur([0.1, 2.0])], p=blur_p)
        crop, flip = v1.RandomResizedCrop(224, scale=(0.08, 1.0)), v1.RandomHorizontalFlip()
        return v1.Compose([crop, *colours(saturation=0.2), blurred, *solarized, flip, v1.ToTensor(), NORMALIZE])

    return class_of_moco_v3()(view(1.0, None), view(0.1, 0.2))


def byol() -> Any:
    """As Barlow Twins and VICReg write it."""
    blur, solarize, both = classes_of_barlow_twins()

    def view(blur_p: float, solarize_p: float) -> Any:
        crop = v1.RandomResizedCrop(224, interpolation=Image.BICUBIC)
        flip = v1.RandomHorizontalFlip(p=0.5)
        return v1.Compose([crop, flip, *colours(saturation=0.2), blur(p=blur_p), solarize(p=solarize_p), v1.ToTensor(), NORMALIZE])

    return both(view(1.0, 0.0), view(0.1, 0.2))


def multi_crop(scale: tuple[float, float], locals_: int, **more: Any) -> Any:
    """As DINO and iBOT write it."""
    blur, solarize = classes_of_dino()
    flip_and_colours = v1.Compose([v1.RandomHorizontalFlip(p=0.5), *colours(saturation=0.2)])
    normalize = v1.Compose([v1.ToTensor(), NORMALIZE])

    def view(size: int, scale: tuple[float, float], *effects: Any) -> Any:
        crop = v1.RandomResizedCrop(size, scale=scale, interpolation=Image.BICUBIC)
        return v1.Compose([crop, flip_and_colours, *effects, normalize])

    return Multicrop(
        global_transfo1=view(224, scale, blur(1.0)),
        global_transfo2=view(224, scale, blur(0.1), solarize(0.2)),
        local_transfo=view(96, (0.05, 0.4), blur(p=0.5)),
        local_crops_number=locals_,
        **more,
    )


class KeptBlur(v1.RandomApply):
    """DINOv2's blur, which is applied with the complement of the probability that it is given."""

    def __init__(self, *, p: float = 0.5):
        super().__init__(transforms=[v1.GaussianBlur(kernel_size=9, sigma=(0.1, 2.0))], p=1 - p)


def dinov2() -> Any:
    jitter = v1.Compose(colours(saturation=0.2))
    normalize = v1.Compose([v1.ToTensor(), NORMALIZE])

    def geometry(size: int, scale: tuple[float, float]) -> Any:
        crop = v1.RandomResizedCrop(size, scale=scale, interpolation=v1.InterpolationMode.BICUBIC)
        return v1.Compose([crop, v1.RandomHorizontalFlip(p=0.5)])

    solarized = v1.Compose([KeptBlur(p=0.1), v1.RandomSolarize(threshold=128, p=0.2)])
    return Multicrop(
        global_crops_scale=(0.32, 1.0),
        local_crops_scale=(0.05, 0.32),
        global_crops_size=224,
        local_crops_size=96,
        local_crops_number=8,
        normalize=normalize,
        geometric_augmentation_global=geometry(224, (0.32, 1.0)),
        geometric_augmentation_local=geometry(96, (0.05, 0.32)),
        global_transfo1=v1.Compose([jitter, KeptBlur(p=1.0), normalize]),
        global_transfo2=v1.Compose([jitter, solarized, normalize]),
        local_transfo=v1.Compose([jitter, KeptBlur(p=0.5), normalize]),
    )


def dinov3(**changed: Any) -> Any:
    """What it adds to DINOv2's, at its defaults: nothing that changes a view."""
    added = {
        "gram_teacher_crops_size": None,
        "gram_teacher_no_distortions": False,
        "teacher_no_color_jitter": False,
        "local_crops_subset_of_global_crops": False,
        "patch_size": 16,
        "share_color_jitter": False,
        "mean": MEAN,
        "std": STD,
        "is_rgb": True,
        "resize_global_post_transf": torch.nn.Identity(),
        "resize_gram_teacher": None,
    }
    parts = dinov2()
    held = vars(parts) | added | changed
    held["global_transfo1"] = v1.Compose([torch.nn.Identity(), held["global_transfo1"]])
    return Multicrop(**held)


def vicregl() -> Any:
    blur, solarize = classes_of_vicregl()

    def view(blur_p: float, solarize_p: float) -> Any:
        effects = [v1.RandomApply([blur()], p=blur_p), v1.RandomApply([solarize()], p=solarize_p)]
        crop = v1.RandomResizedCrop(224, scale=(0.08, 1.0), interpolation=v1.InterpolationMode.BICUBIC)
        return v1.Compose([crop, v1.RandomHorizontalFlip(0.5), *colours(saturation=0.2), *effects, v1.ToTensor(), NORMALIZE])

    return [view(1.0, 0.0), view(0.1, 0.2)]


def simclr() -> list[Any]:
    """As torchvision's users write it, with the size's tenth as the kernel and version 2."""
    jitter = v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8)
    blur = v2.RandomApply([v2.GaussianBlur(23, (0.1, 2.0))], p=0.5)
    crop = v2.RandomResizedCrop(224, interpolation=v2.InterpolationMode.BICUBIC)
    parts = [v2.ToImage(), crop, v2.RandomHorizontalFlip(), jitter, v2.RandomGrayscale(0.2), blur]
    view = v2.Compose([*parts, v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])
    return [view] * 2


def solo_learn_byol(threshold: bool = True) -> Any:
    blur, _, _ = classes_of_simsiam()
    with_threshold, n_crops, full = classes_of_solo_learn()
    solarize = with_threshold if threshold else classes_of_vicregl()[1]  # today's holds nothing

    def view(blur_p: float, solarize_p: float) -> Any:
        effects = [v1.RandomApply([blur()], p=blur_p)] + ([v1.RandomApply([solarize()], p=solarize_p)] if solarize_p else [])
        crop = v1.RandomResizedCrop((224, 224), scale=(0.08, 1.0), interpolation=v1.InterpolationMode.BICUBIC)
        flip = v1.RandomHorizontalFlip(p=0.5)
        return v1.Compose([crop, *colours(saturation=0.2), *effects, flip, v1.ToTensor(), NORMALIZE])

    return full([n_crops(view(1.0, 0.0), 1), n_crops(view(0.1, 0.2), 1)])


PUBLISHED: dict[str, tuple[Callable[[], Any], Callable[..., hvs.recipes.Recipe]]] = {
    "simsiam": (simsiam, hvs.recipes.simsiam),
    "moco_v2": (simsiam, hvs.recipes.moco_v2),
    "simclr": (simclr, hvs.recipes.simclr),
    "moco_v3": (moco_v3, hvs.recipes.moco_v3),
    "byol": (byol, hvs.recipes.byol),
    "barlow_twins": (byol, hvs.recipes.barlow_twins),
    "vicreg": (byol, hvs.recipes.vicreg),
    "byol of earlier solo-learn": (solo_learn_byol, hvs.recipes.byol),
    "byol of solo-learn": (lambda: solo_learn_byol(threshold=False), hvs.recipes.byol),
    "vicregl's parts": (vicregl, hvs.recipes.byol),
    "dino": (lambda: multi_crop((0.4, 1.0), 8), hvs.recipes.dino),
    "dino as run": (lambda: multi_crop((0.4, 1.0), 10), lambda *a, **k: hvs.recipes.dino(*a, variant="as_run", **k)),
    "ibot": (lambda: multi_crop((0.14, 1.0), 8, global_crops_number=2), hvs.recipes.ibot),
    "ibot as run": (
        lambda: multi_crop((0.14, 1.0), 10, global_crops_number=2),
        lambda *a, **k: hvs.recipes.ibot(*a, variant="as_run", **k),
    ),
    "dinov2 as run": (dinov2, lambda *a, **k: hvs.recipes.dinov2(*a, variant="as_run", **k)),
    "dinov3": (dinov3, lambda *a, **k: hvs.recipes.dinov2(*a, variant="as_run", **k)),
    "dinov3, a setting without effect": (
        lambda: dinov3(gram_teacher_no_distortions=True),
        lambda *a, **k: hvs.recipes.dinov2(*a, variant="as_run", **k),
    ),
}


@PILLOW
@pytest.mark.parametrize("candidates", [2, 4])
@pytest.mark.parametrize("published", PUBLISHED)
def test_a_published_pipeline_is_its_preset(published: str, candidates: int) -> None:
    transforms, preset = PUBLISHED[published]
    expected = preset(candidates)
    assert hvs.recipe_from(transforms(), candidates=candidates, name=expected.name) == expected


@PILLOW
def test_candidates_are_as_many_as_the_transforms_make_unless_said() -> None:
    recipe = hvs.recipe_from(multi_crop((0.4, 1.0), 8))
    assert [(role.name, role.candidates, role.emitted) for role in recipe.roles] == [("global1", 1, 1), ("global2", 1, 1), ("local", 8, 8)]
    more = hvs.recipe_from(multi_crop((0.4, 1.0), 8), candidates=4, local_candidates=16)
    assert more == replace(hvs.recipes.dino(4, 16), name="from_transforms")


@PILLOW
def test_more_than_two_global_views_of_ibot_are_of_the_second_kind() -> None:
    recipe = hvs.recipe_from(multi_crop((0.14, 1.0), 6, global_crops_number=4), candidates=8)
    assert [(role.name, role.candidates, role.emitted) for role in recipe.roles] == [("global1", 2, 1), ("global2", 6, 3), ("local", 6, 6)]


@PILLOW
def test_views_of_swav_are_two_of_one_kind_and_small_ones() -> None:
    blur = classes_of_dino()[0](0.5)
    blur.__class__.__name__ = "PILRandomGaussianBlur"
    colour = v1.Compose([*colours(0.8, 0.8, 0.8, 0.2), blur])
    swav_std = (0.228, 0.224, 0.225)

    def view(size: int, scale: tuple[float, float]) -> Any:
        crop = v1.RandomResizedCrop(size, scale=scale)
        return v1.Compose([crop, v1.RandomHorizontalFlip(p=0.5), colour, v1.ToTensor(), v1.Normalize(MEAN, swav_std)])

    recipe = hvs.recipe_from([*[view(224, (0.14, 1.0))] * 2, *[view(96, (0.05, 0.14))] * 6])
    large = hvs.recipes.Role(
        "view", 2, 2, 224, (0.14, 1.0), jitter=hvs.recipes.ColorJitter(0.8, 0.8, 0.8, 0.8, 0.2), gray=0.2, blur=0.5
    )  # fmt: skip
    small = replace(large, name="local", candidates=6, emitted=6, size=96, scale=(0.05, 0.14))
    assert recipe == hvs.recipes.Recipe("from_transforms", (large, small), std=swav_std)


def test_pillows_blur_is_told_once() -> None:
    with pytest.warns(ApproximateRecipeWarning, match="three box blurs") as told:
        hvs.recipe_from(moco_v3())
    assert len(told) == 1 and told[0].filename == __file__


# --- classes that only look like theirs -------------------------------------------------------------------------------------


def test_a_blur_whose_code_draws_another_sigma_is_unknown() -> None:
    class GaussianBlur:
        def __init__(self, p):
            self.p = p

        def __call__(self, image):
            if random.random() < self.p:
                image = image.filter(ImageFilter.GaussianBlur(random.random() * 3.9 + 0.1))
            return image

    _refused(GaussianBlur(0.5), "none of the known classes")


def test_a_solarization_with_another_threshold_in_its_code_is_unknown() -> None:
    class Solarize:
        def __call__(self, image):
            return ImageOps.solarize(image, 64)

    _refused(Solarize(), "none of the known classes")


def test_a_blur_of_another_make_is_unknown() -> None:
    class GaussianBlur:
        def __init__(self, sigma):
            self.sigma = sigma

        def __call__(self, image):
            return image.filter(ImageFilter.BoxBlur(radius=random.uniform(self.sigma[0], self.sigma[1])))

    _refused(GaussianBlur((0.1, 2.0)), "none of the known classes")


def test_a_subclass_with_a_behaviour_of_its_own_is_unknown() -> None:
    class Twice(v1.RandomGrayscale):
        def forward(self, image):
            return super().forward(super().forward(image))

    _refused(Twice(0.2), "RandomGrayscale")
    # and one that only sets its parent up is what its parent is
    assert hvs.recipe_from(v1.Compose([v1.RandomResizedCrop(32), KeptBlur(p=0.7), v1.ToTensor()])).roles[0].blur == pytest.approx(0.3)


def _refused(part: Any, why: str) -> None:
    with pytest.raises(TransformsError) as refusal:
        hvs.recipe_from(v1.Compose([v1.RandomResizedCrop(32), part, v1.ToTensor()]))
    (told,) = refusal.value.parts
    assert told.path == "transforms[1]" and why in told.why


def test_a_multi_crop_that_holds_more_is_refused() -> None:
    with pytest.raises(TransformsError, match="share_color_jitter"):
        hvs.recipe_from(multi_crop((0.4, 1.0), 8, share_color_jitter=True))


def test_a_wrapper_of_unknown_make_is_refused_once() -> None:
    class Wrapper:
        def __init__(self):
            self.augment = simclr()[0]

    with pytest.raises(TransformsError) as refusal:
        hvs.recipe_from(Wrapper())
    (told,) = refusal.value.parts
    assert told.path == "transforms" and "one pipeline for each view" in told.remedy


@PILLOW
@pytest.mark.parametrize(
    "changed",
    [
        {"gram_teacher_crops_size": 256},
        {"teacher_no_color_jitter": True},
        {"local_crops_subset_of_global_crops": True},
        {"share_color_jitter": True},
        {"is_rgb": False},
        {"resize_global_post_transf": v1.Resize(224)},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_what_changes_dinov3s_views_is_refused_by_name(changed: dict[str, Any]) -> None:
    with pytest.raises(TransformsError, match=f"{next(iter(changed))} as they are set.*leave these at their defaults"):
        hvs.recipe_from(dinov3(**changed))


def test_a_blur_without_attributes_that_draws_from_another_range_is_refused() -> None:
    class GaussianBlur:
        def __call__(self, image):
            return image.filter(ImageFilter.GaussianBlur(np.random.rand() * 2.9 + 0.1))

    _refused(GaussianBlur(), "none of the known classes")
