"""What a selector refuses: an error that says what was expected, and nothing changed."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import hvs_data as hvs
from hvs_data import Objective, SelectionError
from hvs_data.objectives import SimSiam
from small_selections import Table, bits, make_candidates, make_model, make_params


@pytest.mark.parametrize(
    ("objective", "options", "message"),
    [
        (nn.Identity(), {}, "expected an hvs_data.Objective, got Identity"),
        (lambda pixels: pixels, {}, "got function"),
        (Objective, {}, "pass an instance"),
        (Table(None), {"bn": "batch"}, "bn must be one of"),
        (Table(None), {"score_size": 0}, "score_size must be a whole number of at least 1, a share of the size below 1, or None, got 0"),
        (Table(None), {"chunk": 2.5}, "chunk must be"),
        (Table(None), {"chunk": True}, "chunk must be"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(objective, options, message):
    with pytest.raises(SelectionError, match=message):
        hvs.HardViewSelector(objective, **options)


VIEW = torch.zeros(2, 3, 4, 4)


@pytest.mark.parametrize(
    ("candidates", "params", "message"),
    [
        ([VIEW], None, "at least 2 candidate views of an image, got 1"),
        ([], None, "got 0"),
        (VIEW[:, None], None, "got 1"),
        (VIEW, None, r"a tensor of shape \(2, 3, 4, 4\)"),
        ([VIEW, None], None, "a list of NoneType, Tensor"),
        ("views", None, "got str"),
        ([VIEW, VIEW[:, :, :2]], None, r"one shape .*\[2, 3, 4, 4\].*\[2, 3, 2, 4\]"),
        ([VIEW, VIEW[:1]], None, "one shape"),
        ([VIEW, VIEW.double()], None, "torch.float64"),
        ([VIEW[0], VIEW[0]], None, "one shape"),
        ([VIEW[:0], VIEW[:0]], None, r"at least one image .*\[0, 3, 4, 4\]"),
        ([VIEW, VIEW], make_params(["view"] * 3, 2), "each of the 2 candidate views, got rows of 3"),
        ([VIEW, VIEW], make_params(["view"] * 2, 3), "2 images, got rows of 3"),
        (
            [VIEW, VIEW, VIEW, VIEW],
            replace(make_params(["view", "view", "local", "local"], 2), emitted={"local": 1}),
            "expected as many candidates of the role 'local' as reach the trainer, 1, under Table.* got 2; draw as many, or",
        ),
        ([VIEW, VIEW, VIEW], make_params(["a", "b", "c"], 2), r"of the roles \['a', 'b', 'c'\]"),
    ],
)
def test_candidates_that_do_not_fit_are_refused(candidates, params, message):
    selector = hvs.HardViewSelector(Table(torch.zeros(2, 2, 2)))
    for call in (selector, selector.select):
        with pytest.raises(SelectionError, match=message):
            call(candidates, params)


@pytest.mark.parametrize(
    ("encode", "message"),
    [
        (lambda pixels: pixels.flatten(1).mean(0), r"first axis N = 6, .* got \[\[48\]\]"),
        (lambda pixels: (pixels, pixels[:2]), r"got \[\[6, 3, 4, 4\], \[2, 3, 4, 4\]\]"),
        (lambda pixels: pixels.mean(), r"got \[\[\]\]"),
        (lambda pixels: {}, "got no tensor"),
        (lambda pixels: None, "got NoneType"),
        (lambda pixels: [pixels, "logits"], "got str"),
    ],
)
def test_outputs_of_a_wrong_shape_are_refused(encode, message):
    objective = Table(torch.zeros(2, 3, 3))
    objective.encode = encode
    with pytest.raises(SelectionError, match=message):
        hvs.HardViewSelector(objective)([VIEW] * 3)


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        (torch.zeros(3, 3), r"\[B, V, V\] = \[2, 3, 3\], got torch.float32 \[3, 3\]"),
        (torch.zeros(2), "got torch.float32"),
        (torch.zeros(3, 2, 2), "not their mean"),
        (0.5, "got float"),
        (torch.zeros(2, 3, 3, dtype=torch.complex64), "got torch.complex64"),
    ],
)
def test_losses_of_a_wrong_shape_are_refused(losses, message):
    with pytest.raises(SelectionError, match=message):
        hvs.HardViewSelector(Table(losses))([VIEW] * 3)


def test_a_refused_call_leaves_the_model_as_it_was():
    model = make_model()
    objective = SimSiam(model)
    objective.pair_losses = lambda outputs: None
    before = bits(model.state_dict())
    with pytest.raises(SelectionError):
        hvs.HardViewSelector(objective)(make_candidates(3, 2))
    assert bits(model.state_dict()) == before
    assert all(module.training for module in model.modules()) and torch.is_grad_enabled()
