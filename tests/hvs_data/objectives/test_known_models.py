"""The models of public implementations, by the names of their parts, and what each objective calls in them."""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from lightly.models.modules import SwaVPrototypes
from torch import nn

from hvs_data import SelectionError
from hvs_data.objectives import BYOL, BarlowTwins, MoCoV2, MoCoV3, SimCLR, SwAV, VICReg
from trainers import Parts

WIDTH, LENGTH = 6, 5
PIXELS = torch.linspace(-1, 1, 7 * 3 * 8 * 8).reshape(7, 3, 8, 8).sin()
QUEUE = torch.randn(LENGTH, 11)


def encoder(length=None, pooled=True):
    flat = [nn.Flatten()] if pooled else []
    return nn.Sequential(nn.Conv2d(3, WIDTH, 3), nn.AdaptiveAvgPool2d(1), *flat, *([nn.Linear(WIDTH, length)] if length else []))


def projector():
    return nn.Linear(WIDTH, LENGTH)


def predictor():
    return nn.Linear(LENGTH, LENGTH)


def through(*parts):
    """Pixels through several parts, as a model's own forward would do it."""
    features = PIXELS
    for part in parts:
        features = part(features).flatten(1)
    return features


# ---- one branch ----

ONE_BRANCH = [
    ("lightly", {"encoder": "backbone", "projector": "projection_head"}),
    ("solo-learn, official VICReg and Barlow Twins", {"encoder": "backbone", "projector": "projector"}),
    ("plain", {"encoder": "encoder", "projector": "projector"}),
]
OBJECTIVES = pytest.mark.parametrize("objective", [SimCLR, VICReg, BarlowTwins])


@OBJECTIVES
@pytest.mark.parametrize("names", [names for _, names in ONE_BRANCH], ids=[name for name, _ in ONE_BRANCH])
@pytest.mark.parametrize("pooled", [True, False])
def test_one_branch(objective, names, pooled):
    parts = {"encoder": encoder(pooled=pooled), "projector": projector()}
    made = objective(Parts(**{names[name]: part for name, part in parts.items()}, unused=nn.Linear(2, 2)))
    assert torch.equal(made.encode(PIXELS), through(*parts.values()))
    assert made.modules() == list(parts.values())
    again = objective(**parts)
    assert torch.equal(again.encode(PIXELS), through(*parts.values()))


@OBJECTIVES
def test_an_encoder_that_holds_the_projector_is_enough(objective):
    whole = encoder(LENGTH)
    assert torch.equal(objective(encoder=whole).encode(PIXELS), whole(PIXELS))
    model = Parts(backbone=whole, projector=whole[3])
    assert torch.equal(objective(model).encode(PIXELS), whole(PIXELS))


@OBJECTIVES
def test_another_model_is_called_with_pixels(objective):
    model = encoder(LENGTH)
    made = objective(model)
    assert torch.equal(made.encode(PIXELS), model(PIXELS)) and made.modules() == [model]


# ---- two branches ----


def momentum_parts(names, **more):
    """A model whose second branch differs from its first, and its parts by the objectives' names."""
    first, second = (encoder(None if "projector" in names else LENGTH) for _ in range(2))
    parts = {"encoder": first, "predictor": predictor()}
    target = next(name for name in names if name.endswith("encoder") and name != "encoder")
    parts[target] = second
    if "projector" in names:
        parts["projector"], parts[target.replace("encoder", "projector")] = projector(), projector()
    parts = {name: parts[name] for name in names}
    return Parts(**{names[name]: part for name, part in parts.items()}, **more), parts


LIGHTLY = {"encoder": "backbone", "projector": "projection_head"}
SOLO = {"encoder": "backbone", "projector": "projector"}
TWO_BRANCHES = {
    "BYOL of lightly's examples": (
        BYOL,
        LIGHTLY | {"predictor": "prediction_head", "target_encoder": "backbone_momentum", "target_projector": "projection_head_momentum"},
    ),
    "BYOL of lightly's benchmarks": (
        BYOL,
        LIGHTLY | {"predictor": "prediction_head", "target_encoder": "teacher_backbone", "target_projector": "teacher_projection_head"},
    ),
    "BYOL of solo-learn": (
        BYOL,
        SOLO | {"predictor": "predictor", "target_encoder": "momentum_backbone", "target_projector": "momentum_projector"},
    ),
    "BYOL of byol-pytorch": (BYOL, {"encoder": "online_encoder", "predictor": "online_predictor", "target_encoder": "target_encoder"}),
    "BYOL, plain": (
        BYOL,
        {
            "encoder": "encoder",
            "projector": "projector",
            "predictor": "predictor",
            "target_encoder": "target_encoder",
            "target_projector": "target_projector",
        },
    ),
    "BYOL, plain without projectors": (BYOL, {"encoder": "encoder", "predictor": "predictor", "target_encoder": "target_encoder"}),
    "official MoCo v2": (MoCoV2, {"encoder": "encoder_q", "momentum_encoder": "encoder_k"}),
    "MoCo v2 of lightly's examples": (
        MoCoV2,
        LIGHTLY | {"momentum_encoder": "backbone_momentum", "momentum_projector": "projection_head_momentum"},
    ),
    "MoCo v2 of lightly's benchmarks": (
        MoCoV2,
        LIGHTLY | {"momentum_encoder": "key_backbone", "momentum_projector": "key_projection_head"},
    ),
    "MoCo v2 of solo-learn": (MoCoV2, SOLO | {"momentum_encoder": "momentum_backbone", "momentum_projector": "momentum_projector"}),
    "official MoCo v3": (MoCoV3, {"encoder": "base_encoder", "predictor": "predictor", "momentum_encoder": "momentum_encoder"}),
    "MoCo v3 of solo-learn": (
        MoCoV3,
        SOLO | {"predictor": "predictor", "momentum_encoder": "momentum_backbone", "momentum_projector": "momentum_projector"},
    ),
    "MoCo v3 in lightly's names": (
        MoCoV3,
        LIGHTLY
        | {"predictor": "prediction_head", "momentum_encoder": "backbone_momentum", "momentum_projector": "projection_head_momentum"},
    ),
}


@pytest.mark.parametrize(("objective", "names"), TWO_BRANCHES.values(), ids=TWO_BRANCHES)
def test_two_branches(objective, names):
    model, parts = momentum_parts(names)
    model.register_buffer("queue", QUEUE)
    settings = {"queue": QUEUE} if objective is MoCoV2 else {}
    online = through(*(parts[name] for name in ("encoder", "projector", "predictor") if name in parts))
    target = through(*(parts[name] for name in parts if name.startswith(("target", "momentum"))))
    assert not torch.allclose(online, target)
    for made in (objective(model), objective(**parts, **settings)):
        first, second = made.encode(PIXELS)
        assert torch.equal(first, online) and torch.equal(second, target)
        assert set(made.modules()) == set(parts.values())


def test_byol_pytorch_returns_a_tuple():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = encoder(LENGTH)

        def forward(self, pixels):
            projection = self.net(pixels)
            return projection, projection + 1

    model = Parts(online_encoder=Net(), online_predictor=predictor(), target_encoder=Net())
    p, z = BYOL(model).encode(PIXELS)
    assert torch.equal(p, model.online_predictor(model.online_encoder(PIXELS)[0]))
    assert torch.equal(z, model.target_encoder(PIXELS)[0])


def test_a_wrapper_around_one_part_is_passed_by():
    parts = {"encoder": encoder(), "projector": projector()}
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(parts["encoder"])
        assert SimCLR(encoder=wrapped, projector=parts["projector"]).modules() == list(parts.values())
        assert SimCLR(Parts(backbone=wrapped, projector=parts["projector"])).modules() == list(parts.values())
    finally:
        torch.distributed.destroy_process_group()


# ---- prototypes ----


class OfficialSwAV(nn.Module):
    """As facebookresearch/swav: one module with the parts of a network, whose forward takes all crops."""

    def __init__(self):
        super().__init__()
        self.trunk, self.projection_head = encoder(), projector()
        self.prototypes = nn.Linear(LENGTH, 9, bias=False)

    def forward_backbone(self, pixels):
        return self.trunk(pixels)


def swav_models():
    names = {"projector": projector(), "prototypes": nn.Linear(LENGTH, 9, bias=False)}
    yield "official", OfficialSwAV()
    yield (
        "lightly",
        Parts(
            backbone=encoder(pooled=False), projection_head=projector(), prototypes=SwaVPrototypes(LENGTH, 9, n_steps_frozen_prototypes=1)
        ),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # solo-learn normalises in the older way
        normalised = nn.utils.weight_norm(nn.Linear(LENGTH, 9, bias=False))
    normalised.weight_g.data.fill_(1)
    yield "solo-learn", Parts(backbone=encoder(), projector=projector(), prototypes=normalised)
    yield "plain", Parts(encoder=encoder(), **names)


@pytest.mark.parametrize("model", [pytest.param(model, id=name) for name, model in swav_models()])
def test_swav(model):
    z, s = SwAV(model).encode(PIXELS)
    trunk = getattr(model, "trunk", None) or getattr(model, "backbone", None) or model.encoder
    head = getattr(model, "projection_head", None) or model.projector
    assert torch.equal(z, F.normalize(through(trunk, head), dim=1))
    # what the trainers' own forward gives, which have set the prototypes to length 1 before
    trained, settings = model.prototypes, {}
    if isinstance(trained, SwaVPrototypes):
        trained, settings = copy.deepcopy(trained), {"step": 1}
        trained.normalize()
    elif not hasattr(trained, "weight_g"):
        trained = copy.deepcopy(trained)
        trained.weight.data = F.normalize(trained.weight.data, dim=1)
    assert torch.equal(s, trained(z, **settings))


def test_swav_of_parts():
    parts = {"encoder": encoder(), "projector": projector()}
    layer = nn.Linear(LENGTH, 9)
    z, s = SwAV(**parts, prototypes=layer.forward).encode(PIXELS)  # another callable than the layer is called
    assert torch.equal(s, layer(z))
    assert SwAV(**parts, prototypes=layer.forward).modules() == [*parts.values(), layer]
    hooked = nn.Linear(LENGTH, 9)
    hooked.register_forward_hook(lambda module, args, output: output + 1)
    assert torch.equal(SwAV(**parts, prototypes=hooked).encode(PIXELS)[1], hooked(z))


def test_frozen_prototypes_stay_frozen():
    model = Parts(backbone=encoder(), projection_head=projector(), prototypes=SwaVPrototypes(LENGTH, 9, n_steps_frozen_prototypes=1))
    model.prototypes(torch.zeros(1, LENGTH), step=0)
    SwAV(model).encode(PIXELS)
    assert not any(parameter.requires_grad for parameter in model.prototypes.parameters())


def test_several_sets_of_prototypes_are_refused():
    parts = {"backbone": encoder(), "projection_head": projector(), "prototypes": SwaVPrototypes(LENGTH, [9, 4])}
    with pytest.raises(SelectionError, match="expected one set of prototypes, got 2; pass prototypes="):
        SwAV(Parts(**parts))


# ---- what is refused ----


@pytest.mark.parametrize(
    ("objective", "arguments", "message"),
    [
        (SimCLR, {}, "SimCLR needs either a model or its parts, encoder= with or without projector=; pass one of the two"),
        (BYOL, {"model": encoder(), "encoder": encoder()}, "BYOL needs either a model or its parts"),
        (
            BYOL,
            {"encoder": encoder(), "predictor": predictor()},
            "of which only projector and target_projector may be missing.*target_encoder=None",
        ),
        (VICReg, {"projector": projector()}, "encoder=None, projector=Linear"),
        (MoCoV3, {"encoder": 3, "predictor": predictor(), "momentum_encoder": encoder()}, "encoder=int"),
        (SimCLR, {"model": "resnet50"}, r"a SimCLR model with the attributes \(backbone, projection_head\), or .* got str"),
        (
            BYOL,
            {"model": encoder(LENGTH)},
            r"BYOL model with the attributes \(backbone, .* got Sequential, which has none of these",
        ),
        (SwAV, {"model": encoder(LENGTH)}, r"\(forward_backbone, projection_head, prototypes\), or .* got Sequential"),
        (MoCoV2, {"encoder": encoder(), "momentum_encoder": encoder()}, "needs the queue of keys, and no queue= was given; pass queue="),
        (MoCoV2, {"model": Parts(encoder_q=encoder(), encoder_k=encoder())}, "and Parts has no tensor `queue`; pass queue="),
    ],
)
def test_what_cannot_be_a_model_is_refused(objective, arguments, message):
    with pytest.raises(SelectionError, match=message):
        objective(**arguments)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (SimCLR(encoder=lambda pixels: {"features": pixels}), r"SimCLR's encoder to return one tensor \[N, D\] .* got dict"),
        (VICReg(encoder=lambda pixels: pixels), r"VICReg's embeddings as one floating tensor \[N, D\], got torch.float32 \[7, 3, 8, 8\]"),
        (BarlowTwins(encoder=lambda pixels: pixels[:, 0, 0].long()), r"got torch.int64 \[7, 8\]"),
        (
            BYOL(encoder=encoder(4), predictor=nn.Identity(), target_encoder=encoder(LENGTH)),
            r"BYOL's predictions and target_projections of one shape \[N, D\], got torch.float32 \[7, 4\] and torch.float32 \[7, 5\]",
        ),
        (MoCoV2(encoder=encoder(4), momentum_encoder=encoder(3), queue=QUEUE), "queries and keys of one shape"),
        (MoCoV3(encoder=encoder(4), predictor=nn.Identity(), momentum_encoder=encoder(3)), "predictions and keys of one shape"),
        (SwAV(encoder=encoder(4), prototypes=lambda z: z[None]), r"got torch.float32 \[1, 7, 4\]"),
    ],
)
def test_outputs_that_do_not_fit_are_refused(made, message):
    with pytest.raises(SelectionError, match=message):
        made.encode(PIXELS)
