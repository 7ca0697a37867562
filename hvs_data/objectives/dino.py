"""DINO (Caron et al. 2021, arXiv 2104.14294): the student's views are to tell what the teacher sees in the global ones."""

# Axes: N image of a forward, B image, T teacher's view, S student's view, L local view, K prototype.

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hvs_data.errors import SelectionError
from hvs_data.kernels.pair_scores.cross_entropy.table import cross_entropy_table
from hvs_data.objectives.additive import AdditiveObjective
from hvs_data.objectives.networks import Center, Network, checked_center, checked_logits, checked_network, current_center, run
from hvs_data.objectives.parts import Number, checked_number, current_number

SCORED_BY = ("both", "teacher")


class DINO(AdditiveObjective):
    """DINO's loss: the mean over all pairs of a teacher's global view t and another view s of the student of ``CE(q_t, p_s)``.

    ``q_t = softmax((teacher(t) - center) / teacher_temperature)``, ``p_s = softmax(student(s) / student_temperature)``. With 2 global
    and L local views these are 2 (L + 1) terms. The mean over a batch is the published loss (github.com/facebookresearch/dino) for
    the same outputs.

    Teacher and student are called on views of one size at a time, and never the trainer's loss object, which would move the centre.

    Args:
        student, teacher: modules or functions from pixels [N, 3, S, S] to logits [N, K], such as the official MultiCropWrapper; or
            their parts one after the other, such as ``(backbone, head)``. A DistributedDataParallel wrapper is passed by.
        center: of the teacher's logits, with K elements: a tensor that the trainer changes in place, or a function that returns the
            current one. The official loss *replaces* its centre at each update, so there it must be ``lambda: dino_loss.center``.
            None for a teacher without a centre.
        teacher_temperature: a number, or a function that returns the current one.
        student_temperature: likewise.
        modules: modules that student or teacher use, where these are functions behind which they are not found; scoring protects them, too.
        scored_by: "both" networks, as the trainer's loss; or "teacher", whose logits then stand for the student's too. The student is not
            called, which halves the forward, and with ``keep_teacher`` only views that are not chosen cost anything. A teacher that is a
            moving average of the student ranks views much as the student does, once it has followed it for a while.

    Raises:
        SelectionError: an argument of another kind; while scoring, logits or a centre of another shape.
    """

    any_globals = True
    _read_only = ("center", "teacher_temperature", "student_temperature")

    def __init__(
        self,
        student: Network,
        teacher: Network,
        center: Center,
        teacher_temperature: Number,
        student_temperature: Number = 0.1,
        *,
        modules: Sequence[nn.Module] = (),
        scored_by: str = "both",
    ):
        self.student = checked_network("DINO", "student", student)
        self.teacher = checked_network("DINO", "teacher", teacher)
        self.center = checked_center("DINO", "center", center)
        self.teacher_temperature = checked_number("teacher_temperature", teacher_temperature)
        self.student_temperature = checked_number("student_temperature", student_temperature)
        self.used_modules = tuple(modules)
        if scored_by not in SCORED_BY:
            raise SelectionError(f"scored_by must be one of {SCORED_BY}, got {scored_by!r}; it says whose logits make the scores")
        self.scored_by = scored_by

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Global views [N, 3, S, S] -> logits of teacher and student, each [N, K]."""
        teacher = self.encode_local_by_teacher(pixels)
        return teacher, teacher if self.scored_by == "teacher" else self.encode_local(pixels)

    def encode_local(self, pixels: Tensor) -> Tensor:
        """Views [N, 3, S, S] -> the student's logits [N, K], or those that stand for them."""
        if self.scored_by == "teacher":
            return self.encode_local_by_teacher(pixels)
        return checked_logits("DINO", "student", run(self.student, pixels), "[N, K]")

    def encode_local_by_teacher(self, pixels: Tensor) -> Tensor:
        """Views [N, 3, S, S] -> the teacher's logits [N, K]."""
        return checked_logits("DINO", "teacher", run(self.teacher, pixels), "[N, K]")

    def term_table(self, teacher: Tensor, student: Tensor, local: Tensor | None, views: int, global_views: int = 2) -> Tensor:
        """Logits of any floating type, [B, T, K] twice and [B, L, K] -> float32 [B, T, T + L]: each term over the number of terms."""
        table_BTS = cross_entropy_table(
            teacher,
            [student] if local is None else [student, local],
            current_center("DINO", "center", self.center, teacher.shape[-1]),
            current_number("teacher_temperature", self.teacher_temperature),
            current_number("student_temperature", self.student_temperature),
        )
        # no view is compared with itself
        same_TS = torch.eye(*table_BTS.shape[1:], dtype=torch.bool, device=table_BTS.device)
        return table_BTS.masked_fill(same_TS, 0) / number_of_terms(views, global_views)


def number_of_terms(views: int, global_views: int = 2) -> int:
    """Pairs of one of the teacher's views and another view."""
    return global_views * (views - 1)
