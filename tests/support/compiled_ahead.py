"""Compiles a Triton kernel for a GPU that need not be there, through the interface that the installed Triton has."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import Any


def compiled_ahead(
    kernel: Any,
    architecture: int,
    signature: Mapping[str, str],
    constants: Mapping[str, Any],
    *,
    num_warps: int = 4,
    aligned: bool = False,
    multiples: Collection[str] = (),
) -> Any:
    """What ``triton.compile`` makes of a kernel.

    Args:
        kernel: a function under ``triton.jit``.
        architecture: compute capability without its point: 80, 90.
        signature: the type of each argument that is not constant, as in "*fp32" or "i32".
        constants: the values of those that are.
        aligned: all pointers are multiples of 16 bytes, as those of new tensors are; a launch looks at them, here it is to be said.
        multiples: whole numbers that are multiples of 16.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    even = [
        position
        for position, name in enumerate(kernel.arg_names)
        if (aligned and signature.get(name, "").startswith("*")) or (name in multiples and name in signature)
    ]
    if "constexprs" in inspect.signature(ASTSource).parameters:
        types = {name: signature.get(name, "constexpr") for name in kernel.arg_names}
        attributes: Any = {(position,): [["tt.divisibility", 16]] for position in even}
        source = ASTSource(kernel, types, constexprs=dict(constants), attrs=attributes)
    else:  # Triton 3.2, which torch 2.6 brings
        from triton.backends.compiler import AttrsDescriptor

        attributes = AttrsDescriptor.from_hints(dict.fromkeys(even, 16))
        source = ASTSource(kernel, dict(signature), constants=dict(constants), attrs=attributes)
    return triton.compile(source, target=GPUTarget("cuda", architecture, 32), options={"num_warps": num_warps})
