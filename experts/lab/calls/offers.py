"""Chats: a few tools on offer, questions, and what a good caller writes.

A caller learns to read what is on offer rather than to know tools by heart, so everything about
them changes from chat to chat: which ones there are, their order, their names, descriptions and
parameters. Sometimes a name says nothing, sometimes no tool fits, and sometimes the tool has
already answered. Several questions share one offer: tools are most of a chat's tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from string import ascii_lowercase
from typing import Any

from experts.lab.calls.kinds import (
    GROUPS,
    Group,
    Parameter,
    ToolKind,
    of_split,
    texts_of,
    tool_kinds,
)
from experts.lab.calls.slots import draw_slots
from experts.lab.questions.arithmetic import SKILLS as ARITHMETIC
from experts.lab.questions.grammar import CLEAN, Noise, Pattern, Split, ask
from experts.lab.questions.words import any_word

NO_TOOL = "No tool fits."
_OPERATORS = {"addition": "+", "subtraction": "-", "multiplication": "*"}
_MAIN: Mapping[Group, float] = {"wireless": 0.55, "general": 0.4, "lookalikes": 0.05}
_OTHERS: Mapping[Group, Mapping[Group, float]] = {
    "wireless": {"wireless": 0.6, "lookalikes": 0.3, "general": 0.1},
    "lookalikes": {"wireless": 0.35, "lookalikes": 0.45, "general": 0.2},
    "general": {"wireless": 0.1, "lookalikes": 0.1, "general": 0.8},
}
_LOOKALIKE_ASKED = 0.3
"""How often one is asked for, next to any other tool on offer."""
_NO_TOOL_SHARE = 0.03
_ANSWERED_SHARE = 0.1
_STRANGE_NAME = 0.12
_OF_SERVERS = 0.4
"""How often names begin with their server's, as those of a pool's tools do."""
_MAX_TOOLS = 13
_FAMILIES = (
    {"convert_units", "convert_quantity"},
    {"uppercase", "reverse_text", "change_text"},
    {"word_length", "count_in"},
    {"add_days", "add_time"},
)
"""Kinds that could answer the same question: never two of them on one offer."""
_DECOY_SHARE = 0.15
_DECOYS = (
    ("digits", "integer"), ("limit", "integer"), ("verbose", "boolean"), ("descending", "boolean"),
    ("first", "string"), ("language", "string"), ("timeout", "number"), ("format", "string"),
)  # fmt: skip
"""Optional parameters that nobody asks for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """One question and its right continuation."""

    question: str
    kind: str
    """Key of the kind of tool that is asked for, on offer or not."""
    name: str
    """The tool to call; empty where none fits."""
    arguments: Mapping[str, Any]
    result: str = ""
    """What the tool said, if it is called and heard in this chat."""
    answer: str = ""
    """The answer in ``result``."""

    @property
    def said(self) -> str:
        """What the caller is to say first."""
        if not self.name:
            return NO_TOOL
        call = {"name": self.name, "arguments": self.arguments}
        return f"<tool_call>{json.dumps(call, ensure_ascii=False)}</tool_call>"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Made:
    """One tool of one chat."""

    function: dict[str, Any]
    names: dict[str, str]
    """Of its parameters, by slot."""
    choices: dict[str, Sequence[tuple[str, str]]]
    """What its schema lists, by slot."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CallChat:
    """Tools on offer, and questions that they are for."""

    tools: tuple[Mapping[str, Any], ...]
    """As OpenAI's protocol has them."""
    turns: tuple[Turn, ...]


def draw_chat(rng: Random, split: Split, *, n_turns: int = 1, noise: Noise = CLEAN) -> CallChat:
    """A chat whose wordings, names and descriptions are of the split."""
    main = rng.choices(list(_MAIN), list(_MAIN.values()))[0]
    kinds = _offered(main, rng, split)
    made: dict[str, _Made] = {}
    servers = [_server(rng) for _ in range(rng.choice((1, 1, 2, 3)))]
    has_servers = rng.random() < _OF_SERVERS
    for kind in kinds:
        tool = _tool(kind, rng, split)
        if has_servers:
            tool.function["name"] = f"{rng.choice(servers)}_{tool.function['name']}"
        while tool.function["name"] in {m.function["name"] for m in made.values()}:
            tool.function["name"] += f"_{rng.randint(2, 9)}"
        made[kind.key] = tool
    askable = [k for k in kinds if k.wordings]
    weights = [_LOOKALIKE_ASKED if k.group == "lookalikes" else 1.0 for k in askable]
    turns = []
    for _ in range(n_turns):
        wanted = rng.choices(askable, weights)[0] if askable else None
        if wanted is None or rng.random() < _NO_TOOL_SHARE:
            strange = rng.choice(("wireless", "general"))
            offered = {_family(k.key) for k in kinds}
            missing = [k for k in _kinds(strange, split) if _family(k.key) not in offered]
            wanted = rng.choice(missing) if missing else wanted
        if wanted is not None:
            turns.append(_turn(wanted, made.get(wanted.key), rng, split, noise))
    tools = tuple({"type": "function", "function": m.function} for m in made.values())
    return CallChat(tools=tools, turns=tuple(turns))


def _offered(main: Group, rng: Random, split: Split) -> list[ToolKind]:
    dice = rng.random()
    n = rng.randint(1, 4) if dice < 0.55 else rng.randint(5, 8) if dice < 0.88 else _MAX_TOOLS
    shares = _OTHERS[main]
    groups: Sequence[Group] = rng.choices(GROUPS, [shares[g] for g in GROUPS], k=n - 1)
    drawn = [rng.choice(_kinds(group, split)) for group in (main, *groups)]
    kinds = list({_family(k.key): k for k in drawn}.values())
    rng.shuffle(kinds)
    return kinds


def _server(rng: Random) -> str:
    if rng.random() < 0.5:
        return any_word(rng)
    return "".join(rng.choice(ascii_lowercase) for _ in range(rng.randint(2, 6)))


def _family(key: str) -> str:
    return next((min(family) for family in _FAMILIES if key in family), key)


def _turn(kind: ToolKind, tool: _Made | None, rng: Random, split: Split, noise: Noise) -> Turn:
    offered = tool or _tool(kind, rng, split)
    question, arguments = _question(kind, offered, rng, split, noise)
    heard = tool is not None and rng.random() < _ANSWERED_SHARE
    result, answer = _result(rng) if heard else ("", "")
    return Turn(
        question=question,
        kind=kind.key,
        name=offered.function["name"] if tool else "",
        arguments=arguments if tool else {},
        result=result,
        answer=answer,
    )


def _question(
    kind: ToolKind, tool: _Made, rng: Random, split: Split, noise: Noise
) -> tuple[str, dict[str, Any]]:
    """The text, and the arguments that it asks for."""
    shells: Split = split if split != "train" and rng.random() < 0.5 else "train"
    if kind.key == "calculate" and rng.random() < 0.6:
        skill = rng.choice(ARITHMETIC)
        slots = skill.draw(rng).slots
        pattern = rng.choice(_plain(skill.name, split))
        text = ask(pattern, slots, rng, shells_of=shells, noise=noise)
        return text, {tool.names["e"]: f"{slots['a']} {_OPERATORS[skill.name]} {slots['b']}"}
    plain = tuple(p.slot for p in kind.parameters if not p.choices)
    drawn = dict(draw_slots(plain, rng))
    arguments: dict[str, Any] = {}
    for p in kind.parameters:
        if p.choices:
            value, phrase = rng.choice(tool.choices[p.slot])
            drawn[p.slot] = phrase, value
        name = tool.names[p.slot]
        if p.is_either:
            name = rng.choice(p.names)
            drawn["m"] = name, name
        value = drawn[p.slot][1]
        arguments[name] = [str(v) for v in value] if p.type == "strings" else value
    pattern = rng.choice(texts_of(kind, split).wordings)
    shown = {slot: value for slot, (value, _) in drawn.items()}
    return ask(pattern, shown, rng, shells_of=shells, noise=noise), arguments


@cache
def _plain(skill: str, split: Split) -> list[Pattern]:
    """Wordings of an arithmetic skill that name two numbers, and nothing to count."""
    patterns = next(s.patterns for s in ARITHMETIC if s.name == skill)
    plain = [p for p in patterns if set(re.findall(r"\{(\w+)\}", p.text)) == {"a", "b"}]
    return list(of_split(plain, split))


@cache
def _kinds(group: Group, split: Split) -> list[ToolKind]:
    return [k for k in tool_kinds(group) if k.split in (None, split)]


def _tool(kind: ToolKind, rng: Random, split: Split) -> _Made:
    name = rng.choice(texts_of(kind, split).names).text
    if rng.random() < _STRANGE_NAME:
        name = "_".join(any_word(rng) for _ in range(rng.choice((1, 2))))
    description = rng.choice(texts_of(kind, split).descriptions).choose(rng)
    made = _Made(function={}, names={}, choices={})
    properties: dict[str, Any] = {}
    optional: dict[str, Any] = {}
    for p in kind.parameters:
        if p.is_either:
            made.names[p.slot] = ""
            optional |= {n: {"type": p.type} for n in rng.sample(p.names, len(p.names))}
            continue
        free = [n for n in p.names if n not in properties]
        chosen = any_word(rng) if rng.random() < 0.05 else rng.choice(free)
        made.names[p.slot] = chosen
        properties[chosen] = _schema(p)
        if p.choices:
            listed = rng.sample(p.choices, rng.randint(2, min(7, len(p.choices))))
            made.choices[p.slot] = listed
            properties[chosen]["enum"] = [value for value, _ in listed]
    if rng.random() < _DECOY_SHARE:
        optional |= {n: {"type": t} for n, t in rng.sample(_DECOYS, rng.choice((1, 1, 2)))}
    made.function.update(
        name=name,
        description=f"{description}.",
        parameters={
            "type": "object",
            "properties": properties | {n: s for n, s in optional.items() if n not in properties},
            "required": list(properties),
        },
    )
    return made


def _schema(parameter: Parameter) -> dict[str, Any]:
    if parameter.type in ("strings", "numbers"):
        return {"type": "array", "items": {"type": parameter.type[:-1]}}
    return {"type": parameter.type}


def _result(rng: Random) -> tuple[str, str]:
    """What a tool said, and the answer in it."""
    dice = rng.random()
    if dice < 0.25:
        value = str(rng.randint(0, 9999)) if rng.random() < 0.6 else any_word(rng)
        return value, value
    answer: Any = any_word(rng) if rng.random() < 0.7 else rng.randint(0, 9999)
    if dice < 0.8:
        label = rng.choice(("label", "label", "answer", "result", "class"))
        said = {label: answer, "probability": round(rng.uniform(0.3, 1.0), rng.choice((2, 3, 4)))}
    else:
        said = {rng.choice(("result", "value", "answer")): answer}
    return json.dumps(said), str(answer)
