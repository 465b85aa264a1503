"""What some calls ask for beyond sampling, in the fields of vLLM's ``/v1/completions``.

Penalties and biases are the same there as in a chat. Log-probabilities of tokens are a number of
alternatives, told as ids. Guided output has one field, ``structured_outputs``; vLLM 0.12 dropped
the older ``guided_*`` names, which clients still send (docs.vllm.ai, structured outputs).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from experts.tool_formats import forced_schema

if TYPE_CHECKING:
    from experts.vllm.asking import Token

_GUIDED = {
    "guided_json": "json",
    "guided_regex": "regex",
    "guided_choice": "choice",
    "guided_grammar": "grammar",
}


def completion_fields(extra: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Fields of a completions request, of ``Sampling.extra``.

    >>> completion_fields([("guided_choice", '["yes", "no"]'), ("top_logprobs", "2")])
    {'logprobs': 2, 'structured_outputs': {'choice': ['yes', 'no']}}
    """
    asked = {name: json.loads(text) for name, text in extra}
    asked.pop("logprobs", None)  # those of the tokens themselves are always told
    tools, parallel = asked.pop("tools", []), asked.pop("parallel_tool_calls", True)
    if choice := asked.pop("tool_choice", None):  # the template has told of the tools
        asked["guided_json"] = forced_schema(tools, choice, parallel=parallel)
    fields: dict[str, Any] = {}
    if n := asked.pop("top_logprobs", None):
        fields["logprobs"] = n
    guided = {of: asked.pop(name) for name, of in _GUIDED.items() if name in asked}
    if guided:
        # Two ways to say one thing, or two things: vLLM refuses what contradicts itself.
        asked["structured_outputs"] = {**asked.get("structured_outputs", {}), **guided}
    return fields | asked


def wants_logprobs(extra: Iterable[tuple[str, str]]) -> bool:
    return ("logprobs", "true") in extra


def n_alternatives(extra: Iterable[tuple[str, str]]) -> int:
    """How many likely tokens are to be told beside each one."""
    return int(dict(extra).get("top_logprobs", "0"))


def openai_logprobs(tokens: Sequence[Token], text_of: Callable[[list[int]], str]) -> str:
    """OpenAI's ``logprobs.content``, as JSON."""

    texts: dict[int, str] = {}  # the same ones come again and again

    def entry(token: int, logprob: float) -> dict[str, Any]:
        if token not in texts:
            texts[token] = text_of([token])
        text = texts[token]
        # Part of a character: no text has these bytes.
        data = None if "\ufffd" in text else list(text.encode())
        return {"token": text, "logprob": logprob, "bytes": data}

    content = [
        {**entry(t.id, t.logprob), "top_logprobs": [entry(i, p) for i, p in t.top]} for t in tokens
    ]
    return json.dumps(content, ensure_ascii=False)
