"""Small trainers of every method, as the methods' code trains them, and what scoring must leave alone in each."""

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from lightly.loss import BarlowTwinsLoss, DCLLoss, DCLWLoss, NTXentLoss, SwaVLoss, TiCoLoss, VICRegLoss
from lightly.models.modules import NNMemoryBankModule, SwaVPrototypes
from lightly.models.utils import update_momentum
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import hvs_data as hvs
from hvs_data import objectives
from traces import bits, changes, state_of

SIDE, WIDTH, QUEUE = 8, 6, 12


@dataclass
class Trainer:
    """One method in training.

    Attributes:
        objective: what scores it.
        model: everything that training changes, the loss with its queues and centres included.
        loss: the trainer's forward of its views, [x1, x2] as the selector returns them; moves momentum encoders, fills queues, and
            whatever else the method's own code does in a step.
        select: arguments of the selector's call beside the candidates, such as ``params``.
    """

    objective: hvs.Objective
    model: nn.Module
    loss: Callable[[list[Tensor]], Tensor]
    select: dict = field(default_factory=dict)


class Parts(nn.Module):
    """A model with parts of the given names and no forward of its own."""

    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)


def make_encoder(*head):
    """With everything that a forward could leave a trace in: running statistics and dropout."""
    return nn.Sequential(
        nn.Conv2d(3, WIDTH, 3, stride=2), nn.BatchNorm2d(WIDTH), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), *head
    )


def make_head():
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU(), nn.Dropout(0.3), nn.Linear(WIDTH, WIDTH))


def make_candidates(views=4, images=5, seed=0, dtype=torch.float32):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(images, 3, SIDE, SIDE, generator=draw, dtype=torch.float64).to(dtype) for _ in range(views)]


# ---- the methods ----


def simsiam():
    model = Parts(backbone=make_encoder(), projection_head=make_head(), prediction_head=make_head())

    def loss(views):
        z1, z2 = (model.projection_head(model.backbone(view)) for view in views)
        p1, p2 = model.prediction_head(z1), model.prediction_head(z2)
        return -(F.cosine_similarity(p1, z2.detach()).mean() + F.cosine_similarity(p2, z1.detach()).mean()) / 2

    return Trainer(objectives.SimSiam(model), model, loss)


def one_branch(objective, criterion, **options):
    """Methods whose trainers hand the projections of both views to a loss."""

    def make():
        model = Parts(backbone=make_encoder(), projection_head=make_head(), criterion=criterion())

        def loss(views):
            return model.criterion(*model.projection_head(model.backbone(torch.cat(views))).chunk(2))

        return Trainer(objective(model, **options), model, loss)

    return make


def nt_xent():
    criterion = NTXentLoss()
    criterion.memory_bank.bank_ptr.zero_()  # not initialised where there is no bank
    return criterion


def byol():
    """With the target network of lightly's benchmarks."""
    model = Parts(backbone=make_encoder(), projection_head=make_head(), prediction_head=make_head())
    model.teacher_backbone, model.teacher_projection_head = copy.deepcopy(model.backbone), copy.deepcopy(model.projection_head)

    def loss(views):
        update_momentum(model.backbone, model.teacher_backbone, m=0.9)
        update_momentum(model.projection_head, model.teacher_projection_head, m=0.9)
        p1, p2 = (model.prediction_head(model.projection_head(model.backbone(view))) for view in views)
        z1, z2 = (model.teacher_projection_head(model.teacher_backbone(view)).detach() for view in views)
        return 4 - 2 * F.cosine_similarity(p1, z2).mean() - 2 * F.cosine_similarity(p2, z1).mean()

    return Trainer(objectives.BYOL(model), model, loss)


class OfficialMoCo(nn.Module):
    """Updates its key encoder and its queue in its forward, as facebookresearch/moco does."""

    T = 0.2

    def __init__(self):
        super().__init__()
        self.encoder_q, self.encoder_k = make_encoder(nn.Linear(WIDTH, WIDTH)), make_encoder(nn.Linear(WIDTH, WIDTH))
        self.register_buffer("queue", F.normalize(torch.randn(WIDTH, QUEUE), dim=0))
        self.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.long))

    def forward(self, query_view, key_view):
        q = F.normalize(self.encoder_q(query_view), dim=1)
        with torch.no_grad():
            update_momentum(self.encoder_q, self.encoder_k, m=0.9)
            k = F.normalize(self.encoder_k(key_view), dim=1)
        logits = torch.cat([(q * k).sum(1, keepdim=True), q @ self.queue.clone()], dim=1) / self.T
        start = int(self.queue_ptr)
        self.queue[:, start : start + len(k)] = k.T[:, : QUEUE - start]
        self.queue_ptr[0] = (start + len(k)) % QUEUE
        return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long))


def moco_v2(**options):
    model = OfficialMoCo()
    return Trainer(objectives.MoCoV2(model, **options), model, lambda views: model(*views))


def moco_v2_with_a_memory_bank():
    model = Parts(backbone=make_encoder(), projection_head=make_head())
    model.backbone_momentum, model.projection_head_momentum = copy.deepcopy(model.backbone), copy.deepcopy(model.projection_head)
    model.criterion = NTXentLoss(temperature=0.2, memory_bank_size=(QUEUE, WIDTH))

    def loss(views):
        update_momentum(model.backbone, model.backbone_momentum, m=0.9)
        update_momentum(model.projection_head, model.projection_head_momentum, m=0.9)
        key = model.projection_head_momentum(model.backbone_momentum(views[1])).detach()
        return model.criterion(model.projection_head(model.backbone(views[0])), key)

    return Trainer(objectives.MoCoV2(model, queue=model.criterion.memory_bank), model, loss)


def moco_v3(**options):
    model = Parts(base_encoder=make_encoder(make_head()), momentum_encoder=make_encoder(make_head()), predictor=make_head())

    def contrast(q, k):
        logits = F.normalize(q, dim=1) @ F.normalize(k, dim=1).T / 0.2
        return F.cross_entropy(logits, torch.arange(len(q))) * 2 * 0.2

    def loss(views):
        q1, q2 = (model.predictor(model.base_encoder(view)) for view in views)
        with torch.no_grad():
            update_momentum(model.base_encoder, model.momentum_encoder, m=0.9)
            k1, k2 = (model.momentum_encoder(view) for view in views)
        return contrast(q1, k2) + contrast(q2, k1)

    return Trainer(objectives.MoCoV3(model, **options), model, loss)


def swav():
    """With lightly's prototypes, which want the step, and a queue as the official trainer keeps one."""
    model = Parts(backbone=make_encoder(), projection_head=make_head(), prototypes=SwaVPrototypes(WIDTH, 7, n_steps_frozen_prototypes=1))
    model.criterion = SwaVLoss()
    model.register_buffer("queue", F.normalize(torch.randn(2, QUEUE, WIDTH), dim=-1))

    def loss(views):
        model.prototypes.normalize()
        z1, z2 = (F.normalize(model.projection_head(model.backbone(view)), dim=1) for view in views)
        waiting = [model.prototypes(samples, step=1) for samples in model.queue.clone()]
        model.queue[:, len(z1) :] = model.queue[:, : -len(z1)].clone()
        model.queue[:, : len(z1)] = torch.stack([z1, z2]).detach()
        return model.criterion([model.prototypes(z, step=1) for z in (z1, z2)], [], waiting).sum()

    return Trainer(objectives.SwAV(model, queue=lambda: model.queue), model, loss)


def nnclr():
    """After lightly's example, its memory bank beside the criterion."""
    model = Parts(backbone=make_encoder(), projection_head=make_head(), prediction_head=make_head())
    model.memory_bank, model.criterion = NNMemoryBankModule((QUEUE, WIDTH)), nt_xent()

    def loss(views):
        (z0, p0), (z1, p1) = ((z, model.prediction_head(z)) for z in (model.projection_head(model.backbone(view)) for view in views))
        n0, n1 = (model.memory_bank(z.detach(), update=update) for z, update in ((z0, False), (z1, True)))
        return (model.criterion(n0, p1) + model.criterion(n1, p0)) / 2

    return Trainer(objectives.NNCLR(model, queue=model.memory_bank, temperature=0.5, negatives="all"), model, loss)


def tico():
    model = Parts(backbone=make_encoder(), projection_head=make_head(), criterion=TiCoLoss())
    model.backbone_momentum, model.projection_head_momentum = copy.deepcopy(model.backbone), copy.deepcopy(model.projection_head)

    def loss(views):
        update_momentum(model.backbone, model.backbone_momentum, m=0.9)
        update_momentum(model.projection_head, model.projection_head_momentum, m=0.9)
        m = model.projection_head_momentum(model.backbone_momentum(views[1])).detach()
        return model.criterion(model.projection_head(model.backbone(views[0])), m)

    return Trainer(objectives.TiCo(model, covariance=model.criterion), model, loss)


def reducible(make):
    """The same trainer, scored less its momentum network's loss."""

    def changed():
        trainer = make()
        return replace(trainer, objective=objectives.reducible(trainer.objective))

    return changed


def image_text(images=5):
    """With two views of an image, and a text encoder that drops out."""

    class OpenClip(Parts):
        def encode_image(self, pixels):
            return self.visual(pixels)

        def encode_text(self, tokens):
            return self.text(tokens)

    text = nn.Sequential(nn.Embedding(9, WIDTH), nn.Dropout(0.3), nn.Flatten(), nn.Linear(3 * WIDTH, WIDTH))
    model = OpenClip(visual=make_encoder(), text=text)
    tokens = torch.randint(9, (images, 3), generator=torch.Generator().manual_seed(0))

    def loss(views):
        t, target = F.normalize(model.encode_text(tokens), dim=1), torch.arange(images)
        logits = [F.normalize(model.encode_image(view), dim=1) @ t.T / 0.07 for view in views]
        return sum(F.cross_entropy(x, target) + F.cross_entropy(x.T, target) for x in logits) / (2 * len(views))

    return Trainer(objectives.CLIP(model), model, loss, {"labels": tokens})


TRAINERS = {
    "SimSiam": simsiam,
    "SimCLR": one_branch(objectives.SimCLR, nt_xent, temperature=0.5),
    "BYOL": byol,
    "MoCo v2": moco_v2,
    "MoCo v2 with a memory bank": moco_v2_with_a_memory_bank,
    "MoCo v3": moco_v3,
    "SimCLR by its positive": one_branch(objectives.SimCLR, nt_xent, temperature=0.5, score="positive"),
    "MoCo v2 by its positive": partial(moco_v2, score="positive"),
    "MoCo v3 by its positive": partial(moco_v3, score="positive"),
    "BYOL, reducible": reducible(byol),
    "MoCo v2, reducible": reducible(moco_v2),
    "MoCo v3, reducible": reducible(moco_v3),
    "DCL": one_branch(objectives.DCL, DCLLoss, temperature=0.1),
    "DCLW": one_branch(objectives.DCL, DCLWLoss, temperature=0.1, sigma=0.5),
    "NNCLR": nnclr,
    "TiCo": tico,
    "TiCo, reducible": reducible(tico),
    "SwAV": swav,
    "CLIP": image_text,
    "VICReg": one_branch(objectives.VICReg, VICRegLoss),
    "Barlow Twins": one_branch(objectives.BarlowTwins, BarlowTwinsLoss),
    "Barlow Twins by cosine": one_branch(objectives.BarlowTwins, BarlowTwinsLoss, proxy="cosine"),
}


# ---- what scoring must leave alone ----


def seed(value):
    torch.manual_seed(value)
    np.random.seed(value)
    random.seed(value)


def started(make, dtype=torch.float32):
    """A trainer after its first step: queues, statistics and momentum encoders are no longer what they began as."""
    seed(3)
    trainer = make()
    trainer.model.to(dtype)
    trainer.loss(make_candidates(2, seed=1, dtype=dtype))
    return trainer


def traces(make, candidates, **options):
    """The kinds of state that a selection changes, of the trainer's whole model and of the random generators."""
    trainer = started(make)
    before = state_of(trainer.model)
    hvs.HardViewSelector(trainer.objective, **options)(candidates, **trainer.select)
    return changes(before, state_of(trainer.model))


def next_step(make, candidates, score, autocast=False, **options):
    """Loss and gradients of a step, and the state after it, with or without a selection before it; the views are always the same."""
    trainer = started(make)
    seed(11)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        if score:
            hvs.HardViewSelector(trainer.objective, **options)(candidates, **trainer.select)
        loss = trainer.loss(candidates[:2])
        loss.backward()
    gradients = {name: None if value.grad is None else bits(value.grad) for name, value in trainer.model.named_parameters()}
    buffers = {name: bits(buffer) for name, buffer in trainer.model.named_buffers()}
    weights = {name: bits(value) for name, value in trainer.model.named_parameters()}
    return bits(loss), gradients, buffers, weights, torch.get_rng_state().tolist(), np.random.rand(), random.random()


class NoQuestions(TorchDispatchMode):
    """Fails where a CUDA tensor would make the host wait: a value read, or a size that depends on values."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        assert name not in ("_local_scalar_dense", "nonzero", "masked_select", "unique", "_unique2", "equal", "is_nonzero"), name
        if name in ("index", "index_put", "index_put_"):
            assert all(index is None or index.dtype != torch.bool for index in args[1]), "boolean mask"
        return function(*args, **(kwargs or {}))
