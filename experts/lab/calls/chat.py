"""The chat template of the tool caller, in Jinja and in plain Python.

A tool's description comes before its name: a causal model so reads the name knowing what the tool
does, and finds it by one look from where it has to write it. Of a description the first sentence is
shown, and of the parameters the type, or the values that the schema lists, and whether one may be
left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from experts.lab.calls.offers import CallChat

_END, _ASSISTANT = "<|end|>", "<|assistant|>"
TOOL, NAME, RESULT = CALL_SPECIALS = ("<|tool|>", "<|name|>", "<|result|>")
JSON_MARKS = (
    '<tool_call>{"name": "', '", "arguments": {"', '", "arguments": {}}</tool_call>',
    '"}}</tool_call>', "}}</tool_call>", ']}}</tool_call>', '"]}}</tool_call>',
    '": "', '": ["', '": [', '": ', '", "', ', "', '"], "', '], "',
)  # fmt: skip
CALL_TEMPLATE = (
    "{% for tool in tools or [] %}{% set f = tool['function'] %}"
    "{% set schema = f['parameters'] or {} %}{% set known = schema['properties'] or {} %}"
    "<|tool|>{{ (f['description'] or '').strip().split('\\n')[0].split('. ')[0].rstrip('.') }}"
    "<|name|>{{ f['name'] }}("
    "{% for p in known %}{% set s = known[p] %}{{ p }}"
    "{{ '' if p in (schema['required'] or []) else '?' }}:"
    "{% if s['enum'] %}{{ s['enum'] | join('/') }}"
    "{% elif s['type'] == 'array' %}{{ (s['items'] or {})['type'] or 'any' }}s"
    "{% else %}{{ s['type'] or 'any' }}{% endif %}"
    "{{ '' if loop.last else ',' }}{% endfor %}){% endfor %}"
    "{% for message in messages %}"
    "{{ '<|result|>' if message['role'] == 'tool' else '<|' + message['role'] + '|>' }}"
    "{% if message['tool_calls'] %}{% for c in message['tool_calls'] %}"
    "{{ '<tool_call>{\"name\": \"' + c['function']['name'] + '\", \"arguments\": '"
    " + (c['function']['arguments'] | tojson) + '}</tool_call>' }}{% endfor %}"
    "{% else %}{{ message['content'] or '' }}{% endif %}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def pieces_of(chat: CallChat) -> Iterator[tuple[str, bool]]:
    """What the template makes of a chat, in pieces, and whether the caller is to say them.

    Training renders tens of thousands; a test holds it equal to the Jinja template.
    """
    yield "".join(map(_tool, chat.tools)), False
    for turn in chat.turns:
        yield f"<|user|>{turn.question}{_END}{_ASSISTANT}", False
        yield f"{turn.said}{_END}", True
        if turn.result:
            yield f"{RESULT}{turn.result}{_END}{_ASSISTANT}", False
            yield f"{turn.answer}{_END}", True


def _tool(tool: Mapping[str, Any]) -> str:
    made = tool["function"]
    needed = made["parameters"]["required"]
    told = ",".join(
        f"{name}{'' if name in needed else '?'}:{_type(schema)}"
        for name, schema in made["parameters"]["properties"].items()
    )
    return f"{TOOL}{made['description'].rstrip('.')}{NAME}{made['name']}({told})"


def _type(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return "/".join(schema["enum"])
    return f"{schema['items']['type']}s" if schema["type"] == "array" else schema["type"]
