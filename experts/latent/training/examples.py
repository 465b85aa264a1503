"""Questions as training has them: what each member reads, says and thinks, worked out once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

import torch

from experts.latent.net.asked import Asked, ask, pieces_of, words_in_slots
from experts.latent.net.member import Member
from experts.latent.net.prompts import Prompt
from experts.latent.net.soft_tokens import SoftTokens, joined
from experts.latent.net.thoughts import Reader, Thought, heard_answer
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
        self._used: dict[tuple[str, str], torch.Tensor] = {}

    def __len__(self) -> int:
        return len(self.examples)

    def show(self, control: Control, *, seed: int) -> None:
        """Show of the peers what a control says; what they would say in words stays theirs."""
        self._control = control
        self._used = {}
        if control == "shuffled":
            order = list(range(len(self)))
            Random(f"shuffled/{seed}").shuffle(order)
            self._shown = {name: soft[order] for name, soft in self._thoughts.items()}
        elif control == "zeroed":
            self._shown = {name: _zeroed(soft) for name, soft in self._thoughts.items()}

    def thought(self, peer: str, rows: Sequence[int]) -> Thought:
        """What the peer thinks of its answer: that alone, and worked out once."""
        prompts = [self.prompts[peer][i] for i in rows]
        return Thought(None, heard_answer(prompts, self._shown[peer][rows]))

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
            [self._slots_used(peer, primary)[torch.tensor(rows)] for peer in peers],
            answers=[self.answers[primary][i] for i in rows] if with_answers else None,
        )

    def told(self, primary: str, peers: Sequence[str], rows: Sequence[int]) -> torch.Tensor:
        """What the peers say, as tokens of the primary, (n, n_peers, n_slots)."""
        return torch.stack([self._told_by(peer, primary)[torch.tensor(rows)] for peer in peers], 1)

    def _told_by(self, peer: str, primary: str) -> torch.Tensor:
        if (peer, primary) not in self._told:
            self._told[peer, primary] = self._in_slots(peer, primary, self._thoughts)[0]
        return self._told[peer, primary]

    def _slots_used(self, peer: str, primary: str) -> torch.Tensor:
        """(n, n_slots). Under the zeroed control all: how many would tell how long an answer is."""
        if (peer, primary) not in self._used:
            used = self._in_slots(peer, primary, self._shown)[1]
            self._used[peer, primary] = used if self._control != "zeroed" else torch.ones_like(used)
        return self._used[peer, primary]

    def _in_slots(
        self, peer: str, primary: str, of: Mapping[str, SoftTokens]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        words = of[peer].words(self.members[peer].tokenizer)
        return words_in_slots(self.members[primary], words, self.n_slots)

    def _whole_thought(self, primary: str, peer: str, rows: Sequence[int]) -> Thought:
        reader = Reader(self.members[peer], [self.prompts[peer][i] for i in rows])
        thought = replace(self.thought(peer, rows), prompt=reader.prompt)
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

    def _think(self, name: str) -> SoftTokens:
        member, prompts = self.members[name], self.prompts[name]
        found = [
            member.soft_tokens(Reader(member, prompts[i : i + _CHUNK]).answer_states(self.n_slots))
            for i in range(0, len(prompts), _CHUNK)
        ]
        return joined(found)


def _zeroed(soft: SoftTokens) -> SoftTokens:
    """All slots are used: how many would tell how long an answer is."""
    return replace(
        soft, embeddings=torch.zeros_like(soft.embeddings), mask=torch.ones_like(soft.mask)
    )


def _said(member: Member, answer: str) -> list[int]:
    ids, _ = member.tokenizer.tokens_of(answer)
    return [*ids, min(member.tokenizer.end_ids)]
