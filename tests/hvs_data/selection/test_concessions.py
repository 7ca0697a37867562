"""A budget's size, or its share of tokens, that a model does not take: given up by itself, and told of once."""

import logging

import pytest
import timm
import torch
import torchvision
from torch import nn

import hvs_data as hvs
from hvs_data import KeepTokens, Objective, SelectionError
from multi_crop import make_pixels, make_recipe, make_rows

SIDE = 64
RECIPE = make_recipe(roles=("view",) * 4, locals_=0, chosen=0, sides=(SIDE, SIDE))


class Embeds(Objective):
    def __init__(self, network):
        self.network = network

    def encode(self, pixels):
        return self.network(pixels)


class Picky(nn.Module):
    """Takes views of some sides only, as a network of a fixed size does."""

    def __init__(self, *sides, error=AssertionError):
        super().__init__()
        torch.manual_seed(0)
        self.sides, self.error = sides, error
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, x):
        if x.shape[-1] not in self.sides:
            raise self.error(f"Input height ({x.shape[-1]}) doesn't match model ({self.sides[0]}).")
        return self.layers(x)


def network(name, **options):
    torch.manual_seed(0)
    return timm.create_model(name, num_classes=8, **options).eval()


class Pooled(nn.Module):
    """One of Hugging Face's models as an encoder."""

    def __init__(self, name, **options):
        super().__init__()
        transformers = pytest.importorskip("transformers")
        torch.manual_seed(0)
        self.model = transformers.AutoModel.from_config(transformers.CONFIG_MAPPING[name](**options)).eval()

    def forward(self, x):
        return self.model(pixel_values=x).pooler_output.flatten(1)


def swin_of_torchvision():
    torch.manual_seed(0)
    return torchvision.models.SwinTransformer([4, 4], 8, [1, 1], [1, 1], [4, 4], num_classes=8).eval()


def vit_of_torchvision():
    torch.manual_seed(0)
    vit = torchvision.models.VisionTransformer(SIDE, 16, 1, 2, 8, 8).eval()
    vit.heads = nn.Identity()  # it begins at 0
    return vit


SWIN = {"img_size": SIDE, "window_size": 4, "embed_dim": 8, "depths": (1, 2), "num_heads": (1, 1)}
HF_SWIN = {"image_size": SIDE, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 1], "window_size": 4}
HF_VIT = {
    "image_size": SIDE,
    "patch_size": 16,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
HF_CONVNEXT = {"hidden_sizes": [8] * 4, "depths": [1] * 4}
SMALL, HALF, WHOLE, TOKENS = {}, {"score_size": 0.5}, {"score_size": None}, {"score_size": None, "keep_tokens": KeepTokens(0.25)}
AS_HALF, AS_WHOLE = {"keep_tokens": None, **HALF}, {"keep_tokens": None, **WHOLE}

# A network, and the options that are left of a budget.
NETWORKS = {
    "a fixed size": (lambda: Picky(SIDE), WHOLE),
    "a size that is a multiple of 32": (lambda: Picky(32, SIDE), HALF),
    "ConvNeXt": (lambda: network("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 8, 8, 8)), HALF),
    "Hugging Face's ConvNeXt": (lambda: Pooled("convnext", **HF_CONVNEXT), HALF),
    "timm's Swin of a fixed size": (lambda: network("swin_tiny_patch4_window7_224", **SWIN), WHOLE),
    "Hugging Face's Swin, of at least a window": (lambda: Pooled("swin", **HF_SWIN), HALF),
    "timm's Hiera": (lambda: network("hiera_tiny_224", img_size=(SIDE, SIDE), embed_dim=8, num_heads=1, stages=(1, 1, 1, 1)), AS_WHOLE),
    "timm's XCiT": (lambda: network("xcit_nano_12_p16_224", depth=1), AS_HALF),
    "timm's CaiT": (lambda: network("cait_xxs24_224", img_size=SIDE, depth=1), AS_WHOLE),
}
# Those that take what a budget sets to begin with.
CONTENT = {
    "ResNet": (lambda: network("resnet10t"), SMALL),
    "torchvision's Swin": (swin_of_torchvision, SMALL),
    "timm's Swin of any size": (lambda: network("swin_tiny_patch4_window7_224", strict_img_size=False, **SWIN), SMALL),
    "timm's ViT": (lambda: network("vit_tiny_patch16_224", depth=1, img_size=SIDE), TOKENS),
    "timm's EVA": (lambda: network("eva02_tiny_patch14_224", depth=1, patch_size=16, img_size=SIDE), TOKENS),
    "torchvision's ViT": (vit_of_torchvision, TOKENS),
    "Hugging Face's DINOv2": (lambda: Pooled("dinov2", **HF_VIT), TOKENS),
    "Hugging Face's DINOv3": (lambda: Pooled("dinov3_vit", **HF_VIT, num_register_tokens=2), TOKENS),
}


@pytest.mark.parametrize("name", CONTENT)
def test_what_a_model_takes_is_left_as_the_budget_sets_it(name, caplog):
    make, left = CONTENT[name]
    objective = Embeds(make())
    pixels, rows = make_pixels(RECIPE, 4), make_rows(RECIPE, 4)
    selector = hvs.HardViewSelector(objective, budget="balanced")
    with caplog.at_level(logging.WARNING, logger="hvs_data"):
        selection = selector.select(pixels, rows)
    assert not caplog.records and (selector.score_size, selector.keep_tokens) == (left.get("score_size", 0.375), left.get("keep_tokens"))
    # the losses are those of the whole views in none of them
    whole = hvs.HardViewSelector(objective, prefilter=3).select(pixels, rows)
    assert not torch.equal(selection.losses.nan_to_num(), whole.losses.nan_to_num())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_budget_goes_on_with_what_the_model_takes_and_says_so_once(name, caplog):
    make, left = NETWORKS[name]
    objective = Embeds(make())
    pixels, rows = make_pixels(RECIPE, 4), make_rows(RECIPE, 4)
    selector = hvs.HardViewSelector(objective, budget="balanced")
    assert selector.score_size is not None or selector.keep_tokens is not None
    with caplog.at_level(logging.WARNING, logger="hvs_data"):
        selections = [selector.select(pixels, rows) for _ in range(2)]
    expected = hvs.HardViewSelector(objective, budget="balanced", **left)
    assert (selector.score_size, selector.keep_tokens) == (expected.score_size, expected.keep_tokens)
    for selection in selections:
        wanted = expected.select(pixels, rows)
        assert torch.equal(selection.losses.nan_to_num(), wanted.losses.nan_to_num()) and selection.step == wanted.step
    (said,) = [record.getMessage() for record in caplog.records]
    assert "budget='balanced'" in said and "does not take" in said


def test_what_the_user_chose_stays_and_the_error_tells_of_it():
    objective = Embeds(Picky(SIDE, error=RuntimeError))
    selector = hvs.HardViewSelector(objective, score_size=0.375)
    with pytest.raises(RuntimeError, match="doesn't match model") as raised:
        selector.select(make_pixels(RECIPE, 4), make_rows(RECIPE, 4))
    assert any("Views of 64 pixels were scored at 24 (score_size=0.375)" in note for note in raised.value.__notes__)
    assert selector.score_size == 0.375
    hvs.HardViewSelector(objective, score_size=None).select(make_pixels(RECIPE, 4))  # the remedy


def test_an_error_that_has_nothing_to_do_with_the_size_is_raised():
    objective = Embeds(Picky(error=ZeroDivisionError))
    objective.network.sides = (None,)
    selector = hvs.HardViewSelector(objective, budget="cheap")
    with pytest.raises(ZeroDivisionError) as raised:
        selector.select(make_pixels(RECIPE, 4), make_rows(RECIPE, 4))
    assert not hasattr(raised.value, "__notes__")  # raised at the views' own size, too


def test_once_it_has_worked_nothing_is_given_up():
    objective = Embeds(Picky(24, SIDE))
    selector = hvs.HardViewSelector(objective, budget="balanced")
    pixels, rows = make_pixels(RECIPE, 4), make_rows(RECIPE, 4)
    selector.select(pixels, rows)
    objective.network.sides = (SIDE,)
    with pytest.raises(AssertionError) as raised:
        selector.select(pixels, rows)
    assert "under budget='balanced'" in raised.value.__notes__[0] and selector.score_size == 0.375


def test_memory_is_no_reason_to_ask_for_more_of_it():
    objective = Embeds(Picky(SIDE, error=torch.OutOfMemoryError))
    selector = hvs.HardViewSelector(objective, budget="balanced")
    with pytest.raises(torch.OutOfMemoryError):
        selector.select(make_pixels(RECIPE, 4), make_rows(RECIPE, 4))
    assert selector.score_size == 0.375


def test_candidates_that_came_smaller_are_asked_for_anew():
    objective = Embeds(Picky(SIDE))
    selector = hvs.HardViewSelector(objective, budget="balanced", prefilter=None)
    small = [nn.functional.interpolate(view, 24) for view in make_pixels(RECIPE, 4)]
    for _ in range(2):  # half the size is tried in between
        with pytest.raises(SelectionError, match="at 24 pixels, not their own 64"):
            selector.select(small, make_rows(RECIPE, 4))
    assert selector.score_sizes(["view"], [SIDE]) == (SIDE,)
    selector.select(make_pixels(RECIPE, 4), make_rows(RECIPE, 4))
