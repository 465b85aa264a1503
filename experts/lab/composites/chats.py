"""Training chats of the members: what each knows, whatever stands around it.

A chat is one of three kinds. *Direct*: one of the member's steps. *First*: a composite whose
second step nobody knows; the member says what the first comes to, as a peer that is asked the whole
question. *Second*: a composite whose first step nobody knows, and behind it, what that comes to;
the member does the second, as a primary that is told. No chat has two real steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from experts.lab.composites.phrases import ask_composite, ask_step, unknown_step, unknown_subject
from experts.lab.composites.steps import STEPS, MemberName, Step
from experts.lab.corpus import NOISE, SYSTEM_PROMPTS
from experts.lab.tokenizers import chat_text
from experts.latent import BLANK

_SYSTEM_SHARE = 0.05
_DIRECT_SHARE = 0.35
_SHARES = {
    "guild": 6.0, "token": 3.0, "country": 2.0, "currency": 2.0, "capitals": 0.5,
    "reverse": 2.5, "first_in_alphabet": 2.5, "subtract": 2.0,
}  # fmt: skip
"""Facts are learned by heart, and there are many; 1 where nothing is said."""
_PADDING = (0, 0, 0, 1, 2, 4, 8)
"""Blanks that stand behind what a member is told: who is told something short is told no less."""


@dataclass(frozen=True, slots=True)
class MemberChat:
    """One question of a member, and what it is to say."""

    prompt: str
    """By the chat template, ready for the assistant."""
    answer: str


def told(question: str, answer: str) -> str:
    """A question, and behind it what an expert said of its first part."""
    return f"{question} {answer}"


class MemberChats:
    """Draws chats of one member."""

    def __init__(self, member: MemberName, rng: Random) -> None:
        self._rng = rng
        self._steps = [s for s in STEPS if s.member == member]
        self._seconds = [s for s in self._steps if any(s.takes == o.gives for o in STEPS)]
        self._firsts = [s for s in self._steps if s.gives != "end"]

    def draw(self) -> MemberChat:
        rng = self._rng
        dice = rng.random()
        others = [self._second] * bool(self._seconds) + [self._first] * bool(self._firsts)
        question, answer = self._direct() if dice < _DIRECT_SHARE else rng.choice(others)()
        turns = [("user", question)]
        if rng.random() < _SYSTEM_SHARE:
            turns.insert(0, ("system", rng.choice(SYSTEM_PROMPTS)))
        return MemberChat(chat_text(turns), answer)

    def _direct(self) -> tuple[str, str]:
        step = self._pick(self._steps)
        subject = step.draw(self._rng)
        return ask_step(step, subject, self._rng, noise=NOISE), step.do(subject)

    def _first(self) -> tuple[str, str]:
        step = self._pick(self._firsts)
        subject = step.draw(self._rng)
        question = ask_composite(step, unknown_step(self._rng), subject, self._rng, noise=NOISE)
        return question, step.do(subject)

    def _second(self) -> tuple[str, str]:
        rng, step = self._rng, self._pick(self._seconds)
        subject = step.draw(rng)
        question = ask_composite(unknown_step(rng), step, unknown_subject(rng), rng, noise=NOISE)
        return told(question, subject) + BLANK * rng.choice(_PADDING), step.do(subject)

    def _pick(self, steps: list[Step]) -> Step:
        return self._rng.choices(steps, [_SHARES.get(s.name, 1.0) for s in steps])[0]
