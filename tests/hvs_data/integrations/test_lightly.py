"""lightly's methods on hardest views: its own criteria and heads, trained for real."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from lightly import loss as criteria
from lightly.models.modules import SwaVPrototypes
from torch import Tensor, nn
from torch.utils.data import DataLoader

import hvs_data as hvs
from example_scripts import falls, recorded_losses, run_script, write_photos
from hvs_data import objectives
from hvs_data.errors import SelectionError
from hvs_data.integrations.lightly import objective_of
from hvs_data.integrations.lightning import HardViewCallback, HardViewDataModule
from lightly_methods import KEYS, LENGTH, METHODS, PROTOTYPES, WIDTH, Method, Parts, backbone, seen_by_selection, through
from traces import changes, state_of
from witness import PlainViews, Witness

pytestmark = [
    pytest.mark.filterwarnings("error::hvs_data.StaleSelectionWarning"),
    pytest.mark.usefixtures("one_thread"),
]
# The witness runs the same float32 forward on the same batch, and works in float64 from there on. What float32 adds to a pair's loss is
# largest for MoCo's log-sum-exp: (2 K + 16) units of 1 / t + log(K + 1) + 1 = 9.7 with K = 40 and t = .2, and 2 (2 D + 8) units over t for
# the products, together 8e-5 (error_of_contrast in pair_formulas). DINO's table stays below: logits of at most 1 over .04 round to
# 1.5e-6, which moves a term, a mean of differences of up to 2 / .1, by 20 times as much. The chosen pair and the hardest may err both.
TOLERANCE = 2e-4


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"), 48)


def make(name: str) -> Method:
    torch.manual_seed(0)
    return METHODS[name]()


def hard_loader(method: Method, photos: Path, **selector: Any) -> hvs.HardViewLoader:
    views = hvs.ViewLoader(photos, method.recipe, batch_size=12, seed=1, drop_last=True)
    return hvs.HardViewLoader(views, hvs.HardViewSelector(objective_of(method.model, **method.options), **selector))


def train(method: Method, epochs: Iterable[Iterable[Any]]) -> list[float]:
    """As a loop of lightly's examples: the loss of every step."""
    optimizer = torch.optim.SGD(method.model.parameters(), lr=method.lr, momentum=0.9)
    with recorded_losses() as losses:
        for epoch, batches in enumerate(epochs):
            method.clock["epoch"] = epoch
            for batch in batches:
                method.loss(batch[0]).backward()
                optimizer.step()
                optimizer.zero_grad()
    return losses


# ---- trained for real ----


@pytest.mark.parametrize("name", METHODS)
def test_every_batch_is_the_hardest_under_the_weights_of_its_step(name: str, photos: Path) -> None:
    method = make(name)
    loader = hard_loader(method, photos)

    def pair_losses(parts: Any, candidates: list[Tensor]) -> Tensor:
        losses_BVV = method.pair_losses(parts, candidates)
        for slots, *image in zip(loader.selector.last.slots.tolist(), *method.added.values(), strict=True) if method.added else ():
            added_L = dict(zip(method.added, image, strict=True))[tuple(slots[:2])]
            chosen = added_L[[slot - 4 for slot in slots[2:]]].sum()
            assert len(slots) == 5 and chosen >= added_L.topk(3).values.sum() - 8 * TOLERANCE
        return losses_BVV

    witness = Witness(loader, seen_by_selection(loader, method.model, method.moved), pair_losses, tolerance=TOLERANCE)
    losses = train(method, [loader] * 5)
    assert witness.checked == len(losses) == 5 * 4 and torch.tensor(losses).isfinite().all()
    # the others' losses move with what they are compared with: a queue, a teacher and a centre, variances, a covariance
    assert falls(losses) or name in ("MoCo", "DINO", "VICReg", "TiCo", "MSN")
    assert min(witness.gained) >= -TOLERANCE and sum(witness.gained) > 0


@pytest.mark.parametrize("name", ["SimSiam", "DINO"])
def test_random_pairs_train_as_from_a_plain_dataset(name: str, photos: Path) -> None:
    method = make(name)
    got = train(method, [hard_loader(method, photos, policy="random")])
    views = hvs.ViewLoader(photos, method.recipe, batch_size=12, seed=1, drop_last=True)
    first = [0, 2, 4, 5, 6] if name == "DINO" else [0, 1]  # of each role, and of the local views
    plain = PlainViews(hvs.Batch([batch.views[slot] for slot in first], batch.labels, batch.index, batch.params) for batch in views)
    again = make(name)
    expected = train(again, [DataLoader(plain, batch_size=12)])
    assert got == expected and len(got) == 4
    assert all(torch.equal(a, b) for a, b in zip(method.model.state_dict().values(), again.model.state_dict().values(), strict=True))


SCRIPTS = {"lightly_simsiam.py": ["--size", 32], "lightly_dino.py": ["--size", 32, 16], "lightly_msn.py": ["--size", 28, 14]}


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_example_trains(script: str, photos: Path) -> None:
    losses, selections = run_script(script, photos, "--batch-size", 12, "--epochs", 6, *SCRIPTS[script])
    assert falls(losses) and len(losses) == len(selections) == 6 * 4
    gained = [selection.loss - selection.losses[:, selection.legal].mean(1) for selection in selections]
    assert min(float(gained_B.min()) for gained_B in gained) >= 0 and all(float(gained_B.mean()) > 0 for gained_B in gained)


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_example_runs_as_it_stands(script: str, photos: Path) -> None:
    losses, _ = run_script(script, photos, "--batch-size", 24, *SCRIPTS[script], small=False)
    assert len(losses) == 2 and torch.tensor(losses).isfinite().all()


@pytest.mark.parametrize("name", ["SimSiam", "DINO"])
@pytest.mark.filterwarnings("ignore")  # what Lightning warns of is its own
@pytest.mark.filterwarnings("error::hvs_data.StaleSelectionWarning")
def test_in_lightning(name: str, photos: Path, tmp_path: Path) -> None:
    """As lightly's LightningModules: criterion in an attribute, momentum parts moved by the training step, DINO's epoch the trainer's."""
    pl = pytest.importorskip("pytorch_lightning")
    method = make(name)

    class Module(pl.LightningModule):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            for part, network in method.model.named_children():
                setattr(self, part, network)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            method.clock["epoch"] = self.current_epoch
            return method.loss(batch[0])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.05)

    def objective(module: Any) -> hvs.Objective:
        return objective_of(module, epoch=(lambda: module.current_epoch) if name == "DINO" else None)

    class Data(HardViewDataModule):
        def train_dataloader(self) -> Any:
            loader = super().train_dataloader()
            parts = seen_by_selection(loader, method.model, method.moved)
            self.witness = Witness(loader, parts, pair_losses, tolerance=TOLERANCE)
            return loader

    def pair_losses(parts: Any, candidates: list[Tensor]) -> Tensor:
        method.clock["epoch"] = module.current_epoch
        return method.pair_losses(parts, candidates)

    data: Any = Data(photos, method.recipe, objective, 12, seed=1)
    module = Module()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(max_epochs=3, accelerator="cpu", devices=1, default_root_dir=tmp_path, callbacks=[HardViewCallback()], **quiet)
    trainer.fit(module, datamodule=data)
    assert data.witness.checked == 12 and min(data.witness.gained) >= -TOLERANCE and sum(data.witness.gained) > 0


# ---- momentum parts ----


def test_momentum_is_that_before_the_step_and_not_stale(photos: Path) -> None:
    """lightly's steps begin with update_momentum: what selection saw is older by that much, and fresh all the same."""
    method = make("BYOL")
    loader = hard_loader(method, photos)
    batch = next(iter(loader))
    assert loader.selector.is_fresh(batch.selection)
    before = copy.deepcopy(method.model)
    nn.init.constant_(method.model.backbone[0].bias, 0.1)  # so that the momentum parts have somewhere to go
    method.loss(batch[0])
    assert not torch.equal(before.backbone_momentum[0].bias, method.model.backbone_momentum[0].bias)
    assert not loader.selector.is_fresh(batch.selection)  # as from any change: to be asked before the step


# ---- reading the criterion ----


@pytest.mark.parametrize("name", METHODS)
def test_the_criterion_is_never_called_and_never_changed(name: str, photos: Path) -> None:
    method = make(name)
    if name == "SimCLR":
        method.model.criterion.memory_bank.bank_ptr.zero_()  # not initialised where there is no bank
    before = state_of(method.model)
    with mock.patch.object(type(method.model.criterion), "forward", side_effect=AssertionError("called")):
        assert len(list(islice(hard_loader(method, photos), 2))) == 2
    assert not changes(before, state_of(method.model))


@pytest.mark.parametrize("name", METHODS)
def test_the_mean_over_pairs_is_what_the_criterion_gives(name: str, photos: Path) -> None:
    """One pair of candidates, all batch normalisation in evaluation mode: the loss of the batch is the mean of the pairs' losses."""
    method = make(name)
    method.model.eval()
    batch = next(iter(hvs.ViewLoader(photos, method.recipe, batch_size=12)))
    objective = objective_of(method.model, **method.options)
    views = [batch.views[0], batch.views[2 if method.recipe.slot_roles[0].name == "global1" else 1]]
    with torch.no_grad(), mock.patch("lightly_methods.MOMENTUM", 1.0):
        outputs = objective.encode(torch.cat(views))
        stacked = [output.unflatten(0, (2, -1)).transpose(0, 1) for output in (outputs if isinstance(outputs, tuple) else (outputs,))]
        table_BVV = objective.pair_losses(tuple(stacked) if len(stacked) > 1 else stacked[0])
        if name == "MSN":  # of the batch
            method.model.criterion.regularization_weight = 0.0
        expected = float(method.loss(views))
    got = float(table_BVV[:, 0, 1].double().mean())
    if name == "BYOL":  # lightly leaves the constants out
        got = (got - 4) / 4
    if name == "VICReg":  # of the pair alone
        z = [through(method.model, "backbone projection_head", view) for view in views]
        expected = 10 * float(nn.functional.mse_loss(*z).detach())
    assert got == pytest.approx(expected, abs=TOLERANCE)


def test_settings_are_those_of_the_criterion() -> None:
    parts = {"backbone": backbone(), "projection_head": nn.Linear(WIDTH, LENGTH)}
    made: Any = objective_of(Parts(**parts), criteria.NTXentLoss(temperature=0.3, gather_distributed=True))
    assert isinstance(made, objectives.SimCLR) and made.temperature == 0.3 and made.gather
    made = objective_of(Parts(**parts), criteria.VICRegLoss(lambda_param=3.0))
    assert isinstance(made, objectives.VICReg) and made.weight == 3.0
    made = objective_of(Parts(**parts), criteria.BarlowTwinsLoss(lambda_param=0.1, gather_distributed=True))
    assert isinstance(made, objectives.BarlowTwins) and made.redundancy == 0.1 and made.gather
    model = Parts(**parts, prototypes=SwaVPrototypes(LENGTH, 9))
    queue = torch.randn(8, LENGTH)
    made = objective_of(model, criteria.SwaVLoss(0.2, 4, 0.07, sinkhorn_gather_distributed=True), queue=queue)
    assert isinstance(made, objectives.SwAV) and made.queue() is queue
    assert (made.temperature, made.iterations, made.epsilon, made.gather) == (0.2, 4, 0.07, True)
    alone: Any = objective_of(Parts(**parts), criteria.NTXentLoss(temperature=0.3, memory_bank_size=(KEYS, LENGTH)))
    assert isinstance(alone, objectives.MoCoV2) and alone.encoder is alone.momentum_encoder and alone.temperature == 0.3


def test_the_queue_is_the_criterions_of_the_moment() -> None:
    criterion = criteria.NTXentLoss(memory_bank_size=(KEYS, LENGTH))
    names = ("backbone", "projection_head", "key_backbone", "key_projection_head")  # of lightly's benchmark
    made: Any = objective_of(Parts(**{name: nn.Identity() for name in names}), criterion)
    assert isinstance(made, objectives.MoCoV2) and made.ordered
    criterion(torch.randn(3, LENGTH, requires_grad=True), torch.randn(3, LENGTH))
    assert torch.equal(made.queue(), criterion.memory_bank.bank.T)


@pytest.mark.parametrize(
    "names",
    [
        "student_backbone student_head teacher_backbone teacher_head",
        "student_backbone student_projection_head teacher_backbone teacher_projection_head",
        "student_backbone student_projection_head backbone projection_head",
    ],
)
def test_dinos_parts_are_found(names: str) -> None:
    parts = {name: nn.Linear(2, PROTOTYPES) for name in names.split()}
    made: Any = objective_of(Parts(**parts), criteria.DINOLoss(PROTOTYPES))
    assert [*made.student, *made.teacher] == list(parts.values())


def test_dinos_centre_and_temperature_follow_the_criterion() -> None:
    parts = {name: nn.Linear(PROTOTYPES, PROTOTYPES) for name in ("student_backbone", "student_head", "teacher_backbone", "teacher_head")}
    criterion = criteria.DINOLoss(PROTOTYPES, 0.03, 0.07, warmup_teacher_temp_epochs=3, student_temp=0.2)
    clock = {"epoch": 0}
    made: Any = objective_of(Parts(**parts), criterion, epoch=lambda: clock["epoch"])
    for clock["epoch"], expected in enumerate((0.03, 0.05, 0.07, 0.07)):
        assert float(made.teacher_temperature()) == pytest.approx(expected, rel=1e-6)
    assert made.student_temperature == 0.2
    rows = [torch.randn(4, PROTOTYPES) for _ in range(2)]
    criterion(rows, rows)
    assert torch.equal(made.center(), criterion.center) and made.center().abs().sum() > 0
    criterion.center = torch.ones(1, 1, PROTOTYPES)  # also one that takes its place
    assert torch.equal(made.center(), torch.ones(1, 1, PROTOTYPES))
    assert objective_of(Parts(**parts), criterion, teacher_temp=0.05).teacher_temperature == 0.05
    assert objective_of(Parts(**parts), criteria.DINOLoss(PROTOTYPES)).teacher_temperature() == 0.04


class OwnContrast(criteria.NTXentLoss):
    def forward(self, out0: Tensor, out1: Tensor) -> Tensor:
        return super().forward(out0, out1).square()


class Renamed(criteria.NTXentLoss):
    pass


def test_a_subclass_is_known_by_its_forward() -> None:
    model = Parts(backbone=backbone(), projection_head=nn.Linear(WIDTH, LENGTH))
    assert isinstance(objective_of(model, Renamed()), objectives.SimCLR)
    with pytest.raises(SelectionError, match="got OwnContrast; for another loss"):
        objective_of(model, OwnContrast())


BRANCH = ("backbone", "projection_head")


@pytest.mark.parametrize(
    ("names", "criterion", "options", "message"),
    [
        (
            BRANCH,
            criteria.MACLLoss(),
            {},
            "one of lightly's criteria NegativeCosineSimilarity, .*, got MACLLoss; .* subclass of hvs_data.Obj",
        ),
        (BRANCH, criteria.DCLLoss(weight_fn=torch.dot), {}, "expected DCLLoss without weight_fn, or DCLWLoss"),
        (BRANCH, None, {}, "got None"),
        (BRANCH, criteria.NegativeCosineSimilarity(dim=0), {}, "dim=1, got dim=0"),
        (BRANCH, criteria.NegativeCosineSimilarity(), {}, "a SimSiam model with the attributes"),
        ((*BRANCH, "prediction_head"), criteria.NTXentLoss(), {}, "expected NNCLR .* one NNMemoryBankModule .* got Parts with 0"),
        ((*BRANCH, "backbone_momentum"), criteria.NTXentLoss(), {}, "with a memory bank, as of MoCo"),
        (BRANCH, criteria.DINOLoss(8), {}, "a DINO model with the attributes .* got Parts"),
        (
            ("student_backbone", "student_head", "teacher_backbone", "teacher_head"),
            criteria.DINOLoss(8, warmup_teacher_temp=0.01),
            {},
            "expected epoch= for a DINOLoss whose temperature moves from 0.01 to 0.04",
        ),
        (BRANCH, criteria.VICRegLoss(), {"epoch": 3}, "with DINOLoss, whose temperature they set, got them with VICRegLoss"),
        (BRANCH, criteria.VICRegLoss(), {"sharpening": 0.2}, "sharpening= with MSNLoss, whose targets it sharpens, got it with VICRegLoss"),
        (BRANCH, criteria.MSNLoss(), {}, "a MSN model with the attributes .anchor_backbone, .* got Parts"),
        (BRANCH, criteria.VICRegLoss(), {"queue": torch.zeros(3, 2)}, "queue= with SwaVLoss or NNCLR, got it with VICRegLoss"),
    ],
)
def test_what_cannot_be_read_is_refused(names: tuple[str, ...], criterion: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SelectionError, match=message):
        objective_of(Parts(**{name: nn.Identity() for name in names}), criterion, **options)
