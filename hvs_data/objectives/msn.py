"""MSN (Assran et al. 2022, arXiv 2204.07141): a masked view is to be of the same prototypes as another view that is seen whole."""

# Axes: N image of a forward, B image, T global view, L local view, S student's view, D embedding, K prototype.

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvs_data.arguments.values import whole_number
from hvs_data.errors import SelectionError
from hvs_data.kernels.pair_scores.cross_entropy.table import cross_entropy_table
from hvs_data.kernels.pair_scores.product import unrounded_product
from hvs_data.kernels.pair_scores.swapped.blocks import sinkhorn
from hvs_data.objectives.additive import AdditiveObjective
from hvs_data.objectives.base import Owner, unwrapped
from hvs_data.objectives.gather import alone, reduced
from hvs_data.objectives.networks import Network, checked_network, run
from hvs_data.objectives.parts import Number, checked_embeddings, checked_number, current_number, describe, take_parts

# The [K, D] of prototypes, a layer with such weights, or a function that returns them.
Prototypes = Tensor | nn.Module | Callable[[], Tensor]

_KNOWN = (
    {  # lightly
        "student": "anchor_backbone",
        "student_projector": "anchor_projection_head",
        "teacher": "backbone",
        "teacher_projector": "projection_head",
    },
    {"student": "encoder", "teacher": "target_encoder"},  # facebookresearch/msn, whose encoders end in their heads
)


class MSN(AdditiveObjective):
    """MSN's loss: the mean over the anchors s of ``CE(code(t), p_s)``, t being the target, the first of the two global views.

    ``p_s = softmax(z^_s.q^ / temperature)`` over the prototypes q, and the code of the target is ``softmax(z'^_t.q^ / (temperature
    sharpening))``, z' of the teacher, made equal over the prototypes by Sinkhorn-Knopp with ``iterations`` > 0. Codes are made over the
    batch, of one slot at a time: those that the trainer's loss would have if every image's target came from that slot. Anchors are the
    second global view and the local ones. The order counts: (i, j) and (j, i) are two pairs, and the chosen one comes as (target, anchor).
    The mean over a batch is the published loss (github.com/facebookresearch/msn) without the entropy of its mean prediction, which is of
    the batch.

    Args:
        model: a model in which the parts are found by name: those of lightly's example (anchor_backbone and anchor_projection_head;
            backbone and projection_head for targets), or (encoder, target_encoder); and ``prototypes``.
        student, teacher: in place of a model, modules or functions from pixels [N, 3, S, S] to embeddings [N, D], or their parts one after
            the other, such as ``(backbone, head)``.
        prototypes: [K, D]: a tensor that the trainer changes in place, such as its parameter, a layer with such ``weight``, or a function
            that returns the current ones; by default the model's ``prototypes``.
        temperature: a number, or a function that returns the current one.
        sharpening: the target's temperature over the anchors', likewise.
        iterations: of Sinkhorn-Knopp, as the released runs have it; 0 for none.
        gather: make codes over all processes, as a loss that gathers does.
        masked: hide patches from the student in the second global view: it is called with ``mask=`` bool [N, G, G], True where a patch is
            hidden, drawn by the recipe (``masking=Masking(shape="random")``), and the chosen view's is in ``batch.masks``. Local views are
            scored whole. Otherwise all are, whatever the trainer hides.
        modules: modules that these functions use and do not show; scoring protects them, too.

    Raises:
        SelectionError: neither a model nor student and teacher, or both; an argument of another kind; while scoring, outputs that are no
            embeddings of the prototypes' length.
    """

    ordered = True
    _read_only = ("prototypes", "temperature", "sharpening")

    def __init__(
        self,
        model: nn.Module | None = None,
        *,
        student: Network | None = None,
        teacher: Network | None = None,
        prototypes: Prototypes | None = None,
        temperature: Number = 0.1,
        sharpening: Number = 0.25,
        iterations: int = 3,
        gather: bool = False,
        masked: bool = False,
        modules: Sequence[nn.Module] = (),
    ):
        student, teacher = _networks(model, student, teacher)
        self.student = checked_network("MSN", "student", student)
        self.teacher = checked_network("MSN", "teacher", teacher)
        self.owner = Owner(unwrapped(model))
        self.prototypes = _checked_prototypes(getattr(unwrapped(model), "prototypes", None) if prototypes is None else prototypes)
        self.temperature = checked_number("temperature", temperature)
        self.sharpening = checked_number("sharpening", sharpening)
        count = whole_number(iterations)
        if count is None or count < 0:
            raise SelectionError(
                f"iterations must be a whole number of at least 0, got {iterations!r}; the released runs have 3, 0 is none"
            )
        self.iterations = count
        self.gather = gather
        self.extras = ("mask",) if masked else ()
        self.used_modules = tuple(modules)

    def encode(self, pixels: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Global views [N, 3, S, S], and masks if the student has any -> embeddings of teacher and student, each [N, D]."""
        extras = {} if mask is None else {"mask": mask}
        return self.encode_local_by_teacher(pixels), checked_embeddings("MSN", run(self.student, pixels, **extras))

    def encode_local(self, pixels: Tensor) -> Tensor:
        """Local views [N, 3, S, S] -> the student's embeddings [N, D]."""
        return checked_embeddings("MSN", run(self.student, pixels))

    def encode_local_by_teacher(self, pixels: Tensor) -> Tensor:
        """Views [N, 3, S, S] -> the teacher's embeddings [N, D]."""
        return checked_embeddings("MSN", run(self.teacher, pixels))

    def term_table(self, teacher: Tensor, student: Tensor, local: Tensor | None, views: int) -> Tensor:
        """Embeddings of any floating type, [B, T, D] twice and [B, L, D] -> float32 [B, T, T + L]: each term over the number of anchors."""
        prototypes_KD = self._current_prototypes(teacher.shape[-1]).to(teacher.device)
        temperature = current_number("temperature", self.temperature)
        target_BTK, *anchors = [_similarities(z, prototypes_KD) for z in (teacher, student, local) if z is not None]
        sharp = temperature * current_number("sharpening", self.sharpening)
        if self.iterations:
            log_p_BTK = (target_BTK / sharp).log_softmax(-1)
            reduce = reduced if self.gather else alone
            codes = [sinkhorn(log_p_BK, None, 1.0, self.iterations, reduce) for log_p_BK in log_p_BTK.unbind(1)]
            # a code is the softmax of its logarithm
            target_BTK, sharp = torch.stack(codes, 1).log(), 1.0
        return cross_entropy_table(target_BTK, anchors, None, sharp, temperature) / (views - 1)

    def _current_prototypes(self, length: int) -> Tensor:
        found: Any = self.prototypes
        if isinstance(found, nn.Module):
            found = found.weight
        elif not isinstance(found, Tensor):
            found = found()
        if not isinstance(found, Tensor) or found.ndim != 2 or found.shape[1] != length:
            raise SelectionError(
                f"expected MSN's prototypes as [K, {length}], as long as the embeddings, got {describe(found)}; pass prototypes="
            )
        return F.normalize(found.detach().to(torch.float32), dim=1)


def _networks(model: Any, student: Network | None, teacher: Network | None) -> tuple[Any, Any]:
    if model is None and (student is None or teacher is None) or model is not None and (student is not None or teacher is not None):
        raise SelectionError("MSN needs either a model, or student= and teacher=; pass one of the two")
    if model is None:
        return student, teacher
    parts = take_parts("MSN", model, dict.fromkeys(_KNOWN[0]), _KNOWN)
    student, teacher = ([part for part in (parts[name], parts[f"{name}_projector"]) if part is not None] for name in ("student", "teacher"))
    return student, teacher


def _checked_prototypes(prototypes: Any) -> Prototypes:
    if isinstance(prototypes, Tensor) or isinstance(getattr(prototypes, "weight", None), Tensor) or callable(prototypes):
        return prototypes
    raise SelectionError(
        "expected MSN's prototypes= as a tensor [K, D], a layer with such a weight, or a function that returns one, got "
        f"{describe(prototypes)}; by default they are the model's attribute prototypes"
    )


def _similarities(z: Tensor, prototypes_KD: Tensor) -> Tensor:
    """Cosines with the prototypes, [B, V, D] -> float32 [B, V, K]."""
    return unrounded_product(F.normalize(z.to(torch.float32), dim=-1).flatten(0, 1), prototypes_KD).unflatten(0, z.shape[:2])
