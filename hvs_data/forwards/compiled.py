"""A scoring forward compiled as a whole, or an error that says why it cannot be."""

# Axes: N image of a forward.

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, TypeAlias

import torch
from torch import Tensor

from hvs_data.errors import SelectionError
from hvs_data.objectives.base import Outputs, map_outputs

# Off, on, a mode of torch.compile, or some of its arguments.
Compile: TypeAlias = bool | str | Mapping[str, Any]
_ARGUMENTS = ("backend", "mode", "options")
_WITH_CUDA_GRAPHS = ("reduce-overhead", "max-autotune")


def compile_arguments(how: Compile) -> dict[str, Any] | None:
    """What torch.compile is given; None where nothing is compiled.

    Raises:
        SelectionError: something else than such a choice.
    """
    if how is False:
        return None
    if how is True:
        return {}
    if isinstance(how, str):
        return {"mode": how}
    if isinstance(how, Mapping) and set(how) <= set(_ARGUMENTS):
        return dict(how)
    raise SelectionError(
        f"compile must be True, False, a mode of torch.compile such as 'reduce-overhead', or a dict of its arguments {_ARGUMENTS}, "
        f"got {how!r}"
    )


def compiled(encode: Callable[..., Outputs], arguments: Mapping[str, Any]) -> Callable[..., Outputs]:
    """``encode``, compiled in one graph for each shape of its pixels: same arguments, same outputs up to rounding.

    It never runs uncompiled: whatever keeps torch from making one graph raises. Outputs are the caller's, also where CUDA graphs
    write each forward's to the same memory.

    Args:
        encode: pixels [N, 3, S, S] and per-view tensors by name -> outputs with first axis N.
        arguments: of torch.compile.

    Raises:
        SelectionError: arguments that torch refuses; on the call, a forward that cannot be compiled.
    """

    def call(pixels: Tensor, extras: dict[str, Tensor]) -> Outputs:
        return encode(pixels, **extras)

    # Graphs are kept with the code of a function, and hooks are no condition of theirs: with code of its own, a function can meet
    # neither the graphs of a selector with other levers nor those of the trainer.
    own = FunctionType(call.__code__.replace(co_name=f"score_{id(call):x}"), call.__globals__, "score", None, call.__closure__)
    try:
        graph = torch.compile(own, dynamic=False, fullgraph=True, **arguments)
    except (RuntimeError, ValueError, TypeError) as error:
        raise SelectionError(f"torch.compile refuses {dict(arguments)}: {error}") from error
    # options can switch CUDA graphs on too
    reuses_memory = arguments.get("mode") in _WITH_CUDA_GRAPHS or arguments.get("backend") == "cudagraphs" or "options" in arguments

    def compiled_encode(pixels: Tensor, **extras: Tensor) -> Outputs:
        from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

        if reuses_memory:
            torch.compiler.cudagraph_mark_step_begin()
        try:
            outputs = graph(pixels, extras)
        except (TorchDynamoException, FailOnRecompileLimitHit) as error:
            raise SelectionError(
                f"compile= needs a scoring forward that torch.compile takes as one graph, got {type(error).__name__}: {_gist(error)}. "
                "Compile the parts that can be instead (encoder.compile()), and leave compile= out"
            ) from error
        return map_outputs(torch.clone, outputs) if reuses_memory else outputs

    return compiled_encode


def _gist(error: Exception) -> str:
    """The lines of torch's message before its advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3])[:400]
