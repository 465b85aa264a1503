"""From a peer's states to something of the primary's, a slot at a time."""

from __future__ import annotations

import torch
from torch import nn


class SlotReader(nn.Module):
    """Which states each slot reads, and a small net that makes another vector of them.

    Every slot mixes the states by two learned distributions over their places, which begin at the
    place before it and at its own: tokenizers agree on neither where a word begins nor how many
    tokens it has.
    """

    def __init__(self, width: int, wide: int, out: int, n_slots: int) -> None:
        super().__init__()
        before = torch.diag(torch.ones(n_slots - 1), -1)
        self.mix = nn.Parameter(4.0 * torch.stack([before, torch.eye(n_slots)]))
        self.norm = nn.LayerNorm(2 * width)
        self.into = nn.Linear(2 * width, wide)
        self.out = nn.Linear(wide, out)
        self.place = nn.Parameter(torch.zeros(n_slots, out))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(n, n_slots, width) to (n, n_slots, out)."""
        mixed = torch.einsum("hji,nid->njhd", self.mix.softmax(-1), states).flatten(2)
        made: torch.Tensor = self.out(nn.functional.gelu(self.into(self.norm(mixed))))
        return made + self.place
