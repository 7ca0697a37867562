"""Temperatures, queues and other settings: what is read when, and what means nothing."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import NTXentLoss, SwaVLoss
from lightly.models.modules.memory_bank import MemoryBankModule
from torch import nn

from hvs_data import SelectionError
from hvs_data.objectives import BarlowTwins, MoCoV2, MoCoV3, SimCLR, SwAV, VICReg
from trainers import Parts

SAME = nn.Identity()
LENGTH, KEYS = 6, 10


def draw(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


Z, K = draw(5, 3, LENGTH), draw(5, 3, LENGTH, seed=1)
QUEUE = draw(KEYS, LENGTH, seed=2)


def close(actual, expected):
    # both sides are float32, of values below 8 and sums of some tens of terms
    torch.testing.assert_close(actual, expected, rtol=0, atol=100 * 8 * 2.0**-24)


# ---- temperature ----

TEMPERED = {
    "SimCLR": (lambda **settings: SimCLR(encoder=SAME, **settings), Z),
    "MoCo v2": (lambda **settings: MoCoV2(encoder=SAME, momentum_encoder=SAME, queue=QUEUE, **settings), (Z, K)),
    "MoCo v3": (lambda **settings: MoCoV3(encoder=SAME, predictor=SAME, momentum_encoder=SAME, **settings), (Z, K)),
    "SwAV": (lambda **settings: SwAV(encoder=SAME, prototypes=SAME, **settings), (Z, K)),
}
ALL = pytest.mark.parametrize(("make", "outputs"), TEMPERED.values(), ids=TEMPERED)


@ALL
def test_a_temperature_may_be_a_number_a_tensor_or_a_function(make, outputs):
    expected = make(temperature=0.4).pair_losses(outputs)
    for temperature in (torch.tensor(0.4), torch.tensor([0.4], dtype=torch.float64), lambda: 0.4, lambda: torch.tensor(0.4)):
        close(make(temperature=temperature).pair_losses(outputs), expected)
    assert not torch.allclose(make(temperature=0.5).pair_losses(outputs), expected, atol=1e-3)


@ALL
def test_a_schedule_is_read_at_each_scoring(make, outputs):
    now = {"temperature": 0.4}
    objective = make(temperature=lambda: now["temperature"])
    first = objective.pair_losses(outputs)
    now["temperature"] = 0.2
    assert torch.equal(objective.pair_losses(outputs), make(temperature=0.2).pair_losses(outputs))
    assert torch.equal(first, make(temperature=0.4).pair_losses(outputs))


@pytest.mark.parametrize("temperature", [0, -0.1, float("nan"), float("inf"), "0.1", True, torch.ones(2)])
@ALL
def test_a_temperature_that_means_nothing_is_refused(make, outputs, temperature):
    with pytest.raises(SelectionError, match="temperature must be a number above 0, or a function that returns one, got"):
        make(temperature=temperature)
    with pytest.raises(SelectionError, match="temperature must be"):
        make(temperature=lambda: temperature).pair_losses(outputs)


def two_branches(**more):
    return Parts(encoder_q=SAME, encoder_k=SAME, queue=QUEUE.T, **more)


@pytest.mark.parametrize(
    ("make", "outputs", "published"),
    [
        (lambda **more: SimCLR(Parts(backbone=SAME, projector=nn.Identity(), **more)), Z, 0.1),
        (lambda **more: MoCoV2(two_branches(**more)), (Z, K), 0.2),
        (lambda **more: MoCoV3(Parts(base_encoder=SAME, predictor=SAME, momentum_encoder=SAME, **more)), (Z, K), 0.2),
        (lambda **more: SwAV(Parts(backbone=SAME, projector=nn.Identity(), prototypes=SAME, **more)), (Z, K), 0.1),
    ],
    ids=TEMPERED,
)
def test_a_models_own_temperature_comes_before_the_published_one(make, outputs, published, request):
    given, _ = TEMPERED[request.node.callspec.id]
    assert torch.equal(make().pair_losses(outputs), given(temperature=published).pair_losses(outputs))
    assert torch.equal(make(temperature=0.7).pair_losses(outputs), given(temperature=0.7).pair_losses(outputs))
    # a module or a tensor of that name is something else, such as the logarithm that a model learns
    for other in (nn.Identity(), torch.tensor(0.7)):
        assert torch.equal(make(temperature=other).pair_losses(outputs), given(temperature=published).pair_losses(outputs))


def test_the_official_name_is_t_and_is_read_anew():
    model = two_branches(T=0.4)
    objective = MoCoV2(model)
    assert torch.equal(objective.pair_losses((Z, K)), TEMPERED["MoCo v2"][0](temperature=0.4).pair_losses((Z, K)))
    model.T = 0.3
    assert torch.equal(objective.pair_losses((Z, K)), TEMPERED["MoCo v2"][0](temperature=0.3).pair_losses((Z, K)))


# ---- MoCo's queue ----


def moco(queue, **settings):
    return MoCoV2(encoder=SAME, momentum_encoder=SAME, queue=queue, temperature=0.2, **settings)


def test_a_queue_may_come_in_any_form():
    bank = MemoryBankModule(size=(KEYS, LENGTH))
    bank.bank = QUEUE.clone()
    expected = moco(QUEUE.T).pair_losses((Z, K))
    for queue in (QUEUE, bank, lambda: QUEUE, lambda: QUEUE.T, QUEUE.double()):
        close(moco(queue).pair_losses((Z, K)), expected)


def test_a_square_queue_is_the_official_one_but_in_a_memory_bank():
    square = draw(LENGTH, LENGTH, seed=5)
    bank = MemoryBankModule(size=(LENGTH, LENGTH))
    bank.bank = square.clone()
    keys = NTXentLoss(0.2, memory_bank_size=(LENGTH, LENGTH))
    keys.memory_bank.bank = square.clone()
    close(moco(bank).pair_losses((Z, K))[:, 0, 1].mean(), keys(Z[:, 0], K[:, 1]))
    keys.memory_bank.bank = square.T.clone()
    close(moco(square).pair_losses((Z, K))[:, 0, 1].mean(), keys(Z[:, 0], K[:, 1]))


def test_the_queue_of_the_moment_is_read():
    model = two_branches(T=0.2)
    objective = MoCoV2(model)
    for queue in (draw(KEYS, LENGTH, seed=6).T, draw(2 * KEYS, LENGTH, seed=7).T):
        model.queue = queue
        close(objective.pair_losses((Z, K)), moco(queue).pair_losses((Z, K)))
    assert objective.modules() == [SAME]  # neither the model nor its queue is copied to protect it


def test_a_symmetric_loss_takes_a_queue_for_each_view():
    """As in solo-learn: queries of second views meet the keys of first ones."""
    queues = torch.stack([draw(KEYS, LENGTH, seed=8), draw(KEYS, LENGTH, seed=9)])
    objective = moco(queues.transpose(1, 2), symmetric=True)
    assert objective.ordered is False and moco(QUEUE).ordered is True
    losses = objective.pair_losses((Z, K))
    one_way = [moco(queue).pair_losses((Z, K)) for queue in queues]
    for i, j in ((0, 1), (1, 0), (2, 1)):
        close(losses[:, i, j], (one_way[1][:, i, j] + one_way[0][:, j, i]) / 2)
    close(moco(queues, symmetric=True).pair_losses((Z, K)), losses)
    with pytest.raises(SelectionError, match="pass symmetric=True"):
        moco(queues).pair_losses((Z, K))


@pytest.mark.parametrize(
    ("queue", "message"),
    [
        (torch.zeros(4, 9), r"\[D, K\] or \[K, D\] with D = 6, .* got torch.float32 \[4, 9\]"),
        (torch.zeros(3, LENGTH, 9), r"got torch.float32 \[3, 6, 9\]"),
        (torch.zeros(LENGTH, 9, dtype=torch.int64), "got torch.int64"),
        (lambda: None, "got None"),
    ],
)
def test_a_queue_of_another_shape_is_refused(queue, message):
    with pytest.raises(SelectionError, match=message):
        moco(queue).pair_losses((Z, K))


@pytest.mark.parametrize("queue", [nn.Linear(2, 2), [MemoryBankModule(size=(4, 2)), nn.Linear(2, 2)], 3])
def test_what_cannot_be_a_queue_is_refused(queue):
    with pytest.raises(SelectionError, match="MoCoV2's queue= as"):
        moco(queue)


# ---- the positive pair alone ----

POSITIVES = {
    "SimCLR": lambda **settings: SimCLR(encoder=SAME, score="positive", **settings),
    "MoCo v3": lambda **settings: MoCoV3(encoder=SAME, predictor=SAME, momentum_encoder=SAME, score="positive", **settings),
}


@pytest.mark.parametrize("method", POSITIVES)
def test_nothing_is_gathered_for_positive_pairs(method, monkeypatch):
    def refuse(rows):
        raise AssertionError("gathered")

    for module in ("simclr", "moco"):
        monkeypatch.setattr(f"hvs_data.objectives.{module}.gathered", refuse)
    outputs = Z if method == "SimCLR" else (Z, K)
    assert torch.equal(POSITIVES[method](gather=True).pair_losses(outputs), POSITIVES[method]().pair_losses(outputs))
    with pytest.raises(AssertionError, match="gathered"):
        TEMPERED[method][0](gather=True).pair_losses(outputs)


def test_no_queue_is_read_for_positive_pairs():
    def refuse():
        raise AssertionError("read")

    model = Parts(encoder_q=SAME, encoder_k=SAME, T=0.4)  # without one
    with pytest.raises(SelectionError, match="MoCoV2 needs the queue of keys"):
        MoCoV2(model)
    losses = MoCoV2(model, score="positive").pair_losses((Z, K))
    assert torch.equal(MoCoV2(model, queue=refuse, score="positive").pair_losses((Z, K)), losses)
    close(losses, -(Z @ K.mT) / 0.4)
    with pytest.raises(AssertionError, match="read"):
        moco(refuse).pair_losses((Z, K))


def test_other_images_do_not_count_for_positive_pairs():
    for make, outputs in ((POSITIVES["SimCLR"], Z), (POSITIVES["MoCo v3"], (Z, K)), (partial(moco, QUEUE, score="positive"), (Z, K))):
        two = outputs[:2] if isinstance(outputs, torch.Tensor) else tuple(output[:2] for output in outputs)
        assert torch.equal(make().pair_losses(outputs)[:2], make().pair_losses(two))


@ALL
def test_another_score_is_refused(make, outputs, request):
    if request.node.callspec.id == "SwAV":
        with pytest.raises(TypeError):  # which has no positive pair
            make(score="positive")
    else:
        with pytest.raises(SelectionError, match=r"score must be one of \('loss', 'positive'\), got 'cosine'"):
            make(score="cosine")


# ---- SwAV's queue ----

PROTOTYPES = nn.Linear(LENGTH, 7, bias=False)
PROTOTYPES.weight.data = draw(7, LENGTH, seed=3)


def swav(queue):
    return SwAV(encoder=SAME, prototypes=PROTOTYPES, queue=queue)


def swav_losses(queue):
    return swav(queue).pair_losses((Z, F.linear(Z, PROTOTYPES.weight)))


def test_samples_of_earlier_batches_take_part_in_the_codes():
    queues = torch.stack([draw(KEYS, LENGTH, seed=8), draw(KEYS, LENGTH, seed=9)])
    losses = swav_losses(queues)
    with torch.no_grad():
        s, waiting = F.linear(Z, PROTOTYPES.weight).double(), F.linear(queues, PROTOTYPES.weight).double()
    for i, j in ((0, 1), (1, 0), (2, 1)):
        expected = SwaVLoss()([s[:, i], s[:, j]], [], list(waiting))
        # 12 halves of an iteration, each off by the 60 units of an exponential's argument and by its sums
        assert abs(float(losses[:, i, j].double().mean() - expected)) <= 12 * (60 + 24) * 2.0**-24 * 20
    close(swav_losses([bank_of(queue) for queue in queues]), losses)
    close(swav_losses(nn.ModuleList(bank_of(queue) for queue in queues)), losses)
    assert not torch.allclose(losses, swav_losses(None), atol=1e-4)


def bank_of(queue):
    bank = MemoryBankModule(size=tuple(queue.shape))
    bank.bank = queue.clone()
    return bank


def test_one_queue_serves_both_views():
    close(swav_losses(QUEUE), swav_losses(torch.stack([QUEUE, QUEUE])))


def test_a_queue_that_is_not_in_use_yet_is_none():
    assert torch.equal(swav_losses(lambda: None), swav_losses(None))


@pytest.mark.parametrize("queue", [torch.zeros(4, 5), torch.zeros(3, 4, LENGTH), torch.zeros(4, LENGTH).long(), lambda: 3])
def test_samples_of_another_shape_are_refused(queue):
    with pytest.raises(SelectionError, match=r"a queue of embeddings as floating \[K, D\] or \[2, K, D\] with D = 6"):
        swav_losses(queue)


# ---- other settings ----


def test_a_weight_scales_the_distance():
    losses = VICReg(encoder=SAME, weight=10).pair_losses(Z)
    close(losses, VICReg(encoder=SAME, weight=lambda: 1.0).pair_losses(Z) * 10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BarlowTwins(encoder=SAME, proxy="loss"), r"proxy must be one of \('share', 'cosine'\), got 'loss'"),
        (lambda: BarlowTwins(encoder=SAME, redundancy=-1), "redundancy must be at least 0, got -1"),
        (lambda: BarlowTwins(encoder=SAME, redundancy=float("nan")), "redundancy must be at least 0, got nan"),
        (lambda: VICReg(encoder=SAME, weight=0), "weight must be a number above 0"),
        (lambda: SwAV(encoder=SAME, prototypes=SAME, epsilon=0), "epsilon must be a number above 0"),
        (lambda: SwAV(encoder=SAME, prototypes=SAME, iterations=0), "iterations must be a whole number of at least 1, got 0"),
        (lambda: SwAV(encoder=SAME, prototypes=SAME, iterations=2.0), "got 2.0"),
        (lambda: SwAV(encoder=SAME, prototypes=SAME, iterations=True), "got True"),
    ],
)
def test_settings_that_mean_nothing_are_refused(make, message):
    with pytest.raises(SelectionError, match=message):
        make()


@ALL
def test_gathering_without_other_processes_changes_nothing(make, outputs, request):
    if request.node.callspec.id == "MoCo v2":
        with pytest.raises(TypeError):  # its negatives are in the queue
            make(gather=True)
    else:
        assert torch.equal(make(gather=True).pair_losses(outputs), make().pair_losses(outputs))


def test_a_proxy_gathers_too():
    assert torch.equal(BarlowTwins(encoder=SAME, gather=True).pair_losses(Z), BarlowTwins(encoder=SAME).pair_losses(Z))
