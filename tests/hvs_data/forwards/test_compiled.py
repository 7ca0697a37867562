"""A compiled scoring forward: the same scores, one graph a shape, no trace, and errors in place of a forward that is not compiled."""

import pytest
import torch
from torch import nn
from torch._dynamo.backends.registry import lookup_backend

import hvs_data as hvs
from distillers import DISTILLERS
from hvs_data import KeepTokens, Objective, SelectionError
from hvs_data.objectives import DINO, EarlyFeatures, SimSiam
from multi_crop import make_pixels, make_recipe, make_rows
from small_vits import WIDTH, VisionTransformer
from traces import changes, state_of
from trainers import TRAINERS, make_candidates, next_step, started, traces

# iBOT without a mask and early features enter one while they run
takes_context_managers = pytest.mark.skipif(
    torch.__version__.startswith("2.6."), reason="PyTorch 2.6 traces no context managers that are written as generators"
)

RECIPE, IMAGES = make_recipe(locals_=3, chosen=2), 3


@pytest.fixture(autouse=True)
def fresh_graphs():
    torch._dynamo.reset()


def counting(backend="eager"):
    """A backend, and a list that grows by one with every graph that it makes."""
    graphs = []
    compile_graph = lookup_backend(backend)

    def count(graph, example_inputs):
        graphs.append(graph)
        return compile_graph(graph, example_inputs)

    return {"backend": count}, graphs


class Embeds(Objective):
    def __init__(self, network):
        self.network = network

    def encode(self, pixels):
        return self.network(pixels)


def distiller():
    torch.manual_seed(5)
    student, teacher = (nn.Sequential(VisionTransformer(depth=2), nn.Linear(WIDTH, 10)) for _ in range(2))
    return DINO(student, teacher, torch.zeros(10), 0.3, 0.5)


# ---- the same scores from as few graphs ----


OPTIONS = [{}, {"bn": "per_view"}, {"bn": "running"}, {"autocast": torch.bfloat16}]


@pytest.mark.parametrize(
    ("method", "options", "backend"),
    [*(("SimSiam", options, "aot_eager") for options in OPTIONS), *((method, {}, "eager") for method in ("BYOL", "MoCo v2", "SwAV"))],
    ids=str,
)
def test_scores_are_the_same(method, options, backend):
    """Of the same operations, one by one."""
    trainer = started(TRAINERS[method])
    compile, graphs = counting(backend)
    plain, compiled = (hvs.HardViewSelector(trainer.objective, compile=how, **options) for how in (False, compile))
    expected = plain.select(make_candidates()).losses
    torch.testing.assert_close(compiled.select(make_candidates()).losses, expected, rtol=0, atol=0, equal_nan=True)
    assert len(graphs) == 1


@pytest.mark.parametrize(
    "options", [{}, {"keep_tokens": 0.5}, {"keep_tokens": KeepTokens(0.5, teacher=False), "keep_teacher": True}], ids=str
)
def test_scores_of_several_sizes_are_the_same(options):
    objective = distiller()
    pixels, rows = make_pixels(RECIPE, IMAGES), make_rows(RECIPE, IMAGES)
    compile, graphs = counting()
    plain, compiled = (hvs.HardViewSelector(objective, compile=how, **options).select(pixels, rows) for how in (False, compile))
    assert torch.equal(plain.slots, compiled.slots) and torch.equal(plain.combination_loss, compiled.combination_loss)
    assert len(graphs) == 2  # of global and of local views
    if "keep_teacher" in options:
        assert torch.equal(plain.teacher_outputs, compiled.teacher_outputs)


@takes_context_managers
def test_views_with_masks():
    trainer = started(DISTILLERS["iBOT"])
    pixels = make_pixels(make_recipe(), 5)
    compile, _ = counting()
    plain, compiled = (
        hvs.HardViewSelector(trainer.objective, compile=how).select(pixels, **trainer.select).combination_loss for how in (False, compile)
    )
    assert torch.equal(plain, compiled)


@takes_context_managers
@pytest.mark.parametrize("keep", [None, 0.5])
def test_early_features(keep):
    early = EarlyFeatures(distiller(), "0.blocks.1")
    pixels, rows = make_pixels(RECIPE, IMAGES), make_rows(RECIPE, IMAGES)
    compile, graphs = counting()
    plain, compiled = (hvs.HardViewSelector(early, keep_tokens=keep, compile=how) for how in (False, compile))
    for _ in range(2):
        expected = plain.select(pixels, rows).combination_loss
        assert torch.equal(compiled.select(pixels, rows).combination_loss, expected)
    assert len(graphs) == 2


def test_steps_with_training_and_evaluation_between_make_no_new_graph():
    trainer = started(TRAINERS["SimSiam"])
    compile, graphs = counting()
    selector = hvs.HardViewSelector(trainer.objective, compile=compile)
    optimizer = torch.optim.SGD(trainer.model.parameters(), lr=0.1)
    for step in range(5):
        views = selector(make_candidates(seed=step))
        expected = hvs.HardViewSelector(trainer.objective).select(make_candidates(seed=step)).losses
        torch.testing.assert_close(selector.last.losses, expected, rtol=0, atol=0, equal_nan=True)
        optimizer.zero_grad()
        trainer.loss(views).backward()
        optimizer.step()
        trainer.model.eval()
        trainer.model.backbone(views[0])
        trainer.model.train()
        assert len(graphs) == 1
    selector.select(make_candidates(images=3))  # an uneven last batch
    selector.select(make_candidates())
    assert len(graphs) == 2


def test_other_selectors_have_other_graphs():
    """Hooks are no condition of a graph; without functions of their own, the second selector would keep all tokens or the third none."""
    objective = Embeds(VisionTransformer(depth=1))
    compile, graphs = counting()
    for keep in (None, 0.5, None):
        compiled = hvs.HardViewSelector(objective, keep_tokens=keep, compile=compile).select(make_candidates()).losses
        plain = hvs.HardViewSelector(objective, keep_tokens=keep).select(make_candidates()).losses
        assert torch.equal(compiled[:, 0, 1], plain[:, 0, 1])
    assert len(graphs) == 3


@pytest.mark.parametrize("how", ["wrapped", "in place"])
def test_modules_that_are_compiled_themselves_are_part_of_the_graph(how):
    model = VisionTransformer(depth=1)
    expected = hvs.HardViewSelector(Embeds(model), keep_tokens=0.5).select(make_candidates()).losses
    if how == "wrapped":
        model = torch.compile(model, backend="eager")
    else:
        model.compile(backend="eager")
    model(make_candidates()[0])
    compile, graphs = counting()
    for keep, same in ((0.5, True), (None, False)):
        losses = hvs.HardViewSelector(Embeds(model), keep_tokens=keep, compile=compile).select(make_candidates()).losses
        assert torch.equal(losses[:, 0, 1], expected[:, 0, 1]) == same
    assert len(graphs) == 2


@pytest.mark.slow
def test_inductor_where_there_is_a_compiler():
    """Code of torch's own compiler: operations fused, so that sums are rounded differently."""
    trainer = started(TRAINERS["SimSiam"], torch.float64)
    candidates = make_candidates(dtype=torch.float64)
    plain, compiled = (hvs.HardViewSelector(trainer.objective, compile=how).select(candidates).losses for how in (False, True))
    # in float64 the difference is far below a unit of float32, in which losses of at most 1 are kept
    torch.testing.assert_close(compiled, plain, rtol=0, atol=2**-24, equal_nan=True)


# ---- graphs that write each forward's outputs to the same memory, as CUDA graphs do ----


def test_outputs_outlive_the_next_forward():
    """CUDA is not here: the backend does what a captured graph does, and the choice of slots by views would show it."""

    def into_the_same_memory(graph, example_inputs, options=None):
        memory = []

        def run(*inputs):
            outputs = graph(*inputs)
            if not memory:
                memory.extend(torch.empty_like(output) for output in outputs)
            for place, output in zip(memory, outputs, strict=True):
                place.copy_(output)
            return tuple(memory)

        return run

    trainer = started(TRAINERS["SimSiam"])
    for options in ({"bn": "per_view"}, {"bn": "running", "chunk": 10}):
        compile = {"backend": into_the_same_memory, "options": {}}
        expected = hvs.HardViewSelector(trainer.objective, **options).select(make_candidates()).losses
        losses = hvs.HardViewSelector(trainer.objective, compile=compile, **options).select(make_candidates()).losses
        torch.testing.assert_close(losses, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("options", [{}, {"bn": "per_view"}, {"bn": "running", "chunk": 10}], ids=str)
@pytest.mark.parametrize("how", [True, "reduce-overhead", {"backend": "cudagraphs"}], ids=str)
def test_graphs_on_cuda(how, options):
    trainer = started(TRAINERS["SimSiam"], torch.float64)
    trainer.model.cuda()
    optimizer = torch.optim.SGD(trainer.model.parameters(), lr=0.1)
    compiled, plain = (hvs.HardViewSelector(trainer.objective, compile=each, **options) for each in (how, False))
    for step in range(4):
        candidates = [view.cuda() for view in make_candidates(seed=step, dtype=torch.float64)]
        views = compiled(candidates)
        # in float64 the difference is far below a unit of float32, in which losses of at most 1 are kept
        torch.testing.assert_close(compiled.last.losses, plain.select(candidates).losses, rtol=0, atol=2**-24, equal_nan=True)
        optimizer.zero_grad()
        trainer.loss(views).backward()
        optimizer.step()


# ---- no trace ----


@pytest.mark.parametrize("method", ["SimSiam", "MoCo v2 with a memory bank"])
def test_nothing_changes(method):
    assert traces(TRAINERS[method], make_candidates(), compile=counting("aot_eager")[0]) == set()


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
def test_the_next_step_is_the_same(autocast):
    compile, _ = counting("aot_eager")
    make = TRAINERS["SimSiam"]
    with_scoring, without = (next_step(make, make_candidates(), score, autocast, compile=compile) for score in (True, False))
    assert with_scoring == without


def test_hooks_go_although_they_are_in_the_graph():
    vit = VisionTransformer(depth=1)
    before = state_of(vit)
    compile, _ = counting()
    hvs.HardViewSelector(Embeds(vit), keep_tokens=0.5, compile=compile).select(make_candidates())
    assert changes(before, state_of(vit)) == set()


# ---- never uncompiled in silence ----


class Breaks(nn.Module):
    def forward(self, x):
        torch._dynamo.graph_break()
        return x.flatten(1)


def test_a_forward_that_is_no_single_graph_is_refused():
    selector = hvs.HardViewSelector(Embeds(Breaks()), compile={"backend": "eager"})
    with pytest.raises(SelectionError, match="compile= needs a scoring forward that torch.compile takes as one graph, got Unsupported: .*"):
        selector.select(make_candidates())


def test_a_backend_that_fails_is_refused():
    def broken(graph, example_inputs):
        raise RuntimeError("no compiler here")

    trainer = started(TRAINERS["SimSiam"])
    before = state_of(trainer.model)
    with pytest.raises(SelectionError, match="got BackendCompilerFailed: .*no compiler here"):
        hvs.HardViewSelector(trainer.objective, compile={"backend": broken}).select(make_candidates())
    assert changes(before, state_of(trainer.model)) == set()


def test_more_shapes_than_torch_keeps_graphs_for_are_refused():
    """Past its limit, torch would run the forward uncompiled."""
    selector = hvs.HardViewSelector(Embeds(nn.Flatten()), compile={"backend": "eager"})
    its = torch._dynamo.config
    limit = its.recompile_limit if hasattr(its, "recompile_limit") else its.cache_size_limit  # as PyTorch 2.6 calls it
    for images in range(2, 2 + limit):
        selector.select(make_candidates(2, images=images))
    with pytest.raises(SelectionError, match="got (FailOnRecompileLimitHit|RecompileLimitExceeded)"):
        selector.select(make_candidates(2, images=2 + limit))


@pytest.mark.parametrize(
    ("compile", "message"),
    [
        (1, "compile must be True, False, a mode of torch.compile .* got 1"),
        (None, "got None"),
        ({"fullgraph": False}, r"a dict of its arguments \('backend', 'mode', 'options'\), got {'fullgraph': False}"),
        ("fastest", "torch.compile refuses {'mode': 'fastest'}: Unrecognized mode=fastest"),
        ({"backend": "inductive"}, "torch.compile refuses {'backend': 'inductive'}: Invalid backend"),
    ],
)
def test_options_that_mean_nothing(compile, message):
    with pytest.raises(SelectionError, match=message):
        hvs.HardViewSelector(SimSiam(encoder=nn.Flatten(), predictor=nn.Identity()), compile=compile).select(make_candidates())
