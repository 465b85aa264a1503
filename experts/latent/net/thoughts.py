"""What a peer thinks of a question: its last hidden states over the prompt, and its answer.

A member with a blank token thinks its answer *at once*: one pass over the prompt and blanks behind
it. Any other one says it, token by token, and its states while it does so are the thought: slower,
and nothing has to be trained for it. A peer's own answer is what carries facts; a prompt's states
need not: a peer that is asked a strange question may not have looked anything up yet. Answers are
passed on as soft tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from experts.latent.net.asked import words_in_slots
from experts.latent.net.member import Embedded, Member
from experts.latent.net.padding import left_padded, positions_of
from experts.latent.net.prompts import Prompt
from experts.latent.net.soft_tokens import SoftTokens


@dataclass(frozen=True)
class Heard:
    """States of one peer about a batch, each at its place in the shared text."""

    states: torch.Tensor
    """(n, length, width)."""
    ends: torch.Tensor
    """(n, length) int64: where each ends in the shared text."""
    mask: torch.Tensor
    """(n, length) int64: 1 where there is something."""


@dataclass(frozen=True)
class Thought:
    """Of one peer about a batch of questions."""

    prompt: Heard | None
    """Over the prompt, but its last token; None where nobody asked for it."""
    answer: Heard
    """Its own answer: ``n_slots`` soft tokens, masked from the end of it. They end behind the
    question, a byte a place."""
    words: list[str] | None = None
    """The likeliest answers. Only how long each would be for the primary is looked at; None where
    even that is not to be told."""
    along: Heard | None = None
    """Over what the primary has said."""


def heard_answer(prompts: Sequence[Prompt], soft: SoftTokens) -> Heard:
    """A peer's answers, behind its prompts."""
    n_slots = soft.mask.shape[1]
    ends = torch.tensor([p.n_bytes for p in prompts])[:, None] + torch.arange(n_slots)
    return Heard(soft.embeddings, ends.to(soft.mask.device), soft.mask)


def slots_used(primary: Embedded, thoughts: Iterable[Thought]) -> list[torch.Tensor]:
    """Which slots each peer's answers fill, (n, n_slots): as many as its words would."""
    found = []
    for thought in thoughts:
        if thought.words is None:
            found.append(torch.ones_like(thought.answer.mask))
        else:
            n_slots = thought.answer.mask.shape[1]
            found.append(words_in_slots(primary, thought.words, n_slots)[1])
    return found


class Reader:
    """A peer that has read the prompts of a batch: it thinks of its answer, and reads on."""

    @torch.no_grad()
    def __init__(self, peer: Member, prompts: Sequence[Prompt]) -> None:
        from transformers import DynamicCache

        self.peer, self._prompts = peer, prompts
        ids, mask = left_padded([p.ids for p in prompts], peer.slot_id)
        self._ends = left_padded([p.ends for p in prompts], 0)[0].to(peer.device)
        self._mask = mask.to(peer.device)
        self._cache = DynamicCache(config=peer.model.config)
        self._n_read = self._mask.sum(1)
        self._states = self._run(ids.to(peer.device), positions_of(self._mask), self._mask)
        self.prompt = Heard(self._states[:, :-1], self._ends[:, :-1], self._mask[:, :-1])

    @torch.no_grad()
    def think(self, n_slots: int) -> Thought:
        """What it has read, and what it would answer."""
        soft = self.peer.soft_tokens(self.answer_states(n_slots))
        words = soft.words(self.peer.tokenizer)
        return Thought(self.prompt, heard_answer(self._prompts, soft), words)

    @torch.no_grad()
    def answer_states(self, n_slots: int) -> torch.Tensor:
        """(n, n_slots, width): those that say its answer's tokens. At once where the peer can, else
        by speaking. What it reads on after it is what it would have read without."""
        peer, n_more = self.peer, n_slots - 1  # the mark after which it speaks is the first place
        device, n = peer.device, len(self._prompts)
        positions = self._n_read[:, None] + torch.arange(n_more, device=device)
        states = [self._states[:, -1:]]
        if peer.blank_id is not None:
            blanks = torch.full((n, n_more), peer.blank_id, device=device)
            mask = torch.cat([self._mask, self._mask.new_ones(n, n_more)], 1)
            states.append(self._run(blanks, positions, mask))
        else:
            mask = self._mask
            for i in range(n_more):
                said = peer.model.lm_head(states[-1]).argmax(-1)
                mask = torch.cat([mask, mask.new_ones(n, 1)], 1)
                states.append(self._run(said, positions[:, i : i + 1], mask))
        if n_more:
            self._cache.crop(-n_more)
        return torch.cat(states, 1)

    @torch.no_grad()
    def read_on(self, pieces: Sequence[Sequence[int]], ends: Sequence[Sequence[int]]) -> Heard:
        """Read more tokens of each row, as many as it has, and where each ends."""
        device = self.peer.device
        width = max(1, *map(len, pieces))
        fill = self.peer.slot_id
        ids = torch.tensor([[*p, *([fill] * (width - len(p)))] for p in pieces], device=device)
        said = torch.tensor([[1] * len(p) + [0] * (width - len(p)) for p in pieces], device=device)
        at = torch.tensor([[*e, *([0] * (width - len(e)))] for e in ends], device=device)
        positions = self._n_read[:, None] + (said.cumsum(1) - 1).clamp(min=0)
        self._mask = torch.cat([self._mask, said], 1)
        self._n_read = self._n_read + said.sum(1)
        return Heard(self._run(ids, positions, self._mask), at, said)

    def fitting(self, pieces: Sequence[Sequence[int]]) -> list[Sequence[int]]:
        """Of each row's piece what there is room for: who is full reads nothing more."""
        most = self.peer.context_tokens
        kept = []
        for row, (piece, n_read) in enumerate(zip(pieces, self._n_read.tolist(), strict=True)):
            fits = n_read + len(piece) <= most
            kept.append(piece if fits else [])
            if not fits:
                self._n_read[row] = most
        return kept

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows only."""
        self._cache.batch_select_indices(rows)
        self._mask, self._n_read = self._mask[rows], self._n_read[rows]

    def _run(self, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor) -> Any:
        return self.peer.model.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state
