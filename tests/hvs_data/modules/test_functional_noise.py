"""Dropout as a function, in the very forward of a module that scoring is given: off, whatever else the module does with its mode."""

import copy
import threading

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.layers.drop import drop_path
from torch import nn
from torchvision.ops import stochastic_depth

import hvs_data as hvs
from hvs_data.modules.functional_noise import Use, silent, use_of_mode

WIDTH = 12
INPUT = torch.linspace(-2, 2, 5 * WIDTH).reshape(5, WIDTH).sin()


class Base(nn.Module):
    """Its normalisation has batch statistics, so that a forward in evaluation mode as a whole is another."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.norm = nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH)
        self.drop_rate = 0.5

    def features(self, x):
        return self.norm(self.linear(x))

    def forward(self, x):
        return self.noisy(self.features(x))


class HandedOn(Base):
    def noisy(self, x):
        return F.dropout(x, p=self.drop_rate, training=self.training)


class Positional(Base):
    def noisy(self, x):
        return F.dropout(x, self.drop_rate, self.training)


class InPlace(Base):
    def noisy(self, x):
        return F.dropout(x.clone(), self.drop_rate, self.training, True)


class Guarded(Base):
    def noisy(self, x):
        if self.training and self.drop_rate > 0:
            x = F.dropout(x, self.drop_rate)
        return x


class Always(Base):
    def noisy(self, x):
        return F.dropout(x, self.drop_rate)


class Alpha(Base):
    def noisy(self, x):
        return F.feature_alpha_dropout(F.alpha_dropout(x, 0.5, self.training), 0.5, self.training)


class Channels(Base):
    def noisy(self, x):
        x = F.dropout1d(x[..., None], 0.5, self.training)
        x = F.dropout3d(F.dropout2d(x[..., None], 0.5, self.training)[..., None], 0.5, self.training)
        return x.flatten(1)


class Leaky(Base):
    def noisy(self, x):
        return F.rrelu(x, 0.1, 0.9, self.training)


class Low(Base):
    def noisy(self, x):
        return torch.feature_dropout(torch.dropout(x, 0.5, self.training), 0.5, train=self.training)


class Attends(Base):
    def noisy(self, x):
        rows = x.view(1, 1, *x.shape)
        return F.scaled_dot_product_attention(rows, rows, rows, dropout_p=0.5 if self.training else 0.0)[0, 0]


class DropPath(Base):
    def noisy(self, x):
        return x + drop_path(x * 2, 0.5, self.training)


class StochasticDepth(Base):
    def noisy(self, x):
        return x + stochastic_depth(x * 2, 0.5, "row", self.training)


class ByHelper(Base):
    def noisy(self, x):
        return helper(self, x)


def helper(module, x):
    return F.dropout(x, 0.5, training=module.training)


class TwoOutputs(Base):
    """Returns something else in evaluation mode, so that it must keep its own."""

    def noisy(self, x):
        x = F.dropout(x, 0.5, self.training)
        return (x, x + 1) if self.training else x


class TwoOutputsAttending(TwoOutputs):
    def noisy(self, x):
        rows = x.view(1, 1, *x.shape)
        return super().noisy(F.scaled_dot_product_attention(rows, rows, rows, None, 0.5)[0, 0])


KINDS = [
    *(HandedOn, Positional, InPlace, Guarded, Always, Alpha, Channels, Leaky, Low, Attends, DropPath, StochasticDepth, ByHelper),
    *(TwoOutputs, TwoOutputsAttending),
]


def first(output):
    return output[0] if isinstance(output, tuple) else output


def without_noise(kind):
    """The same forward with strengths of 0, in training mode: what evaluation mode would be if batch statistics stayed."""
    model = kind()
    features = model.features(INPUT).detach()
    model.eval()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "features", lambda x: features)
        if kind is Always:
            return features
        if kind is TwoOutputsAttending:
            rows = features.view(1, 1, *features.shape)
            return F.scaled_dot_product_attention(rows, rows, rows)[0, 0]
        return first(model(INPUT)).detach()


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_off_and_the_rest_as_in_training(kind):
    model = kind()
    torch.manual_seed(1)
    assert not torch.equal(first(copy.deepcopy(model)(INPUT)), first(copy.deepcopy(model)(INPUT)))
    with hvs.scoring(model):
        output = model(INPUT)
        assert torch.equal(first(output), without_noise(kind))
    assert isinstance(output, tuple) is issubclass(kind, TwoOutputs)
    assert model.training
    with hvs.scoring(model, dropout=True):
        assert not torch.equal(first(model(INPUT)), first(model(INPUT)))


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_as_well(kind):
    model = kind()
    torch._dynamo.reset()
    graph = torch.compile(model, backend="eager", fullgraph=True)
    first(graph(INPUT))  # its graph for training must not be the one for scoring
    with hvs.scoring(graph):
        assert torch.equal(first(graph(INPUT)), without_noise(kind))
    torch.manual_seed(1)
    assert not torch.equal(first(graph(INPUT)), first(graph(INPUT)))


def test_timm_with_a_drop_rate():
    torch.manual_seed(0)
    pixels = torch.randn(4, 3, 32, 32)
    for name in ("efficientnet_b0", "resnet18"):
        model = timm.create_model(name, drop_rate=0.5, num_classes=10)
        with hvs.scoring(model):
            assert torch.equal(model(pixels), model(pixels))


def test_what_is_read_off_a_forward():
    def use(kind):
        return use_of_mode(kind())

    plain, noise, unknown = Use(False, False), Use(True, False), Use(False, True)
    assert use(nn.Identity) == plain
    assert {use(kind) for kind in (HandedOn, Positional, DropPath, StochasticDepth, Attends, ByHelper)} == {noise}
    assert use(Always) == Use(True, True) and use(TwoOutputs) == unknown

    space = {}
    exec("def noisy(self, x): return self.drop(x, self.training)", space)  # no source to read
    assert use_of_mode(type("Made", (Base,), {"noisy": space["noisy"]})()) == unknown
    # networks that draw nothing of their own pay nothing
    assert use_of_mode(timm.create_model("vit_tiny_patch16_224", depth=1)) == plain
    assert use_of_mode(timm.create_model("deit_tiny_distilled_patch16_224", depth=1)) == unknown  # two heads in training


def test_other_threads_keep_their_dropout():
    seen = {}

    def elsewhere():
        seen["other"] = F.dropout(torch.ones(1000), 0.5)

    with silent():
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        seen["own"] = F.dropout(torch.ones(1000), 0.5)
    assert bool((seen["own"] == 1).all()) and bool((seen["other"] == 0).any())
    assert bool((F.dropout(torch.ones(1000), 0.5) == 0).any())
