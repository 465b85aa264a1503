"""One conversation as every member reads it: its own tokens, on one scale of bytes.

The *shared text* is what was said: the contents of all messages, one behind the other. Each token
ends at a byte of it, whatever tokenizer and chat template it comes from; marks of a template end
where what was said before them ends. That scale is what makes states of different models comparable
in time: what ends later was not read yet. Where a character is several tokens, its first ones end
late for those who listen to them, and early for what they may listen to: nobody knows half of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from experts.local.chat_tokenizer import ChatTokenizer
from experts.values import Message

_HERE = "\ue000"
"""Marks the place for slots while a template is rendered; of the private use area of Unicode."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation, ready for the assistant to speak."""

    before: list[int]
    """Up to the end of the last message."""
    after: list[int]
    """The marks behind it; slots go between the two."""
    ends_before: list[int]
    """Where each token ends in the shared text, in bytes; a part of a character where that ends."""
    hears_before: list[int]
    """What each token may know of the shared text, in bytes: up to its end; a part of a character,
    but for the last one, up to where that begins."""
    n_bytes: int
    """Of the shared text; the tokens of ``after`` end there."""

    @property
    def ids(self) -> list[int]:
        return [*self.before, *self.after]

    @property
    def ends(self) -> list[int]:
        return [*self.ends_before, *([self.n_bytes] * len(self.after))]


def prompt_of(tokenizer: ChatTokenizer, messages: Sequence[Message]) -> Prompt:
    """Raises ValueError for a conversation without words of its own at the end, or a template that
    changes what was said; and what a chat template raises."""
    said = [tokenizer.without_marks(m.content) for m in messages]
    if not said or messages[-1].role != "user":
        raise ValueError("a latent expert answers a conversation that ends with a user's message")
    turns: list[dict[str, Any]] = [
        {"role": m.role, "content": text} for m, text in zip(messages, said, strict=True)
    ]
    turns[-1]["content"] += _HERE
    text = tokenizer.render(turns)
    head, here, tail = text.rpartition(_HERE)
    if not here:
        raise ValueError("the chat template leaves out the last message")
    starts = _starts(head, said)
    sizes = [len(s.encode()) for s in said]
    before, spans = tokenizer.tokens_of(head)
    after, _ = tokenizer.tokens_of(tail)
    ends = [end for _, end in spans]
    hears = [
        min(end, begin) if begin < after_it else end
        for end, (begin, after_it) in zip(ends, [*spans[1:], (len(head), len(head))], strict=True)
    ]
    return Prompt(
        before,
        after,
        _byte_ends(ends, said, starts, sizes),
        _byte_ends(hears, said, starts, sizes),
        sum(sizes),
    )


def _starts(text: str, said: Sequence[str]) -> list[int]:
    """Where each message begins in the rendered text."""
    starts: list[int] = []
    place = 0
    for content in said:
        found = text.find(content, place)
        if found < 0:
            raise ValueError("the chat template changes what was said; byte offsets are lost")
        starts.append(found)
        place = found + len(content)
    return starts


def _byte_ends(
    ends: Sequence[int], said: Sequence[str], starts: Sequence[int], sizes: Sequence[int]
) -> list[int]:
    """Character ends in the rendered text as byte ends in the shared text."""
    earlier = [0, *accumulate(sizes)]
    found: list[int] = []
    i = 0
    for end in ends:
        while i + 1 < len(said) and end > starts[i + 1]:
            i += 1
        inside = max(0, min(end - starts[i], len(said[i])))
        found.append(earlier[i] + len(said[i][:inside].encode()))
    return found
