"""How objectives find the user's modules, and what they expect of them."""

# Axes: N image of a forward, S side of a square view, D embedding.

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from torch import Tensor, nn

from hvs_data.arguments.values import real_number, type_name
from hvs_data.errors import SelectionError
from hvs_data.objectives.base import unwrapped
from hvs_data.objectives.outputs import one_embedding

# A module or a function of a tensor.
Part: TypeAlias = Callable[[Tensor], Any]
# What contrastive losses are scored by: the trainer's loss, or the part of it that the positive pair alone makes.
SCORES = (LOSS, POSITIVE) = ("loss", "positive")
# The attributes in which an implementation keeps its parts, by what they are called here.
Names: TypeAlias = Mapping[str, str]
_BRANCHES: tuple[Names, ...] = (
    {"encoder": "backbone", "projector": "projection_head"},  # lightly
    {"encoder": "backbone", "projector": "projector"},  # solo-learn, facebookresearch/vicreg, facebookresearch/barlowtwins
    {"encoder": "encoder", "projector": "projector"},
)
# A number, or a function that is called at each scoring because a schedule changes the number.
Number: TypeAlias = float | Tensor | Callable[[], float | Tensor]


def take_parts(
    method: str, model: Any, given: Mapping[str, Part | None], known: Sequence[Names], returns: str | None = None
) -> dict[str, Part | None]:
    """The parts that an objective calls: those given, or those of a model.

    Args:
        method: the objective's name, for errors.
        model: the user's model, or None if parts are given. Its parts are the first of the known sets that it has in full.
        given: the arguments by name, None where the user gave none. A name that ends in "projector" may stay None, where the
            encoder of the same name ends in the projector.
        known: sets of attributes, the more particular ones first. All parts of a set must be there.
        returns: what a model without known parts must return for pixels; None if there is no such way.

    Returns:
        A part or None for each name in ``given``; None for all of them if the model itself is to be called. A DistributedDataParallel
        wrapper around the model or a part is passed by.

    Raises:
        SelectionError: neither a model nor parts, or both; a part that is missing or no function; a model that cannot be used.
    """
    required = [name for name in given if not name.endswith("projector")]
    optional = [name for name in given if name.endswith("projector")]
    if (model is None) == all(part is None for part in given.values()):
        raise SelectionError(
            f"{method} needs either a model or its parts, {_arguments(required)} with or without {_arguments(optional)}; "
            "pass one of the two"
        )
    if model is None:
        if not all(callable(part) or (part is None and name in optional) for name, part in given.items()):
            raise SelectionError(
                f"expected {method}'s parts as modules or functions of a tensor, of which only {' and '.join(optional)} may be missing, "
                f"got {', '.join(f'{name}={type_name(part)}' for name, part in given.items())}"
            )
        return {name: unwrapped(part) for name, part in given.items()}
    model = unwrapped(model)
    for names in known:
        found = {name: unwrapped(getattr(model, attribute, None)) for name, attribute in names.items()}
        if all(callable(part) for part in found.values()):
            return {name: None if _inside_encoder(name, found) else found.get(name) for name in given}
    refused = f"expected a {method} model with the attributes {attributes(known)}; "
    if returns is None:
        raise SelectionError(f"{refused}got {type_name(model)}, which has none of these sets; pass {_arguments(required)} instead")
    _check_takes_pixels(model, f"{refused}or one that is called as model(pixels) and returns {returns}", required)
    return dict.fromkeys(given)


def take_branch(method: str, model: Any, encoder: Part | None, projector: Part | None) -> tuple[Part, Part | None]:
    """Encoder and projector, or none, of a method that needs no more. A model without known parts is called as a whole."""
    parts = take_parts(method, model, {"encoder": encoder, "projector": projector}, _BRANCHES, returns="projections [N, D]")
    return parts["encoder"] or unwrapped(model), parts["projector"]


def _inside_encoder(name: str, parts: Mapping[str, Any]) -> bool:
    """Some models also hold backbone and projector together, as one encoder."""
    projector, encoder = parts.get(name), parts.get(name.replace("projector", "encoder"))
    return name.endswith("projector") and isinstance(encoder, nn.Module) and any(module is projector for module in encoder.modules())


def _check_takes_pixels(model: Any, expected: str, required: Sequence[str]) -> None:
    try:
        inspect.signature(getattr(model, "forward", model)).bind(None)
    except TypeError as error:
        raise SelectionError(
            f"{expected}; got {type_name(model)}, which has none of these and does not take pixels alone ({error}); "
            f"pass {_arguments(required)} instead"
        ) from None
    except ValueError:  # a callable without a readable signature: the first forward will tell
        return


def attributes(known: Sequence[Names]) -> str:
    """The known sets of attributes, for errors."""
    return ", or ".join(f"({', '.join(names.values())})" for names in known)


def _arguments(names: Sequence[str]) -> str:
    return " and ".join(f"{name}=" for name in names)


def embedded(method: str, pixels: Tensor, encoder: Part, projector: Part | None) -> Tensor:
    """Pixels [N, 3, S, S] through an encoder and its projector, if it has one: [N, D]."""
    features = one_embedding(method, "encoder", encoder(pixels))
    # pooled features often come with their unit axes
    features = features.flatten(1) if features.ndim > 2 and set(features.shape[2:]) == {1} else features
    return checked_embeddings(method, features if projector is None else projector(features))


def checked_embeddings(method: str, embeddings: Any) -> Tensor:
    """A model's output, if it is embeddings [N, D]."""
    if not isinstance(embeddings, Tensor) or embeddings.ndim != 2 or not embeddings.is_floating_point():
        tokens = isinstance(embeddings, Tensor) and embeddings.ndim == 3
        raise SelectionError(
            f"expected {method}'s embeddings as one floating tensor [N, D], got {describe(embeddings)}"
            f"{'; of tokens [N, L, D] pass the one that is trained on, such as lambda pixels: model(pixels)[:, 0]' if tokens else ''}"
        )
    return embeddings


def of_one_shape(method: str, **embeddings: Any) -> tuple[Tensor, Tensor]:
    """The outputs of two parts, if they are embeddings [N, D] of one shape."""
    first, second = (checked_embeddings(method, output) for output in embeddings.values())
    if first.shape != second.shape:
        raise SelectionError(
            f"expected {method}'s {' and '.join(embeddings)} of one shape [N, D], got {describe(first)} and {describe(second)}; "
            "pass parts that belong together"
        )
    return first, second


def number_of(model: Any, attribute_names: Sequence[str], given: Number | None, default: float) -> Number:
    """A setting: as given, or read from the first of these attributes of the model that is a number, or the published one."""
    if given is not None:
        return given
    model = unwrapped(model)
    for name in attribute_names:
        if _is_number(getattr(model, name, None)):
            return partial(getattr, model, name)
    return default


def checked_number(name: str, value: Number) -> Number:
    """A setting that must be positive; what a function returns is checked when it is read."""
    if not callable(value):
        current_number(name, value)
    return value


def current_number(name: str, value: Number) -> float | Tensor:
    """The setting's value now. The value of a tensor is not looked at, which would wait for its device."""
    current = value() if callable(value) else value
    if isinstance(current, Tensor) and current.numel() == 1:
        return current.detach().float().reshape(())
    if not isinstance(current, Tensor) and _is_number(current) and 0 < float(current) < math.inf:
        return float(current)
    arrived = describe(current) if isinstance(current, Tensor) else repr(current)
    raise SelectionError(f"{name} must be a number above 0, or a function that returns one, got {arrived}")


def checked_score(score: str) -> str:
    """What contrastive losses are scored by: one of SCORES."""
    if score not in SCORES:
        raise SelectionError(f"score must be one of {SCORES}, got {score!r}; it says whether negatives count")
    return score


def _is_number(value: Any) -> bool:
    # a tensor of a model may be something else than the number that it is named after, such as its logarithm
    return not isinstance(value, Tensor) and real_number(value) is not None


def describe(outputs: Any) -> str:
    """What arrived, for errors."""
    if isinstance(outputs, Tensor):
        return f"{outputs.dtype} {list(outputs.shape)}"
    if isinstance(outputs, (tuple, list)):
        return f"{type_name(outputs)} of {len(outputs)} ({', '.join(describe(output) for output in outputs[:4])})"
    return type_name(outputs)
