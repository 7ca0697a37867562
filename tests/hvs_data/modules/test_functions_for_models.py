"""Encoders that are functions: scoring protects the model behind them as if it were given itself."""

import copy
import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import hvs_data as hvs
from hvs_data import SelectionError
from traces import changes, state_of

WIDTH = 6


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, WIDTH, 3), nn.BatchNorm2d(WIDTH), nn.ReLU(), nn.Dropout(0.5))

    def forward(self, x):
        return self.layers(x)


class Method:
    def __init__(self, model):
        self.model = model

    def encode(self, pixels):
        return self.model(pixels).mean((2, 3))


WAYS = {
    "lambda": lambda model: lambda x: model(x).mean((2, 3)),
    "partial": lambda model: functools.partial(lambda net, x: net(x).mean((2, 3)), model),
    "method": lambda model: Method(model).encode,
    "compiled": lambda model: torch.compile(lambda x: model(x).mean((2, 3)), backend="eager"),
}


def made(seed=0):
    torch.manual_seed(seed)
    return Encoder(), nn.Linear(WIDTH, WIDTH)


def pixels(seed=1):
    return [torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(seed + slot)) for slot in range(4)]


@pytest.mark.parametrize("way", WAYS)
def test_a_function_scores_as_its_model_and_leaves_no_trace(way):
    model, predictor = made()
    plain, plain_predictor = copy.deepcopy((model, predictor))
    expected = hvs.HardViewSelector(
        hvs.objectives.SimSiam(encoder=nn.Sequential(plain, nn.AdaptiveAvgPool2d(1), nn.Flatten()), predictor=plain_predictor)
    ).select(pixels())
    objective = hvs.objectives.SimSiam(encoder=WAYS[way](model), predictor=predictor)
    assert {id(inner) for root in objective.modules() for inner in root.modules()} >= {id(inner) for inner in model.modules()}
    selector = hvs.HardViewSelector(objective)
    for seed in range(3):  # dropout that is left on would choose by the seed
        torch.manual_seed(seed)
        before = state_of(model)
        selection = selector.select(pixels())
        assert changes(before, state_of(model)) == set()
        # the mean over places in another order: sums of 36 values of size up to 4, in float32
        torch.testing.assert_close(selection.losses, expected.losses, rtol=0, atol=1e-5, equal_nan=True)
    assert selector.is_fresh(selection)
    model.layers[0].weight.grad = torch.ones_like(model.layers[0].weight)
    torch.optim.SGD(model.parameters(), 0.1).step()
    assert not selector.is_fresh(selection)


def hidden():
    """A function whose model nothing shows, since it works out the name under which it is kept; and the model."""
    model, _ = made()
    registry = type("Registry", (), {"the_model": model})
    return lambda x: getattr(registry, "the_" + "".join(["mod", "el"]))(x).mean((2, 3)), model


def test_a_model_that_is_not_found_is_refused_and_the_remedy_works():
    encode, model = hidden()
    objective = hvs.objectives.SimSiam(encoder=encode, predictor=nn.Linear(WIDTH, WIDTH))
    selector = hvs.HardViewSelector(objective)
    before = state_of(model)
    with pytest.raises(SelectionError, match="scoring to call modules that SimSiam shows, got Encoder"):
        selector.select(pixels())
    assert changes(before, state_of(model)) == set()
    objective.network = model  # as the message says
    selection = selector.select(pixels())
    torch.manual_seed(5)
    before = state_of(model)
    assert torch.equal(selector.select(pixels()).losses.nan_to_num(), selection.losses.nan_to_num())
    assert changes(before, state_of(model)) == set()


def test_a_module_that_is_made_around_the_model_is_no_other_model():
    model, predictor = made()
    objective = hvs.objectives.SimSiam(
        encoder=lambda x: nn.Sequential(model, nn.AdaptiveAvgPool2d(1), nn.Flatten())(x), predictor=predictor
    )
    hvs.HardViewSelector(objective).select(pixels())


def test_a_frozen_model_and_layers_without_state_need_not_be_shown():
    encode, model = hidden()
    model.eval().requires_grad_(False)
    objective = hvs.objectives.SimSiam(encoder=lambda x: nn.Flatten()(encode(x)), predictor=nn.Linear(WIDTH, WIDTH))
    hvs.HardViewSelector(objective).select(pixels())


def test_dropout_in_the_function_itself_is_off():
    model, predictor = made()
    objective = hvs.objectives.SimSiam(encoder=lambda x: F.dropout(model(x).mean((2, 3)), 0.5), predictor=predictor)

    def losses(seed, **options):
        torch.manual_seed(seed)
        return hvs.HardViewSelector(objective, **options).select(pixels()).losses.nan_to_num()

    assert torch.equal(losses(0), losses(1))
    assert not torch.equal(losses(0, dropout=True), losses(1, dropout=True))


class WithMethod(Encoder):
    def encode(self, x):
        return self._pooled(super().forward(x))

    def _pooled(self, x):
        return F.dropout(x.mean((2, 3)), 0.5, self.training)


@pytest.mark.parametrize("way", [lambda model: model.encode, lambda model: lambda x: model.encode(x)], ids=["method", "lambda"])
def test_dropout_in_a_method_of_the_model_is_off(way):
    torch.manual_seed(0)
    objective = hvs.objectives.SimSiam(encoder=way(WithMethod()), predictor=nn.Linear(WIDTH, WIDTH))

    def losses(seed):
        torch.manual_seed(seed)
        return hvs.HardViewSelector(objective).select(pixels()).losses.nan_to_num()

    assert torch.equal(losses(0), losses(1))


def test_settings_that_are_functions_show_no_modules():
    """They are read, not called in a forward: to protect a loss would copy its queue in every step."""
    loss = nn.Module()
    loss.register_buffer("center", torch.zeros(1, WIDTH))
    loss.temperature = 0.1
    network = nn.Linear(3, WIDTH)
    objective = hvs.objectives.DINO(network, network, lambda: loss.center, lambda: loss.temperature)
    assert objective.modules() == [network]
    objective = hvs.objectives.SimCLR(encoder=network, temperature=functools.partial(getattr, loss, "temperature"))
    assert objective.modules() == [network]
