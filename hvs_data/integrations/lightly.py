"""lightly: the objective that a model of its examples is trained on, read off model and criterion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from hvs_data.arguments.values import type_name
from hvs_data.errors import MissingDependencyError, SelectionError
from hvs_data.objectives.barlow_twins import BarlowTwins
from hvs_data.objectives.base import Objective, Owner, unwrapped
from hvs_data.objectives.byol import BYOL
from hvs_data.objectives.dcl import DCL
from hvs_data.objectives.dino import DINO
from hvs_data.objectives.lejepa import LeJEPA
from hvs_data.objectives.mmcr import MMCR
from hvs_data.objectives.moco import MoCoV2
from hvs_data.objectives.msn import MSN
from hvs_data.objectives.nnclr import NNCLR
from hvs_data.objectives.parts import Number
from hvs_data.objectives.simclr import SimCLR
from hvs_data.objectives.simsiam import SimSiam
from hvs_data.objectives.swav import SwAV
from hvs_data.objectives.tico import TiCo
from hvs_data.objectives.vicreg import VICReg

__all__ = ["objective_of"]

Epoch = int | Callable[[], int]

# Student and its head, teacher and its head: of the examples, and of the benchmarks, where the teacher is the model.
_DISTILLERS = (
    ("student_backbone", "student_head", "teacher_backbone", "teacher_head"),
    ("student_backbone", "student_projection_head", "teacher_backbone", "teacher_projection_head"),
    ("student_backbone", "student_projection_head", "backbone", "projection_head"),
)
_MOMENTUM = ("backbone_momentum", "teacher_backbone", "key_backbone", "momentum_backbone")


def objective_of(
    model: nn.Module,
    criterion: nn.Module | None = None,
    *,
    epoch: Epoch | None = None,
    teacher_temp: Number | None = None,
    queue: Any = None,
    sharpening: Number | None = None,
) -> Objective:
    """The objective of a model that is trained with a criterion of lightly's.

    The criterion is read and never called: losses fill queues and move centres when they are. Its settings are read now, its
    queue, its centre and DINO's temperatures at each scoring. The model's parts are found by the names of lightly's examples and
    benchmarks (docs/objectives.md); what a training step does with them is not looked at, so a step must be as lightly has it.

    ==================================  ===========================================================================================
    criterion                           objective
    ==================================  ===========================================================================================
    NegativeCosineSimilarity            ``BYOL`` of a model with momentum parts, else ``SimSiam``
    NTXentLoss                          ``SimCLR``
    NTXentLoss with a memory bank       ``MoCoV2``: the first view is the query; keys from the model itself where it has no momentum
                                        parts
    NTXentLoss, a prediction head       ``NNCLR``, with nearest neighbours in one NT-Xent with the predictions, as in the example
    DCLLoss, DCLWLoss                   ``DCL``, with the weights' sigma
    TiCoLoss                            ``TiCo``: the first view goes to the trained network; its covariance is read at each scoring
    DINOLoss                            ``DINO``
    VICRegLoss                          ``VICReg``: the term that depends on the pair
    BarlowTwinsLoss                     ``BarlowTwins``, a proxy; where the loss gathers, standardised over all processes at once
    SwaVLoss                            ``SwAV``; with local views that are chosen, pass ``score_locals=True`` to the selector
    LeJEPALoss                          ``LeJEPA``: its prediction term, for any numbers of views
    MMCRLoss                            ``MMCR``, a proxy, for any number of views
    MSNLoss                             ``MSN``: the first view is the target; all are scored whole
    ==================================  ===========================================================================================

    Momentum parts and queues are taken as they are when a batch is chosen. Steps that begin with ``update_momentum`` then train
    with slightly newer ones. That is as meant, and no sign of stale weights: the choice is made before the step.

    FastSiam shares its criterion with SimSiam: make ``hvs_data.objectives.FastSiam(model)`` for it.

    ``MoCoV2`` takes a pair's first view for the query, as lightly's example does; its benchmark takes the second, and needs
    ``format=`` or a step that swaps them.

    Args:
        model: a module, or a LightningModule; a DistributedDataParallel wrapper is passed by.
        criterion: by default the model's attribute ``criterion``, as lightly's LightningModules have it.
        epoch: for DINOLoss, what the step passes as ``epoch=``: a number, or a function that is called at each scoring, such as
            ``lambda: model.current_epoch``.
        teacher_temp: for DINOLoss, what the step passes as ``teacher_temp=``: a number, or a function that is called at each scoring.
        queue: for SwaVLoss, the queues whose samples take part in the codes; see :class:`hvs_data.objectives.SwAV`. For NNCLR, the memory
            bank, where it is not the model's only ``NNMemoryBankModule``.
        sharpening: for MSNLoss, what the step passes as ``target_sharpen_temperature=``, if it does: a number, or a function that is called
            at each scoring.

    Raises:
        SelectionError: another criterion; a model whose parts have other names, or that belongs to another method; DINOLoss with a
            warm-up of its temperature and neither ``epoch`` nor ``teacher_temp``; arguments that the criterion does not take.
        MissingDependencyError: lightly is not installed.
    """
    try:
        from lightly import loss
    except ImportError:
        raise MissingDependencyError("lightly", "trainers", "objective_of") from None
    inner = unwrapped(model)
    criterion = getattr(inner, "criterion", None) if criterion is None else criterion
    known: Mapping[Any, Callable[..., Objective]] = {
        loss.NegativeCosineSimilarity: _of_cosine,
        loss.NTXentLoss: partial(_of_contrast, queue=queue),
        loss.DCLWLoss: _of_dclw,
        loss.DCLLoss: _of_dcl,
        loss.TiCoLoss: _of_tico,
        loss.DINOLoss: partial(_of_distillation, epoch=epoch, teacher_temp=teacher_temp),
        loss.VICRegLoss: _of_vicreg,
        loss.BarlowTwinsLoss: _of_barlow_twins,
        loss.SwaVLoss: partial(_of_swav, queue=queue),
        loss.MMCRLoss: _of_mmcr,
        loss.MSNLoss: partial(_of_msn, sharpening=sharpening),
    }
    if hasattr(loss, "LeJEPALoss"):  # from 1.6 on
        known = {**known, loss.LeJEPALoss: _of_lejepa}
    # a subclass with a forward of its own is another loss
    kind = next((kind for kind in known if isinstance(criterion, kind) and type(criterion).forward is kind.forward), None)
    if kind is None:
        raise SelectionError(
            f"expected one of lightly's criteria {', '.join(kind.__name__ for kind in known)}, got {type_name(criterion)}; for another "
            "loss take an objective of hvs_data.objectives, or write one: a subclass of hvs_data.Objective with encode(pixels) and "
            "pair_losses(outputs)"
        )
    if kind is not loss.DINOLoss and (epoch is not None or teacher_temp is not None):
        raise SelectionError(f"expected epoch= and teacher_temp= with DINOLoss, whose temperature they set, got them with {kind.__name__}")
    if queue is not None and kind is not loss.SwaVLoss and not (kind is loss.NTXentLoss and _predicts(inner)):
        raise SelectionError(f"expected queue= with SwaVLoss or NNCLR, got it with {kind.__name__}, which keeps its queue itself")
    if sharpening is not None and kind is not loss.MSNLoss:
        raise SelectionError(f"expected sharpening= with MSNLoss, whose targets it sharpens, got it with {kind.__name__}")
    return known[kind](inner, criterion)


def _of_cosine(model: Any, criterion: Any) -> Objective:
    if criterion.dim not in (1, -1):
        raise SelectionError(f"expected NegativeCosineSimilarity over the embedding, dim=1, got dim={criterion.dim}; write an Objective")
    if _has_momentum(model):
        return BYOL(model)
    made = SimSiam(model)
    if made.model is not None:
        # lightly's forward returns (z, p), an objective takes (p, z): wrong without an error
        raise SelectionError(
            "expected a SimSiam model with the attributes backbone, projection_head and prediction_head, got "
            f"{type_name(model)} without them; write hvs_data.objectives.SimSiam(encoder=..., projector=..., predictor=...)"
        )
    return made


def _of_contrast(model: Any, criterion: Any, *, queue: Any) -> Objective:
    if _predicts(model):
        return _of_neighbours(model, criterion, queue)
    if criterion.memory_bank.size[0]:
        settings = {"queue": criterion.memory_bank, "temperature": criterion.temperature}
        if _has_momentum(model):
            return MoCoV2(model, **settings)
        branch = SimCLR(model)
        encoder, projector = branch.encoder, branch.projector
        return MoCoV2(encoder=encoder, projector=projector, momentum_encoder=encoder, momentum_projector=projector, **settings)
    if _has_momentum(model):
        raise SelectionError(
            f"expected NTXentLoss with a memory bank, as of MoCo, for a model with momentum parts, got {type_name(model)} and "
            "memory_bank_size=0; write an Objective for keys of the batch alone"
        )
    return SimCLR(model, temperature=criterion.temperature, gather=criterion.gather_distributed)


def _predicts(model: Any) -> bool:
    return callable(getattr(model, "prediction_head", None))


def _of_neighbours(model: Any, criterion: Any, queue: Any) -> Objective:
    from lightly.models.modules import NNMemoryBankModule

    banks = [module for module in model.modules() if isinstance(module, NNMemoryBankModule)]
    if criterion.memory_bank.size[0] or _has_momentum(model) or (queue is None and len(banks) != 1):
        raise SelectionError(
            f"expected NNCLR for NTXentLoss and a prediction head: a criterion without memory bank of its own, no momentum parts, and one "
            f"NNMemoryBankModule in the model or as queue=, got {type_name(model)} with {len(banks)}; write an Objective for another "
            "method, or take hvs_data.objectives.MoCoV3"
        )
    bank = banks[0] if queue is None else queue
    return NNCLR(model, queue=bank, temperature=criterion.temperature, negatives="all", gather=criterion.gather_distributed)


def _of_dcl(model: Any, criterion: Any) -> Objective:
    if criterion.weight_fn is not None:
        raise SelectionError(
            "expected DCLLoss without weight_fn, or DCLWLoss, got a function of your own; write a subclass of hvs_data.objectives.DCL"
        )
    return DCL(model, temperature=criterion.temperature, gather=criterion.gather_distributed)


def _of_dclw(model: Any, criterion: Any) -> Objective:
    sigma = criterion.weight_fn.keywords["sigma"]
    return DCL(model, temperature=criterion.temperature, gather=criterion.gather_distributed, sigma=sigma)


def _of_tico(model: Any, criterion: Any) -> Objective:
    return TiCo(model, covariance=criterion, beta=criterion.beta, rho=criterion.rho, gather=criterion.gather_distributed)


def _of_distillation(model: Any, criterion: Any, *, epoch: Epoch | None, teacher_temp: Number | None) -> Objective:
    for names in _DISTILLERS:
        parts: list[Any] = [getattr(model, name, None) for name in names]
        if all(callable(part) for part in parts):
            temperature = _teacher_temperature(criterion, epoch, teacher_temp)
            made: Any = DINO(parts[:2], parts[2:], partial(getattr, criterion, "center"), temperature, criterion.student_temp)
            made.owner = Owner(model)
            return made
    raise SelectionError(
        f"expected a DINO model with the attributes {', or '.join(map(str, _DISTILLERS))}, got {type_name(model)}, which has none of these "
        "sets; write hvs_data.objectives.DINO(student, teacher, lambda: criterion.center, ...)"
    )


def _teacher_temperature(criterion: Any, epoch: Epoch | None, teacher_temp: Number | None) -> Number:
    """As the criterion's forward takes it from its arguments."""
    if teacher_temp is not None:
        return teacher_temp
    if epoch is not None:
        return partial(_scheduled, criterion, epoch)
    schedule: list[float] = criterion.teacher_temp_schedule.tolist()
    if schedule and schedule[0] != schedule[-1]:
        raise SelectionError(
            f"expected epoch= for a DINOLoss whose temperature moves from {schedule[0]:g} to {schedule[-1]:g}, got none; "
            "pass what the training step passes to the loss: epoch=lambda: epoch, or teacher_temp=criterion.teacher_temp for a step that "
            "passes neither"
        )
    return partial(getattr, criterion, "teacher_temp")


def _scheduled(criterion: Any, epoch: Epoch) -> float | Tensor:
    now = epoch() if callable(epoch) else epoch
    return criterion.teacher_temp_schedule[now] if now < criterion.warmup_teacher_temp_epochs else criterion.teacher_temp


def _of_vicreg(model: Any, criterion: Any) -> Objective:
    return VICReg(model, weight=criterion.lambda_param)


def _of_barlow_twins(model: Any, criterion: Any) -> Objective:
    return BarlowTwins(model, redundancy=criterion.lambda_param, gather=criterion.gather_distributed)


def _of_swav(model: Any, criterion: Any, *, queue: Any) -> Objective:
    return SwAV(
        model,
        queue=queue,
        temperature=criterion.temperature,
        epsilon=criterion.sinkhorn_epsilon,
        iterations=criterion.sinkhorn_iterations,
        gather=criterion.sinkhorn_gather_distributed,
    )


def _of_lejepa(model: Any, criterion: Any) -> Objective:
    return LeJEPA(model)


def _of_mmcr(model: Any, criterion: Any) -> Objective:
    return MMCR(model)


def _of_msn(model: Any, criterion: Any, *, sharpening: Number | None) -> Objective:
    settings = {"temperature": criterion.temperature, "iterations": criterion.sinkhorn_iterations, "gather": criterion.gather_distributed}
    return MSN(model, **settings) if sharpening is None else MSN(model, **settings, sharpening=sharpening)


def _has_momentum(model: Any) -> bool:
    return any(callable(getattr(model, name, None)) for name in _MOMENTUM)
