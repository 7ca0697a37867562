"""Every method's pair loss as its formula stands, image by image in float64, beside the loss of a public implementation."""

# Axes: B image, V view, D embedding, K key or prototype.

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from lightly.loss import BarlowTwinsLoss, DCLLoss, DCLWLoss, NegativeCosineSimilarity, NTXentLoss, SwaVLoss, TiCoLoss, VICRegLoss
from lightly.models.modules import NNMemoryBankModule
from torch import Tensor, nn

from hvs_data import Objective
from hvs_data.objectives import BYOL, DCL, NNCLR, BarlowTwins, MoCoV2, MoCoV3, SimCLR, SimSiam, SwAV, TiCo, VICReg
from products import UNIT

LENGTH, KEYS, TEMPERATURE, REDUNDANCY = 16, 24, 0.3, 0.05
EPSILON, ITERATIONS = 0.5, 2
SIGMA, BETA, RHO = 0.5, 0.7, 8.0


@dataclass(frozen=True)
class Method:
    """One objective and what judges it.

    Attributes:
        objective: made with parts that hand their input on.
        outputs: how many tensors ``encode`` returns.
        formula: (outputs in float64, first view, second view) -> [B], the loss of every image.
        public: the same arguments -> the batch's loss by a public implementation.
        error: outputs -> what float32 arithmetic may add to a pair loss, at most.
        moved: (outputs, unit roundoff) -> [B, V, V] or a number, how far rounding of the outputs may move a pair loss; None where
            no bound is close enough to forbid a choice.
        ordered: whether (i, j) and (j, i) are two pairs.
    """

    objective: Callable[[], Objective]
    outputs: int
    formula: Callable[[tuple[Tensor, ...], int, int], Tensor]
    public: Callable[[tuple[Tensor, ...], int, int], Tensor]
    error: Callable[[tuple[Tensor, ...]], float]
    moved: Callable[[tuple[Tensor, ...], float], Tensor | float] | None = None
    ordered: bool = False

    def draw(self, images: int, views: int, seed: int = 0) -> tuple[Tensor, ...]:
        """Outputs [B, V, D] in float64 whose values float32 can hold."""
        draw = torch.Generator().manual_seed(seed)
        tensors = [torch.randn(images, views, LENGTH, generator=draw) for _ in range(self.outputs)]
        if self is METHODS["SwAV"]:
            tensors = [F.normalize(tensors[0], dim=-1), F.normalize(tensors[1], dim=-1) @ prototypes().T]
        return tuple(tensor.double() for tensor in tensors)

    def losses(self, outputs: tuple[Tensor, ...]) -> Tensor:
        """The objective's table [B, V, V] for outputs of any type."""
        return self.objective().pair_losses(outputs if self.outputs > 1 else outputs[0])


def fixed(*shape: int) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(99)), dim=-1)


def prototypes() -> Tensor:
    return fixed(KEYS, LENGTH)


def queue() -> Tensor:
    return fixed(KEYS, LENGTH)


def unit(z: Tensor) -> Tensor:
    return z / z.norm(dim=-1, keepdim=True)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (unit(a) * unit(b)).sum(-1)


def own_among(logits_BK: Tensor, own_B: Tensor) -> Tensor:
    """Cross-entropy of one entry of each row."""
    return torch.stack([row.exp().sum().log() - row[own] for row, own in zip(logits_BK, own_B, strict=True)])


# ---- formulas and public implementations ----


def simsiam(outputs, i, j):
    p, z = outputs
    return -(cosine(p[:, i], z[:, j]) + cosine(p[:, j], z[:, i])) / 2


def lightly_simsiam(outputs, i, j):
    (p, z), criterion = outputs, NegativeCosineSimilarity()
    return (criterion(p[:, i], z[:, j]) + criterion(p[:, j], z[:, i])) / 2


def simclr(outputs, i, j):
    views = [unit(outputs[0][:, k]) for k in (i, j)]
    images = len(views[0])
    direction = []
    for a, b in (views, reversed(views)):
        same = (a @ a.T / TEMPERATURE).masked_fill(torch.eye(images, dtype=torch.bool), -torch.inf)
        direction.append(own_among(torch.cat([a @ b.T / TEMPERATURE, same], dim=1), range(images)))
    return (direction[0] + direction[1]) / 2


def dcl(outputs, i, j, sigma=None):
    views = [unit(outputs[0][:, k]) for k in (i, j)]
    own = torch.eye(len(views[0]), dtype=torch.bool)
    agree = (views[0] * views[1]).sum(1)
    weight = 1.0 if sigma is None else 2 - len(agree) * (agree / sigma).exp() / (agree / sigma).exp().sum()
    total = torch.zeros(len(agree), dtype=torch.float64)
    for a, b in (views, reversed(views)):
        others = torch.cat([(a @ c.T / TEMPERATURE).masked_fill(own, -torch.inf) for c in (a, b)], dim=1)
        total += others.exp().sum(1).log() - weight * agree / TEMPERATURE
    return total / 2


def nearest(z):
    return queue().double()[(unit(z) @ queue().double().T).argmax(1)]


def nnclr(outputs, i, j):
    z, p = outputs
    total = torch.zeros(len(z), dtype=torch.float64)
    for a, b in ((i, j), (j, i)):
        total += own_among(nearest(z[:, a]) @ unit(p[:, b]).T / TEMPERATURE, range(len(z))) / 2
    return total


def nnclr_against_all(outputs, i, j):
    z, p = outputs
    return sum(simclr((torch.stack([nearest(z[:, a]), p[:, b]], dim=1),), 0, 1) for a, b in ((i, j), (j, i))) / 2


def solo_nnclr(outputs, i, j):
    """After nnclr_loss_func of solo-learn, of one process."""
    z, p = outputs

    def contrast(nn, prediction):
        return F.cross_entropy(nn @ F.normalize(prediction, dim=-1).T / TEMPERATURE, torch.arange(len(nn)))

    return contrast(nearest(z[:, i]), p[:, j]) / 2 + contrast(nearest(z[:, j]), p[:, i]) / 2


def lightly_nnclr(outputs, i, j):
    (z, p), criterion, bank = outputs, NTXentLoss(TEMPERATURE), NNMemoryBankModule((KEYS, LENGTH))
    bank.bank = queue().double()
    return (criterion(bank(z[:, i]), p[:, j]) + criterion(bank(z[:, j]), p[:, i])) / 2


def covariance():
    z = fixed(KEYS, LENGTH).double()
    return z.T @ z / KEYS


def tico(outputs, i, j):
    z, m = unit(outputs[0][:, i]), unit(outputs[1][:, j])
    own = BETA * covariance() + (1 - BETA) * sum(torch.outer(row, row) for row in z) / len(z)
    return torch.stack([1 - z[n] @ m[n] + RHO * z[n] @ own @ z[n] for n in range(len(z))])


def lightly_tico(outputs, i, j):
    criterion = TiCoLoss(BETA, RHO)
    criterion.C = covariance()
    return criterion(outputs[0][:, i], outputs[1][:, j])


def byol(outputs, i, j):
    p, z = outputs
    return (2 - 2 * cosine(p[:, i], z[:, j])) + (2 - 2 * cosine(p[:, j], z[:, i]))


def lightly_byol(outputs, i, j):
    # as in its benchmark, which leaves the constants out
    (p, z), criterion = outputs, NegativeCosineSimilarity()
    return 4 + 2 * criterion(z[:, i], p[:, j]) + 2 * criterion(z[:, j], p[:, i])


def moco_v2(outputs, i, j):
    q, k = unit(outputs[0][:, i]), unit(outputs[1][:, j])
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue().double().T], dim=1) / TEMPERATURE
    return own_among(logits, [0] * len(q))


def lightly_moco(outputs, i, j):
    criterion = NTXentLoss(TEMPERATURE, memory_bank_size=(KEYS, LENGTH))
    criterion.memory_bank.bank = queue().double()
    return criterion(outputs[0][:, i], outputs[1][:, j])


def moco_v2_both_ways(outputs, i, j):
    return (moco_v2(outputs, i, j) + moco_v2(outputs, j, i)) / 2


def moco_v3(outputs, i, j):
    total = torch.zeros(len(outputs[0]), dtype=torch.float64)
    for a, b in ((i, j), (j, i)):
        logits = unit(outputs[0][:, a]) @ unit(outputs[1][:, b]).T / TEMPERATURE
        total += 2 * TEMPERATURE * own_among(logits, range(len(logits)))
    return total


def official_moco_v3(outputs, i, j):
    """After contrastive_loss in facebookresearch/moco-v3, of one process."""

    def contrast(q, k):
        logits = torch.einsum("nc,mc->nm", F.normalize(q, dim=1), F.normalize(k, dim=1)) / TEMPERATURE
        return nn.CrossEntropyLoss()(logits, torch.arange(len(q))) * 2 * TEMPERATURE

    q, k = outputs
    return contrast(q[:, i], k[:, j]) + contrast(q[:, j], k[:, i])


def positive_by_hand(pairs, scale):
    """A formula: -scale times the sum of the cosines between output a of the first view and output b of the second."""

    def formula(outputs, i, j):
        return -scale * sum(cosine(outputs[a][:, i], outputs[b][:, j]) for a, b in pairs)

    return formula


def less_its_log_sum_exp(public, logits_of, scale):
    """What a public loss leaves to the positive pair: less the log-sum-exp of its logits, worked out beside it."""

    def positive(outputs, i, j):
        log_sum_exp = torch.stack([torch.logsumexp(logits_BK, dim=1).mean() for logits_BK in logits_of(outputs, i, j)]).mean()
        return public(outputs, i, j) - scale * log_sum_exp

    return positive


def logits_simclr(outputs, i, j):
    z, own = unit(torch.cat([outputs[0][:, i], outputs[0][:, j]])), torch.eye(2 * len(outputs[0]), dtype=torch.bool)
    return [(z @ z.T / TEMPERATURE).masked_fill(own, -torch.inf)]


def logits_moco_v2(outputs, i, j):
    q, k = unit(outputs[0][:, i]), unit(outputs[1][:, j])
    return [torch.cat([(q * k).sum(1, keepdim=True), q @ queue().double().T], dim=1) / TEMPERATURE]


def logits_moco_v3(outputs, i, j):
    return [unit(outputs[0][:, a]) @ unit(outputs[1][:, b]).T / TEMPERATURE for a, b in ((i, j), (j, i))]


def code(logits_BK):
    code_BK = (logits_BK / EPSILON).exp()
    for _ in range(ITERATIONS):
        code_BK = code_BK / code_BK.sum(0)
        code_BK = code_BK / code_BK.sum(1, keepdim=True)
    return code_BK


def swav(outputs, i, j):
    s = outputs[1]
    log_p = [(s[:, k] / TEMPERATURE).log_softmax(1) for k in (i, j)]
    return -(code(s[:, i]) * log_p[1] + code(s[:, j]) * log_p[0]).sum(1) / 2


def vicreg(outputs, i, j):
    return 25 * (outputs[0][:, i] - outputs[0][:, j]).square().mean(1)


def barlow_twins(outputs, i, j):
    a, b = ((z - z.mean(0)) / (z.var(0, unbiased=False) + 1e-5).sqrt() for z in (outputs[0][:, i], outputs[0][:, j]))
    eye = torch.eye(LENGTH, dtype=torch.float64)
    weight = eye + REDUNDANCY * (1 - eye)
    missing = eye - a.T @ b / len(a)
    return torch.stack([(weight * missing * (eye - torch.outer(a[n], b[n]))).sum() for n in range(len(a))])


# ---- what rounding may do ----
# A cosine or a product of vectors at length 1 errs by (2 D + 6) units (derived beside the tests of the cosine table), by two more where
# the vectors are narrowed or scaled. Rounding of a vector's elements by v turns its direction by no more than 2 v, so that a
# cosine of two rounded vectors moves by 4 v at most.
COSINE = (2 * LENGTH + 8) * UNIT


def error_of_contrast(entries):
    """Of softplus(lse - P): neither term grows in it. The log-sum-exp of similarities up to 1 / t: see the tests of its table."""

    def error(outputs):
        count = entries(outputs)
        size = 1 / TEMPERATURE + math.log(count + 1) + 1
        return 2 * COSINE / TEMPERATURE + (2 * count + 16) * UNIT * size

    return error


def error_of_dclw(outputs):
    """The weight errs by what the softmax of cosines over sigma does, times B, at most B + 2 of it, and weighs a positive of 1 / t."""
    images = len(outputs[0])
    weight = (images + 2) * (2 * COSINE / SIGMA + (images + 12) * UNIT)
    positive = (weight + (images + 2) * (COSINE + 2 * UNIT)) / TEMPERATURE
    return error_of_contrast(lambda outputs: 2 * images)(outputs) + positive


def error_of_swav(outputs):
    """See the tests of the swapped table; the sum of two entries and its half add a unit."""
    samples = max(len(outputs[1]), KEYS)
    codes = 4 * ITERATIONS * (3 / EPSILON + 3 + 2 * ITERATIONS + samples) * UNIT
    return (codes + (3 * KEYS + 17) * UNIT) * 2 * (1 / TEMPERATURE + 4)


def error_of_barlow_twins(outputs):
    """Standardised values are off by (2 B + 8) units of the largest in sight; a share is a product of four of them, so grows by it."""
    z = outputs[0]
    standard = (z - z.mean(0)) / (z.var(0, unbiased=False) + 1e-5).sqrt()
    largest = float((z.abs().amax(0) / (z.var(0, unbiased=False) + 1e-5).sqrt()).max().maximum(standard.abs().max()))
    share = LENGTH * (1 + largest**2) ** 2 + REDUNDANCY * LENGTH**2 * largest**4
    return (4 * (2 * len(z) + 8) + 8 * LENGTH + len(z) + 16) * UNIT * share


def moved_vicreg(outputs, rounding):
    length = outputs[0].norm(dim=-1)
    moved = rounding * (length[:, :, None] + length[:, None])
    apart = torch.cdist(outputs[0], outputs[0])
    return 25 / LENGTH * (2 * apart * moved + moved**2)


def moved_swav(outputs, rounding):
    """Each half of an iteration adds once more to the logarithms of codes what similarities move by; predictions' move by twice that.

    A code's changes add up to 0, so that they only weigh the similarities, and not what all logarithms of a prediction share.
    """
    largest = float(outputs[1].abs().max())
    codes = 4 * ITERATIONS * rounding * largest / EPSILON
    return (math.expm1(codes) + 2 * rounding) * largest / TEMPERATURE


SAME = nn.Identity()
METHODS = {
    "SimSiam": Method(
        objective=lambda: SimSiam(encoder=SAME, predictor=SAME),
        outputs=2,
        formula=simsiam,
        public=lightly_simsiam,
        error=lambda outputs: COSINE + UNIT,
        moved=lambda outputs, rounding: 4 * rounding,
    ),
    "SimCLR": Method(
        objective=lambda: SimCLR(encoder=SAME, temperature=TEMPERATURE),
        outputs=1,
        formula=simclr,
        public=lambda outputs, i, j: NTXentLoss(TEMPERATURE)(outputs[0][:, i], outputs[0][:, j]),
        error=error_of_contrast(lambda outputs: 2 * len(outputs[0])),
        moved=lambda outputs, rounding: 8 * rounding / TEMPERATURE,
    ),
    "DCL": Method(
        objective=lambda: DCL(encoder=SAME, temperature=TEMPERATURE),
        outputs=1,
        formula=dcl,
        public=lambda outputs, i, j: DCLLoss(TEMPERATURE)(outputs[0][:, i], outputs[0][:, j]),
        error=error_of_contrast(lambda outputs: 2 * len(outputs[0])),
        moved=lambda outputs, rounding: 8 * rounding / TEMPERATURE,
    ),
    "DCLW": Method(
        objective=lambda: DCL(encoder=SAME, temperature=TEMPERATURE, sigma=SIGMA),
        outputs=1,
        formula=lambda outputs, i, j: dcl(outputs, i, j, SIGMA),
        public=lambda outputs, i, j: DCLWLoss(TEMPERATURE, SIGMA)(outputs[0][:, i], outputs[0][:, j]),
        error=error_of_dclw,
    ),
    "NNCLR": Method(
        objective=lambda: NNCLR(encoder=SAME, predictor=SAME, queue=queue(), temperature=TEMPERATURE),
        outputs=2,
        formula=nnclr,
        public=solo_nnclr,
        error=error_of_contrast(lambda outputs: len(outputs[0])),
    ),
    "NNCLR against all": Method(
        objective=lambda: NNCLR(encoder=SAME, predictor=SAME, queue=queue(), temperature=TEMPERATURE, negatives="all"),
        outputs=2,
        formula=nnclr_against_all,
        public=lightly_nnclr,
        error=error_of_contrast(lambda outputs: 2 * len(outputs[0])),
    ),
    "TiCo": Method(
        objective=lambda: TiCo(encoder=SAME, momentum_encoder=SAME, covariance=covariance(), beta=BETA, rho=RHO),
        outputs=2,
        formula=tico,
        public=lightly_tico,
        # a mean of B products, a product with D terms and another one; C's entries are at most 1, and so is z' C z
        error=lambda outputs: COSINE + 4 * UNIT + RHO * (len(outputs[0]) + 4 * LENGTH + 24) * UNIT * LENGTH,
        moved=lambda outputs, rounding: 4 * rounding + RHO * 8 * rounding,
        ordered=True,
    ),
    "BYOL": Method(
        objective=lambda: BYOL(encoder=SAME, predictor=SAME, target_encoder=SAME),
        outputs=2,
        formula=byol,
        public=lightly_byol,
        error=lambda outputs: 4 * COSINE + 16 * UNIT,
        moved=lambda outputs, rounding: 16 * rounding,
    ),
    "MoCo v2": Method(
        objective=lambda: MoCoV2(encoder=SAME, momentum_encoder=SAME, queue=queue(), temperature=TEMPERATURE),
        outputs=2,
        formula=moco_v2,
        public=lightly_moco,
        error=error_of_contrast(lambda outputs: KEYS),
        moved=lambda outputs, rounding: 8 * rounding / TEMPERATURE,
        ordered=True,
    ),
    "MoCo v2, symmetric": Method(
        objective=lambda: MoCoV2(encoder=SAME, momentum_encoder=SAME, queue=queue(), temperature=TEMPERATURE, symmetric=True),
        outputs=2,
        formula=moco_v2_both_ways,
        public=lambda outputs, i, j: (lightly_moco(outputs, i, j) + lightly_moco(outputs, j, i)) / 2,
        error=error_of_contrast(lambda outputs: KEYS),
        moved=lambda outputs, rounding: 8 * rounding / TEMPERATURE,
    ),
    "MoCo v3": Method(
        objective=lambda: MoCoV3(encoder=SAME, predictor=SAME, momentum_encoder=SAME, temperature=TEMPERATURE),
        outputs=2,
        formula=moco_v3,
        public=official_moco_v3,
        error=lambda outputs: 4 * TEMPERATURE * error_of_contrast(lambda outputs: len(outputs[0]))(outputs),
        moved=lambda outputs, rounding: 32 * rounding,
    ),
    "SimCLR by its positive": Method(
        objective=lambda: SimCLR(encoder=SAME, temperature=TEMPERATURE, score="positive"),
        outputs=1,
        formula=positive_by_hand([(0, 0)], 1 / TEMPERATURE),
        public=less_its_log_sum_exp(lambda outputs, i, j: NTXentLoss(TEMPERATURE)(outputs[0][:, i], outputs[0][:, j]), logits_simclr, 1),
        error=lambda outputs: (COSINE + UNIT) / TEMPERATURE,
        moved=lambda outputs, rounding: 4 * rounding / TEMPERATURE,
    ),
    "MoCo v2 by its positive": Method(
        objective=lambda: MoCoV2(encoder=SAME, momentum_encoder=SAME, temperature=TEMPERATURE, score="positive"),
        outputs=2,
        formula=positive_by_hand([(0, 1)], 1 / TEMPERATURE),
        public=less_its_log_sum_exp(lightly_moco, logits_moco_v2, 1),
        error=lambda outputs: (COSINE + UNIT) / TEMPERATURE,
        moved=lambda outputs, rounding: 4 * rounding / TEMPERATURE,
        ordered=True,
    ),
    "MoCo v2, symmetric, by its positive": Method(
        objective=lambda: MoCoV2(encoder=SAME, momentum_encoder=SAME, temperature=TEMPERATURE, symmetric=True, score="positive"),
        outputs=2,
        formula=positive_by_hand([(0, 1), (1, 0)], 0.5 / TEMPERATURE),
        public=less_its_log_sum_exp(
            lambda outputs, i, j: (lightly_moco(outputs, i, j) + lightly_moco(outputs, j, i)) / 2,
            lambda outputs, i, j: logits_moco_v2(outputs, i, j) + logits_moco_v2(outputs, j, i),
            1,
        ),
        error=lambda outputs: (COSINE + 3 * UNIT) / TEMPERATURE,
        moved=lambda outputs, rounding: 4 * rounding / TEMPERATURE,
    ),
    "MoCo v3 by its positive": Method(
        objective=lambda: MoCoV3(encoder=SAME, predictor=SAME, momentum_encoder=SAME, temperature=TEMPERATURE, score="positive"),
        outputs=2,
        formula=positive_by_hand([(0, 1), (1, 0)], 2),
        public=less_its_log_sum_exp(official_moco_v3, logits_moco_v3, 4 * TEMPERATURE),  # 2 t times both directions
        error=lambda outputs: 4 * COSINE + 8 * UNIT,
        moved=lambda outputs, rounding: 16 * rounding,
    ),
    "SwAV": Method(
        objective=lambda: SwAV(encoder=SAME, prototypes=SAME, temperature=TEMPERATURE, epsilon=EPSILON, iterations=ITERATIONS),
        outputs=2,
        formula=swav,
        public=lambda outputs, i, j: SwaVLoss(TEMPERATURE, ITERATIONS, EPSILON)([outputs[1][:, i], outputs[1][:, j]], []).squeeze(),
        error=error_of_swav,
        moved=moved_swav,
    ),
    "VICReg": Method(
        objective=lambda: VICReg(encoder=SAME),
        outputs=1,
        formula=vicreg,
        public=lambda outputs, i, j: VICRegLoss(mu_param=0, nu_param=0)(outputs[0][:, i], outputs[0][:, j]),
        error=lambda outputs: (LENGTH + 6) * UNIT * 25 * float(torch.cdist(outputs[0], outputs[0]).max()) ** 2 / LENGTH,
        moved=moved_vicreg,
    ),
    "Barlow Twins": Method(
        objective=lambda: BarlowTwins(encoder=SAME, redundancy=REDUNDANCY),
        outputs=1,
        formula=barlow_twins,
        public=lambda outputs, i, j: BarlowTwinsLoss(REDUNDANCY)(outputs[0][:, i], outputs[0][:, j]),
        error=error_of_barlow_twins,
    ),
    "Barlow Twins by cosine": Method(
        objective=lambda: BarlowTwins(encoder=SAME, proxy="cosine"),
        outputs=1,
        formula=lambda outputs, i, j: -cosine(outputs[0][:, i], outputs[0][:, j]),
        public=lambda outputs, i, j: NegativeCosineSimilarity()(outputs[0][:, i], outputs[0][:, j]),
        error=lambda outputs: COSINE,
        moved=lambda outputs, rounding: 4 * rounding,
    ),
}
