"""Losses that are sums over pairs of a teacher's and a student's view: the form that makes multi-crop selection exact."""

# Axes: N image of a forward, B image, V T global view, L local view, S student's view (global, then local).

from __future__ import annotations

from torch import Tensor

from hvs_data.errors import SelectionError
from hvs_data.objectives.base import Objective, Outputs


class AdditiveObjective(Objective):
    """A loss of two global views and any number of local ones that is a sum of terms, each of one teacher's and one student's view.

    Teacher and student see global views, and the student alone local ones. Since the loss is a sum, the table of all terms of an image
    tells the loss of every combination of views. Subclass it and write :meth:`encode`, :meth:`encode_local` and :meth:`term_table`.

    With ``ordered = True`` the first global view is the teacher's alone and the second the student's, as MSN's target and anchor are.

    Attributes:
        any_globals: whether ``term_table`` takes ``global_views=``, how many global views reach the trainer, where they are more than two.
        has_teacher: whether the first of ``encode``'s outputs are those of the trainer's teacher, which the trainer may reuse.
    """

    any_globals: bool = False
    has_teacher: bool = True

    def teacher_outputs(self, outputs: tuple[Outputs, Outputs]) -> Outputs:
        """The first of ``encode``'s outputs."""
        return outputs[0]

    def encode(self, pixels: Tensor) -> tuple[Outputs, Outputs]:
        """Run teacher and student on global views.

        Args:
            pixels: [N, 3, S, S], views of several images and slots in one batch.

        Returns:
            ``(teacher's, student's)``, each a tensor, or a tuple, list or dict of tensors, with first axis N.
        """
        raise SelectionError(
            f"{type(self).__name__} has no encode(pixels); write one that maps [N, 3, S, S] to (teacher's, student's) outputs"
        )

    def encode_local(self, pixels: Tensor) -> Outputs:
        """Run the student on local views: [N, 3, S, S] -> outputs with first axis N."""
        raise SelectionError(f"{type(self).__name__} has no encode_local(pixels), which scores views of the role 'local'; write one")

    def encode_local_by_teacher(self, pixels: Tensor) -> Outputs:
        """Run the teacher on local views, as no trainer does, which :func:`hvs_data.objectives.reducible` needs: [N, 3, S, S] -> outputs
        that can stand for the student's, as the teacher's of global views can for the student's of those."""
        raise SelectionError(
            f"{type(self).__name__} has no encode_local_by_teacher(pixels); write one if the teacher's outputs can stand for the student's"
        )

    def term_table(self, teacher: Outputs, student: Outputs, local: Outputs | None, views: int) -> Tensor:
        """Every term of the loss. Objectives of ``any_globals`` take a further argument ``global_views=2``.

        Args:
            teacher, student: of the global views, first axes [B, T].
            local: of the local views, first axes [B, L]; None if there are none.
            views: how many views of an image reach the trainer, on which its loss may depend as a mean over terms.

        Returns:
            Floating [B, T, S], S = T + L: ``table[b, t, s]`` is the term of the teacher's view t and the student's view s, and
            ``table[b, t, t]`` what view t adds whenever it is chosen. The loss of global views i, j with local views ls is the sum of
            the entries [i, j], [j, i], [i, i], [j, j] and all [i, l], [j, l]; that of more global views likewise. If ``ordered``, it is
            the sum of [i, j] and all [i, l].
        """
        raise SelectionError(f"{type(self).__name__} has no term_table; write one that returns all terms of the loss, [B, T, S]")

    def pair_losses(self, outputs: tuple[Outputs, Outputs]) -> Tensor:
        """The loss of two global views alone; arguments and result as :meth:`Objective.pair_losses`."""
        table_BVV = self.term_table(*outputs, None, 2)
        if self.ordered:
            return table_BVV
        own_BV = table_BVV.diagonal(dim1=1, dim2=2)
        return table_BVV + table_BVV.transpose(1, 2) + own_BV[:, :, None] + own_BV[:, None, :]
