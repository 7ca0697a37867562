"""Scoring of models that are compiled, wrapped, parametrized or shared, and inside contexts of the caller's own."""

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch._dynamo.backends.registry import lookup_backend
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.utils import parametrizations, parametrize

import hvs_data as hvs
from hvs_data import SelectionError
from traces import WIDTH, Forward, beside, bits, changes, inputs, state_of


class Network(nn.Sequential):
    """With a forward that is not PyTorch's own: PyTorch 2.6 compiles a bare ``nn.Sequential`` in place to nothing."""

    def forward(self, x):
        return super().forward(x)


def network():
    torch.manual_seed(3)
    return Network(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.Dropout(0.5), nn.ReLU(), beside(nn.BatchNorm1d(WIDTH)))


def gradients(model):
    return {name: bits(parameter.grad) for name, parameter in model.named_parameters()}


def train(model, seed=1):
    torch.manual_seed(11)
    model(inputs(seed=seed)).float().square().mean().backward()


# --- compiled ----------------------------------------------------------------------------------------------------------


class WithGraphBreak(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = network(), network()

    def forward(self, x):
        x = self.first(x)
        torch._dynamo.graph_break()
        return self.second(x)


def compiled(model, backend, how, dynamic=None):
    """The compiled model, and a list that grows by one with every graph."""
    graphs = []
    compile_graph = lookup_backend(backend)

    def counting(graph, example_inputs):
        graphs.append(graph)
        return compile_graph(graph, example_inputs)

    torch._dynamo.reset()
    if how == "wrapped":
        return torch.compile(model, backend=counting, dynamic=dynamic), graphs
    model.compile(backend=counting, dynamic=dynamic)
    return model, graphs


COMPILED = pytest.mark.parametrize(("backend", "how"), [("eager", "wrapped"), ("eager", "in place"), ("aot_eager", "wrapped")])


@COMPILED
@pytest.mark.parametrize(("kind", "graphs_a_forward"), [(network, 1), (WithGraphBreak, 2)])
def test_steps_that_score_and_train_compile_two_graphs_once(backend, how, kind, graphs_a_forward):
    model, graphs = compiled(kind(), backend, how)
    for _ in range(4):
        with hvs.scoring(model):
            model(inputs(images=12))
        train(model)
        assert len(graphs) == 2 * graphs_a_forward
    with hvs.scoring(model), torch.autocast("cpu", dtype=torch.bfloat16):
        model(inputs(images=12))
    with hvs.scoring(model, bn="running"):
        model(inputs(images=12))
    for _ in range(2):
        with hvs.scoring(model):
            model(inputs(images=12))
        train(model)
        assert len(graphs) == 4 * graphs_a_forward


@COMPILED
def test_a_last_batch_of_another_size_compiles_once_more(backend, how):
    model, graphs = compiled(network(), backend, how, dynamic=False)
    for images in (5, 5, 3, 5, 3):
        with hvs.scoring(model):
            model(inputs(images=4 * images))
        model(inputs(images)).sum().backward()
    assert len(graphs) == 4


@COMPILED
def test_a_compiled_model_is_left_as_it_was(backend, how):
    plain = network()
    scored, unscored = copy.deepcopy(plain), copy.deepcopy(plain)
    model, _ = compiled(scored, backend, how)
    with hvs.scoring(plain):
        expected = plain(inputs())
    for _ in range(2):
        before = state_of(scored)
        with hvs.scoring(model):
            scores = model(inputs())
        assert changes(before, state_of(scored)) == set()
        # the same operations, one by one
        assert torch.equal(scores, expected)
    train(model)
    other, _ = compiled(unscored, backend, how)
    train(other)
    assert gradients(scored) == gradients(unscored)


# --- wrapped -----------------------------------------------------------------------------------------------------------


class TwoHeadsInTraining(Forward):
    def forward(self, x):
        return (self.linear(x), x) if self.training else self.linear(x)


@pytest.fixture
def one_rank():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("wrap", [DataParallel, DistributedDataParallel, lambda model: torch.compile(DataParallel(model), backend="eager")])
def test_the_model_in_a_wrapper_counts_as_given(wrap, one_rank):
    model = TwoHeadsInTraining()
    wrapped = wrap(model)
    before = state_of(wrapped)
    with hvs.scoring(wrapped):
        assert isinstance(model(inputs()), tuple)
    assert changes(before, state_of(wrapped)) == set()


def test_a_forward_through_the_wrapper_does_not_put_off_the_next_broadcast(one_rank):
    wrapped = DistributedDataParallel(network())
    with torch.no_grad():
        wrapped(inputs())
    assert not wrapped.require_forward_param_sync
    train(wrapped)
    before = state_of(wrapped)
    with hvs.scoring(wrapped):
        wrapped(inputs())
        assert not wrapped._check_sync_bufs_pre_fwd()
    assert wrapped.require_forward_param_sync and wrapped._check_sync_bufs_pre_fwd()
    assert changes(before, state_of(wrapped)) == set()


def test_synchronised_batch_norm_without_ranks_is_batch_norm():
    model = network()
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(model))
    before = state_of(synchronised)
    with hvs.scoring(model, synchronised):
        assert torch.equal(synchronised(inputs()), model(inputs()))
    assert changes(before, state_of(synchronised)) == set()


def test_synchronised_batch_norm_on_the_cpu_is_refused_as_in_training(one_rank):
    model = nn.SyncBatchNorm.convert_sync_batchnorm(network())
    with pytest.raises(ValueError, match="GPU"):
        model(inputs())
    before = state_of(model)
    with pytest.raises(ValueError, match="GPU"), hvs.scoring(model):
        model(inputs())
    with hvs.scoring(model, bn="running"):
        model(inputs())
    assert changes(before, state_of(model)) == set()


# --- classes made on the fly -------------------------------------------------------------------------------------------


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


def test_a_parametrized_model_keeps_its_own_mode():
    model = TwoHeadsInTraining()
    model.scale = nn.Parameter(torch.ones(2))
    parametrize.register_parametrization(model, "scale", Doubled())
    with hvs.scoring(model):
        assert isinstance(model(inputs()), tuple)


def test_a_parametrized_dropout_is_off():
    attention = nn.MultiheadAttention(WIDTH, 2, dropout=0.5)
    parametrize.register_parametrization(attention, "in_proj_weight", Doubled())
    with hvs.scoring(attention):
        first, second = (attention(*[inputs()[None]] * 3)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_weights_computed_while_scoring_are_not_kept_for_training():
    model = beside(parametrizations.spectral_norm(nn.Linear(WIDTH, WIDTH)))
    weight = model[1].parametrizations.weight.original
    with parametrize.cached():
        with hvs.scoring(model):
            model(inputs())
        model(inputs()).sum().backward()
        assert weight.grad is not None
    weight.grad = None
    with parametrize.cached():
        with torch.no_grad():
            model(inputs())
        model(inputs()).sum().backward()
        assert weight.grad is None


# --- shared, hooked, inside the caller's contexts ----------------------------------------------------------------------


def test_modules_shared_between_student_and_teacher():
    student = network()
    teacher = nn.Sequential(copy.deepcopy(student[:4]).eval(), student[4])
    before = state_of(student), state_of(teacher)
    flags = [module.training for module in teacher.modules()]
    expected = teacher(inputs())
    student[4][1].load_state_dict(copy.deepcopy(teacher[1][1].state_dict()))
    before = state_of(student), state_of(teacher)
    with hvs.scoring(student, teacher):
        student(inputs())
        assert torch.equal(teacher(inputs()), expected)
    assert [module.training for module in teacher.modules()] == flags
    assert changes(before[0], state_of(student)) == set() and changes(before[1], state_of(teacher)) == set()


def test_hooks_run_while_scoring():
    model = network()
    calls = []
    model[0].register_forward_hook(lambda module, args, output: calls.append("own") or output + 1)
    everywhere = nn.modules.module.register_module_forward_hook(
        lambda module, args, output: calls.append("any") if module is model else None
    )
    with hvs.scoring(model):
        model(inputs())
    everywhere.remove()
    assert calls == ["own", "any"]


@pytest.mark.parametrize("outside", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_callers_gradient_mode_is_kept(outside):
    model = network()
    with outside():
        before = state_of(model)
        with hvs.scoring(model):
            out = model(inputs())
            assert not torch.is_grad_enabled()
        assert changes(before, state_of(model)) == set()
    assert not out.is_inference() and not out.requires_grad
    (model(inputs()) * out).sum().backward()


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_torchscript_is_refused():
    with pytest.raises(SelectionError, match="TorchScript"), hvs.scoring(torch.jit.script(nn.Linear(2, 2))):
        pass
