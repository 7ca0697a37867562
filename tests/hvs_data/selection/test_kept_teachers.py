"""What a teacher, or a momentum network, gave while scoring is what the trainer's own forward of the chosen views gives."""

import pytest
import torch
from torch import nn

import hvs_data as hvs
from hvs_data import KeepTokens, SelectionError
from hvs_data.objectives import BYOL, DINO, IBOT, MSN, DINOv2, MoCoV2, MoCoV3, SimSiam, TiCo, reducible
from multi_crop import make_recipe, make_rows
from small_vits import GRID, WIDTH, VisionTransformer

IMAGES, PROTOTYPES, SIDE = 4, 6, 8
# One forward of 8 or 16 views: sums of at most 64 float64 terms in another order, in some 20 operations.
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


class Tokens(nn.Module):
    """Class token and patch tokens of a small transformer, with or without a mask."""

    def __init__(self):
        super().__init__()
        self.vit = VisionTransformer(depth=2)

    def forward(self, pixels, mask=None):
        tokens = self.vit.tokens(pixels)
        if mask is not None:
            shown = torch.cat([torch.ones(len(mask), 1, dtype=torch.bool), ~mask.flatten(1)], dim=1)
            tokens = tokens * shown[:, :, None]
        for block in self.vit.blocks:
            tokens = block(tokens)
        tokens = self.vit.norm(tokens)
        return tokens[:, 0], tokens[:, 1:]


class WithHead(nn.Module):
    """Class and patch logits."""

    def __init__(self):
        super().__init__()
        self.tokens, self.head = Tokens(), nn.Linear(WIDTH, PROTOTYPES)

    def forward(self, pixels, mask=None):
        return tuple(self.head(tokens) for tokens in self.tokens(pixels, mask))


def parts(**names):
    """A transformer, a projector and perhaps a predictor, trained and of the momentum network."""
    made = {name: VisionTransformer(depth=2) if "encoder" in name else nn.Linear(WIDTH, WIDTH) for name in names.values()}
    return {name: module.double() for name, module in made.items()}


def momentum(kind, predictor=True, target="momentum", **options):
    names = ["encoder", "projector", *(["predictor"] if predictor else []), f"{target}_encoder", f"{target}_projector"]
    its = parts(**{name: name for name in names})
    return kind(**its, **options), lambda pixels: its[f"{target}_projector"](its[f"{target}_encoder"](pixels))


def distilled(kind, network, *arguments, **options):
    student, teacher = network().double(), network().double()
    return kind(student, teacher, *arguments, **options), teacher


def dinov2():
    parts = [(Tokens().double(), nn.Linear(WIDTH, PROTOTYPES).double()) for _ in range(2)]
    backbone, head = parts[1]

    def teacher(pixels):
        class_token, patches = backbone(pixels)
        return head(class_token), patches

    return DINOv2(*parts, None, None, 0.1), teacher


def msn():
    prototypes = torch.randn(PROTOTYPES, WIDTH, dtype=torch.float64)
    student, teacher = (VisionTransformer(depth=2).double() for _ in range(2))
    return MSN(student=student, teacher=teacher, prototypes=prototypes), teacher


def logits():
    return nn.Sequential(VisionTransformer(depth=2), nn.Linear(WIDTH, PROTOTYPES))


QUEUE = nn.functional.normalize(torch.randn(WIDTH, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), dim=0)
METHODS = {
    "BYOL": lambda: momentum(BYOL, target="target"),
    "MoCo v2": lambda: momentum(MoCoV2, predictor=False, queue=QUEUE),
    "MoCo v2, both directions": lambda: momentum(MoCoV2, predictor=False, queue=QUEUE, symmetric=True),
    "MoCo v3": lambda: momentum(MoCoV3),
    "TiCo": lambda: momentum(TiCo, predictor=False),
    "DINO": lambda: distilled(DINO, logits, None, 0.1),
    "iBOT": lambda: distilled(IBOT, WithHead, None, None, 0.1, 0.1),
    "DINOv2": dinov2,
    "MSN": msn,
}


def made(name):
    torch.manual_seed(3)
    objective, teacher = METHODS[name]()
    for module in objective.modules():
        for inner in module.modules():
            if isinstance(inner, nn.Dropout):
                inner.p = 0.0
    return objective, teacher


def candidates(count, seed=0):
    recipe = make_recipe(roles=("view",) * count, locals_=0, chosen=0, masking=hvs.recipes.Masking(SIDE // GRID))
    draw = torch.Generator().manual_seed(seed)
    pixels = [torch.randn(IMAGES, 3, SIDE, SIDE, generator=draw, dtype=torch.float64) for _ in range(count)]
    return pixels, make_rows(recipe, IMAGES, seed=seed)


def of_trainer(teacher, views):
    with torch.no_grad():
        return teacher(torch.cat(views[:2]))


def compare(found, expected, **tolerance):
    for mine, its in zip(*(outputs if isinstance(outputs, tuple) else (outputs,) for outputs in (found, expected)), strict=True):
        torch.testing.assert_close(mine, its, **tolerance)


@pytest.mark.parametrize("name", METHODS)
def test_they_are_those_of_the_trainers_own_forward(name):
    objective, teacher = made(name)
    pixels, rows = candidates(4)
    selector = hvs.HardViewSelector(objective, keep_teacher=True)
    views = selector(pixels, rows)
    compare(selector.last.teacher_outputs, of_trainer(teacher, views), **CLOSE)
    assert not hvs.HardViewSelector(objective).select(pixels, rows).teacher_outputs


@pytest.mark.parametrize("name", METHODS)
def test_where_all_candidates_are_chosen_they_are_the_same_bits(name):
    objective, teacher = made(name)
    pixels, rows = candidates(2)
    selector = hvs.HardViewSelector(objective, keep_teacher=True)
    views = selector(pixels, rows)
    found, expected = selector.last.teacher_outputs, of_trainer(teacher, pixels)
    turned = (selector.last.pair == torch.tensor([1, 0])).all(1)  # ordered pairs may come the other way round
    assert objective.ordered or not turned.any()
    for mine, its in zip(*(outputs if isinstance(outputs, tuple) else (outputs,) for outputs in (found, expected)), strict=True):
        first, second = its.chunk(2)
        flipped = turned.view(-1, *[1] * (its.ndim - 1))
        assert torch.equal(mine, torch.cat([torch.where(flipped, second, first), torch.where(flipped, first, second)]))
    assert len(views) == 2


@pytest.mark.parametrize("name", ["BYOL", "MoCo v3"])
@pytest.mark.parametrize("options", [{"chunk": 5}, {"prefilter": 3}, {"keep_tokens": KeepTokens(0.5, teacher=False)}], ids=str)
def test_together_with_other_options(name, options):
    objective, teacher = made(name)
    pixels, rows = candidates(5)
    selector = hvs.HardViewSelector(objective, keep_teacher=True, **options)
    views = selector(pixels, rows)
    compare(selector.last.teacher_outputs, of_trainer(teacher, views), **CLOSE)


@pytest.mark.parametrize("name", ["BYOL", "DINO"])
def test_of_reducible_losses(name):
    objective, teacher = made(name)
    pixels, rows = candidates(4)
    selector = hvs.HardViewSelector(reducible(objective, 0.5), keep_teacher=True)
    views = selector(pixels, rows)
    compare(selector.last.teacher_outputs, of_trainer(teacher, views), **CLOSE)


def test_a_budget_spares_the_teachers_tokens():
    objective, teacher = made("BYOL")
    selector = hvs.HardViewSelector(objective, budget="balanced", keep_teacher=True)
    assert selector.keep_tokens == KeepTokens(0.25, teacher=False)
    pixels, rows = candidates(4)
    views = selector(pixels, rows)
    compare(selector.last.teacher_outputs, of_trainer(teacher, views), **CLOSE)


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(WIDTH), nn.BatchNorm1d(WIDTH, track_running_stats=False)], ids=["running", "none"])
@pytest.mark.parametrize("name", ["BYOL", "DINO"])
def test_a_teacher_that_normalises_by_its_batch_is_refused(name, norm):
    objective, network = made(name)
    norm = norm.double().train()
    if name == "BYOL":
        objective.target_projector = projector = nn.Sequential(objective.target_projector, norm)
    else:
        network.insert(1, norm)
        projector = network
    pixels, rows = candidates(4)
    selector = hvs.HardViewSelector(objective, keep_teacher=True)
    with pytest.raises(SelectionError, match=r"got batch normalisation in training mode.*set the teacher to eval\(\).*keep_teacher=False"):
        selector.select(pixels, rows)
    hvs.HardViewSelector(objective, keep_teacher=False).select(pixels, rows)  # the one remedy
    projector.eval()  # the other, but of a norm that keeps no statistics
    if norm.track_running_stats:
        views = selector(pixels, rows)
        teacher = network if name == "DINO" else lambda view: projector(objective.target_encoder(view))
        compare(selector.last.teacher_outputs, of_trainer(teacher, views), **CLOSE)


def test_methods_without_a_teacher_are_refused():
    its = parts(encoder="encoder", projector="projector", predictor="predictor")
    with pytest.raises(SelectionError, match="a teacher or a momentum network, such as DINO or BYOL, .* got SimSiam"):
        hvs.HardViewSelector(SimSiam(**its), keep_teacher=True)
