"""Outputs that are no tensor, of Hugging Face's models and others: taken where they leave no choice, refused with the line to write."""

import logging
import re
from collections import namedtuple

import pytest
import torch
from torch import nn
from transformers import (
    ConvNextConfig,
    ConvNextModel,
    Dinov2Config,
    Dinov2Model,
    ResNetConfig,
    ResNetModel,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

from hvs_data import SelectionError
from hvs_data.objectives import DINO, SimCLR, SimSiam, outputs
from hvs_data.objectives.outputs import one_embedding

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
    "DINOv2": lambda: Dinov2Model(Dinov2Config(**SMALL)),
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
