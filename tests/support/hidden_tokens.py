"""An oracle for forwards with fewer tokens: the whole model, with tokens that no attention can see."""

from contextlib import contextmanager

import torch
import torch.nn.functional as F

from small_vits import kept_by_hand


def kept_tokens(height, width, share, prefix):
    """The numbers of the tokens that stay, in plain Python: those before the patches, and the patches of the lattice."""
    return [*range(prefix), *(prefix + place for place in kept_by_hand(height, share, width))]


@contextmanager
def hidden_but(kept_of):
    """Inside, attention over as many tokens as a key of ``kept_of`` sees those alone that it lists.

    All else in a transformer's blocks is of one token at a time, so that the tokens that are seen come out as if there were no others.
    """
    real = F.scaled_dot_product_attention

    def attention(query, key, value, attn_mask=None, **options):
        if attn_mask is None and key.shape[-2] in kept_of:
            attn_mask = torch.full((1, key.shape[-2]), -torch.inf, dtype=query.dtype)
            attn_mask[0, kept_of[key.shape[-2]]] = 0
        return real(query, key, value, attn_mask=attn_mask, **options)

    F.scaled_dot_product_attention = attention
    try:
        yield
    finally:
        F.scaled_dot_product_attention = real
