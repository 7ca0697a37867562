"""Outputs of a model's part that are no tensor, such as those of Hugging Face's models: taken where they hold one embedding alone."""

# Axes: N image of a forward, L token, D embedding, H W places of a map.

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from hvs_data.errors import SelectionError

logger = logging.getLogger("hvs_data")


def one_embedding(method: str, part: str, output: Any) -> Tensor:
    """The embedding [N, D] or [N, D, 1, 1] in a dict, tuple, list or dict-like output; a tensor as it is.

    Taken is the one tensor of that shape, if all others are maps [N, D, H, W] from which it was pooled, or tokens [N, L, D] whose first it
    is, as in Hugging Face's Dinov2 and DINOv3 models. Where it is another one than the class token, or there are several embeddings, it is
    the user's to say which of them is trained on. What is taken is told in the log, once.

    Args:
        method, part: whose output it is, for errors.

    Raises:
        SelectionError: an output that leaves a choice, with the lines that make it.
    """
    if isinstance(output, Tensor):
        return output
    tensors = list(_tensors(output, ""))
    embeddings = [(path, tensor) for path, tensor in tensors if _is_embedding(tensor)]
    if len(embeddings) == 1 and all(_leaves_no_choice(tensor, embeddings[0][1]) for _, tensor in tensors):
        path, tensor = embeddings[0]
        if not torch.compiler.is_compiling():  # which traces no logging
            _say(method, part, type(output).__name__, path)
        return tensor
    held = ", ".join(f"{path} {list(tensor.shape)}" for path, tensor in tensors[:6]) or "no tensor"
    lines = [f"lambda pixels: model(pixels){path}{_pooling(tensor)}" for path, tensor in tensors[:3] if tensor.ndim > 1]
    raise SelectionError(
        f"expected {method}'s {part} to return one tensor [N, D] or [N, D, 1, 1], got {type(output).__name__} ({held}); "
        f"pass a function that takes what is trained on: {', or '.join(lines) or 'lambda pixels: model(pixels)...'}"
    )


@cache
def _say(method: str, part: str, kind: str, path: str) -> None:
    logger.info("%s takes %s of what its %s returns, %s, as the embedding", method, path, part, kind)


def _tensors(output: Any, path: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors in an output, with the code that takes them out."""
    if isinstance(output, Tensor):
        yield path, output
    elif isinstance(output, Mapping):
        for key, value in output.items():
            plain = isinstance(key, str) and key.isidentifier() and hasattr(output, key) and type(output) is not dict
            yield from _tensors(value, f"{path}.{key}" if plain else f"{path}[{key!r}]")
    elif isinstance(output, (tuple, list)):
        names = getattr(output, "_fields", None)
        for number, value in enumerate(output):
            yield from _tensors(value, f"{path}[{number}]" if names is None else f"{path}.{names[number]}")


def _is_embedding(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and (tensor.ndim == 2 or (tensor.ndim > 2 and set(tensor.shape[2:]) == {1}))


def _leaves_no_choice(tensor: Tensor, embedding: Tensor) -> bool:
    """Whether a tensor is a map, the embedding itself, or tokens of whose memory the embedding is the first one's."""
    if tensor.ndim != 3:
        return tensor.ndim == 4 or tensor is embedding
    column = embedding._base is tensor and embedding.stride() == (tensor.stride(0), tensor.stride(2))
    # torch.compile traces no question for the place in memory
    return column and (torch.compiler.is_compiling() or bool(embedding.storage_offset() == tensor.storage_offset()))


def _pooling(tensor: Tensor) -> str:
    if _is_embedding(tensor):
        return ""
    return "[:, 0]" if tensor.ndim == 3 else ".mean((2, 3))"
