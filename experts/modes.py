"""Modes: ways of asking an expert, as data.

A mode is a name and what it adds to the prompt. ``direct`` adds nothing; the others that ship are
in ``modes.json``, and an owner adds their own in ``conclave.yaml``. They say how to work and how to
end, and never who to be: a persona lowers the accuracy of answers that can be checked
(arXiv:2603.18507).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from experts.values import Message


@dataclass(frozen=True, slots=True)
class Mode:
    """A way of asking."""

    name: str
    instruction: str = ""
    """What it adds to the conversation; empty adds nothing."""

    def put(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        """The conversation with the instruction, at the end of a leading system message, or as
        one."""
        if not self.instruction:
            return tuple(messages)
        if messages and messages[0].role == "system":
            first = replace(messages[0], content=f"{messages[0].content}\n\n{self.instruction}")
            return first, *messages[1:]
        return Message(role="system", content=self.instruction), *messages


DIRECT = Mode("direct")
"""The question as it is."""


@cache
def shipped_modes() -> Mapping[str, Mode]:
    """``direct`` and the modes of ``modes.json``, by name."""
    told = json.loads(Path(__file__).with_name("modes.json").read_text(encoding="utf-8"))
    return {m.name: m for m in (DIRECT, *(Mode(name, text) for name, text in told.items()))}
