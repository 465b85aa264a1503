"""What is wrong with a configuration, said in the file's own terms: line, key, and what to write.

pydantic finds the problems; which keys there are, the caller knows.
"""

from __future__ import annotations

from collections.abc import Callable

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from experts.errors import did_you_mean

UNFILLED = "FILL_IN"
"""What ``conclave init`` writes for a price that it cannot know."""
Location = tuple[int | str, ...]
_SHOWN_CHARS = 80


def explain(error: ValidationError, text: str, keys_at: Callable[[Location], list[str]]) -> str:
    """A line a problem. text: the file's; keys_at: the known keys of the section around a key."""
    tree = yaml.compose(text, Loader=yaml.SafeLoader)
    lines = []
    for problem in error.errors():
        where = f"line {_line_of(problem['loc'], tree)}, " if tree else ""
        lines.append(f"  {where}{_said(problem, keys_at)}")
    return "\n".join(lines)


def _said(problem: ErrorDetails, keys_at: Callable[[Location], list[str]]) -> str:
    location, given = problem["loc"], problem["input"]
    place = ".".join(str(p) for p in location) or "file"
    if problem["type"] == "extra_forbidden":
        return _unknown_key(location, keys_at)
    if given == UNFILLED:
        return (
            f"{place}: not filled in yet. Write the number of dollars "
            f"{'a call' if location[-1:] == ('call_usd',) else 'per million tokens'} in place "
            f"of {UNFILLED}; 0 only for what is really free."
        )
    of_a_tool = location[:1] == ("experts",) and {"headers", "env"} & set(location[-2:-1])
    if location[-1:] == ("api_key_env",) or of_a_tool:
        return (
            f"{place}: this must be the NAME of an environment variable, such as OPENAI_API_KEY. "
            "Keys do not belong in this file."
        )
    return f"{place}: {_what_to_write(problem)}"


def _unknown_key(location: Location, keys_at: Callable[[Location], list[str]]) -> str:
    key, place, known = str(location[-1]), ".".join(str(p) for p in location), keys_at(location)
    hint = did_you_mean(key, known)
    if "vllm" in location:
        if key in ("base_url", "api_base"):
            hint = " A server that somebody else starts is `kind: openai`."
        elif key in keys_at(("vllm", key)):
            hint = " It belongs under `vllm:`."
        elif key in keys_at(("vllm", "slots", key)):
            hint = " It belongs to one of the `slots:` under `vllm:`."
    return f"unknown key {place!r}.{hint} Known here: {', '.join(known)}."


def _what_to_write(problem: ErrorDetails) -> str:
    given, context = problem["input"], dict(problem.get("ctx", {}))
    got = f" (got {_shown(given)})"
    match problem["type"]:
        case "missing":
            # Reported with its whole section as input: more than anybody wants to read.
            said = "Field required (got nothing)"
        case "value_error":
            said = str(context["error"])
        case "union_tag_invalid":
            known = str(context["expected_tags"])
            close = did_you_mean(str(context["tag"]), [k.strip(" '") for k in known.split(",")])
            said = f"there is no kind {context['tag']!r}.{close} Known: {known}."
        case "union_tag_not_found":
            said = f"begin it with its kind, e.g. `kind: bundled`{got}"
        case "list_type" if isinstance(given, str):
            said = f"a list is needed: [{', '.join(given.split())}]{got}"
        case "list_type":
            said = f"a list is needed: [...], or lines that begin with `- `{got}"
        case "too_short":
            said = f"at least {context['min_length']} is needed; leave the key out for the default"
        case "model_type" | "dict_type":
            said = f"keys and values are needed, `key: value` a line{got}"
        case "string_type":
            said = f"text is needed; put it in quotes{got}"
        case "float_parsing" | "int_parsing":
            said = f"a number is needed, without a unit{got}"
        case _:
            said = f"{problem['msg']}{got}"
    return said


def _shown(given: object) -> str:
    text = repr(given)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."


def _line_of(location: Location, node: yaml.Node) -> int:
    """Line of the deepest part of a location that the file has; parts that it lacks (the kind of a
    union's member) are passed over."""
    line: int = node.start_mark.line
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = [(k, v) for k, v in node.value if k.value == part]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            found = [(item, item) for item in node.value[part : part + 1]]
        else:
            found = []
        for key, value in found:
            line, node = key.start_mark.line, value
    return line + 1
