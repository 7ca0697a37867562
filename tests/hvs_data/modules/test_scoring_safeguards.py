"""Each safeguard of scoring is needed: with it a check finds no trace, and with it taken away the same check finds one."""

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import hvs_data as hvs
from hvs_data.modules import trace_free
from hvs_data.modules.functional_noise import Use
from traces import WIDTH, Forward, SplitNorm, beside, bits, changes, inputs, make, state_of, transformer


def state_changed(name, **options):
    """The names of what scoring one of the dangerous models has changed in it or around it."""

    def check():
        model = make(name)
        before = state_of(model)
        with hvs.scoring(model, **options):
            model(inputs())
        return changes(before, state_of(model))

    return check


def next_step_changed(name):
    def gradients(score):
        model = make(name)
        torch.manual_seed(11)
        if score:
            with hvs.scoring(model):
                model(inputs())
        model(inputs(seed=1)).square().mean().backward()
        return {name: bits(parameter.grad) for name, parameter in model.named_parameters()}

    return lambda: changes(gradients(False), gradients(True))


def scores_changed(model, expected):
    """Whether scores differ from those that they should be."""

    def check():
        module = model()
        with hvs.scoring(module):
            return set() if torch.equal(module(inputs()), expected(model())) else {"scores"}

    return check


def gradient_kept():
    with hvs.scoring():
        return {"gradient"} if torch.is_grad_enabled() else set()


def inference_kept():
    with torch.inference_mode(), hvs.scoring():
        return {"inference"} if torch.ones(1).is_inference() else set()


def autocast_caches():
    with torch.autocast("cpu", dtype=torch.bfloat16), hvs.scoring():
        return {"cache"} if torch.is_autocast_cache_enabled() else set()


def weight_cut_off():
    layer = parametrizations.spectral_norm(nn.Linear(WIDTH, WIDTH))
    with parametrize.cached():
        with hvs.scoring(layer):
            layer(inputs())
        layer(inputs()).sum().backward()
    return {"gradient"} if layer.parametrizations.weight.original.grad is None else set()


def attention_fused():
    """Fused attention reads its sublayers' weights and runs past their forwards."""
    calls = []

    class Adapter(nn.Linear):
        def forward(self, x):
            calls.append(x)
            return super().forward(x)

    layer = transformer()
    layer.linear1 = Adapter(WIDTH, 8)
    with hvs.scoring(beside(layer)):
        layer(torch.stack([inputs(), inputs(seed=1)], dim=1))
    return set() if calls else {"forward"}


def nothing(*args, **kwargs):
    return None


class HandsItsModeOn(Forward):
    def forward(self, x):
        return F.dropout(self.linear(x), 0.5, self.training)


class KeepsItsMode(Forward):
    def forward(self, x):
        x = F.dropout(self.linear(x), 0.5, self.training)
        return x if self.training else x - x


def seeded(kind):
    torch.manual_seed(0)
    return kind()


def linear_alone(model):
    return model.linear(inputs())


def as_trained(model):
    return model(inputs())


def without_dropout(model):
    return model.eval()(inputs())


# A safeguard, what stands in its place when it is taken away, and a check that then finds something.
SAFEGUARDS = {
    "random state of torch": ("_random_states_kept", nullcontext, state_changed("torch noise")),
    "random state of numpy": ("_random_states_kept", nullcontext, state_changed("numpy noise")),
    "random state of Python": ("_random_states_kept", nullcontext, state_changed("python noise")),
    "random state, in the next step": ("_random_states_kept", nullcontext, next_step_changed("torch noise")),
    "gradient mode": ("_no_gradient", nullcontext, gradient_kept),
    "inference mode": ("_no_gradient", torch.no_grad, inference_kept),
    "autocast's cache": ("_uncached_autocast", nullcontext, autocast_caches),
    "parametrizations' cache": ("_uncached_parametrizations", nullcontext, weight_cut_off),
    "attention as in training": ("_plain_attention", nullcontext, attention_fused),
    "frozen running statistics": ("_set_modes", nothing, state_changed("batch norm")),
    "batch statistics": ("_is_normalisation", lambda module: False, scores_changed(lambda: make("batch norm"), as_trained)),
    "dropout off": ("_set_modes", nothing, scores_changed(lambda: make("dropout"), without_dropout)),
    "dropout as a function off": (
        "use_of_mode",
        lambda module: Use(noise_alone=False, unswitched=False),
        scores_changed(lambda: seeded(HandsItsModeOn), without_dropout),
    ),
    "dropout as a function off, in a module that keeps its mode": (
        "_silenced",
        lambda given: nullcontext(),
        scores_changed(lambda: seeded(KeepsItsMode), linear_alone),
    ),
    "drop path off": ("_set_modes", nothing, scores_changed(lambda: make("drop path"), without_dropout)),
    "attributes": ("_put_back", nothing, state_changed("counter")),
    "training flags": ("_put_back", nothing, state_changed("dropout")),
    "buffers put in place of others": ("_put_back", nothing, state_changed("centre")),
    "buffers put in place of others, in the next step": ("_put_back", nothing, next_step_changed("centre")),
    "containers": ("_refill", nothing, state_changed("recorder")),
    "hooks": ("_refill", nothing, state_changed("one-time hook")),
    "hooks, in the next step": ("_refill", nothing, next_step_changed("one-time hook")),
    "buffers written to": ("_is_expanded", lambda buffer: True, state_changed("queue")),
    "buffers written to through data": ("_is_expanded", lambda buffer: True, state_changed("buffer written through data")),
    "buffers of parametrizations": ("_set_modes", nothing, scores_changed(lambda: make("spectral norm"), without_dropout)),
    "batch norm with a forward of its own": ("_KEEP_BUFFERS", (SplitNorm.forward,), state_changed("batch norm of another kind")),
    "putting back at all": ("_Snapshot.restore", nothing, state_changed("checkpointed")),
}


@pytest.mark.parametrize("safeguard", SAFEGUARDS)
def test_without_the_safeguard_a_trace_is_found(safeguard, monkeypatch):
    name, instead, found = SAFEGUARDS[safeguard]
    assert found() == set()
    monkeypatch.setattr(f"{trace_free.__name__}.{name}", instead)
    assert found() != set()
