"""Fewer tokens with their positions: against the whole model, in which no attention sees the others."""

import pytest
import timm
import torch
from timm.models import create_model
from torch import nn

import hvs_data as hvs
from hidden_tokens import hidden_but, kept_tokens
from hvs_data import KeepTokens, Objective, SelectionError
from hvs_data.forwards.tokens import TokenDropping
from multi_crop import make_pixels, make_recipe
from rotary_vits import RotaryTransformer
from small_vits import GRID, TokensSeen, VisionTransformer

SHARE, SIDE, OBLONG = 0.3, 8, (8, 12)
# float64: softmax over other numbers of terms of the same values, in two blocks whose weights and norms are of size 1.
CLOSE = {"rtol": 1e-10, "atol": 1e-12}

TIMM = {"img_size": SIDE, "patch_size": 2, "embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 0, "dynamic_img_size": True}
HUGGING_FACE = {
    "image_size": SIDE,
    "patch_size": 2,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}


class Embeds(Objective):
    def __init__(self, network):
        self.network = network

    def encode(self, pixels):
        return self.network(pixels)


class Features(nn.Module):
    """A model's tokens [N, L, D]."""

    def __init__(self, model, tokens):
        super().__init__()
        self.model, self.tokens = model, tokens

    def forward(self, pixels):
        return self.tokens(self.model, pixels)


def of_timm(name, **options):
    if not timm.is_model(name):
        pytest.skip(f"this timm has no {name}")
    return Features(create_model(name, **{**TIMM, **options}), lambda model, pixels: model.forward_features(pixels))


def of_hugging_face(name, **options):
    transformers = pytest.importorskip("transformers")
    config = transformers.CONFIG_MAPPING[name](**{**HUGGING_FACE, **options})
    return Features(transformers.AutoModel.from_config(config), lambda model, pixels: model(pixel_values=pixels).last_hidden_state)


# Models that return all tokens, how many come before the patches, and whether they take oblong views.
MODELS = {
    "the official DINOv3": (RotaryTransformer, 3, True),
    "timm's DINOv3": (lambda: of_timm("vit_small_patch16_dinov3"), 5, True),
    "timm's EVA-02": (lambda: of_timm("eva02_tiny_patch14_224"), 1, True),
    "timm's RoPE-ViT": (lambda: of_timm("vit_small_patch16_rope_224"), 1, True),
    "timm's RoPE-ViT, of each block": (lambda: of_timm("vit_small_patch16_rope_mixed_224"), 1, True),
    "timm with registers": (lambda: of_timm("vit_small_patch14_reg4_dinov2"), 5, True),
    "Hugging Face's DINOv3": (lambda: of_hugging_face("dinov3_vit", num_register_tokens=4), 5, True),
    "Hugging Face's DINOv2": (lambda: of_hugging_face("dinov2"), 1, True),
    "Hugging Face's DINOv2 with registers": (lambda: of_hugging_face("dinov2_with_registers"), 5, True),
    "Hugging Face's CLIP": (lambda: of_hugging_face("clip_vision_model"), 1, False),
    "Hugging Face's MLCD, positions of all tokens": (lambda: of_hugging_face("mlcd"), 1, False),
    "Hugging Face's SigLIP": (lambda: of_hugging_face("siglip_vision_model"), 0, False),
}
CASES = [(name, (SIDE, SIDE)) for name in MODELS] + [(name, OBLONG) for name, (_, _, oblong) in MODELS.items() if oblong]


def made(name):
    torch.manual_seed(5)
    model = MODELS[name][0]().double().eval()
    for parameter in model.parameters():
        if parameter.ndim == 1:  # scales of layers begin near 0 in some
            nn.init.normal_(parameter, 1, 0.3)
    return model, MODELS[name][1]


def forward(model, views, share):
    with torch.no_grad(), TokenDropping(KeepTokens(share), Embeds(model)).applied():
        return model(views)


@pytest.mark.parametrize(("name", "size"), CASES, ids=str)
def test_tokens_that_stay_are_those_of_the_whole_model_that_sees_no_others(name, size):
    model, prefix = made(name)
    views = torch.randn(2, 3, *size, dtype=torch.float64)
    kept = kept_tokens(size[0] // 2, size[1] // 2, SHARE, prefix)
    with torch.no_grad(), hidden_but({prefix + size[0] * size[1] // 4: kept}):
        expected = model(views)[:, kept]
    torch.testing.assert_close(forward(model, views, SHARE), expected, **CLOSE)
    # with positions of other patches they are not
    others = [*range(prefix), *(token + 1 for token in kept[prefix:-1]), kept[-1]]
    with torch.no_grad(), hidden_but({prefix + size[0] * size[1] // 4: others}):
        assert not torch.allclose(model(views)[:, others], expected, rtol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_all_tokens_make_the_same_outputs_bit_for_bit(name):
    model, _ = made(name)
    views = torch.randn(2, 3, SIDE, SIDE, dtype=torch.float64)
    with torch.no_grad():
        expected = model(views)
    assert torch.equal(forward(model, views, 1.0), expected)


def test_views_of_two_sizes_side_by_side():
    model, prefix = made("the official DINOv3")
    views = [torch.randn(2, 3, *size, dtype=torch.float64) for size in (OBLONG, (4, 4))]
    kept = [kept_tokens(4, 6, SHARE, prefix), kept_tokens(2, 2, SHARE, prefix)]
    with torch.no_grad(), hidden_but({prefix + 24: kept[0], prefix + 4: kept[1]}):
        expected = [tokens[:, some] for tokens, some in zip(model(views), kept, strict=True)]
    for tokens, wanted in zip(forward(model, views, SHARE), expected, strict=True):
        torch.testing.assert_close(tokens, wanted, **CLOSE)


def test_blocks_that_are_named_keep_their_positions_and_grid():
    model, _ = made("the official DINOv3")
    views = torch.randn(2, 3, *OBLONG, dtype=torch.float64)
    expected = forward(model, views, SHARE)
    keep = KeepTokens(SHARE, blocks=[model.blocks[0]], prefix=3)
    with torch.no_grad(), TokenDropping(keep, Embeds(model)).applied():
        assert torch.equal(model(views), expected)


@pytest.mark.parametrize("name", ["eva02_tiny_patch14_224", "vit_small_patch16_rope_mixed_224"])
def test_patches_that_the_model_drops_in_training_stay_while_scoring(name):
    torch.manual_seed(5)
    model = create_model(name, **TIMM, patch_drop_rate=0.25)
    views = make_pixels(make_recipe(locals_=0), 3)
    losses = [hvs.HardViewSelector(Embeds(model.train(mode)), keep_tokens=0.5).select(views).losses for mode in (True, False)]
    assert torch.equal(*(table.nan_to_num() for table in losses))
    with pytest.raises(SelectionError, match="a model that drops patches itself needs dropout=False"):
        hvs.HardViewSelector(Embeds(model.train()), keep_tokens=0.5, dropout=True).select(views)


def test_an_oblong_grid_without_rotary_positions():
    torch.manual_seed(5)
    vit = create_model("vit_tiny_patch16_224", **TIMM).eval()
    seen = TokensSeen(vit.blocks[0])
    forward(vit, torch.randn(2, 3, *OBLONG), 0.5)
    assert seen.tokens == [1 + 12]


def test_a_transformer_of_words_keeps_them():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(5)
    of_text = {"vocab_size": 20, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    of_text |= {"max_position_embeddings": 16, "eos_token_id": 2}
    clip = transformers.CLIPModel(
        transformers.CLIPConfig(text_config=of_text, vision_config={**HUGGING_FACE, "projection_dim": 8}, projection_dim=8)
    ).eval()
    words = torch.tensor([[1, 5, 6, 7, 2]])
    with torch.no_grad():
        expected = clip.get_text_features(words)
    with torch.no_grad(), TokenDropping(KeepTokens(0.25), Embeds(clip)).applied():
        found = clip.get_text_features(words)
    of_both = [features if isinstance(features, torch.Tensor) else features.pooler_output for features in (found, expected)]
    assert torch.equal(*of_both)


@pytest.mark.parametrize("compile", [False, {"backend": "eager"}], ids=["eager", "compiled"])
def test_scores_are_those_of_the_kept_tokens(compile):
    model, prefix = made("the official DINOv3")
    model = nn.Sequential(model, nn.Flatten())  # all tokens together are the embedding
    views = make_pixels(make_recipe(locals_=0), 3, dtype=torch.float64)
    selector = hvs.HardViewSelector(Embeds(model), keep_tokens=SHARE, compile=compile)
    kept = kept_tokens(GRID, GRID, SHARE, prefix)
    for _ in range(2):
        losses = selector.select(views).losses
        with torch.no_grad(), hidden_but({prefix + GRID**2: kept}):
            outputs = [model[0](view)[:, kept].flatten(1) for view in views]
        expected = -nn.functional.cosine_similarity(outputs[0], outputs[1])
        # float32: a cosine has an error of a few units of 2^-24, the selector's computation too
        torch.testing.assert_close(losses[:, 0, 1].double(), expected, rtol=0, atol=16 * 2**-24)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


class Masked(VisionTransformer):
    """Tells its blocks which token may see which."""

    def forward(self, x):
        x = self.tokens(x)
        mask = torch.zeros(x.shape[1], x.shape[1], dtype=torch.bool)
        for block in self.blocks:
            x = block(x, mask)
        return x[:, 0]


@pytest.mark.parametrize("arguments", ["a mask", "numbers of images"])
def test_tensors_that_are_no_positions_are_refused(arguments):
    model = Masked() if arguments == "a mask" else RotaryTransformer()
    if arguments != "a mask":
        model.positions = lambda height, width: (torch.zeros(7, 8), torch.ones(7, 8))
    views = make_pixels(make_recipe(locals_=0), 3)
    with pytest.raises(SelectionError, match=r"of 1[79] tokens or 16 patches, got torch\.(bool|float32).*keep_tokens=None"):
        hvs.HardViewSelector(Embeds(model), keep_tokens=0.5).select(views)


def test_a_transformer_that_pools_tokens_is_refused():
    torch.manual_seed(5)
    # a quarter of its 256 tokens makes whole mask units, of other patches than those that belong together
    hiera = create_model("hiera_tiny_224", img_size=(64, 64), embed_dim=8, num_heads=1, stages=(1, 1, 1, 1), num_classes=0)
    with pytest.raises(SelectionError, match=r"expected \[64\] tokens in every block, got \[16\] in HieraBlock.*keep_tokens=None"):
        hvs.HardViewSelector(Embeds(hiera), keep_tokens=0.25).select([torch.randn(2, 3, 64, 64) for _ in range(2)])
