"""Log-sum-exp of similarities in blocks, on any device: no more than one block of them exists at a time."""

# Axes: B image, M image or key to compare with, V W view, D embedding, R row (image and view), C column of a block.

from __future__ import annotations

import torch
from torch import Tensor

from hvs_data.kernels.pair_scores.product import unrounded_factors

# Similarities in one block: on a CPU what stays in its cache, elsewhere 16 MiB, which are small beside any model's activations and
# enough to keep a GPU busy.
CPU_BLOCK, BLOCK = 2**18, 2**22
# Columns of a block, so that blocks have several rows also against a long queue.
COLUMNS = 2**13


@torch.no_grad()
def lse_table(a_BVD: Tensor, b_MWD: Tensor, own: int | None = None) -> Tensor:
    """``lse[n, v, w] = log sum_m exp(<a[n, v], b[m, w]>)``, over all m or over all but the image itself.

    Every similarity is computed once. Beside the result there are copies of the inputs (of six times their size where PyTorch may
    round products, see :func:`~hvs_data.kernels.pair_scores.product.unrounded_factors`) and a few blocks of at most ``BLOCK`` values.

    Args:
        a_BVD: floating [B, V, D]; similarities are often divided by a temperature, which is here a factor of either input.
        b_MWD: floating [M, W, D].
        own: if given, image n is row ``own + n`` of ``b_MWD``, and that row is left out.

    Returns:
        float32 [B, V, W] without gradient, computed in float32 whatever the inputs' type, also under autocast and with TF32 allowed;
        -inf where nothing is left. A NaN in ``a[n, v]`` makes ``lse[n, v]`` NaN, one in ``b[m, w]`` all of ``lse[:, :, w]`` but
        where it is left out.
    """
    (images, views, _), (others, slots, _) = a_BVD.shape, b_MWD.shape
    a_BVD, b_MWD = unrounded_factors(a_BVD.to(torch.float32), b_MWD.to(torch.float32))
    a_RD = a_BVD.flatten(0, 1)
    columns = min(others, COLUMNS)
    block = CPU_BLOCK if a_BVD.device.type == "cpu" else BLOCK
    step = max(1, min(images, block // (views * max(1, columns))))
    lse_BVW = torch.full((images, views, slots), -torch.inf, device=a_BVD.device)
    for image in range(0, images, step):
        lse_bVW, rows_RD = lse_BVW[image : image + step], a_RD[image * views : (image + step) * views]
        for slot, b_MD in enumerate(b_MWD.unbind(1)):
            for other in range(0, others, columns):
                block_RC = _product(rows_RD, b_MD[other : other + columns].T)
                if own is not None:
                    # image + k has its own column at image + k + own - other; where that lies outside, the diagonal is empty
                    block_RC.unflatten(0, (-1, views)).diagonal(image + own - other, dim1=0, dim2=2).fill_(-torch.inf)
                lse_bV = block_RC.logsumexp(1).unflatten(0, (-1, views))
                lse_bVW[..., slot] = torch.logaddexp(lse_bVW[..., slot], lse_bV)
    return lse_BVW


def _product(a_RD: Tensor, b_DC: Tensor) -> Tensor:
    # autocast leaves products with a given output alone
    return torch.mm(a_RD, b_DC, out=a_RD.new_empty(len(a_RD), b_DC.shape[1]))
