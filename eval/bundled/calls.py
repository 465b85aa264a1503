"""Examination of the tool caller: right tool and right arguments, by group of tools, in wordings,
names and descriptions that it was not trained on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from eval.iox.choosers import Choice, ModelChooser
from eval.statistics import wilson_interval
from experts.expert import Expert
from experts.lab.calls.kinds import GROUPS, tool_kinds
from experts.lab.calls.offers import CallChat, draw_chat
from experts.lab.questions.grammar import Split


@dataclass(frozen=True, kw_only=True, slots=True)
class CallCell:
    """Calls of one group of tools; of questions that no tool on offer fits, the group is
    ``no tool``."""

    group: str
    n: int
    right_tool: float
    """No call at all is right where no tool fits."""
    tool_ci: tuple[float, float]
    right_call: float
    """Tool and all arguments."""
    call_ci: tuple[float, float]


def examine_calls(expert: Expert, *, n: int, split: Split, seed: int = 1) -> list[CallCell]:
    """n chats of one question each, drawn as training's are. Raises nothing for failed calls: they
    are wrong."""
    rng = Random(f"{split}/{seed}")
    drawn = (draw_chat(rng, split) for _ in range(n))
    chats = [chat for chat in drawn if chat.turns]
    chosen = asyncio.run(
        ModelChooser(expert).choose(
            [chat.turns[0].question for chat in chats], [chat.tools for chat in chats]
        )
    )
    group_of = {kind.key: group for group in GROUPS for kind in tool_kinds(group)}
    by_group: dict[str, list[tuple[CallChat, Choice]]] = {}
    for chat, choice in zip(chats, chosen, strict=True):
        turn = chat.turns[0]
        group = group_of[turn.kind] if turn.name else "no tool"
        by_group.setdefault(group, []).append((chat, choice))
    return [_cell(group, pairs) for group, pairs in sorted(by_group.items())]


def _cell(group: str, pairs: Sequence[tuple[CallChat, Choice]]) -> CallCell:
    n = len(pairs)
    tools = sum(choice.name == chat.turns[0].name for chat, choice in pairs)
    calls = sum(
        choice.name == chat.turns[0].name
        and json.dumps(choice.arguments, sort_keys=True)
        == json.dumps(chat.turns[0].arguments, sort_keys=True)
        for chat, choice in pairs
    )
    return CallCell(
        group=group,
        n=n,
        right_tool=tools / n,
        tool_ci=wilson_interval(tools, n),
        right_call=calls / n,
        call_ci=wilson_interval(calls, n),
    )
