"""Token vectors to one vector a text; the ways that sentence-transformers names."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def pool(hidden: Tensor, mask: Tensor, modes: Sequence[str]) -> Tensor:
    """Pool token vectors, the results of several modes side by side.

    Args:
        hidden: The model's last hidden state, float (n, tokens, hidden).
        mask: 1 for a token of the text and 0 for padding on the right, int (n, tokens).
        modes: One or several of `models.POOLING_MODES`.

    Returns:
        Float (n, hidden * len(modes)).
    """
    return torch.cat([_pool_one(hidden, mask, mode) for mode in modes], dim=-1)


def mean_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """`sum(hidden * mask) / clamp(sum(mask), min=1e-9)` over the tokens (Reimers and Gurevych 2019)."""
    weights = mask.unsqueeze(-1).to(hidden.dtype)  # (n, tokens, 1)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1e-9)  # (n, hidden)


def _pool_one(hidden: Tensor, mask: Tensor, mode: str) -> Tensor:
    weights = mask.unsqueeze(-1).to(hidden.dtype)  # (n, tokens, 1)
    if mode == "mean":
        return mean_pool(hidden, mask)
    if mode == "cls":
        return hidden[:, 0]
    if mode == "max":
        return hidden.masked_fill(weights == 0, float("-inf")).amax(1)
    if mode == "mean_sqrt_len_tokens":
        return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1e-9).sqrt()
    if mode == "weightedmean":  # the position of a token, from 1, is its weight (SGPT, Muennighoff 2022)
        weights = weights * torch.arange(1, hidden.shape[1] + 1, dtype=hidden.dtype, device=hidden.device).view(
            1, -1, 1
        )
        return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
    if mode == "lasttoken":
        last = mask.sum(1) - 1  # (n,)
        return hidden[torch.arange(len(hidden), device=hidden.device), last]
    raise ValueError(f"unknown pooling mode {mode!r}")
