"""What an operation makes PyTorch do: how large its tensors become, and what rounding of a product's factors would do to it."""

import contextlib

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

UNIT = 2.0**-24  # unit roundoff of float32

# Products, with the place of their factors among the arguments.
PRODUCTS = {torch.ops.aten.mm: (0, 1), torch.ops.aten.bmm: (0, 1), torch.ops.aten.addmm: (1, 2), torch.ops.aten.baddbmm_: (1, 2)}


class LargestTensor(TorchDispatchMode):
    """Counts the elements of the largest tensor that any operator returns inside; views count as what they show.

    A view of an argument counts where it shows more than the argument does: what is only passed on takes nothing, and whether indexing
    with ``[:]`` is an operator depends on PyTorch. What an operator takes for itself while it runs is not seen.
    """

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        outputs = function(*args, **(kwargs or {}))
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        made = [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]
        sizes = [output.numel() for output in made if not any(is_part(output, whole) for whole in given)]
        self.elements = max([self.elements, *sizes])
        return outputs


def is_part(tensor, whole):
    """It shows no more than another one of the same memory."""
    return tensor.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr() and tensor.numel() <= whole.numel()


class RoundsFactors(TorchDispatchMode):
    """Rounds the factors of float32 products to fewer bits, as tensor cores do: 11 for TF32, 8 for bfloat16."""

    def __init__(self, bits):
        super().__init__()
        self.bits = bits
        self.products = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        factors = PRODUCTS.get(function.overloadpacket)
        if factors and args[factors[0]].dtype == torch.float32:
            self.products += 1
            args = [self.rounded(arg) if place in factors else arg for place, arg in enumerate(args)]
        return function(*args, **(kwargs or {}))

    def rounded(self, factor):
        mantissa, exponent = torch.frexp(factor)
        return torch.ldexp((mantissa * 2**self.bits).round() / 2**self.bits, exponent)


@contextlib.contextmanager
def matmul_precision(name):
    """PyTorch set to round factors, or not to."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextlib.contextmanager
def tensor_cores(bits):
    """PyTorch set to round factors, and every product rounding them to so many bits."""
    with matmul_precision("high"), RoundsFactors(bits) as mode:
        yield mode
    assert mode.products
