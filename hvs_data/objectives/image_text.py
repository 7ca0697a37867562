"""A view against its text: CLIP (Radford et al. 2021, arXiv 2103.00020) and SigLIP (Zhai et al. 2023, arXiv 2303.15343)."""

# Axes: N image of a forward, B image, M image of all processes, V view, G global view, L local view, D embedding.

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvs_data.arguments.values import type_name
from hvs_data.errors import SelectionError
from hvs_data.kernels.pair_scores.product import unrounded_product
from hvs_data.objectives.base import Objective, Owner, unwrapped
from hvs_data.objectives.gather import gathered
from hvs_data.objectives.parts import Number, Part, checked_embeddings, checked_number, current_number, describe, embedded

# How images and texts are encoded: by Hugging Face's models, and by OpenAI's and open_clip's.
_ENCODERS = (("get_image_features", "get_text_features"), ("encode_image", "encode_text"))


class CLIP(Objective):
    """CLIP's loss of view v of image n: ``1/2 [CE(z^_v[n] . all t^) + CE(t^[n] . all z^_v)]`` over the temperature, t the texts.

    It is of each view by itself, so that an image's hardest view is found: draw candidates and emit one (``recipe.with_roles(emitted=1)``).
    Where more are emitted, the loss is the mean over them. Other images' views are taken at the same slot: the mean over a batch is the
    loss that the trainer would have if every image took that slot.

    Texts reach it as labels, from ``HardViewLoader(labels=lambda batch: tokens[batch.index])`` or ``selector(..., labels=tokens)``: what
    the text encoder takes, a tensor with first axis B, or a dict of such tensors that are passed by name, as tokenizers of Hugging Face
    return.

    Args:
        model: with ``get_image_features`` and ``get_text_features``, as Hugging Face's CLIPModel and SiglipModel, or ``encode_image`` and
            ``encode_text``, as OpenAI's and open_clip's. A DistributedDataParallel wrapper is passed by.
        image_encoder, text_encoder: in place of a model, modules or functions that return embeddings [N, D]. Without a text encoder the
            labels are the texts' embeddings, floating [B, D].
        temperature: a number, or a function that returns the current one; by default ``exp(-model.logit_scale)``, or 0.07 without.
        gather: images and texts of all processes are negatives, as of a loss that gathers.

    Raises:
        SelectionError: neither a model nor an image encoder, or both; while scoring, texts of another form, or embeddings of two lengths.
    """

    takes_labels = True
    single_views = True
    _read_only: tuple[str, ...] = ("temperature",)
    _first_temperature = 0.07

    def __init__(
        self,
        model: nn.Module | None = None,
        *,
        image_encoder: Part | None = None,
        text_encoder: Callable[..., Any] | None = None,
        temperature: Number | None = None,
        gather: bool = False,
    ):
        self.image_encoder, self.text_encoder = _encoders(type(self).__name__, model, image_encoder, text_encoder)
        self.owner = Owner(unwrapped(model))
        if temperature is None:
            learned = isinstance(getattr(unwrapped(model), "logit_scale", None), Tensor)
            temperature = partial(_inverse_scale, unwrapped(model)) if learned else self._first_temperature
        self.temperature = checked_number("temperature", temperature)
        self.gather = gather

    def encode(self, pixels: Tensor) -> Tensor:
        """[N, 3, S, S] -> the images' embeddings [N, D]."""
        return embedded(type(self).__name__, pixels, self.image_encoder, None)

    def pair_losses(self, outputs: Tensor, labels: Any) -> Tensor:  # type: ignore[override]
        """Embeddings [B, V, D] of any floating type, and texts -> float32 [B, V, V], the mean of both views' losses."""
        z_BVD = F.normalize(outputs.to(torch.float32), dim=-1)
        t_BD = self._texts(labels, z_BVD)
        losses_BV = torch.stack([self._view_losses(z_BD, t_BD) for z_BD in z_BVD.unbind(1)], dim=1)
        return (losses_BV[:, :, None] + losses_BV[:, None, :]) / 2

    def local_losses(self, outputs: Tensor, local: Tensor, labels: Any) -> Tensor:  # type: ignore[override]
        """Embeddings of global and of local views, [B, G, D] and [B, L, D], and texts -> float32 [B, G, L]: the mean of the two's."""
        views = outputs.shape[1]
        return self.pair_losses(torch.cat([outputs, local], dim=1), labels)[:, :views, views:]

    def _view_losses(self, z_BD: Tensor, t_BD: Tensor) -> Tensor:
        """Of one view of every image, both at length 1: float32 [B]."""
        scale = 1 / current_number("temperature", self.temperature)
        directions = [_contrast(scale * one_BD, other_BD, self.gather) for one_BD, other_BD in ((z_BD, t_BD), (t_BD, z_BD))]
        return (directions[0] + directions[1]) / 2

    def _texts(self, labels: Any, images_BVD: Tensor) -> Tensor:
        """The texts' embeddings at length 1: float32 [B, D]."""
        name, device = type(self).__name__, images_BVD.device
        moved = {key: value.to(device) for key, value in labels.items()} if isinstance(labels, Mapping) else labels.to(device)
        if isinstance(moved, Tensor) and (moved.ndim < 2 or self.text_encoder is None and not moved.is_floating_point()):
            raise SelectionError(
                f"expected the texts of {name} as labels, tokens [B, T], or embeddings [B, D] without a text encoder, got "
                f"{describe(labels)}; a loader takes them as HardViewLoader(..., labels=lambda batch: tokens[batch.index])"
            )
        if self.text_encoder is not None:
            moved = self.text_encoder(**moved) if isinstance(moved, Mapping) else self.text_encoder(moved)
        texts = checked_embeddings(name, moved)
        if texts.shape != (images_BVD.shape[0], images_BVD.shape[2]):
            raise SelectionError(
                f"expected one text embedding [{images_BVD.shape[0]}, {images_BVD.shape[2]}] for each image, as long as its own, got "
                f"{describe(texts)}; pass a text encoder that ends in the projection that is trained"
            )
        return F.normalize(texts.to(torch.float32), dim=1)


class SigLIP(CLIP):
    """SigLIP's loss of view v of image n: ``softplus(-x[n])`` for its own text, and ``softplus(x[m])`` summed over all others'.

    ``x[m] = z^_v[n] . t^[m] / temperature + bias``. The loss of a batch is the mean of its images', whichever views the others take, so
    that the hardest view is that of the trainer's own loss.

    Args:
        model, image_encoder, text_encoder, gather: as for :class:`CLIP`.
        temperature: as for :class:`CLIP`; by default ``exp(-model.logit_scale)``, or 0.1 without, where the published runs begin.
        bias: a number, or a function that returns the current one; by default ``model.logit_bias``, or -10 without.

    Raises:
        SelectionError: as :class:`CLIP`.
    """

    _read_only = ("temperature", "bias")

    _first_temperature = 0.1

    def __init__(
        self,
        model: nn.Module | None = None,
        *,
        image_encoder: Part | None = None,
        text_encoder: Callable[..., Any] | None = None,
        temperature: Number | None = None,
        bias: float | Tensor | Callable[[], Any] | None = None,
        gather: bool = False,
    ):
        super().__init__(model, image_encoder=image_encoder, text_encoder=text_encoder, temperature=temperature, gather=gather)
        inner = unwrapped(model)
        if bias is None:
            bias = partial(getattr, inner, "logit_bias") if isinstance(getattr(inner, "logit_bias", None), Tensor) else -10.0
        self.bias = bias

    def _view_losses(self, z_BD: Tensor, t_BD: Tensor) -> Tensor:
        bias = self.bias() if callable(self.bias) else self.bias
        all_MD, own = gathered(t_BD) if self.gather else (t_BD, 0)
        scale = 1 / current_number("temperature", self.temperature)
        logits_BM = unrounded_product(scale * z_BD, all_MD) + (bias.detach() if isinstance(bias, Tensor) else bias)
        # softplus(-x) = softplus(x) - x
        return F.softplus(logits_BM).sum(1) - logits_BM.diagonal(own)


def _contrast(scaled_BD: Tensor, others_BD: Tensor, gather: bool) -> Tensor:
    """Cross-entropy of each row among all of the other kind: [B]."""
    all_MD, own = gathered(others_BD) if gather else (others_BD, 0)
    logits_BM = unrounded_product(scaled_BD, all_MD)
    return logits_BM.logsumexp(1) - logits_BM.diagonal(own)


def _inverse_scale(model: Any) -> Tensor:
    return (-model.logit_scale.detach()).exp()


def _encoders(method: str, model: Any, image_encoder: Any, text_encoder: Any) -> tuple[Part, Callable[..., Any] | None]:
    if (model is None) == (image_encoder is None) or (model is not None and text_encoder is not None):
        raise SelectionError(f"{method} needs either a model, or image_encoder= with or without text_encoder=; pass one of the two")
    if model is None:
        if not callable(image_encoder) or not (text_encoder is None or callable(text_encoder)):
            raise SelectionError(
                f"expected {method}'s encoders as modules or functions, got image_encoder={type_name(image_encoder)}, "
                f"text_encoder={type_name(text_encoder)}"
            )
        return unwrapped(image_encoder), unwrapped(text_encoder)
    for names in _ENCODERS:
        image, text = (getattr(unwrapped(model), name, None) for name in names)
        if callable(image) and callable(text):
            return partial(_features, image), partial(_features, text)
    raise SelectionError(
        f"expected a model with {', or '.join(' and '.join(names) for names in _ENCODERS)}, got {type_name(model)}; pass image_encoder= "
        "and text_encoder= instead"
    )


def _features(encoder: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
    """Of a model's encoder: Hugging Face's return the projected embedding as pooler_output, older releases by itself."""
    output = encoder(*inputs, **named)
    return getattr(output, "pooler_output", output)
