"""Scoring leaves no trace: for every danger, a model on which a plain forward under no_grad leaves one and scoring does not."""

import copy

import pytest
import torch
from torch import nn

import hvs_data as hvs
from hvs_data import SelectionError
from traces import BATCH_NORMS, DANGERS, DROPOUTS, WIDTH, Forward, beside, bits, changes, inputs, make, state_of, transformer

pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.nn.utils.weight_norm. is deprecated"),
    pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad"),  # of reentrant checkpoints, under any no_grad
]


@pytest.mark.parametrize("name", DANGERS)
@pytest.mark.parametrize("options", [{}, {"dropout": True}, {"bn": "running"}], ids=str)
def test_nothing_changes(name, options):
    model = make(name)
    before = state_of(model)
    with hvs.scoring(model, **options):
        model(inputs())
    assert changes(before, state_of(model)) == set()


@pytest.mark.parametrize("name", DANGERS)
def test_a_plain_forward_changes_what_scoring_protects(name):
    model = make(name)
    before = state_of(model)
    with torch.no_grad():
        model(inputs())
    assert changes(before, state_of(model)) >= DANGERS[name][1]


def gradients_of_a_step(name, score, autocast):
    model = make(name)
    torch.manual_seed(11)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        score(model)
        model(inputs(seed=1)).float().square().mean().backward()
    # PyTorch 2.6 leaves layers in a reentrant checkpoint without gradients under autocast, scored or not
    return {name: None if parameter.grad is None else bits(parameter.grad) for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("name", DANGERS)
@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
def test_the_next_step_has_the_same_gradients(name, autocast):
    def score(model):
        with hvs.scoring(model):
            model(inputs())

    assert gradients_of_a_step(name, score, autocast) == gradients_of_a_step(name, lambda model: None, autocast)


@pytest.mark.parametrize("name", ["dropout", "drop path", "attention", "centre", "counter", "numpy noise", "torch noise"])
def test_a_plain_forward_changes_the_next_step(name):
    def score(model):
        with torch.no_grad():
            model(inputs())

    assert gradients_of_a_step(name, score, False) != gradients_of_a_step(name, lambda model: None, False)


@pytest.mark.parametrize("name", DANGERS)
def test_nothing_changes_when_the_forward_fails(name):
    model = make(name)
    before = state_of(model)
    with pytest.raises(ZeroDivisionError), hvs.scoring(model):
        model(inputs())
        raise ZeroDivisionError
    assert changes(before, state_of(model)) == set()


@pytest.mark.parametrize("name", DROPOUTS)
def test_dropout_is_off_unless_asked_for(name):
    model = make(name)
    without = copy.deepcopy(model).eval()  # no batch norm in these models
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad():  # recurrent layers run another kernel with gradient
            expected = without(inputs())
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    with hvs.scoring(model):
        assert torch.equal(model(inputs()), expected)
        assert torch.equal(model(inputs()), expected)
    with hvs.scoring(model, dropout=True):
        assert not torch.equal(model(inputs()), model(inputs()))


@pytest.mark.parametrize("layer", [nn.Dropout(0.5), nn.MultiheadAttention(WIDTH, 2, dropout=0.5), nn.LSTM(WIDTH, WIDTH, 2, dropout=0.5)])
def test_a_dropout_given_on_its_own_is_off(layer):
    # so many that two draws of an attention's dropout do not agree by chance
    arguments = (inputs(images=40)[None],) * (3 if isinstance(layer, nn.MultiheadAttention) else 1)

    def first_output():
        out = layer(*arguments)
        return out if isinstance(out, torch.Tensor) else out[0]

    assert not torch.equal(first_output(), first_output())
    with hvs.scoring(layer):
        assert torch.equal(first_output(), first_output())


@pytest.mark.parametrize("name", BATCH_NORMS)
def test_batch_statistics_are_those_of_a_training_forward(name):
    model = make(name)
    expected = copy.deepcopy(model)(inputs())
    with hvs.scoring(model):
        assert torch.equal(model(inputs()), expected)


@pytest.mark.parametrize("name", ["batch norm", "batch norm for images", "instance norm"])
def test_running_statistics_are_those_of_evaluation(name):
    model = make(name)
    model(inputs(seed=1))  # away from the initial statistics
    expected = copy.deepcopy(model).eval()(inputs())
    with hvs.scoring(model, bn="running"):
        assert torch.equal(model(inputs()), expected)
    with hvs.scoring(model):
        assert not torch.equal(model(inputs()), expected)


@pytest.mark.parametrize("bn", ["batch", "running"])
def test_a_frozen_batch_norm_stays_frozen(bn):
    model = beside(nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH))
    model(inputs(seed=1))
    model[1].eval()
    expected = copy.deepcopy(model[:2])(inputs())
    with hvs.scoring(model, bn=bn):
        assert torch.equal(model[:2](inputs()), expected)
        assert not model[1].training and model[1].track_running_stats
        assert model[3].training is (bn == "batch")
    assert not model[1].training and model[3].training


class TwoHeadsInTraining(Forward):
    def forward(self, x):
        z = self.linear(x)
        return (z + 1, z) if self.training else z


def test_a_model_given_keeps_its_own_mode():
    model = TwoHeadsInTraining()
    with hvs.scoring(model):
        p, z = model(inputs())
    assert torch.equal(p, z + 1)
    wrapped = torch.compile(model, backend="eager")
    with hvs.scoring(wrapped):
        assert model.training
    with hvs.scoring(nn.Sequential(model)):
        assert not model.training
    assert model.training


class Adapter(nn.Linear):
    """A layer put in place of a linear one, with a forward that does more."""

    def forward(self, x):
        return super().forward(x) + 1


def test_attention_runs_as_in_training():
    layer = transformer()
    layer.linear1 = Adapter(WIDTH, 8)
    tokens = torch.stack([inputs(), inputs(seed=1)], dim=1)
    silent = copy.deepcopy(layer)
    for module in silent.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    silent.self_attn.dropout = 0.0
    expected = silent(tokens)
    with hvs.scoring(layer):
        scored = layer(tokens)
        assert not scored.requires_grad
    assert torch.equal(scored, expected)
    with torch.no_grad():
        assert not torch.allclose(silent.eval()(tokens), expected)  # PyTorch's fused path runs past the adapter


def test_outputs_can_be_used_by_a_backward():
    layer = nn.Linear(WIDTH, WIDTH)
    with hvs.scoring(layer):
        out = layer(inputs())
    assert not out.requires_grad and not out.is_inference()
    (layer(inputs()) * out).sum().backward()


def test_autocast_keeps_its_type_and_caches_nothing():
    layer = nn.Linear(WIDTH, WIDTH)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with hvs.scoring(layer):
            assert layer(inputs()).dtype == torch.bfloat16
            assert not torch.is_autocast_cache_enabled()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                assert not torch.is_autocast_cache_enabled()
        assert torch.is_autocast_cache_enabled()


def test_a_backward_that_is_still_to_come_goes_through():
    class Masked(Forward):
        def prepare(self):
            self.register_buffer("mask", torch.ones(WIDTH))

        def forward(self, x):
            return self.linear(x) * self.mask

    model = Masked()
    loss = model(inputs()).sum()
    with hvs.scoring(model):
        model(inputs())
    loss.backward()  # would refuse a mask that has been written to since
    assert model.linear.weight.grad is not None


def test_buffers_that_share_memory_are_left_alone():
    class Expanded(Forward):
        def prepare(self):
            self.register_buffer("offset", torch.ones(1).expand(WIDTH))

        def forward(self, x):
            return self.linear(x) + self.offset

    model = Expanded()
    before = state_of(model)
    with hvs.scoring(model):
        model(inputs())
    assert changes(before, state_of(model)) == set()


def test_a_module_given_twice_and_contexts_in_contexts():
    model = make("batch norm")
    before = state_of(model)
    with hvs.scoring(model, model[1], nn.Sequential(model)):
        with pytest.raises(ZeroDivisionError), hvs.scoring(model, bn="running"):
            raise ZeroDivisionError
        assert model[1].training and not model[1].track_running_stats
        with hvs.scoring(model, dropout=True):
            model(inputs())
        model(inputs())
    assert changes(before, state_of(model)) == set()


def test_without_modules_it_keeps_the_random_states():
    before = torch.get_rng_state()
    with hvs.scoring():
        torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("modules", "options", "message"),
    [
        ((nn.Identity(),), {"bn": "fused"}, r"bn must be one of \('batch', 'running'\), got 'fused'"),
        (("model",), {}, "takes torch.nn.Module instances, got str"),
        ((nn.Sequential(nn.LazyLinear(3)),), {}, "LazyLinear has no parameters yet"),
    ],
)
def test_wrong_arguments_are_refused(modules, options, message):
    before = torch.is_grad_enabled(), torch.is_autocast_cache_enabled()
    with pytest.raises(SelectionError, match=message), hvs.scoring(*modules, **options):
        pass
    assert (torch.is_grad_enabled(), torch.is_autocast_cache_enabled()) == before


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_random_state_is_kept():
    model = beside(nn.Dropout(0.5)).cuda()
    before = torch.cuda.get_rng_state()
    with hvs.scoring(model, dropout=True):
        model(inputs().cuda())
    assert torch.equal(torch.cuda.get_rng_state(), before)
