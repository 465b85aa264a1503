"""Who speaks and who is asked, for each question by itself.

A linear model over hashed words and pairs of words of the last message: it costs microseconds,
needs none of the members, and a head brings its own. For each member it has a score of
speaking (the best is the primary) and, for each primary, a gate for each peer. An untrained router
chooses the first member and no peers: the head is then that member, to the last bit.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise

import torch
from torch import nn

N_BUCKETS = 16384
_CLOSED = -30.0
"""Of an untrained gate: as good as never."""


@dataclass(frozen=True, slots=True)
class Route:
    """Who answers a question."""

    primary: str
    peers: tuple[str, ...] = ()


class Router(nn.Module):
    """Scores of speaking and of being asked."""

    def __init__(self, members: Sequence[str], top_k: int) -> None:
        """top_k: most peers that are asked at once."""
        super().__init__()
        self.heard: torch.Tensor
        self.members, self.top_k = tuple(members), top_k
        n = len(self.members)
        self.speak = nn.EmbeddingBag(N_BUCKETS, n, mode="sum")
        self.ask = nn.EmbeddingBag(N_BUCKETS, n * n, mode="sum")
        self.speak_bias = nn.Parameter(-torch.arange(n).float() * 1e-3)
        self.ask_bias = nn.Parameter(torch.full((n * n,), _CLOSED))
        self.register_buffer("heard", torch.ones(N_BUCKETS))
        nn.init.zeros_(self.speak.weight)
        nn.init.zeros_(self.ask.weight)

    @torch.no_grad()
    def open(self, texts: Sequence[str], rare_word_share: float) -> None:
        """Begin to train on these texts: each gate at even odds, and deaf to words of fewer than
        this share of them. Those are names, by which it would know each of these texts again, and
        not what others like them ask."""
        self.ask_bias.zero_()
        counts = Counter(i for text in texts for i in set(features(text)))
        least = rare_word_share * len(texts)
        self.heard.zero_()
        self.heard[[i for i, count in counts.items() if count >= least]] = 1.0

    def forward(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of speaking, (n, members), and of the gates, (n, members as primary, members)."""
        found = [features(text) for text in texts]
        device = self.speak_bias.device
        ids = torch.tensor([i for row in found for i in row], device=device)
        starts = torch.tensor([0, *map(len, found)], device=device).cumsum(0)[:-1]
        # Each text counts the same, however long it is.
        weights = torch.tensor([len(row) ** -0.5 for row in found for _ in row], device=device)
        weights = weights * self.heard[ids]
        speak = self.speak(ids, starts, per_sample_weights=weights) + self.speak_bias
        ask = self.ask(ids, starts, per_sample_weights=weights) + self.ask_bias
        n = len(self.members)
        return speak, ask.view(-1, n, n)

    @torch.no_grad()
    def routes(self, texts: Sequence[str]) -> list[Route]:
        """One for each text."""
        speak, ask = self(texts)
        return [self._route(s, a) for s, a in zip(speak, ask, strict=True)]

    def _route(self, speak: torch.Tensor, ask: torch.Tensor) -> Route:
        best = int(speak.argmax())
        open_ = [
            (float(gate), self.members[i])
            for i, gate in enumerate(ask[best])
            if i != best and gate > 0
        ]
        chosen = {name for _, name in sorted(open_, reverse=True)[: self.top_k]}
        return Route(self.members[best], tuple(m for m in self.members if m in chosen))


@lru_cache(maxsize=65536)
def features(text: str) -> tuple[int, ...]:
    """Buckets of a text's words, and of neighbours; numbers count as one word."""
    words = re.findall(r"[a-z]+|\d+", text.lower())
    words = ["#" if w.isdecimal() else w for w in words]
    pairs = [f"{a} {b}" for a, b in pairwise(words)]
    return tuple(_bucket(w) for w in (*words, *pairs)) or (0,)


@lru_cache(maxsize=65536)
def _bucket(word: str) -> int:
    return int.from_bytes(blake2b(word.encode(), digest_size=4).digest(), "big") % N_BUCKETS
