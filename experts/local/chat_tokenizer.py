"""A model's own tokenizer and chat template: conversations to token ids, token ids to text."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from experts.values import Message

_IMPORT = threading.Lock()
"""transformers fills itself lazily: a second thread that imports meanwhile finds it half empty."""


class ChatTokenizer:
    """Of the model in ``folder``. Making one imports transformers and reads files: seconds."""

    def __init__(self, folder: Path) -> None:
        """Raises what transformers raises for a folder without a tokenizer: many things."""
        with _IMPORT:
            from transformers import AutoTokenizer

        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self._special: list[str] = self._tokenizer.all_special_tokens
        self.end_ids = _end_ids(folder, self._tokenizer.eos_token_id)
        """A model that says one of these has finished."""
        self.pad_id: int = self._tokenizer.pad_token_id or 0

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of the chat. What looks like a special token in a message must not act as one:
        it is cut out, or anyone could speak as the system by typing its mark.

        Raises what a chat template raises: no template, or one that refuses these roles."""
        said = [{"role": m.role, "content": self._without_marks(m.content)} for m in messages]
        text = self._tokenizer.apply_chat_template(said, add_generation_prompt=True, tokenize=False)
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def decode_all(self, ids: Sequence[int]) -> str:
        """With special tokens as they are written."""
        text: str = self._tokenizer.decode(ids)
        return text

    def _without_marks(self, text: str) -> str:
        for mark in self._special:
            text = text.replace(mark, " ")
        return text


def _end_ids(folder: Path, of_tokenizer: int | None) -> frozenset[int]:
    """Those of generation_config.json (or, without one, config.json) and the tokenizer's."""
    found: Any = None
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        if found is None and path.is_file():
            found = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
    ends: Iterable[int | None] = found if isinstance(found, list) else [found]
    return frozenset(i for i in (*ends, of_tokenizer) if i is not None)
