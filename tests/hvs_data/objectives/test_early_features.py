"""Early features against the encoder's first layers run by hand."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import resnet18

import hvs_data as hvs
from hvs_data import Objective, SelectionError
from hvs_data.objectives import BYOL, DINO, EarlyFeatures, MoCoV2
from multi_crop import every_combination, make_pixels, make_recipe, make_rows, sum_of_terms
from small_vits import VisionTransformer
from traces import changes, state_of
from trainers import TRAINERS, NoQuestions, make_candidates, next_step, traces

IMAGES = 5
# A selection keeps losses in float32, and a cosine of features in float32 has an error of a few units of 2^-24 for D up to some tens.
CLOSE = {"rtol": 0, "atol": 32 * 2**-24}


class Never(nn.Module):
    """Stands behind the layer."""

    def forward(self, x):
        raise AssertionError("the forward went on past the layer")


class Encoder(nn.Module):
    def __init__(self, behind=Never):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
        self.layer1 = nn.Sequential(nn.Conv2d(6, 9, 3), nn.BatchNorm2d(9), nn.ReLU())
        self.layer2 = behind()

    def forward(self, x):
        return self.layer2(self.layer1(self.stem(x))).mean((2, 3))


def encoder(behind=Never):
    torch.manual_seed(5)
    return Encoder(behind).double()


def scores_by_hand(features, center=True):
    """Features of all views, V tensors [B, D] -> [B, V, V]."""
    features = torch.stack(features, dim=1)
    if center:
        features = features - features.mean((0, 1))
    return -F.cosine_similarity(features[:, :, None], features[:, None], dim=-1)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("bn", ["fused", "per_view", "running"])
@pytest.mark.parametrize("by", ["name", "module"])
def test_scores_are_those_of_the_first_layers(by, bn, center):
    model = encoder()
    views = make_candidates(4, IMAGES, dtype=torch.float64)
    layer = "layer1" if by == "name" else model.layer1
    losses = hvs.HardViewSelector(EarlyFeatures(model, layer, center=center), bn=bn).select(views).losses
    first = copy.deepcopy(nn.Sequential(model.stem, model.layer1)).train(bn != "running")
    with torch.no_grad():
        maps = [first(view) for view in views] if bn != "fused" else first(torch.cat(views)).chunk(4)
    expected = scores_by_hand([each.mean((2, 3)) for each in maps], center)
    for i in range(4):
        for j in range(i + 1, 4):
            torch.testing.assert_close(losses[:, i, j].double(), expected[:, i, j], **CLOSE)


def test_parts_of_a_batch_make_the_same_features():
    """Where there are no batch statistics and no centre."""
    model = encoder().eval()
    views = make_candidates(4, IMAGES, dtype=torch.float64)
    whole, parts = (hvs.HardViewSelector(EarlyFeatures(model, "layer1", center=False), chunk=chunk).select(views) for chunk in (None, 7))
    torch.testing.assert_close(whole.losses, parts.losses, **CLOSE, equal_nan=True)


def test_tokens_of_a_transformer():
    torch.manual_seed(5)
    vit = VisionTransformer().double()
    views = make_pixels(make_recipe(locals_=0), IMAGES, dtype=torch.float64)
    losses = hvs.HardViewSelector(EarlyFeatures(vit, "blocks.0")).select(views).losses
    with torch.no_grad():
        expected = scores_by_hand([vit.eval().blocks[0](vit.tokens(view)).mean(1) for view in views])
    torch.testing.assert_close(losses[:, 1, 3].double(), expected[:, 1, 3], **CLOSE)


def test_local_views_and_a_methods_objective():
    """Of DINO the student runs, and the mean over all its pairs of views is taken."""
    torch.manual_seed(5)
    student = nn.Sequential(VisionTransformer(), Never()).double()
    objective = DINO(student, Never(), None, 0.04)
    recipe = make_recipe(locals_=3, chosen=2)
    pixels = make_pixels(recipe, IMAGES, dtype=torch.float64)
    selection = hvs.HardViewSelector(EarlyFeatures(objective, "0.blocks.1")).select(pixels, make_rows(recipe, IMAGES))
    with torch.no_grad():
        vit = student[0].eval()
        features = [vit.blocks[1](vit.blocks[0](vit.tokens(view))).mean(1) for view in pixels]
    scores = scores_by_hand(features)[:, :4] / 6  # 2 (4 - 1) pairs of one of two global views and another one
    scores[:, range(4), range(4)] = 0
    for image in range(IMAGES):
        loss_of = {combination: sum_of_terms(scores[image], combination, recipe) for combination in every_combination(recipe)}
        assert tuple(selection.slots[image].tolist()) == max(loss_of, key=loss_of.get)
        assert float(selection.combination_loss[image]) == pytest.approx(max(loss_of.values()), abs=32 * 2**-24)


def test_of_several_layers_of_a_name_the_first_that_runs_counts():
    online, target = encoder(), encoder()
    objective = BYOL(encoder=online, predictor=Never(), target_encoder=target)
    views = make_candidates(3, IMAGES, dtype=torch.float64)
    found, expected = (hvs.HardViewSelector(EarlyFeatures(source, "layer1")).select(views).losses for source in (objective, online))
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def test_a_resnet_and_an_ordered_objective():
    torch.manual_seed(5)
    query, key = resnet18(num_classes=8), resnet18(num_classes=8)
    objective = MoCoV2(encoder=query, momentum_encoder=key, queue=torch.randn(8, 12))
    views = [torch.randn(IMAGES, 3, 32, 32) for _ in range(3)]
    selection = hvs.HardViewSelector(EarlyFeatures(objective, "layer2")).select(views)
    assert (selection.pair[:, 0] < selection.pair[:, 1]).all() and selection.losses[:, 0, 1].isfinite().all()


def test_outside_of_a_selector():
    model = encoder()
    pixels = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    with hvs.scoring(model):
        features, same = EarlyFeatures(model, "layer1").encode(pixels)
        torch.testing.assert_close(features, model.layer1(model.stem(pixels)).mean((2, 3)), rtol=0, atol=0)
    assert same is features and not model.layer1._forward_hooks


# ---- no trace ----


@pytest.mark.parametrize("options", [{}, {"bn": "per_view"}, {"bn": "running", "chunk": 3}], ids=str)
def test_nothing_changes(options):
    assert traces(early_simsiam, make_candidates(), **options) == set()


@pytest.mark.parametrize("autocast", [False, True])
def test_the_next_step_is_the_same(autocast):
    with_scoring, without = (next_step(early_simsiam, make_candidates(), score, autocast) for score in (True, False))
    assert with_scoring == without


def early_simsiam():
    trainer = TRAINERS["SimSiam"]()
    trainer.objective = EarlyFeatures(trainer.objective, "1")
    return trainer


def test_the_device_is_asked_nothing():
    trainer = early_simsiam()
    selector = hvs.HardViewSelector(trainer.objective)
    selector(make_candidates())
    with NoQuestions():
        selector(make_candidates())


class Fails(nn.Module):
    def forward(self, x):
        raise RuntimeError("broken layer")


def test_nothing_is_left_after_an_error():
    model = encoder()
    model.layer1[0] = Fails()
    objective, before = EarlyFeatures(model, "layer1"), state_of(model)
    selector = hvs.HardViewSelector(objective)
    with pytest.raises(RuntimeError, match="broken layer"):
        selector.select(make_candidates(3, IMAGES, dtype=torch.float64))
    assert changes(before, state_of(model)) == set() and not model.layer1._forward_hooks
    model.layer1[0] = nn.Conv2d(6, 9, 3).double()
    selector.select(make_candidates(3, IMAGES, dtype=torch.float64))


# ---- what is refused ----


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("layer9", r"layer in Encoder, got 'layer9'; there are stem, stem.0, stem.1, stem.2, layer1, "),
        ("", "got ''"),
        (None, "got None"),
    ],
)
def test_layers_that_are_nowhere(layer, message):
    with pytest.raises(SelectionError, match=message):
        EarlyFeatures(encoder(), layer)


def test_sources_of_another_kind():
    with pytest.raises(SelectionError, match="takes a model or an objective, got function"):
        EarlyFeatures(lambda pixels: pixels, "layer1")


@pytest.mark.parametrize("by", ["name", "module"])
def test_a_layer_that_does_not_run(by):
    model = encoder(nn.Identity)
    model.unused = nn.Linear(2, 2)
    objective = EarlyFeatures(model, "unused" if by == "name" else model.unused)
    named = "'unused'" if by == "name" else "Linear"
    with pytest.raises(SelectionError, match=f"the forward of Encoder to come to the layer {named}, got one that does not call it"):
        hvs.HardViewSelector(objective).select(make_candidates(3, IMAGES, dtype=torch.float64))


def test_features_of_another_shape():
    class Layer(nn.Module):
        def forward(self, x):
            return {"features": x}

    model = encoder()
    model.layer1 = Layer()
    with pytest.raises(SelectionError, match=r"maps \[N, C, H, W\], tokens \[N, L, D\] or \[N, D\], got dict"):
        hvs.HardViewSelector(EarlyFeatures(model, "layer1")).select(make_candidates(3, IMAGES, dtype=torch.float64))


def test_a_compiled_encoder():
    model = encoder()
    model.compile(backend="eager")
    with pytest.raises(SelectionError, match="EarlyFeatures needs modules that are not compiled themselves, got a compiled Encoder"):
        hvs.HardViewSelector(EarlyFeatures(model, "layer1")).select(make_candidates(3, IMAGES, dtype=torch.float64))


def test_it_has_no_teacher_to_keep():
    with pytest.raises(SelectionError, match="keep_teacher needs an objective with a teacher.* got EarlyFeatures"):
        hvs.HardViewSelector(EarlyFeatures(encoder(), "layer1"), keep_teacher=True)


def test_extras_of_a_users_objective_are_handed_on():
    class Boxed(Objective):
        extras = ("box",)

        def __init__(self, model):
            self.model = model

        def encode(self, pixels, box):
            return self.model(pixels * box[:, :1, None, None])

    model, recipe = encoder(), make_recipe(locals_=0)
    selector = hvs.HardViewSelector(EarlyFeatures(Boxed(model), "layer1"))
    selection = selector.select(make_pixels(recipe, IMAGES, dtype=torch.float64), make_rows(recipe, IMAGES))
    assert selection.losses[:, 0, 2].isfinite().all()
