"""Supervised contrastive learning (Khosla et al. 2020, arXiv 2004.11362): views of other images of the class are positives, too."""

# Axes: N image of a forward, B image, M image of all processes, V view, D embedding, L label, C column of a table of labels.

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvs_data.errors import SelectionError
from hvs_data.kernels.pair_scores.product import unrounded_product
from hvs_data.kernels.pair_scores.reference import dot_table
from hvs_data.objectives.gather import gathered
from hvs_data.objectives.parts import Number, Part, current_number, describe
from hvs_data.objectives.simclr import SimCLR

# A table of labels [L, C], or a function that returns it.
Table = Tensor | Callable[[], Tensor] | None


class SupCon(SimCLR):
    """The supervised contrastive loss of views i and j, in the notation of :class:`SimCLR`: the mean over both views, as anchors, of
    ``lse(P_ij, N_ij, N_ii)`` less the mean of the similarities to the positives.

    Positives are the image's other view, of weight 1, and both views of every other image m, of weight w: 1 where m has the same label and
    0 where not; an image without a label (below 0) has none but its own view. It is the published ``L_out`` with two views an image, as if
    every image took the views i and j, and its mean over a batch is that loss.

    Labels reach it from the loader, or as ``selector(candidates, params, labels=...)``.

    Args:
        model, encoder, projector, temperature, gather: as for :class:`SimCLR`.
        table: for labels that are soft or several: floating [L, C], what stands for each label of the source, or a function that returns
            it; w is then the product of two images' rows. Labels handed to the selector may be such rows themselves, floating [B, C], and
            need no table.

    Raises:
        SelectionError: as :class:`SimCLR`; while scoring, labels of another form.
    """

    takes_labels = True
    _read_only = ("temperature", "table")

    def __init__(
        self,
        model: nn.Module | None = None,
        *,
        encoder: Part | None = None,
        projector: Part | None = None,
        temperature: Number | None = None,
        gather: bool = False,
        table: Table = None,
    ):
        super().__init__(model, encoder=encoder, projector=projector, temperature=temperature, gather=gather)
        self.table = table

    def pair_losses(self, outputs: Tensor, labels: Tensor) -> Tensor:  # type: ignore[override]
        """Projections [B, V, D] of any floating type, and labels, int64 [B] or floating [B, C] -> float32 [B, V, V], symmetric."""
        temperature = current_number("temperature", self.temperature)
        z_BVD = F.normalize(outputs.to(torch.float32), dim=-1)
        scaled_BVD = z_BVD / temperature
        weight_BM = self._weights(labels.to(z_BVD.device, non_blocking=True), len(z_BVD))
        all_MVD = gathered(z_BVD)[0] if self.gather else z_BVD
        sum_BVD = unrounded_product(weight_BM, all_MVD.flatten(1).T.contiguous()).view_as(z_BVD)
        own_BVV = dot_table(scaled_BVD, z_BVD)
        of_class_BVV = dot_table(scaled_BVD, sum_BVD)
        weight_B11 = weight_BM.sum(1)[:, None, None]
        positive_BVV = (own_BVV + of_class_BVV + of_class_BVV.diagonal(dim1=1, dim2=2)[:, :, None]) / (1 + 2 * weight_B11)
        direction_BVV = torch.logaddexp(self._negatives(z_BVD, temperature), own_BVV) - positive_BVV
        return (direction_BVV + direction_BVV.transpose(1, 2)) / 2

    def local_losses(self, outputs: Tensor, local: Tensor, labels: Tensor) -> Tensor:  # type: ignore[override]
        """Projections of global and of local views, [B, G, D] and [B, L, D], and labels -> float32 [B, G, L]: the loss of the two."""
        views = outputs.shape[1]
        return self.pair_losses(torch.cat([outputs, local], dim=1), labels)[:, :views, views:]

    def _weights(self, labels: Tensor, images: int) -> Tensor:
        """float32 [B, M]: how much of a positive each image of all processes is to each of this one's; 0 to itself."""
        if not labels.is_floating_point() and self.table is not None:
            table_LC = (self.table() if callable(self.table) else self.table).to(labels.device)
            # an image without a label is like no other
            labels = table_LC[labels.clamp_min(0)].masked_fill((labels < 0)[:, None], 0)
        if labels.shape[0] != images or labels.ndim != (2 if labels.is_floating_point() else 1):
            raise SelectionError(f"expected labels as integers [{images}] or floating [{images}, C], got {describe(labels)}; one an image")
        all_M, own = gathered(labels) if self.gather else (labels, 0)
        if labels.is_floating_point():
            weight_BM = unrounded_product(labels.to(torch.float32), all_M.to(torch.float32))
        else:
            weight_BM = ((labels[:, None] == all_M) & (labels >= 0)[:, None]).to(torch.float32)
        weight_BM.diagonal(own).fill_(0)
        return weight_BM
