"""SwAV (Caron et al. 2020, arXiv 2006.09882): one view's code, made over the batch, predicted from the other view."""

# Axes: N image of a forward, B image, V view, G global view, D embedding, K prototype, L sample of a queue, l local view.

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from hvs_data.arguments.values import whole_number
from hvs_data.errors import SelectionError
from hvs_data.kernels.pair_scores.swapped.blocks import swapped_table
from hvs_data.objectives.base import Objective, Owner, unwrapped
from hvs_data.objectives.gather import alone, reduced
from hvs_data.objectives.parts import Number, Part, checked_embeddings, checked_number, current_number, embedded, number_of, take_parts
from hvs_data.objectives.queues import Queue, queue_reader, samples_of

_KNOWN = (
    {"encoder": "forward_backbone", "projector": "projection_head", "prototypes": "prototypes"},  # facebookresearch/swav
    {"encoder": "backbone", "projector": "projection_head", "prototypes": "prototypes"},  # lightly
    {"encoder": "backbone", "projector": "projector", "prototypes": "prototypes"},  # solo-learn
    {"encoder": "encoder", "projector": "projector", "prototypes": "prototypes"},
)


class SwAV(Objective):
    """SwAV's loss of views i and j: ``-1/2 [c_i . log softmax(s_j / temperature) + c_j . log softmax(s_i / temperature)]``.

    s are the similarities of a view's embedding, at length 1, with the prototypes, and c its code: Sinkhorn's iteration over all
    images' view of that slot, once for each view. The mean over a batch is the published loss of two crops, as if every image took
    the views i and j.

    With a selector's ``score_locals``, that of multi-crop: the mean over global views i and other views v of
    ``-c_i . log softmax(s_v / temperature)``, local views without a code of their own: the released loss for any numbers of views.

    The prototypes that are linear layers are taken at length 1, as the published trainers set them before each step; the layer itself
    is only read. Prototypes of another kind, or with hooks or parametrizations, are called.

    Args:
        model: a model in which the parts are found by name: (forward_backbone, projection_head, prototypes) of the official code,
            (backbone, projection_head, prototypes) of lightly, (backbone, projector, prototypes) of solo-learn, or (encoder,
            projector, prototypes). A DistributedDataParallel wrapper is passed by.
        encoder, projector, prototypes: the parts, instead of a model; ``projector=None`` where the encoder ends in it.
        queue: samples of earlier batches that take part in the codes, where the trainer uses them by now: floating [L, D] at length 1,
            or [2, L, D], one queue for first and one for second views; lightly's memory banks; or a function that returns a tensor,
            or None while the queue is not in use. Read at each scoring and never filled.
        temperature: a number above 0, or a function that is called at each scoring; by default the model's attribute
            ``temperature``, if that is a number, else the published 0.1.
        epsilon, iterations: of Sinkhorn's iteration.
        gather: make the codes over the samples of all processes of torch.distributed, as the official loss does. Every process must
            then score at the same time.

    Raises:
        SelectionError: neither a model nor parts, or both; a model without these names; several sets of prototypes; a setting that is
            no number above 0; while scoring, a queue of another shape or outputs that are not tensors [N, D].
    """

    local_weight = 0.5  # a pair's loss is the mean of two such terms
    _read_only = ("queue", "temperature", "epsilon")

    def __init__(
        self,
        model: nn.Module | None = None,
        *,
        encoder: Part | None = None,
        projector: Part | None = None,
        prototypes: Part | None = None,
        queue: Queue | None = None,
        temperature: Number | None = None,
        epsilon: Number = 0.05,
        iterations: int = 3,
        gather: bool = False,
    ):
        given = {"encoder": encoder, "projector": projector, "prototypes": prototypes}
        parts: dict[str, Any] = take_parts("SwAV", model, given, _KNOWN)
        self.encoder, self.projector, self.prototypes = parts["encoder"], parts["projector"], _one_layer(parts["prototypes"])
        self.owner = Owner(unwrapped(model))
        self.queue = None if queue is None else queue_reader("SwAV", queue)
        self.temperature = checked_number("temperature", number_of(model, ("temperature",), temperature, 0.1))
        self.epsilon = checked_number("epsilon", epsilon)
        if (whole_number(iterations) or 0) < 1:
            raise SelectionError(f"iterations must be a whole number of at least 1, got {iterations!r}; the published loss has 3")
        self.iterations = int(iterations)
        self.gather = gather

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, S, S] -> embeddings at length 1 and their similarities with the prototypes, [N, D] and [N, K]."""
        z = F.normalize(embedded("SwAV", pixels, self.encoder, self.projector), dim=1)
        return z, self._similarities(z)

    def pair_losses(self, outputs: tuple[Tensor, Tensor]) -> Tensor:
        """(z, s), [B, V, D] and [B, V, K] of any floating type -> float32 [B, V, V], symmetric but for two queues."""
        tables = self._tables(outputs)
        # the code of a first view is made with the first queue, that of a second view with the second
        return (tables[0] + tables[-1].transpose(1, 2)) / 2

    def local_losses(self, outputs: tuple[Tensor, Tensor], local: tuple[Tensor, Tensor]) -> Tensor:
        """(z, s) of global and of local views, first axes [B, G] and [B, l] -> float32 [B, G, l]: each global view's code from each
        local view."""
        tables = self._tables(outputs, local[1])
        if len(tables) > 1:
            raise SelectionError(
                "expected one queue for all views under score_locals, got one for first and one for second views; pass queue= as one "
                "tensor [L, D]"
            )
        return tables[0]

    def _tables(self, outputs: tuple[Tensor, Tensor], others_BWK: Tensor | None = None) -> list[Tensor]:
        """The cross-entropies of every view's code and every view's prediction (or other views'), with each of the queues."""
        z_BVD, s_BVK = outputs
        queue = None if self.queue is None else self.queue()
        queues = [None] if queue is None else [self._similarities(some_LD.to(z_BVD.dtype)) for some_LD in samples_of(queue, z_BVD.shape[2])]
        temperature, epsilon = current_number("temperature", self.temperature), current_number("epsilon", self.epsilon)
        reduce = reduced if self.gather else alone
        return [swapped_table(s_BVK, some_LK, temperature, epsilon, self.iterations, reduce, others_BWK) for some_LK in queues]

    def _similarities(self, z: Tensor) -> Tensor:
        """[N, D] -> [N, K]."""
        layer = self.prototypes
        if type(layer) is nn.Linear and not layer._forward_pre_hooks and not layer._forward_hooks:
            return F.linear(z, F.normalize(layer.weight, dim=1), layer.bias)
        return checked_embeddings("SwAV", layer(z))


def _one_layer(prototypes: Any) -> Any:
    """lightly's module without its wrapper, whose forward wants the step and sets by it whether parameters have gradients."""
    layers = getattr(prototypes, "heads", None)
    if not isinstance(layers, nn.ModuleList):
        return prototypes
    if len(layers) != 1:
        raise SelectionError(f"expected one set of prototypes, got {len(layers)}; pass prototypes=, the layer that the loss is made with")
    return layers[0]
