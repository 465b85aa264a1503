"""What the three forms of exchange have in common: the primary's forward pass with something of its
peers in it.

``begin`` runs the primary over a batch and gives its states behind the slots; training asks for no
more. ``Going`` goes on from there a token at a time, with the primary's cache.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from experts.latent.net.asked import Asked
from experts.latent.net.member import Member
from experts.latent.net.thoughts import Reader, Thought

Thoughts = Mapping[str, Thought]
"""By peer, in the order of the slots."""


@dataclass(frozen=True, slots=True)
class Link:
    """From a peer to a primary: a head has one set of weights for each."""

    peer: str
    primary: str

    @property
    def key(self) -> str:
        """As a name in a state dict."""
        return f"{self.peer}>{self.primary}"


class Going:
    """A batch under way: the primary's cache and masks, and what each row has said."""

    def __init__(self, primary: Member, cache: Any, asked: Asked) -> None:
        self._primary, self._cache = primary, cache
        self._mask = asked.mask
        self._positions = asked.positions[:, -1:]
        self._said: list[list[int]] = [[] for _ in asked.ids]

    def step(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits, (n, vocabulary), behind one more token of each row, (n,) int64."""
        for said, token in zip(self._said, ids.tolist(), strict=True):
            said.append(token)
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(self._mask), 1)], 1)
        self._positions = self._positions + 1
        logits: torch.Tensor = self._primary.model.lm_head(self._states(ids[:, None])[:, -1])
        return logits

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows only."""
        self._cache.batch_select_indices(rows)
        self._mask, self._positions = self._mask[rows], self._positions[rows]
        self._said = [self._said[i] for i in rows.tolist()]

    def _states(self, ids: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self._primary.model.model(
            input_ids=ids, attention_mask=self._mask, position_ids=self._positions,
            past_key_values=self._cache, use_cache=True,
        ).last_hidden_state  # fmt: skip
        return states


class Form(nn.Module, ABC):
    """The trained layers of one form of exchange. An untrained one is never asked: its router
    chooses no peers."""

    reads_along = False
    """Peers' states over the prompt and over what the primary says are used, too."""

    def __init__(self, links: Sequence[Link]) -> None:
        super().__init__()
        self.links = tuple(links)

    @abstractmethod
    def begin(
        self,
        primary: Member,
        asked: Asked,
        thoughts: Thoughts,
        log_gates: torch.Tensor | None = None,
        *,
        cache: Any = None,
        readers: Mapping[str, Reader] | None = None,
    ) -> tuple[torch.Tensor, Going]:
        """The primary's last hidden states in the last ``asked.n_tail`` places,
        (n, n_tail, width), and what goes on from there. log_gates: (n, n_peers), what the router
        thinks of each peer, as a bias of attention to it; None counts each peer fully. cache: an
        empty one where the batch goes on. readers: of the peers, where they read along."""

    @abstractmethod
    def teach(self, primary: Member, asked: Asked, thoughts: Thoughts, told: Asked) -> torch.Tensor:
        """How far from being told in words what the peers think, a number: mean square of the
        difference, as a share of the mean square of what it should be."""


def gated_mask(asked: Asked, log_gates: torch.Tensor | None) -> torch.Tensor:
    """The mask itself; with gates, (n, 1, length, length) float: causal, and how much each slot
    counts.

    A slot counts fully whatever its gate, but the gradient is as if it counted ``gate`` times: the
    language loss so tells the router which peers help, and at use a peer is either asked or not, as
    an engine that knows of no gates has it.
    """
    if log_gates is None:
        return asked.mask
    n, length = asked.mask.shape
    dtype = log_gates.dtype
    causal = torch.ones(length, length, device=asked.mask.device).tril().bool()
    seen = causal[None] & asked.mask[:, None].bool()
    # Padding sees itself: a row that sees nothing has no softmax.
    seen = seen | torch.eye(length, device=seen.device).bool()
    bias = torch.zeros(n, length, dtype=dtype, device=seen.device)
    straight = straight_through(log_gates)[:, :, None].expand(asked.slots.shape)
    bias = bias.scatter(1, asked.slots.flatten(1), straight.flatten(1))
    mask = torch.where(seen, bias[:, None], torch.finfo(dtype).min)
    return mask[:, None]


def straight_through(log_gates: torch.Tensor) -> torch.Tensor:
    """Zeros with the gradient of the gates."""
    return log_gates - log_gates.detach()


def relative_error(found: torch.Tensor, wanted: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean square of the difference over that of what is wanted, (n, k, d), where the mask, (n, k),
    is 1."""
    counted = mask.bool()
    error: torch.Tensor = (found - wanted)[counted].pow(2).mean() / wanted[counted].pow(2).mean()
    return error


def taken(values: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """(n, length, d) at (n, k) places: (n, k, d)."""
    return values.gather(1, places[..., None].expand(-1, -1, values.shape[-1]))


def put(values: torch.Tensor, places: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """(n, length, d) with (n, k, d) in (n, k) places."""
    return values.scatter(1, places[..., None].expand(-1, -1, values.shape[-1]), new)
