"""Fewer tokens while scoring: against forwards with the tokens removed by hand, and without a trace."""

import pytest
import torch
import torchvision
from lightly.models.modules import MaskedVisionTransformerTIMM, MaskedVisionTransformerTorchvision
from timm.models import create_model
from torch import nn

import hvs_data as hvs
from hvs_data import KeepTokens, Objective, SelectionError
from hvs_data.forwards.kept_tokens import kept_patches
from hvs_data.modules.transformers import vision_transformers
from hvs_data.objectives import DINO, IBOT, EarlyFeatures
from multi_crop import every_combination, make_pixels, make_recipe, make_rows, sum_of_terms
from small_vits import GRID, WIDTH, TokensSeen, VisionTransformer, kept_by_hand, without_tokens
from traces import changes, state_of
from trainers import NoQuestions

IMAGES, PROTOTYPES, TEMPERATURES = 3, 10, (0.3, 0.5)
RECIPE = make_recipe(locals_=3, chosen=2)
# One view alone and many together, in float64: other orders of sums of at most 100 terms of size 1 to 10, each with an error of 2^-53 of
# its size, and losses that divide logits by temperatures of .3: far below 1e-10.
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def distiller(registers=0, **options):
    torch.manual_seed(5)
    student = nn.Sequential(VisionTransformer(registers), nn.Linear(WIDTH, PROTOTYPES)).double()
    teacher = nn.Sequential(VisionTransformer(registers), nn.Linear(WIDTH, PROTOTYPES)).double()
    center = torch.randn(PROTOTYPES, dtype=torch.float64) * 0.1
    return DINO(student, teacher, center, *TEMPERATURES, **options), student.eval(), teacher.eval(), center


def terms_by_hand(pixels, teacher, student, center, views):
    """The table [B, T, S] of the loss's terms from logits of single views, global ones first."""
    order = [*range(4), *range(4, len(pixels))]
    targets = [((teacher(pixels[slot]) - center) / TEMPERATURES[0]).softmax(-1) for slot in order[:4]]
    logs = [(student(pixels[slot]) / TEMPERATURES[1]).log_softmax(-1) for slot in order]
    table = torch.zeros(IMAGES, 4, len(order), dtype=torch.float64)
    for t, target in enumerate(targets):
        for s, log in enumerate(logs):
            if s != t:
                table[:, t, s] = -(target * log).sum(-1) / (2 * (views - 1))
    return table


# ---- which patches ----


@pytest.mark.parametrize("side", [1, 2, 3, 7, 14, 28])
@pytest.mark.parametrize("share", [0.01, 0.125, 0.25, 0.5, 0.7, 1.0])
def test_the_kept_patches_are_the_first_of_the_lattice(side, share):
    kept = kept_patches(side, side, share, torch.device("cpu"))
    assert kept.tolist() == kept_by_hand(side, share) and kept.dtype == torch.int64


@pytest.mark.parametrize("side", [8, 14, 16])
@pytest.mark.parametrize("share", [0.25, 0.5])
def test_the_kept_patches_cover_the_grid_evenly(side, share):
    grid = torch.zeros(side * side)
    grid[kept_patches(side, side, share, torch.device("cpu"))] = 1
    grid = grid.view(side, side)
    for rows in (slice(0, side // 2), slice(side // 2, side)):
        for columns in (slice(0, side // 2), slice(side // 2, side)):
            quarter = grid[rows, columns]
            # a random subset would have a standard deviation of .44 to .5 of the square root of the patches: 2 to 4 of them
            assert abs(quarter.sum() - share * quarter.numel()) <= 2
    # no 3 x 3 patches in a row are all left out or, of half of them, all kept
    means = nn.functional.avg_pool2d(grid[None, None], 3, stride=1)
    assert means.min() > 0 and (share > 0.25 or means.max() < 0.5) and means.max() < 0.8


# ---- the scores ----


@pytest.mark.parametrize("options", [{}, {"chunk": 7}, {"bn": "per_view"}, {"bn": "running"}], ids=str)
@pytest.mark.parametrize("registers", [0, 2])
def test_scores_are_those_of_transformers_without_the_tokens(registers, options):
    objective, student, teacher, center = distiller(registers)
    pixels = make_pixels(RECIPE, IMAGES, dtype=torch.float64)
    selector = hvs.HardViewSelector(objective, keep_tokens=0.5, **options)
    selection = selector.select(pixels, make_rows(RECIPE, IMAGES))

    def pruned(network):
        return lambda view: network[1](without_tokens(network[0], view, 0.5, 1 + registers))

    with torch.no_grad():
        table = terms_by_hand(pixels, pruned(teacher), pruned(student), center, views=4)
    for image in range(IMAGES):
        loss_of = {combination: sum_of_terms(table[image], combination, RECIPE) for combination in every_combination(RECIPE)}
        assert tuple(selection.slots[image].tolist()) == max(loss_of, key=loss_of.get)
        # the selection keeps losses in float32
        assert float(selection.combination_loss[image]) == pytest.approx(max(loss_of.values()), rel=2**-22)


def test_the_teacher_may_see_whole_views():
    objective, student, teacher, center = distiller()
    pixels = make_pixels(RECIPE, IMAGES, dtype=torch.float64)
    selector = hvs.HardViewSelector(objective, keep_tokens=KeepTokens(0.25, teacher=False), keep_teacher=True)
    views = selector(pixels, make_rows(RECIPE, IMAGES))
    with torch.no_grad():
        table = terms_by_hand(pixels, teacher, lambda view: student[1](without_tokens(student[0], view, 0.25)), center, views=4)
        torch.testing.assert_close(selector.last.teacher_outputs, teacher(torch.cat(views[:2])), **CLOSE)
    for image in range(IMAGES):
        best = max(sum_of_terms(table[image], combination, RECIPE) for combination in every_combination(RECIPE))
        assert float(selector.last.combination_loss[image]) == pytest.approx(best, rel=2**-22)


def test_views_that_are_scored_small_keep_the_share_of_their_own_grid():
    objective, student, _, _ = distiller()
    seen = TokensSeen(student[0].blocks[0])
    hvs.HardViewSelector(objective, keep_tokens=0.5, score_size={"global1": 6, "global2": 6}).select(
        make_pixels(RECIPE, IMAGES, dtype=torch.float64), make_rows(RECIPE, IMAGES)
    )
    assert seen.tokens == [1 + 5, 1 + 2]  # of 3 x 3 and 2 x 2 patches, a half rounded up


def test_all_tokens_make_the_same_scores():
    objective, *_ = distiller()
    pixels, rows = make_pixels(RECIPE, IMAGES, dtype=torch.float64), make_rows(RECIPE, IMAGES)
    whole, kept = (hvs.HardViewSelector(objective, keep_tokens=keep).select(pixels, rows) for keep in (None, 1.0))
    torch.testing.assert_close(whole.losses, kept.losses, rtol=0, atol=0, equal_nan=True)


class Embeds(Objective):
    """Negative cosine of what a network returns."""

    def __init__(self, network):
        self.network = network

    def encode(self, pixels):
        return self.network(pixels)


def test_torchvisions_transformer_without_the_tokens():
    torch.manual_seed(5)
    vit = torchvision.models.VisionTransformer(8, 2, 2, 2, WIDTH, 16, num_classes=6).double().eval()
    nn.init.normal_(vit.heads.head.weight)
    views = [view for view in make_pixels(make_recipe(locals_=0), IMAGES, dtype=torch.float64)]
    losses = hvs.HardViewSelector(Embeds(vit), keep_tokens=0.5).select(views).losses
    with torch.no_grad():
        outputs = []
        for view in views:
            tokens = vit.conv_proj(view).flatten(2).transpose(1, 2)
            tokens = torch.cat([vit.class_token.expand(IMAGES, -1, -1), tokens], dim=1) + vit.encoder.pos_embedding
            tokens = tokens[:, [0, *(1 + place for place in kept_by_hand(GRID, 0.5))]]
            for layer in vit.encoder.layers:
                tokens = layer(tokens)
            outputs.append(vit.heads(vit.encoder.ln(tokens)[:, 0]))
    for i in range(4):
        for j in range(i + 1, 4):
            expected = -nn.functional.cosine_similarity(outputs[i], outputs[j])
            # float32: a cosine has an error of a few units of 2^-24, the selector's computation too
            torch.testing.assert_close(losses[:, i, j].double(), expected, rtol=0, atol=16 * 2**-24)


def test_named_blocks_and_prefix():
    class Unknown(nn.Module):
        def __init__(self):
            super().__init__()
            self.vit = VisionTransformer()
            self.stages = self.vit.blocks
            self.vit.blocks = None

        def forward(self, x):
            x = self.vit.tokens(x)
            for stage in self.stages:
                x = stage(x)
            return self.vit.norm(x)[:, 0]

    torch.manual_seed(5)
    known = VisionTransformer().double()
    torch.manual_seed(5)
    unknown = Unknown().double()
    views = make_pixels(make_recipe(locals_=0), IMAGES, dtype=torch.float64)
    with pytest.raises(SelectionError, match=r"found no vision transformer in .* Embeds \(Unknown, VisionTransformer, .*blocks=\["):
        hvs.HardViewSelector(Embeds(unknown), keep_tokens=0.5)
    keep = KeepTokens(0.5, blocks=[unknown.stages[0]], prefix=1)
    expected = hvs.HardViewSelector(Embeds(known), keep_tokens=0.5).select(views).losses
    torch.testing.assert_close(
        hvs.HardViewSelector(Embeds(unknown), keep_tokens=keep).select(views).losses, expected, rtol=0, atol=0, equal_nan=True
    )


# ---- transformers of the public packages ----


class Chunk(nn.ModuleList):
    """Blocks of DINOv2's code, for which FSDP is told a group of blocks."""

    def forward(self, x):
        for block in self:
            x = block(x)
        return x


class HuggingFace(nn.Module):
    """The layout of transformers' DeiT and DINOv2 models."""

    def __init__(self, distillation):
        super().__init__()
        self.embeddings = nn.Module()
        self.embeddings.cls_token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.embeddings.mask_token = nn.Parameter(torch.randn(1, 1, WIDTH))
        if distillation:
            self.embeddings.distillation_token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList([nn.Identity(), nn.Identity()])


def chunked():
    vit = VisionTransformer(registers=4)
    vit.blocks = nn.ModuleList([Chunk(vit.blocks[:2]), Chunk(vit.blocks[2:])])
    return vit


TIMM = {"img_size": 8, "patch_size": 2, "embed_dim": WIDTH, "depth": 2, "num_heads": 2, "num_classes": 0}
LAYOUTS = {
    "DINO": (VisionTransformer, lambda vit: vit.blocks[0], 1),
    "DINOv2, in chunks and with registers": (chunked, lambda vit: vit.blocks[0], 5),
    "timm": (lambda: create_model("vit_tiny_patch16_224", **TIMM), lambda vit: vit.blocks[0], 1),
    "timm with registers": (lambda: create_model("vit_tiny_patch16_224", **TIMM, reg_tokens=3), lambda vit: vit.blocks[0], 4),
    "timm without a class token": (
        lambda: create_model("vit_tiny_patch16_224", **TIMM, class_token=False, global_pool="avg"),
        lambda vit: vit.blocks[0],
        0,
    ),
    "timm's distilled": (lambda: create_model("deit_tiny_distilled_patch16_224", **TIMM), lambda vit: vit.blocks[0], 2),
    "torchvision": (lambda: torchvision.models.VisionTransformer(8, 2, 2, 2, WIDTH, 16), lambda vit: vit.encoder.layers[0], 1),
    "lightly around timm": (
        lambda: MaskedVisionTransformerTIMM(create_model("vit_tiny_patch16_224", **TIMM)),
        lambda wrapper: wrapper.vit.blocks[0],
        1,
    ),
    "lightly around torchvision": (
        lambda: MaskedVisionTransformerTorchvision(torchvision.models.VisionTransformer(8, 2, 2, 2, WIDTH, 16)),
        lambda wrapper: wrapper.vit.encoder.layers[0],
        1,
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_transformers_of_the_public_packages_are_found_and_run(layout):
    make, block_of, prefix = LAYOUTS[layout]
    torch.manual_seed(5)
    model = make()
    (found,) = vision_transformers(model.modules())
    assert (found.blocks[0], found.prefix) == (block_of(model), prefix)
    seen = TokensSeen(block_of(model))
    views = make_pixels(make_recipe(locals_=0), IMAGES)
    selection = hvs.HardViewSelector(Embeds(model), keep_tokens=0.5).select(views)
    assert seen.tokens == [prefix + GRID**2 // 2]
    assert selection.losses[:, 0, 1].isfinite().all()
    model(views[0])
    assert seen.tokens[1:] == [prefix + GRID**2]


@pytest.mark.parametrize("distillation", [False, True])
def test_hugging_faces_layout(distillation):
    model = HuggingFace(distillation)
    (found,) = vision_transformers(model.modules())
    assert (found.blocks[0], found.prefix) == (model.encoder.layer[0], 1 + distillation)


# ---- no trace ----


def test_nothing_of_it_is_left():
    objective, student, teacher, _ = distiller()
    model = nn.ModuleList([student, teacher]).train()
    pixels, rows = make_pixels(RECIPE, IMAGES, dtype=torch.float64), make_rows(RECIPE, IMAGES)
    before = state_of(model)
    selector = hvs.HardViewSelector(objective, keep_tokens=0.5)
    selector(pixels, rows)
    assert changes(before, state_of(model)) == set()
    assert not any(module._forward_pre_hooks or module._forward_pre_hooks_with_kwargs for module in model.modules())


def test_nothing_of_it_is_left_after_an_error():
    objective, student, teacher, _ = distiller()
    objective.term_table = lambda *args: 1 / 0
    before = state_of(student)
    with pytest.raises(ZeroDivisionError):
        hvs.HardViewSelector(objective, keep_tokens=0.5).select(make_pixels(RECIPE, IMAGES, dtype=torch.float64), make_rows(RECIPE, IMAGES))
    assert changes(before, state_of(student)) == set() and not teacher[0].blocks[0]._forward_pre_hooks


def test_the_hooks_of_the_user_stay_and_see_the_kept_tokens():
    objective, student, *_ = distiller()
    seen = []
    student[0].blocks[1].register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[1]))
    pixels, rows = make_pixels(RECIPE, IMAGES, dtype=torch.float64), make_rows(RECIPE, IMAGES)
    hvs.HardViewSelector(objective, keep_tokens=0.5).select(pixels, rows)
    student(pixels[0])
    assert seen == [9, 3, 17]


def test_the_next_step_is_the_same():
    """Gradients, dropout's noise included, with and without a selection before the step."""
    gradients = []
    for score in (True, False):
        objective, student, *_ = distiller()
        student.train()
        torch.manual_seed(7)
        pixels, rows = make_pixels(RECIPE, IMAGES, dtype=torch.float64), make_rows(RECIPE, IMAGES)
        if score:
            hvs.HardViewSelector(objective, keep_tokens=0.5)(pixels, rows)
        student(pixels[0]).square().sum().backward()
        gradients.append([parameter.grad for parameter in student.parameters()])
    assert all(map(torch.equal, *gradients))


def test_the_device_is_asked_nothing():
    objective, *_ = distiller()
    selector = hvs.HardViewSelector(objective, keep_tokens=0.5)
    pixels, rows = make_pixels(RECIPE, IMAGES, dtype=torch.float64), make_rows(RECIPE, IMAGES)
    selector(pixels, rows)
    with NoQuestions():
        selector(pixels, rows)


# ---- what is refused ----


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"share": 0}, "above 0 and at most 1"),
        ({"share": 1.5}, "above 0 and at most 1, or None, got 1.5"),
        ({"share": True}, "got True"),
        ({"share": "half"}, "got 'half'"),
        ({"share": 0.5, "blocks": [nn.Identity()]}, "blocks= and prefix= together"),
        ({"share": 0.5, "prefix": 1}, "blocks= and prefix= together"),
        ({"share": 0.5, "blocks": [], "prefix": 1}, "blocks= as a list of modules"),
        ({"share": 0.5, "blocks": ["blocks.0"], "prefix": 1}, r"got \[str\]"),
        ({"share": 0.5, "blocks": [nn.Identity()], "prefix": -1}, "at least 0, got -1"),
    ],
)
def test_settings_that_mean_nothing(arguments, message):
    with pytest.raises(SelectionError, match=message):
        KeepTokens(**arguments)


@pytest.mark.parametrize(("keep", "message"), [(2.0, "got 2.0"), ("half", "a share of the patches, a KeepTokens, or None, got 'half'")])
def test_options_that_mean_nothing(keep, message):
    with pytest.raises(SelectionError, match=message):
        hvs.HardViewSelector(distiller()[0], keep_tokens=keep)


def test_outputs_of_patches_are_refused():
    networks = [VisionTransformer(), VisionTransformer()]
    objective = IBOT(*networks, None, None, 0.04, 0.07)
    with pytest.raises(SelectionError, match="does not go with IBOT, whose loss needs an output for every masked patch"):
        hvs.HardViewSelector(objective, keep_tokens=0.5)
    # its class tokens alone may be scored
    vits = [nn.Sequential(vit, nn.Linear(WIDTH, PROTOTYPES)) for vit in networks]
    hvs.HardViewSelector(DINO(*vits, None, 0.04), keep_tokens=0.5).select(make_pixels(RECIPE, IMAGES), make_rows(RECIPE, IMAGES))


@pytest.mark.parametrize("keep", [0.5, KeepTokens(0.5)])
def test_a_teacher_that_loses_tokens_is_not_kept(keep):
    with pytest.raises(SelectionError, match=r"a teacher that sees all tokens .* and keep_tokens="):
        hvs.HardViewSelector(distiller()[0], keep_tokens=keep, keep_teacher=True)


def test_a_teacher_is_spared_only_where_there_is_one():
    with pytest.raises(SelectionError, match=r"teacher=False\) needs an objective whose attribute 'teacher' holds modules.* got Embeds"):
        hvs.HardViewSelector(Embeds(VisionTransformer()), keep_tokens=KeepTokens(0.5, teacher=False))


def test_networks_without_tokens_are_refused():
    with pytest.raises(SelectionError, match="found no vision transformer in the modules of Embeds .Sequential, Conv2d"):
        hvs.HardViewSelector(Embeds(nn.Sequential(nn.Conv2d(3, 4, 3))), keep_tokens=0.5)


def test_relative_positions_are_refused():
    swin = create_model("swin_tiny_patch4_window7_224", img_size=32, window_size=4, embed_dim=8, depths=(1, 1), num_heads=(1, 1))
    with pytest.raises(SelectionError, match="got SwinTransformer, whose attention holds a bias for every two places"):
        hvs.HardViewSelector(Embeds(swin), keep_tokens=0.5)


class Misled(VisionTransformer):
    """Has more tokens before the patches than its attributes show."""

    def tokens(self, x):
        tokens = super().tokens(x)
        return torch.cat([tokens[:, :1], tokens], dim=1)


def test_tokens_that_make_no_grid_are_refused():
    views = make_pixels(make_recipe(locals_=0), IMAGES)
    with pytest.raises(SelectionError, match="expected 1 tokens and then a square grid of patches in Block, got 18 tokens"):
        hvs.HardViewSelector(Embeds(Misled()), keep_tokens=0.5).select(views)
    model = Misled()
    hvs.HardViewSelector(Embeds(model), keep_tokens=KeepTokens(0.5, blocks=[model.blocks[0]], prefix=2)).select(views)


def test_blocks_that_take_no_tokens_are_refused():
    model = VisionTransformer()
    views = make_pixels(make_recipe(locals_=0), IMAGES)
    keep = KeepTokens(0.5, blocks=[model.patch_embed.proj], prefix=0)
    with pytest.raises(SelectionError, match=r"tokens \[N, L, D\] as the first argument of Conv2d, got torch.float32 \[12, 3, 8, 8\]"):
        hvs.HardViewSelector(Embeds(model), keep_tokens=keep).select(views)


@pytest.mark.parametrize("how", ["wrapped", "in place", "its blocks"])
def test_modules_that_are_compiled_themselves_are_refused(how):
    model = VisionTransformer()
    if how == "wrapped":
        model = torch.compile(model, backend="eager")
    else:
        (model if how == "in place" else model.blocks[0]).compile(backend="eager")
    selector = hvs.HardViewSelector(Embeds(model), keep_tokens=0.5)
    with pytest.raises(SelectionError, match="keep_tokens needs modules that are not compiled themselves, got a compiled"):
        selector.select(make_pixels(make_recipe(locals_=0), IMAGES))


# ---- together with other levers ----


def test_with_early_features():
    objective, student, *_ = distiller()
    pixels, rows = make_pixels(RECIPE, IMAGES, dtype=torch.float64), make_rows(RECIPE, IMAGES)
    seen = TokensSeen(student[0].blocks[0])
    early = EarlyFeatures(objective, "0.blocks.1")
    kept, whole = (hvs.HardViewSelector(early, keep_tokens=keep).select(pixels, rows).losses for keep in (0.5, None))
    assert seen.tokens == [9, 3, 17, 5] and not torch.equal(kept[:, 0, 2], whole[:, 0, 2])


def test_with_autocast():
    torch.manual_seed(5)
    vit = VisionTransformer().eval()
    views = make_pixels(make_recipe(locals_=0), IMAGES)
    losses = hvs.HardViewSelector(Embeds(vit), keep_tokens=0.5, autocast=torch.bfloat16).select(views).losses
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        outputs = without_tokens(vit, torch.cat(views), 0.5).unflatten(0, (4, IMAGES)).transpose(0, 1)
        expected = Embeds(vit).pair_losses(outputs)
    # the same operations on the same batch
    assert torch.equal(losses.triu(1)[:, 0, 1:], expected.triu(1)[:, 0, 1:])
    exact = hvs.HardViewSelector(Embeds(vit), keep_tokens=0.5).select(views).losses
    assert not torch.equal(losses[:, 0, 1], exact[:, 0, 1])
