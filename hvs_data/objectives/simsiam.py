"""SimSiam (Chen & He 2021, arXiv 2011.10566): negative cosine between one view's prediction and the other's projection."""

# Axes: N image of a forward, B image, V view, D embedding.

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from hvs_data.errors import SelectionError
from hvs_data.kernels.pair_scores.reference import cosine_table
from hvs_data.objectives.base import Objective

# Where known implementations keep (encoder, projector, predictor). The first set that a model has in full is taken, so the
# official one, whose projector is the encoder's last layer, comes after those that hold a projector of their own.
_KNOWN_PARTS: tuple[tuple[str, str | None, str], ...] = (
    ("backbone", "projection_head", "prediction_head"),  # lightly
    ("backbone", "projector", "predictor"),  # solo-learn
    ("encoder", "projector", "predictor"),
    ("encoder", None, "predictor"),  # facebookresearch/simsiam
)
_LOOKED_FOR = ", or ".join(f"({', '.join(name for name in names if name)})" for names in _KNOWN_PARTS)


class SimSiam(Objective):
    """SimSiam's loss of views i and j: ``-1/2 [cos(p_i, z_j) + cos(p_j, z_i)]``.

    z is the projection of a view and p the prediction made from it. The mean over a batch is the published loss
    (github.com/facebookresearch/simsiam).

    Args:
        model: a model in which the parts are found by name: (backbone, projection_head, prediction_head),
            (backbone, projector, predictor), (encoder, projector, predictor) or (encoder, predictor). A
            DistributedDataParallel wrapper is passed by. A model without these names is called as ``model(pixels)`` with pixels
            [N, 3, S, S] and must return ``(p, z)``, each [N, D]. The parts are taken when the objective is made.
        encoder, projector, predictor: the parts, instead of a model; ``projector=None`` where the encoder ends in it.

    Raises:
        SelectionError: neither a model nor parts, or both; a model that can be used in none of these ways; while scoring,
            outputs that are not tensors [N, D] of one shape.
    """

    def __init__(
        self,
        model: nn.Module | None = None,
        *,
        encoder: Callable[[Tensor], Tensor] | None = None,
        projector: Callable[[Tensor], Tensor] | None = None,
        predictor: Callable[[Tensor], Tensor] | None = None,
    ):
        parts = (encoder, projector, predictor)
        if (model is None) == all(part is None for part in parts):
            raise SelectionError(
                "SimSiam needs either a model or its parts, encoder= and predictor= with or without projector=; pass one of the two"
            )
        if model is not None:
            model = _unwrapped(model)
            parts = _find_parts(model)
            if parts[0] is None:
                _check_takes_pixels(model)
        elif not callable(encoder) or not callable(predictor) or not (projector is None or callable(projector)):
            raise SelectionError(
                "expected SimSiam's parts as modules or functions of a tensor, of which only the projector may be missing, got "
                f"encoder={_name(encoder)}, projector={_name(projector)}, predictor={_name(predictor)}"
            )
        self.encoder, self.projector, self.predictor = parts
        self.model = model if self.encoder is None else None

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, S, S] -> predictions and projections (p, z), each [N, D]."""
        if self.model is not None:
            return _checked_pair(self.model(pixels))
        assert self.encoder is not None and self.predictor is not None
        z = _without_unit_axes(self.encoder(pixels))
        z = z if self.projector is None else self.projector(z)
        return _checked_pair((self.predictor(z), z))

    def pair_losses(self, outputs: tuple[Tensor, Tensor]) -> Tensor:
        """(p, z), each [B, V, D] of any floating type -> float32 [B, V, V], symmetric."""
        p, z = outputs
        cosine_BVV = cosine_table(p.flatten(2), z.flatten(2))
        return -(cosine_BVV + cosine_BVV.transpose(1, 2)) / 2


def _unwrapped(model: Any) -> Any:
    # A forward through the wrapper would broadcast buffers, and its attributes do not show the model's parts.
    while isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
        model = model.module
    return model


def _find_parts(model: Any) -> tuple[Any, Any, Any]:
    """Encoder, projector or None, predictor; three times None if the model has none of the known sets."""
    for names in _KNOWN_PARTS:
        encoder, projector, predictor = (getattr(model, name, None) if name else None for name in names)
        if not callable(encoder) or not callable(predictor) or not (names[1] is None or callable(projector)):
            continue
        # some models also hold backbone and projector together, as one encoder
        inside = isinstance(encoder, nn.Module) and any(module is projector for module in encoder.modules())
        return encoder, None if inside else projector, predictor
    return None, None, None


def _check_takes_pixels(model: Any) -> None:
    try:
        inspect.signature(getattr(model, "forward", model)).bind(None)
    except TypeError as error:
        raise SelectionError(
            f"expected a SimSiam model with the attributes {_LOOKED_FOR}; or one that is called as model(pixels) and returns (p, z); "
            f"got {_name(model)}, which has none of these and does not take pixels alone ({error}); pass encoder= and predictor="
        ) from None
    except ValueError:  # a callable without a readable signature: the first forward will tell
        return


def _without_unit_axes(features: Any) -> Tensor:
    """[N, D, 1, 1] -> [N, D], as pooled features often come; other tensors as they are."""
    if not isinstance(features, Tensor):
        raise SelectionError(f"expected SimSiam's encoder to return a tensor [N, D] or [N, D, 1, 1], got {_describe(features)}")
    return features.flatten(1) if features.ndim > 2 and set(features.shape[2:]) == {1} else features


def _checked_pair(outputs: Any) -> tuple[Tensor, Tensor]:
    if not isinstance(outputs, (tuple, list)) or len(outputs) != 2 or not all(isinstance(output, Tensor) for output in outputs):
        raise SelectionError(
            f"expected predictions and projections (p, z), two tensors [N, D], got {_describe(outputs)}; model(pixels) must return them, "
            f"unless the model has the attributes {_LOOKED_FOR}; or pass encoder= and predictor= instead"
        )
    p, z = outputs
    if p.shape != z.shape or p.ndim < 2:
        raise SelectionError(
            f"expected predictions p and projections z of one shape [N, D], got {_describe(p)} and {_describe(z)}; the predictor must map "
            "a projection to a vector of the same length"
        )
    return p, z


def _describe(outputs: Any) -> str:
    if isinstance(outputs, Tensor):
        return f"{outputs.dtype} {list(outputs.shape)}"
    if isinstance(outputs, (tuple, list)):
        return f"{_name(outputs)} of {len(outputs)} ({', '.join(_describe(output) for output in outputs[:4])})"
    return _name(outputs)


def _name(value: Any) -> str:
    return "None" if value is None else type(value).__name__
