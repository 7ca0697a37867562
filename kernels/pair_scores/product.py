"""Float32 matrix products whose factors are not rounded, whatever precision PyTorch is set to."""

# Axes: D embedding.

from __future__ import annotations

import torch
from torch import Tensor

# Parts of this type are exact in every format that a float32 product may be computed in: TF32, bfloat16 and float32 itself.
_PART = torch.bfloat16


def unrounded_factors(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Factors of the float32 product ``a @ b.mT`` that lose nothing where PyTorch rounds a product's factors.

    With ``torch.set_float32_matmul_precision("high")`` or ``allow_tf32``, matrix products keep 11 bits of a float32 factor, with
    "medium" on some CPUs 8, and scores so rounded would decide between close pairs. Setting the precision for the time of one
    product is no way out: it is one setting of the whole process, and a backward in another thread would run with it. So where
    rounding is allowed, each factor becomes a sum of three parts of 8 bits, and their products of a size that matters stand
    along one longer axis: six times the multiplications, on units that are faster by about as much.

    Args:
        a: float32 [..., D].
        b: float32 [..., D].

    Returns:
        float32 [..., D'], [..., D']: the inputs themselves (D' = D) in PyTorch's default setting, else D' = 6 D. Their product
        errs by at most ``(D' + 1) * 2**-24 * sum |a_d b_d| * (1 + 2**-6)``, as if it were computed in float32 with a sum of D' terms.
        Infinities may become NaN.
    """
    if not _may_round():
        return a, b
    high_a, middle_a, low_a = _parts(a)
    high_b, middle_b, low_b = _parts(b)
    # the small products first, so that they are summed before the sum is large; left out are those of 2**-26 of the whole and less
    return (
        torch.cat([low_a, high_a, middle_a, middle_a, high_a, high_a], dim=-1),
        torch.cat([high_b, low_b, middle_b, high_b, middle_b, high_b], dim=-1),
    )


def unrounded_product(a_RD: Tensor, b_CD: Tensor) -> Tensor:
    """``a @ b.T`` in float32 whatever precision PyTorch is set to, also under autocast: float32 [R, D], [C, D] -> [R, C]."""
    a_RD, b_CD = unrounded_factors(a_RD, b_CD)
    # autocast leaves products with a given output alone
    return torch.mm(a_RD, b_CD.T, out=a_RD.new_empty(len(a_RD), len(b_CD)))


def _may_round() -> bool:
    try:
        return torch.get_float32_matmul_precision() != "highest"
    except RuntimeError:  # it was set for one backend (torch.backends.cuda.matmul.fp32_precision), and there is no one answer
        return True


def _parts(factor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Three float32 tensors of 8 bits each that add up to the factor, but for 2**-27 of it."""
    high = factor.to(_PART).to(torch.float32)
    middle = (factor - high).to(_PART).to(torch.float32)
    return high, middle, (factor - high - middle).to(_PART).to(torch.float32)
