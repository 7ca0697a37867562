"""Outputs that are no tensor, of Hugging Face's models and others: taken where they leave no choice, refused with the line to write."""

import logging
import re
from collections import namedtuple
from functools import partial

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn
from transformers import (
    ConvNextConfig,
    ConvNextModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ConvNextConfig,
    DINOv3ConvNextModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    ResNetConfig,
    ResNetModel,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

import hvs_data as hvs
from hvs_data import SelectionError
from hvs_data.objectives import DINO, SimCLR, SimSiam, outputs
from hvs_data.objectives.outputs import one_embedding
from multi_crop import make_pixels, make_recipe, make_rows

WIDTH, SIDE = 16, 16
SMALL = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": WIDTH,
    "image_size": SIDE,
    "patch_size": 8,
}
PIXELS = torch.linspace(-1, 1, 3 * 3 * SIDE**2).reshape(3, 3, SIDE, SIDE).sin()
LARGE = torch.linspace(-1, 1, 3 * 3 * 64**2).reshape(3, 3, 64, 64).sin()
POOLED = {
    "ResNet": lambda: ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, WIDTH], depths=[1, 1])),
    "ResNet with all stages": lambda: ResNetModel(
        ResNetConfig(embedding_size=8, hidden_sizes=[8, WIDTH], depths=[1, 1], output_hidden_states=True)
    ),
    "ConvNeXt": lambda: ConvNextModel(ConvNextConfig(hidden_sizes=[8, WIDTH], depths=[1, 1], num_stages=2)),
}
TOKENS = {
    "ViT": lambda: ViTModel(ViTConfig(**SMALL)),
    "ViT without pooling": lambda: ViTModel(ViTConfig(**SMALL), add_pooling_layer=False),
}
FIRST = {
    "DINOv2": lambda: Dinov2Model(Dinov2Config(**SMALL)),
    "DINOv2 with registers": lambda: Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**SMALL)),
    "DINOv3": lambda: DINOv3ViTModel(DINOv3ViTConfig(**SMALL, num_register_tokens=2)),
    "DINOv3, ConvNeXt": lambda: DINOv3ConvNextModel(DINOv3ConvNextConfig(hidden_sizes=[4, 4, 8, WIDTH], depths=[1, 1, 1, 1])),
}


@pytest.mark.parametrize("name", POOLED)
def test_the_pooled_output_of_maps_is_taken_and_told(name, caplog):
    model = POOLED[name]().eval()
    outputs._say.cache_clear()
    with caplog.at_level(logging.INFO, logger="hvs_data"), torch.no_grad():
        taken = [SimCLR(encoder=model).encode(PIXELS) for _ in range(2)]
        assert torch.equal(taken[0], model(PIXELS).pooler_output.flatten(1)) and torch.equal(*taken)
    (said,) = [record.getMessage() for record in caplog.records if "takes" in record.getMessage()]
    assert said.startswith("SimCLR takes .pooler_output of what its encoder returns")


@pytest.mark.parametrize("name", FIRST)
@pytest.mark.parametrize("side", [2 * SIDE, 4 * SIDE])
def test_a_pooled_output_that_is_the_class_token_leaves_no_choice(name, side):
    model, head = FIRST[name]().eval(), nn.Linear(WIDTH, 4)
    pixels = LARGE[:, :, :side, :side]
    with torch.no_grad():
        expected = model(pixels).last_hidden_state[:, 0]
        assert torch.equal(SimSiam(encoder=model, predictor=nn.Identity()).encode(pixels)[1], expected)
        assert torch.equal(DINO((model, head), (model, head), None, 0.1).encode_local(pixels), head(expected))


TIMM = {
    "vit_small_patch16_dinov3": {},
    "vit_small_patch14_reg4_dinov2": {"dynamic_img_size": True},
    "eva02_tiny_patch14_224": {"dynamic_img_size": True},
}
ENCODERS = {name: FIRST[name] for name in ("DINOv2", "DINOv2 with registers", "DINOv3")} | {
    name: partial(timm.create_model, name, num_classes=0, patch_size=8, embed_dim=16, depth=1, num_heads=2, **options)
    for name, options in TIMM.items()
}


@pytest.mark.parametrize("name", ENCODERS)
def test_models_are_encoders_as_they_are(name):
    """Of two views, scored small, and of global and local ones: the choice is that of a function which takes the class token."""
    torch.manual_seed(0)
    model, head = ENCODERS[name]().eval(), nn.Linear(16, 5)

    def token(pixels):
        output = model(pixels)
        return output if isinstance(output, torch.Tensor) else output.last_hidden_state[:, 0]

    multi_crop, pairs = make_recipe(("view",) * 4, sides=(32, 16)), make_recipe(("view",) * 4, locals_=0, sides=(32, 16))
    for recipe, taken, by_hand, options in (
        (multi_crop, DINO((model, head), (model, head), None, 0.1), DINO((token, head), (token, head), None, 0.1), {}),
        (pairs, SimSiam(encoder=model, predictor=head_of(16)), SimSiam(encoder=token, predictor=head_of(16)), {"score_size": 16}),
    ):
        rows, pixels = make_rows(recipe, 6), make_pixels(recipe, 6)
        pixels = [F.interpolate(view, options["score_size"]) for view in pixels] if options else pixels
        chosen, expected = (hvs.HardViewSelector(objective, **options).select(pixels, rows) for objective in (taken, by_hand))
        assert torch.equal(chosen.slots, expected.slots)
        torch.testing.assert_close(chosen.losses, expected.losses, rtol=0, atol=0, equal_nan=True)


def head_of(width):
    torch.manual_seed(1)
    return nn.Linear(width, width)


@pytest.mark.parametrize("name", FIRST | POOLED)
def test_compiled_it_is_taken_too(name):
    model = (FIRST | POOLED)[name]().eval()
    with torch.no_grad():
        taken = torch.compile(SimCLR(encoder=model).encode, fullgraph=True, backend="eager")(LARGE)
        assert torch.equal(taken, model(LARGE).pooler_output.flatten(1))


@pytest.mark.parametrize("pooled", [lambda tokens: tokens[:, 1], lambda tokens: tokens[0], lambda tokens: tokens[:, 0].clone()])
def test_another_embedding_beside_tokens_is_refused(pooled):
    tokens = torch.randn(3, 3, 4)
    with pytest.raises(SelectionError, match="pass a function that takes what is trained on"):
        one_embedding("SimCLR", "encoder", {"tokens": tokens, "pooled": pooled(tokens)})


def test_logits_alone_are_taken():
    model = ViTForImageClassification(ViTConfig(**SMALL, num_labels=5)).eval()
    with torch.no_grad():
        assert torch.equal(SimCLR(model).encode(PIXELS), model(PIXELS).logits)
        dino = DINO(model, model, None, 0.1)
        assert torch.equal(dino.encode_local(PIXELS), model(PIXELS).logits)


@pytest.mark.parametrize("name", TOKENS)
def test_tokens_leave_a_choice_and_every_line_of_the_message_works(name):
    model = TOKENS[name]().eval()
    with pytest.raises(SelectionError, match=r"return one tensor \[N, D\]") as refused:
        SimSiam(encoder=model, predictor=nn.Linear(WIDTH, WIDTH)).encode(PIXELS)
    lines = re.findall(r"lambda pixels: model\(pixels\)[^ ,]*(?:, 0\])?", str(refused.value))
    assert lines[0] == "lambda pixels: model(pixels).last_hidden_state[:, 0]"
    assert len(lines) == (1 if name == "ViT without pooling" else 2)
    for line in lines:
        objective = SimSiam(encoder=eval(line, {"model": model}), predictor=nn.Linear(WIDTH, WIDTH))
        assert objective.modules()[0] is model
        assert objective.encode(PIXELS)[1].shape == (3, WIDTH)


def test_a_backbone_of_a_network_is_refused_alike():
    head = nn.Linear(WIDTH, 4)
    vit, resnet = TOKENS["ViT"]().eval(), POOLED["ResNet"]().eval()
    with pytest.raises(SelectionError, match=r"last_hidden_state\[:, 0\]"):
        DINO((vit, head), (vit, head), None, 0.1).encode_local(PIXELS)
    with torch.no_grad():
        logits = DINO((resnet, head), (resnet, head), None, 0.1).encode_local(PIXELS)
        assert torch.equal(logits, head(resnet(PIXELS).pooler_output.flatten(1)))


Auxiliary = namedtuple("Auxiliary", "logits aux")
EMBEDDING, MAP = torch.ones(3, 4), torch.ones(3, 4, 5, 5)


@pytest.mark.parametrize(
    "output", [{"z": EMBEDDING}, {"z": EMBEDDING, "map": MAP}, (EMBEDDING,), [MAP, None, EMBEDDING], Auxiliary(EMBEDDING, None)], ids=str
)
def test_one_embedding_is_taken(output):
    assert one_embedding("SimCLR", "encoder", output) is EMBEDDING


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ({"z": EMBEDDING, "y": EMBEDDING}, "model(pixels)['z'], or lambda pixels: model(pixels)['y']"),
        ((EMBEDDING, EMBEDDING), "model(pixels)[0], or lambda pixels: model(pixels)[1]"),
        (Auxiliary(EMBEDDING, EMBEDDING), "model(pixels).logits, or lambda pixels: model(pixels).aux"),
        ([MAP], "model(pixels)[0].mean((2, 3))"),
        ({"items": MAP}, "model(pixels)['items'].mean((2, 3))"),  # the name of a method
        (None, "got NoneType (no tensor)"),
    ],
)
def test_what_leaves_a_choice_is_refused_with_lines(output, line):
    with pytest.raises(SelectionError, match=re.escape(line)):
        one_embedding("SimCLR", "encoder", output)


def test_tokens_as_a_tensor_are_told_how_to_be_taken():
    with pytest.raises(SelectionError, match=re.escape("lambda pixels: model(pixels)[:, 0]")):
        SimCLR(encoder=lambda pixels: torch.ones(3, 5, 4)).encode(PIXELS)
