"""A model's own tokenizer and chat template: conversations to token ids, token ids to text, and the
tool calls in a text."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from experts.tool_calls import arguments_of, openai_tool_calls, tools_of
from experts.tool_formats import ToolFormat, read_text
from experts.values import Call, Message, ToolCall

_IMPORT = threading.Lock()
"""transformers fills itself lazily: a second thread that imports meanwhile finds it half empty."""


class ChatTokenizer:
    """Of the model in ``folder``. Making one imports transformers and reads files: seconds."""

    def __init__(self, folder: Path, tool_format: ToolFormat | None = None) -> None:
        """tool_format: how the model writes tool calls; None for one that does not. Raises what
        transformers raises for a folder without a tokenizer: many things."""
        with _IMPORT:
            from transformers import AutoTokenizer

        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._tool_format: ToolFormat | None = tool_format
        self._marks: re.Pattern[str] = _pattern(_special_tokens(self._tokenizer))
        self.end_ids = _end_ids(folder, self._tokenizer.eos_token_id)
        """A model that says one of these has finished."""
        self.pad_id: int = self._tokenizer.pad_token_id or 0

    def encode(self, call: Call) -> list[int]:
        """Token ids of its chat and the caller's functions. What looks like a special token in a
        message must not act as one: it is cut out, or anyone could speak as the system by typing
        its mark.

        Raises what a chat template raises: no template, or one that refuses these roles."""
        text = self._tokenizer.apply_chat_template(
            [self._said(m) for m in call.messages],
            tools=self._cleaned(_with_parameters(tools_of(call.sampling.extra))) or None,
            add_generation_prompt=True,
            tokenize=False,
        )
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def read(self, text: str, call: Call) -> tuple[str, tuple[ToolCall, ...]]:
        """What a model said in answer to a call: the text, and the functions that it wants
        called."""
        tools = tools_of(call.sampling.extra)
        if not tools or not self._tool_format:
            return text, ()
        forced = "tool_choice" in dict(call.sampling.extra)  # a grammar's form, whatever its own
        return read_text(text, "json" if forced else self._tool_format, tools, call)

    def render(self, turns: list[dict[str, Any]]) -> str:
        """A conversation by the chat template, ready for the assistant. Raises what a template
        raises; marks in what was said are the caller's to cut (``without_marks``)."""
        text: str = self._tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, tokenize=False
        )
        return text

    def tokens_of(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids of a rendered text, and the characters that each stands for."""
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return encoded["input_ids"], encoded["offset_mapping"]

    def ids_of_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of rendered texts: in one call, which many short ones take less long in."""
        if not texts:
            return []
        ids: list[list[int]] = self._tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return ids

    def id_of(self, token: str) -> int | None:
        """None where the vocabulary has no such token."""
        found: int | None = self._tokenizer.convert_tokens_to_ids(token)
        # One that is unknown may get the id of what stands for such.
        is_it = found is not None and self._tokenizer.convert_ids_to_tokens(found) == token
        return found if is_it else None

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def decode_all(self, ids: Sequence[int]) -> str:
        """With special tokens as they are written."""
        text: str = self._tokenizer.decode(ids)
        return text

    def _said(self, message: Message) -> dict[str, Any]:
        """As templates expect it: OpenAI's form, but arguments are objects."""
        said: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.tool_calls:
            said["tool_calls"] = openai_tool_calls(message.tool_calls)
            for call in said["tool_calls"]:
                call["id"] = _short_id(call["id"])
                call["function"]["arguments"] = arguments_of(call["function"]["arguments"])
        if message.tool_call_id:
            said["tool_call_id"] = _short_id(message.tool_call_id)
        return {name: self._cleaned(value) for name, value in said.items()}

    def _cleaned(self, value: Any) -> Any:
        """Without marks, however deep they are."""
        if isinstance(value, str):
            return self.without_marks(value)
        if isinstance(value, dict):
            return {self._cleaned(k): self._cleaned(v) for k, v in value.items()}
        return [self._cleaned(v) for v in value] if isinstance(value, list) else value

    def without_marks(self, text: str) -> str:
        """A message without what looks like a special token."""
        while (cut := self._marks.sub(" ", text)) != text:  # a mark with a space may come of it
            text = cut
        return text


def _special_tokens(tokenizer: Any) -> set[str]:
    """Those with a role (end of a sequence, padding, ...), and those that only tokenizer.json tells
    of: Llama 3's ``<|start_header_id|>`` has none."""
    added = tokenizer.added_tokens_decoder.values()
    return {*tokenizer.all_special_tokens, *(str(token) for token in added if token.special)}


def _pattern(marks: Iterable[str]) -> re.Pattern[str]:
    """Any of them, the longest where one begins like another. Matches nothing where there are
    none."""
    longest_first = sorted(filter(None, marks), key=lambda mark: (-len(mark), mark))
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def _with_parameters(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Some templates go through the properties of all functions, also of one that takes nothing."""
    nothing = {"type": "object", "properties": {}}
    return [{**t, "function": {"parameters": nothing, **t["function"]}} for t in tools]


def _short_id(call_id: str) -> str:
    """Nine letters and digits, the same for a call and its result: Mistral's templates refuse any
    other id."""
    return hashlib.blake2b(call_id.encode(), digest_size=5).hexdigest()[:9]


def _end_ids(folder: Path, of_tokenizer: int | None) -> frozenset[int]:
    """Those of generation_config.json (or, without one, config.json) and the tokenizer's."""
    found: Any = None
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        if found is None and path.is_file():
            found = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
    ends: Iterable[int | None] = found if isinstance(found, list) else [found]
    return frozenset(i for i in (*ends, of_tokenizer) if i is not None)
