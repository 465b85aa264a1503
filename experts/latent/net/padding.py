"""Rows of different lengths as one batch, padded on the left: what comes next is on the right."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def left_padded(rows: Sequence[Sequence[int]], fill: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, longest) int64 values, and 1 where a value is real."""
    width = max(map(len, rows))
    values = torch.tensor([[fill] * (width - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return values, mask


def positions_of(mask: torch.Tensor) -> torch.Tensor:
    """Of each token in its own row, (n, length); 0 in padding."""
    return (mask.cumsum(1) - 1).clamp(min=0)
