"""How models write tool calls as text, for those whose tokens we read ourselves.

A chat template puts the caller's functions into the prompt in the form that the model was trained
on; nothing says in which form it answers. Two forms cover most open models, and are told by the
template. A model of another form (``<function=...>``, ``[ARGS]``) is asked through its own server.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from experts.values import Call, ToolCall

ToolFormat = Literal["hermes", "json"]
"""hermes: ``<tool_call>{"name": ..., "arguments": {...}}</tool_call>``, any number, text beside
them (Hermes, Qwen 2.5 and 3). json: the whole text is one such object or a list of them, also with
``parameters`` instead of ``arguments`` (Llama 3, Mistral 7B)."""

_OTHER_FORMS = ("<function=", "[ARGS]", "tool▁calls▁begin")
_THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.S)
"""What a model says to itself may mention calls, and makes none."""
_OPENED = re.compile(r"<tool_call>\s*")
_CLOSED = re.compile(r"\s*</tool_call>")


def format_of(folder: Path) -> ToolFormat | None:
    """That the chat template of the tokenizer in ``folder`` speaks of; None where it takes no
    functions, or is of a form that we do not read."""
    template = _template(folder)
    if "tools" not in template or any(mark in template for mark in _OTHER_FORMS):
        return None
    if "<tool_call>" in template:
        return "hermes"
    is_json = "<|python_tag|>" in template or "[TOOL_CALLS]" in template
    return "json" if is_json or '"parameters"' in template else None


def chosen_format(wanted: ToolFormat | Literal["none"] | None, folder: Path) -> ToolFormat | None:
    """The owner's word, or where there is none (None), what the chat template tells."""
    if wanted == "none":
        return None
    return wanted or format_of(folder)


def read_text(
    text: str, form: ToolFormat, tools: Sequence[dict[str, Any]], call: Call
) -> tuple[str, tuple[ToolCall, ...]]:
    """The text without its calls, and the calls. What is no call to one of ``tools`` stays text:
    a model may well be asked to write JSON."""
    names = {tool["function"]["name"] for tool in tools}
    said = _THOUGHT.sub("", text)
    if form == "hermes":
        found, rest = _tagged(said)
    else:
        whole = _loaded(said.strip())
        found, rest = whole if isinstance(whole, list) else [whole], ""
    pairs = [_named(one, names) for one in found]
    if not pairs or None in pairs:
        return text, ()
    if ("parallel_tool_calls", "false") in call.sampling.extra:
        pairs = pairs[:1]
    made = [
        ToolCall(id=_id(call, i), name=pair[0], arguments=pair[1])
        for i, pair in enumerate(pairs)
        if pair is not None
    ]
    return rest, tuple(made)


def forced_schema(tools: Sequence[dict[str, Any]], choice: Any, *, parallel: bool) -> Any:
    """JSON Schema of a text in the ``json`` form that obeys OpenAI's ``tool_choice``: ``required``,
    or ``{"type": "function", "function": {"name": ...}}``."""
    if isinstance(choice, dict):
        tools = [t for t in tools if t["function"]["name"] == choice["function"]["name"]]
    one = []
    definitions: dict[str, Any] = {}
    for number, tool in enumerate(tools):
        function = tool["function"]
        arguments = {**(function.get("parameters") or {}), "type": "object"}
        for section in ("$defs", "definitions"):
            for name, definition in arguments.pop(section, {}).items():
                definitions[f"{number}.{name}"] = _referring(definition, number)
        one.append(
            {
                "type": "object",
                "properties": {
                    "name": {"const": function["name"]},
                    "arguments": _referring(arguments, number),
                },
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    at_most = {"maxItems": 1} if isinstance(choice, dict) or not parallel else {}
    shared = {"$defs": definitions} if definitions else {}
    return {"type": "array", "minItems": 1, "items": {"anyOf": one}, **at_most, **shared}


def _referring(schema: Any, number: int) -> Any:
    """Part of a tool's schema whose definitions have moved to the root of a schema of several."""
    if isinstance(schema, list):
        return [_referring(part, number) for part in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {key: _referring(part, number) for key, part in schema.items()}
    if isinstance(schema.get("$ref"), str):
        moved["$ref"] = re.sub(r"^#/(?:\$defs|definitions)/", f"#/$defs/{number}.", schema["$ref"])
    return moved


def _template(folder: Path) -> str:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8", errors="replace")
    try:
        told = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        found = told.get("chat_template")
    except (OSError, ValueError, AttributeError):  # a UnicodeDecodeError is a ValueError
        return ""
    if isinstance(found, list):  # several, by name
        by_name = {t.get("name"): t.get("template", "") for t in found if isinstance(t, dict)}
        found = by_name.get("tool_use") or by_name.get("default")
    return found if isinstance(found, str) else ""


def _tagged(text: str) -> tuple[list[Any], str]:
    """What stands in tags, and the text without it. JSON says where it ends: an argument may hold
    the closing tag. The last tag may be open, as its mark is also a token that ends an answer."""
    found, rest, at = [], [], 0
    while opened := _OPENED.search(text, at):
        rest.append(text[at : opened.start()])
        try:
            value, at = _JSON.raw_decode(text, opened.end())
        except (ValueError, RecursionError):
            return [None], text
        found.append(value)
        if closed := _CLOSED.match(text, at):
            at = closed.end()
        elif text[at:].strip():
            return [None], text
    return found, "".join((*rest, text[at:])).strip()


def _not_json(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


_JSON = json.JSONDecoder(parse_constant=_not_json)


def _loaded(text: str) -> Any:
    try:
        return _JSON.decode(text)
    except (ValueError, RecursionError):
        return None


def _named(found: Any, names: set[str]) -> tuple[str, str] | None:
    """Name and arguments as JSON."""
    name = found.get("name") if isinstance(found, dict) else None
    if not isinstance(name, str) or name not in names:
        return None
    arguments = found.get("arguments", found.get("parameters"))
    arguments = _loaded(arguments) if isinstance(arguments, str) else arguments
    if not isinstance(arguments, dict):
        return None
    try:
        # In ASCII: half a character, which JSON can write, is no text. 1e999 was read as inf.
        return name, json.dumps(arguments, allow_nan=False)
    except ValueError:
        return None


def _id(call: Call, number: int) -> str:
    """The same for the same call: an answer that is made again is the same answer."""
    told = f"{call.query_id}\n{call.arm}\n{call.sample}\n{number}"
    return f"call_{hashlib.blake2b(told.encode(), digest_size=12).hexdigest()}"
