"""Scoring leaves no trace in any method's trainer, and changes nothing in the step that follows."""

from contextlib import nullcontext

import pytest
import torch

import hvs_data as hvs
from trainers import TRAINERS, NoQuestions, Trainer, make_candidates, next_step, started, traces

OPTIONS = [{}, {"bn": "per_view"}, {"bn": "running", "chunk": 3}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("method", TRAINERS)
def test_nothing_changes(method, options):
    assert traces(TRAINERS[method], make_candidates(), **options) == set()


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("method", TRAINERS)
def test_the_next_step_is_the_same(method, autocast):
    with_scoring, without = (next_step(TRAINERS[method], make_candidates(), score, autocast) for score in (True, False))
    assert with_scoring == without


@pytest.mark.parametrize("method", TRAINERS)
def test_the_trainers_own_forward_leaves_a_trace(method, monkeypatch):
    """So that the tests above can fail: the same model, scored by its trainer's loss."""

    monkeypatch.setattr("hvs_data.forwards.encoding.unseen_refused", lambda *_: nullcontext())  # it would be refused

    def make():
        trainer = TRAINERS[method]()

        class Forward(type(trainer.objective)):
            def encode(self, pixels, **extras):
                with torch.no_grad():
                    trainer.loss([pixels[:5], pixels[:5]])
                return super().encode(pixels, **extras)

        trainer.objective.__class__ = Forward
        # what it calls now is not among the modules that are protected
        trainer.objective.modules = lambda: []
        return trainer

    # random states are kept whatever the modules do
    assert {"buffers", "state_dict"} <= traces(make, make_candidates())
    with_scoring, without = (next_step(make, make_candidates(), score) for score in (True, False))
    assert with_scoring != without


@pytest.mark.parametrize("method", TRAINERS)
def test_scoring_never_asks_the_device(method):
    trainer: Trainer = started(TRAINERS[method])
    selector, candidates = hvs.HardViewSelector(trainer.objective), make_candidates()
    selector(candidates, **trainer.select)  # makes the tables of legal pairs
    with NoQuestions():
        selector(candidates, **trainer.select)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("method", TRAINERS)
def test_scoring_never_waits_for_cuda(method):
    trainer = started(TRAINERS[method])
    trainer.model.cuda()
    selector, candidates = hvs.HardViewSelector(trainer.objective), [view.cuda() for view in make_candidates()]
    selector(candidates, **trainer.select)  # makes the tables of legal pairs
    torch.cuda.set_sync_debug_mode("error")
    try:
        selector(candidates, **trainer.select)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("method", TRAINERS)
def test_only_what_is_called_is_protected_and_copied(method):
    trainer = started(TRAINERS[method])
    below = {module for part in trainer.objective.modules() for module in part.modules()}
    called = set()
    hooks = [
        module.register_forward_hook(lambda module, args, output: called.add(module)) for module in below if not list(module.children())
    ]
    hvs.HardViewSelector(trainer.objective)(make_candidates(), **trainer.select)
    for hook in hooks:
        hook.remove()
    layers = {module for module in below if not list(module.children())}
    # linear prototypes are read and not called
    read = {trainer.objective.prototypes} if hasattr(trainer.objective, "prototypes") else set()
    assert called | read == layers
