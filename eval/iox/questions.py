"""Questions about simulated channels, in wordings that the tool caller was not trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from experts.lab.calls.kinds import texts_of, tool_kinds
from experts.lab.questions.grammar import ask
from experts.tools.iox.attributes import ATTRIBUTES
from experts.tools.iox.channels import TEST_SEEDS, VAL_SEEDS, draw_scenario

HeldOut = Literal["val", "test"]
_KIND_OF = {
    "line_of_sight": "line_of_sight",
    "doppler_class": "doppler",
    "fading_type": "fading",
    "delay_spread_class": "delay_spread",
    "snr_band": "snr",
    "speed_class": "speed",
}
"""The kind of tool (``texts/wireless.txt``) whose wordings ask for an attribute."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelQuestion:
    """One question about one channel."""

    text: str
    """With ``{channel}`` where the handle goes: the server gives it."""
    attribute: str
    """Its tool, too."""
    seed: int
    label: str
    """The truth."""

    def asked(self, handle: str) -> str:
        return self.text.replace("{channel}", handle)


def channel_questions(n: int, split: HeldOut, seed: int = 0) -> list[ChannelQuestion]:
    """n questions an attribute; wordings, channels and geometry are of the split."""
    rng = Random(f"{split}/{seed}")
    first = TEST_SEEDS if split == "test" else VAL_SEEDS
    kinds = {k.key: k for k in tool_kinds("wireless")}
    made = []
    for i in range(n):
        for j, a in enumerate(ATTRIBUTES):
            patterns = texts_of(kinds[_KIND_OF[a.name]], split).wordings
            shells: Any = split if rng.random() < 0.5 else "train"
            # A channel of its own for every question, so that all are independent.
            channel = first + (seed * n + i) * len(ATTRIBUTES) + j
            made.append(
                ChannelQuestion(
                    text=ask(rng.choice(patterns), {"c": "{channel}"}, rng, shells_of=shells),
                    attribute=a.name,
                    seed=channel,
                    label=draw_scenario(channel).labels[a.name],
                )
            )
    return made


def distractors(split: HeldOut) -> list[Mapping[str, Any]]:
    """Tools of other fields with right-looking names, as OpenAI's protocol has them; none of them,
    nor their fields, are in the tool caller's training."""
    return [
        {
            "type": "function",
            "function": {
                "name": kind.names[0].text,
                "description": f"{kind.descriptions[0].text}.",
                "parameters": {
                    "type": "object",
                    "properties": {kind.parameters[0].names[-1]: {"type": "string"}},
                    "required": [kind.parameters[0].names[-1]],
                },
            },
        }
        for kind in tool_kinds("lookalikes")
        if kind.split == split
    ]


def shuffled(tools: Sequence[Mapping[str, Any]], seed: str) -> list[Mapping[str, Any]]:
    """In an order of its own for every question: no place is the right one."""
    return Random(seed).sample(list(tools), len(tools))
