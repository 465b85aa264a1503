"""Questions as training has them: what each member reads, says and thinks, worked out once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

import torch

from experts.latent.net.asked import Asked, ask, pieces_of
from experts.latent.net.member import Member
from experts.latent.net.prompts import Prompt
from experts.latent.net.thoughts import Heard, Reader, Thought, answer_ends, think
from experts.latent.plan import Control
from experts.values import Message

_CHUNK = 128


@dataclass(frozen=True, slots=True)
class Example:
    """A question and its right answer."""

    question: str
    answer: str


class Examples:
    """A set of examples, read by all members."""

    def __init__(
        self, members: Mapping[str, Member], examples: Sequence[Example], n_slots: int
    ) -> None:
        self.members, self.examples, self.n_slots = members, examples, n_slots
        asked = [[Message(role="user", content=e.question)] for e in examples]
        self.prompts: dict[str, list[Prompt]] = {
            name: [m.prompt(messages) for messages in asked] for name, m in members.items()
        }
        self.answers: dict[str, list[list[int]]] = {
            name: [_said(m, e.answer) for e in examples] for name, m in members.items()
        }
        self._thoughts = {name: self._think(name) for name in members}
        self._shown = self._thoughts
        self._control: Control = "none"
        self._told: dict[tuple[str, str], torch.Tensor] = {}

    def __len__(self) -> int:
        return len(self.examples)

    def show(self, control: Control, *, seed: int) -> None:
        """Show of the peers what a control says; what they would say in words stays theirs."""
        self._control = control
        if control == "shuffled":
            order = list(range(len(self)))
            Random(f"shuffled/{seed}").shuffle(order)
            self._shown = {name: states[order] for name, states in self._thoughts.items()}
        elif control == "zeroed":
            self._shown = {k: torch.zeros_like(v) for k, v in self._thoughts.items()}

    def thought(self, peer: str, rows: Sequence[int]) -> Thought:
        """What the peer thinks of its answer: that alone, and worked out once."""
        prompts = [self.prompts[peer][i] for i in rows]
        states = self._shown[peer][torch.tensor(rows)]
        ends = answer_ends(prompts, self.n_slots).to(states.device)
        return Thought(None, Heard(states, ends, torch.ones_like(ends)))

    def thoughts(self, peers: Sequence[str], rows: Sequence[int]) -> dict[str, Thought]:
        return {peer: self.thought(peer, rows) for peer in peers}

    def whole_thoughts(
        self, primary: str, peers: Sequence[str], rows: Sequence[int]
    ) -> dict[str, Thought]:
        """With the peers' states over the prompt, and over the right answers as the primary says
        them: worked out anew, since over all examples they would fill memory. A control shows
        answers alone: the rest would tell."""
        if self._control != "none":
            return self.thoughts(peers, rows)
        return {peer: self._whole_thought(primary, peer, rows) for peer in peers}

    def asked(
        self, primary: str, peers: Sequence[str], rows: Sequence[int], *, with_answers: bool
    ) -> Asked:
        return ask(
            self.members[primary],
            [self.prompts[primary][i] for i in rows],
            n_peers=len(peers),
            n_slots=self.n_slots,
            answers=[self.answers[primary][i] for i in rows] if with_answers else None,
        )

    def told(self, primary: str, peers: Sequence[str], rows: Sequence[int]) -> torch.Tensor:
        """What the peers say, as tokens of the primary, (n, n_peers, n_slots); slot tokens behind
        what is shorter."""
        return torch.stack([self._told_by(peer, primary)[torch.tensor(rows)] for peer in peers], 1)

    def said(self, peer: str) -> list[str]:
        """What a peer answers to each question."""
        states = self._thoughts[peer]
        member = self.members[peer]
        ids = [
            row
            for i in range(0, len(states), _CHUNK)
            for row in member.model.lm_head(states[i : i + _CHUNK]).argmax(-1).tolist()
        ]
        return [member.tokenizer.decode(_until(row, member.tokenizer.end_ids)) for row in ids]

    def _told_by(self, peer: str, primary: str) -> torch.Tensor:
        if (peer, primary) not in self._told:
            member = self.members[primary]
            rows = []
            for text in self.said(peer):
                ids, _ = member.tokenizer.tokens_of(f" {member.tokenizer.without_marks(text)}")
                rows.append((ids + [member.slot_id] * self.n_slots)[: self.n_slots])
            self._told[peer, primary] = torch.tensor(rows)
        return self._told[peer, primary]

    def _whole_thought(self, primary: str, peer: str, rows: Sequence[int]) -> Thought:
        reader = Reader(self.members[peer], [self.prompts[peer][i] for i in rows])
        thought = replace(self.thought(peer, rows), prompt=reader.think(self.n_slots).prompt)
        said = [
            pieces_of(
                self.members[primary],
                self.members[peer],
                self.answers[primary][i],
                self.prompts[primary][i].n_bytes + self.n_slots,
            )
            for i in rows
        ]
        along = reader.read_on([ids for ids, _ in said], [ends for _, ends in said])
        return replace(thought, along=along)

    def _think(self, name: str) -> torch.Tensor:
        prompts = self.prompts[name]
        return torch.cat(
            [
                think(self.members[name], prompts[i : i + _CHUNK], self.n_slots).answer.states
                for i in range(0, len(prompts), _CHUNK)
            ]
        )


def _said(member: Member, answer: str) -> list[int]:
    ids, _ = member.tokenizer.tokens_of(answer)
    return [*ids, min(member.tokenizer.end_ids)]


def _until(ids: list[int], ends: frozenset[int]) -> list[int]:
    for i, token in enumerate(ids):
        if token in ends:
            return ids[:i]
    return ids
