"""FSDP2: the parts of a sharded model are scored, and the next steps of training are those of a run without scoring."""

import torch
import torch.distributed as dist
from models import SIDE, TinySimSiam, candidates, gradients, train
from shards import assert_same, everything, prepared, shard
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy, register_fsdp_forward_method

import hvs_data as hvs
from hvs_data.modules import sharded
from traces import bits, changes, state_of

HALF = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
FULL = MixedPrecisionPolicy(param_dtype=torch.float32, output_dtype=torch.bfloat16)  # for batch norm, whose statistics are float32


def layers(model):
    return [layer for layer in model.encoder if list(layer.parameters())]


def norms(model):
    return [module for module in model.modules() if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))]


# How a model is divided into sharded modules, the root last.
WAYS = {
    "root alone": lambda model: shard(model),
    "parts": lambda model: shard(model.encoder, model.projector, model.predictor, model),
    "layers": lambda model: shard(*layers(model), model.predictor, model),
    "heads in one group": lambda model: shard([model.projector, model.predictor], model),
    "kept after the forward": lambda model: shard(model.encoder, model, reshard_after_forward=False),
    "half precision": lambda model: (shard(*norms(model), mp_policy=FULL), shard(model, mp_policy=HALF)),
}


def some_ways():
    """All of them on two ranks; on more it is the uneven shares that are of interest, not the hooks."""
    return WAYS if dist.get_world_size() == 2 else ("root alone", "layers", "half precision")


def make(way):
    model = TinySimSiam()
    WAYS[way](model)
    return prepared(model)


def assert_same_steps(model, twin, score, steps=2, train=train):
    """Steps of training with scoring before each, beside steps without."""
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.1) for each in (model, twin)]
    for step in range(steps):
        score(step)
        for each, optimizer in zip((model, twin), optimizers, strict=True):
            optimizer.zero_grad()
            train(each, step)
            optimizer.step()
        assert gradients(model) == gradients(twin)
        assert_same(state_of(model)["state_dict"], state_of(twin)["state_dict"])


def check_parts_are_scored_before_and_between_steps(*_):
    for way in some_ways():
        model, twin = make(way), make(way)
        selector = hvs.HardViewSelector(hvs.objectives.SimSiam(model), bn="per_view")

        def score(step, model=model, selector=selector, way=way):
            before = everything(model)
            for _ in range(2):
                selector(candidates(step))
            assert_same(before, everything(model), way)

        assert_same_steps(model, twin, score)


def check_scores_are_those_of_the_whole_model(*_):
    for way in some_ways():
        plain, model = TinySimSiam(), make(way)
        views = candidates(0)
        expected = hvs.HardViewSelector(hvs.objectives.SimSiam(plain)).select(views)
        arrived = hvs.HardViewSelector(hvs.objectives.SimSiam(model)).select(views)
        if way == "half precision":
            assert arrived.losses[:, arrived.legal].isfinite().all()
            continue
        assert bits(arrived.losses) == bits(expected.losses), way  # the same operations on the same gathered numbers


def check_the_root_itself_is_scored(*_):
    class Whole(hvs.Objective):
        def __init__(self, model):
            self.model = model

        def encode(self, pixels):
            return self.model(pixels)[0]

    for way in some_ways():
        model, twin = make(way), make(way)
        selector = hvs.HardViewSelector(Whole(model), chunk=5)

        def score(step, model=model, selector=selector, way=way):
            before = everything(model)
            selector(candidates(step))
            assert_same(before, everything(model), way)

        assert_same_steps(model, twin, score)


def check_scoring_between_the_passes_of_a_step(*_):
    """Between forward and backward, and between the backward passes of one accumulated gradient."""
    for way in some_ways():
        model, twin = make(way), make(way)
        selector = hvs.HardViewSelector(hvs.objectives.SimSiam(model))
        scored = set()

        def accumulate(each, step, model=model, selector=selector, scored=scored, way=way):
            for part in range(2):
                each.set_requires_gradient_sync(part == 1)
                torch.manual_seed(10 * step + part)
                loss = each.loss(candidates(step + part))
                if each is model:
                    before = everything(model)
                    selector(candidates(step))
                    assert_same(before, everything(model), way)
                    scored.add(part)
                loss.backward()

        assert_same_steps(model, twin, lambda step: None, train=accumulate)
        assert scored == {0, 1}


def check_an_error_in_the_middle_leaves_nothing(*_):
    for way in some_ways():
        model, twin = make(way), make(way)
        broken = model.encoder[-1].register_forward_hook(fail)

        def score(step, model=model, way=way, broken=broken):
            for module in (model, model.encoder):
                before = everything(model)
                try:
                    with hvs.scoring(model, model.encoder):
                        module(candidates(step)[0])
                except ZeroDivisionError:
                    pass
                assert_same(before, everything(model), way)

        score(0)
        broken.remove()
        assert_same_steps(model, twin, lambda step: None)


def fail(*_):
    raise ZeroDivisionError


def check_parts_that_are_roots_of_their_own(*_):
    model, twin = TinySimSiam(), TinySimSiam()
    for each in (model, twin):
        shard(each.encoder, each.projector, each.predictor)
        prepared(each)
    selector = hvs.HardViewSelector(hvs.objectives.SimSiam(model))

    def score(step):
        before = everything(model)
        selector(candidates(step))
        assert_same(before, everything(model))

    assert_same_steps(model, twin, score)


def check_a_part_scored_without_its_root_does_not_become_one(*_):
    model, twin = make("parts"), make("parts")

    def score(step):
        with hvs.scoring(model.encoder):
            model.encoder(candidates(step)[0])

    assert_same_steps(model, twin, score)
    with torch.no_grad():  # as a plain forward makes it
        late = make("parts")
        late.encoder(candidates(0)[0])
    try:
        train(late, 0)
    except RuntimeError as error:
        assert "root" in str(error)
    else:
        raise AssertionError("the plain forward left no trace")


def check_a_part_without_the_module_that_shards_it_is_explained(*_):
    model = make("root alone")
    train(model, 0)
    model.reshard()
    try:
        with hvs.scoring(model.encoder):
            model.encoder(candidates(0)[0])
    except RuntimeError as error:
        assert "scoring(root, part)" in error.__notes__[0]
    else:
        raise AssertionError("ran without its parameters")
    with hvs.scoring(model, model.encoder):
        model.encoder(candidates(0)[0])


def check_a_registered_method_is_scored(*_):
    class Projections(hvs.Objective):
        def __init__(self, model):
            self.project = model.project

        def encode(self, pixels):
            return self.project(pixels)

    for way in ("root alone", "half precision"):
        model, twin = make(way), make(way)
        for each in (model, twin):
            register_fsdp_forward_method(each, "project")
        selector = hvs.HardViewSelector(Projections(model))

        def score(step, model=model, selector=selector, way=way):
            before = everything(model)
            selector(candidates(step))
            assert_same(before, everything(model), way)

        assert_same_steps(model, twin, score)


class Block(nn.Module):
    """A part with a forward of its own, as blocks of real models have."""

    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, x):
        return self.layers(x)


def check_a_compiled_block_is_compiled_for_scoring_and_for_training_only(*_):
    torch._dynamo.reset()
    graphs, counts = [], []

    def compile_graph(graph, _):
        graphs.append(graph)
        return graph

    model, twin = TinySimSiam(), TinySimSiam()
    for each in (model, twin):
        each.encoder = Block(each.encoder)
        if each is model:
            each.encoder.compile(backend=compile_graph, dynamic=False)
        shard(each.encoder, each)
        prepared(each)
    selector = hvs.HardViewSelector(hvs.objectives.SimSiam(model))

    def score(step):
        before = everything(model)
        selector(candidates(step))
        assert_same(before, everything(model))
        counts.append(len(graphs))

    assert_same_steps(model, twin, score, steps=4)
    assert counts == [1, 2, 2, 2] and len(graphs) == 2, (counts, len(graphs))


def check_gathering_ahead_for_a_module_that_is_not_called(*_):
    model, twin = make("layers"), make("layers")
    for each in (model, twin):
        train(each, 0)
        each.zero_grad()
        each.encoder[0].set_modules_to_forward_prefetch([each.predictor])

    def score(step):
        before = everything(model)
        with hvs.scoring(model, model.encoder):
            model.encoder(candidates(step)[0])
        assert_same(before, everything(model))

    assert_same_steps(model, twin, score)


def check_every_safeguard_is_needed(*_):
    """Taken away one by one, each leaves what the checks above look for."""
    model = make("layers")
    train(model, 0)
    model.reshard()
    views = candidates(0)

    def traces_without(name, instead):
        kept = getattr(*name)
        setattr(*name, instead)
        try:
            before = everything(model)
            with hvs.scoring(model):
                model(views[0])
            return changes(before, everything(model))
        finally:
            setattr(*name, kept)
            model.reshard()

    assert traces_without((sharded, "_NOTES"), sharded._NOTES) == set()
    assert traces_without((sharded._Books, "restore"), lambda books: None) >= {"books", "parameters"}
    assert traces_without((sharded, "_NOTES"), ()) == {"books"}
    fresh, kept = make("layers"), sharded._ROOT
    sharded._ROOT = ()
    before = everything(fresh)
    with hvs.scoring(fresh):
        fresh(views[0])
    sharded._ROOT = kept
    assert changes(before, everything(fresh)) == {"books"}


def check_a_plain_forward_leaves_what_scoring_takes_back(*_):
    model = make("layers")
    train(model, 0)
    model.reshard()
    before = everything(model)
    with torch.no_grad():
        model(torch.zeros(4, 3, SIDE, SIDE))
    assert changes(before, everything(model)) >= {"books", "parameters", "buffers"}


def check_modules_without_parameters_of_their_own(*_):
    model = TinySimSiam()
    wrapped = nn.Sequential(model)
    shard(model.encoder, model, wrapped)
    prepared(wrapped)
    before = everything(wrapped)
    with hvs.scoring(wrapped):
        wrapped(candidates(0)[0])
    assert_same(before, everything(wrapped))
