"""The optimiser and the rates of every phase."""

from __future__ import annotations

from typing import Any

import torch


def adam(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """groups: of parameters, each with its learning rate."""
    return torch.optim.AdamW(groups, weight_decay=0.01, betas=(0.9, 0.98))


def schedule(step: int, n_steps: int, warmup: int = 50) -> float:
    """Learning-rate factor in (0, 1]: linear warm-up, flat, linear decay over the second half."""
    return min(1.0, (step + 1) / warmup, (n_steps - step) / max(1, n_steps * 0.5))
