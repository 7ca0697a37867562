"""Methods trained as lightly's examples train them, with small networks, and every pair's loss by the method's formula."""

# Axes: N image of a forward, B image, V view, L local view, D embedding, K prototype.

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from lightly.loss import DCLWLoss, DINOLoss, MSNLoss, NegativeCosineSimilarity, NTXentLoss, TiCoLoss, VICRegLoss
from lightly.models.modules import (
    BYOLPredictionHead,
    BYOLProjectionHead,
    DINOProjectionHead,
    MoCoProjectionHead,
    NNCLRPredictionHead,
    NNCLRProjectionHead,
    NNMemoryBankModule,
    SimCLRProjectionHead,
    SimSiamPredictionHead,
    SimSiamProjectionHead,
)
from lightly.models.modules.heads import MSNProjectionHead, TiCoProjectionHead, VICRegProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from torch import Tensor, nn

import hvs_data as hvs
import lightly_formulas as formulas
from distillers import cross_entropy, msn_loss

WIDTH, LENGTH, KEYS, PROTOTYPES = 16, 12, 40, 24
MOMENTUM = 0.9


@dataclass
class Method:
    """One method of lightly's examples.

    Attributes:
        model: with the parts that the example has, and the criterion in ``criterion``, as its LightningModules have it.
        loss: of the example's training step, from the views.
        recipe: of its views.
        pair_losses: from copies of the model's parts and the candidates to the loss of every pair [B, V, V].
        lr: for SGD with momentum.
        moved: names of the parts that the step moves before its forwards.
        clock: holds the "epoch", as the variable of a loop over epochs does.
        added: what each local candidate adds to each pair of global ones, [B, L] by pair, in the latest call of ``pair_losses``.
        options: of ``objective_of``.
    """

    model: nn.Module
    loss: Callable[[list[Tensor]], Tensor]
    recipe: hvs.recipes.Recipe
    pair_losses: Callable[[Mapping[str, nn.Module], list[Tensor]], Tensor]
    moved: tuple[str, ...] = ()
    lr: float = 0.05
    clock: dict[str, int] = field(default_factory=dict)
    added: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


class Parts(nn.Module):
    def __init__(self, **parts: nn.Module):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)


def backbone() -> nn.Module:
    """Ends in [N, D, 1, 1], as a torchvision ResNet without its last layer."""
    return nn.Sequential(nn.Conv2d(3, WIDTH, 5, stride=2), nn.BatchNorm2d(WIDTH), nn.ReLU(), nn.AdaptiveAvgPool2d(1))


def through(parts: Any, names: str, pixels: Tensor) -> Tensor:
    for name in names.split():
        part = parts[name] if isinstance(parts, Mapping) else getattr(parts, name)
        pixels = part(pixels.flatten(1) if pixels.ndim == 4 and pixels.shape[2] == 1 else pixels)
    return pixels


def each(parts: Mapping[str, nn.Module], names: str, views: list[Tensor]) -> Tensor:
    """Outputs [B, V, D] in float64, all views in one batch, whose statistics normalise them."""
    return through(parts, names, torch.cat(views)).double().unflatten(0, (len(views), -1)).transpose(0, 1)


def predicted(parts: Mapping[str, nn.Module], views: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Predictions and projections [B, V, D] in float64, all views in one batch."""
    z = through(parts, "backbone projection_head", torch.cat(views))
    p, z = (output.double().unflatten(0, (len(views), -1)).transpose(0, 1) for output in (parts["prediction_head"](z), z))
    return p, z


# ---- the methods ----


def simsiam() -> Method:
    heads = {"projection_head": SimSiamProjectionHead(WIDTH, WIDTH, LENGTH), "prediction_head": SimSiamPredictionHead(LENGTH, 8, LENGTH)}
    model = Parts(backbone=backbone(), **heads, criterion=NegativeCosineSimilarity())

    def loss(views: list[Tensor]) -> Tensor:
        (z0, z1) = (through(model, "backbone projection_head", view) for view in views)
        p0, p1 = model.prediction_head(z0), model.prediction_head(z1)
        return 0.5 * (model.criterion(z0.detach(), p1) + model.criterion(z1.detach(), p0))

    def pair_losses(parts: Mapping[str, nn.Module], views: list[Tensor]) -> Tensor:
        return formulas.simsiam(*predicted(parts, views))

    return Method(model, loss, hvs.recipes.simsiam(candidates=4, size=16), pair_losses)


def simclr() -> Method:
    model = Parts(backbone=backbone(), projection_head=SimCLRProjectionHead(WIDTH, WIDTH, LENGTH), criterion=NTXentLoss())

    def loss(views: list[Tensor]) -> Tensor:
        return model.criterion(*(through(model, "backbone projection_head", view) for view in views))

    def pair_losses(parts: Mapping[str, nn.Module], views: list[Tensor]) -> Tensor:
        return formulas.simclr(each(parts, "backbone projection_head", views), 0.5)

    return Method(model, loss, hvs.recipes.simclr(candidates=4, size=16), pair_losses, lr=0.2)


def vicreg() -> Method:
    head = VICRegProjectionHead(WIDTH, WIDTH, LENGTH, num_layers=2)
    model = Parts(backbone=backbone(), projection_head=head, criterion=VICRegLoss(lambda_param=10.0))

    def loss(views: list[Tensor]) -> Tensor:
        return model.criterion(*(through(model, "backbone projection_head", view) for view in views))

    def pair_losses(parts: Mapping[str, nn.Module], views: list[Tensor]) -> Tensor:
        return formulas.vicreg(each(parts, "backbone projection_head", views), 10.0)

    return Method(model, loss, hvs.recipes.vicreg(candidates=4, size=16), pair_losses)


def with_momentum(**parts: nn.Module) -> tuple[Parts, tuple[str, ...]]:
    """Parts, and copies of backbone and projection head that follow them."""
    model = Parts(**parts)
    names = ("backbone", "projection_head")
    for name in names:
        setattr(model, f"{name}_momentum", copy.deepcopy(getattr(model, name)))
        deactivate_requires_grad(getattr(model, f"{name}_momentum"))
    return model, names


def follow(model: nn.Module, names: tuple[str, ...]) -> None:
    for name in names:
        update_momentum(getattr(model, name), getattr(model, f"{name}_momentum"), m=MOMENTUM)


def byol() -> Method:
    heads = {"projection_head": BYOLProjectionHead(WIDTH, WIDTH, LENGTH), "prediction_head": BYOLPredictionHead(LENGTH, 8, LENGTH)}
    model, names = with_momentum(backbone=backbone(), **heads, criterion=NegativeCosineSimilarity())

    def loss(views: list[Tensor]) -> Tensor:
        follow(model, names)
        p0, p1 = (through(model, "backbone projection_head prediction_head", view) for view in views)
        z0, z1 = (through(model, "backbone_momentum projection_head_momentum", view).detach() for view in views)
        return 0.5 * (model.criterion(p0, z1) + model.criterion(p1, z0))

    def pair_losses(parts: Mapping[str, nn.Module], views: list[Tensor]) -> Tensor:
        p = each(parts, "backbone projection_head prediction_head", views)
        z = each(parts, "backbone_momentum projection_head_momentum", views)
        return formulas.byol(p, z)

    moved = tuple(f"{name}_momentum" for name in names)
    return Method(model, loss, hvs.recipes.byol(candidates=4, size=16), pair_losses, moved)


def moco() -> Method:
    criterion = NTXentLoss(temperature=0.2, memory_bank_size=(KEYS, LENGTH))
    model, names = with_momentum(backbone=backbone(), projection_head=MoCoProjectionHead(WIDTH, WIDTH, LENGTH), criterion=criterion)

    def loss(views: list[Tensor]) -> Tensor:
        follow(model, names)
        query = through(model, "backbone projection_head", views[0])
        return criterion(query, through(model, "backbone_momentum projection_head_momentum", views[1]).detach())

    def pair_losses(parts: Mapping[str, nn.Module], views: list[Tensor]) -> Tensor:
        q = each(parts, "backbone projection_head", views)
        k = each(parts, "backbone_momentum projection_head_momentum", views)
        return formulas.moco(q, k, criterion.memory_bank.bank, 0.2)

    moved = tuple(f"{name}_momentum" for name in names)
    return Method(model, loss, hvs.recipes.moco_v2(candidates=4, size=16), pair_losses, moved)


def dclw() -> Method:
    model = Parts(backbone=backbone(), projection_head=SimCLRProjectionHead(WIDTH, WIDTH, LENGTH), criterion=DCLWLoss(0.3, 0.4))

    def loss(views: list[Tensor]) -> Tensor:
        return model.criterion(*(through(model, "backbone projection_head", view) for view in views))

    def pair_losses(parts: Mapping[str, nn.Module], views: list[Tensor]) -> Tensor:
        return formulas.dcl(each(parts, "backbone projection_head", views), 0.3, 0.4)

    return Method(model, loss, hvs.recipes.simclr(candidates=4, size=16), pair_losses, lr=0.2)


def nnclr() -> Method:
    heads = {"projection_head": NNCLRProjectionHead(WIDTH, WIDTH, LENGTH), "prediction_head": NNCLRPredictionHead(LENGTH, WIDTH, LENGTH)}
    bank = NNMemoryBankModule((KEYS, LENGTH))
    model = Parts(backbone=backbone(), **heads, memory_bank=bank, criterion=NTXentLoss(temperature=0.4))

    def loss(views: list[Tensor]) -> Tensor:
        z0, z1 = (through(model, "backbone projection_head", view) for view in views)
        p0, p1 = model.prediction_head(z0), model.prediction_head(z1)
        z0, z1 = bank(z0.detach(), update=False), bank(z1.detach(), update=True)
        return 0.5 * (model.criterion(z0, p1) + model.criterion(z1, p0))

    def pair_losses(parts: Mapping[str, nn.Module], views: list[Tensor]) -> Tensor:
        p, z = predicted(parts, views)
        return formulas.nnclr(z, p, bank.bank, 0.4)

    return Method(model, loss, hvs.recipes.simclr(candidates=4, size=16), pair_losses)


def tico() -> Method:
    criterion = TiCoLoss(beta=0.8, rho=3.0)
    model, names = with_momentum(backbone=backbone(), projection_head=TiCoProjectionHead(WIDTH, WIDTH, LENGTH), criterion=criterion)

    def loss(views: list[Tensor]) -> Tensor:
        follow(model, names)
        online = through(model, "backbone projection_head", views[0])
        return criterion(online, through(model, "backbone_momentum projection_head_momentum", views[1]).detach())

    def pair_losses(parts: Mapping[str, nn.Module], views: list[Tensor]) -> Tensor:
        z = each(parts, "backbone projection_head", views)
        m = each(parts, "backbone_momentum projection_head_momentum", views)
        return formulas.tico(z, m, criterion.C, 0.8, 3.0)

    moved = tuple(f"{name}_momentum" for name in names)
    return Method(model, loss, hvs.recipes.byol(candidates=4, size=16), pair_losses, moved)


def dino() -> Method:
    """With local views; the temperature rises from .04 to .07 within three epochs."""
    student = backbone()
    heads = [DINOProjectionHead(WIDTH, WIDTH, LENGTH, PROTOTYPES, freeze_last_layer=freeze) for freeze in (1, -1)]
    model = Parts(student_backbone=student, student_head=heads[0], teacher_backbone=copy.deepcopy(student), teacher_head=heads[1])
    deactivate_requires_grad(model.teacher_backbone)
    deactivate_requires_grad(model.teacher_head)
    criterion = model.criterion = DINOLoss(PROTOTYPES, warmup_teacher_temp=0.04, teacher_temp=0.07, warmup_teacher_temp_epochs=3)
    clock, added = {"epoch": 0}, {}

    def loss(views: list[Tensor]) -> Tensor:
        update_momentum(model.student_backbone, model.teacher_backbone, m=MOMENTUM)
        update_momentum(model.student_head, model.teacher_head, m=MOMENTUM)
        teacher_out = [through(model, "teacher_backbone teacher_head", view) for view in views[:2]]
        student_out = [through(model, "student_backbone student_head", view) for view in views]
        return criterion(teacher_out, student_out, epoch=clock["epoch"])

    recipe = hvs.recipes.dino(candidates=4, local_candidates=5, local_views=3, size=16, local_size=8)

    def pair_losses(parts: Mapping[str, nn.Module], views: list[Tensor]) -> Tensor:
        """Of a pair of global views: with the three local views that add most."""
        groups = [[view for view in views if view.shape[-1] == side] for side in (16, 8)]
        teacher = each(parts, "teacher_backbone teacher_head", groups[0])
        own, local = (each(parts, "student_backbone student_head", group) for group in groups)
        temperature = (0.04, 0.055, 0.07)[min(clock["epoch"], 2)]

        def term(t: int, student: Tensor) -> Tensor:
            return cross_entropy(teacher[:, t], student, criterion.center.flatten(), temperature, 0.1)

        def combined(i: int, j: int) -> Tensor:
            terms = [term(i, student) + term(j, student) for student in local.unbind(1)]
            added[i, j] = torch.stack(terms, 1)
            # 2 terms of the global views and 2 of each local one
            return (term(i, own[:, j]) + term(j, own[:, i]) + added[i, j].topk(3, 1).values.sum(1)) / 8

        globals_ = formulas.table(len(groups[0]), combined)
        whole = globals_.new_full((len(globals_), len(views), len(views)), torch.nan)
        whole[:, : len(groups[0]), : len(groups[0])] = globals_
        return whole

    moved = ("teacher_backbone", "teacher_head")
    return Method(model, loss, recipe, pair_losses, moved, clock=clock, added=added, options={"epoch": lambda: clock["epoch"]})


def msn() -> Method:
    """The first view is the target's, and with local views. Nothing is masked."""
    model, names = Parts(anchor_backbone=backbone(), anchor_projection_head=MSNProjectionHead(WIDTH, WIDTH, LENGTH)), {}
    for name in ("backbone", "projection_head"):
        setattr(model, name, copy.deepcopy(getattr(model, f"anchor_{name}")))
        deactivate_requires_grad(getattr(model, name))
        names[name] = f"anchor_{name}"
    model.prototypes = nn.Linear(LENGTH, PROTOTYPES, bias=False).weight
    model.criterion, added = MSNLoss(), {}

    def loss(views: list[Tensor]) -> Tensor:
        for name, anchors in names.items():
            update_momentum(getattr(model, anchors), getattr(model, name), m=MOMENTUM)
        target = through(model, "backbone projection_head", views[0])
        anchors = torch.cat([through(model, "anchor_backbone anchor_projection_head", view) for view in views[1:]])
        return model.criterion(anchors, target, model.prototypes.data)

    recipe = hvs.recipes.msn(candidates=4, local_candidates=5, local_views=3, size=16, local_size=8)

    def pair_losses(parts: Mapping[str, nn.Module], views: list[Tensor]) -> Tensor:
        """Of a pair of global views: with the three local views that add most."""
        groups = [[view for view in views if view.shape[-1] == side] for side in (16, 8)]
        target = each(parts, "backbone projection_head", groups[0])
        own, local = (each(parts, "anchor_backbone anchor_projection_head", group) for group in groups)
        prototypes = model.prototypes.detach()

        def combined(i: int, j: int) -> Tensor:
            added[i, j] = torch.stack([msn_loss(target[:, i], [anchor], prototypes) for anchor in local.unbind(1)], 1)
            return (msn_loss(target[:, i], [own[:, j]], prototypes) + added[i, j].topk(3, 1).values.sum(1)) / 4

        globals_ = formulas.table(len(groups[0]), combined)
        whole = globals_.new_full((len(globals_), len(views), len(views)), torch.nan)
        whole[:, : len(groups[0]), : len(groups[0])] = globals_
        return whole

    return Method(model, loss, recipe, pair_losses, tuple(names), added=added)


METHODS: dict[str, Callable[[], Method]] = {
    "SimSiam": simsiam,
    "SimCLR": simclr,
    "BYOL": byol,
    "MoCo": moco,
    "DCLW": dclw,
    "NNCLR": nnclr,
    "TiCo": tico,
    "DINO": dino,
    "MSN": msn,
    "VICReg": vicreg,
}


class Copyable(nn.Module):
    """A network of which copies can be made, by a witness say: those of layers with weight norm hold the graph of their last forward.

    Args:
        network: what is copied.
        as_handed_out: copies are as it was at the latest :meth:`note`, before a step moved it.
    """

    def __init__(self, network: nn.Module, as_handed_out: bool):
        super().__init__()
        self.network = network
        self.as_handed_out = as_handed_out
        self.note()

    def note(self) -> None:
        self.then = self._copied()

    def __deepcopy__(self, memo: Any) -> nn.Module:
        return copy.deepcopy(self.then) if self.as_handed_out else self._copied()

    def _copied(self) -> nn.Module:
        held = [(module, module.weight) for module in self.network.modules() if hasattr(module, "weight_v")]
        for module, weight in held:
            module.weight = weight.detach()  # made anew by each forward
        try:
            return copy.deepcopy(self.network)
        finally:
            for module, weight in held:
                module.weight = weight


def seen_by_selection(loader: hvs.HardViewLoader, model: nn.Module, moved: tuple[str, ...]) -> dict[str, nn.Module]:
    """The model's parts for a witness of the loader, those that the step moves before its forwards as they were before the step."""
    parts = {name: part for name, part in model.named_children() if name != "criterion"}
    first = next(iter(parts))
    parts |= {name: Copyable(part, name in moved) for name, part in parts.items() if name != first}
    wrapped = loader.format

    def noting(batch: hvs.Batch) -> Any:
        for part in parts.values():
            if isinstance(part, Copyable):
                part.note()
        return batch if wrapped is None else wrapped(batch)

    loader.format = noting
    return parts
