"""Letters and words of a text: ``python -m experts.tools.servers.text``.

What models that read tokens are bad at: counting letters, writing backwards. A letter is what
people take for one, so an é is one letter, however it is encoded.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, Any, Literal

from pydantic import Field

from experts.tools.servers.serving import run, server

MAX_CHARS = 20_000
_WORD = re.compile(r"[\w'\u2019-]*\w[\w'\u2019-]*")

Text = Annotated[str, Field(description="The text", max_length=MAX_CHARS)]


class BadText(ValueError):
    """What is wrong with a text."""


def count(
    text: Text,
    what: Annotated[
        Literal["characters", "letters", "words", "lines", "vowels", "part"],
        Field(description="part: how often `part` is in it"),
    ],
    part: Annotated[str | None, Field(description="A letter or more, for what = part")] = None,
    ignore_case: Annotated[
        bool, Field(description="Small and capital letters are the same")
    ] = True,
) -> str:
    """Count characters, letters, words, lines, vowels, or how often a part (a letter, say) is in a
    text. Parts are counted without overlap."""
    marks = graphemes(text)
    if what == "part":
        if not part:
            raise BadText("say which part to count")
        wanted = graphemes(part)
        if ignore_case:
            marks, wanted = [m.casefold() for m in marks], [m.casefold() for m in wanted]
        return str(_occurrences(marks, wanted))
    counts = {
        "characters": len(marks),
        "letters": sum(m[0].isalpha() for m in marks),
        "words": len(_WORD.findall(text)),
        "lines": len(text.splitlines()),
        "vowels": sum(_plain(m) in "aeiou" for m in marks if m[0].isalpha()),
    }
    return str(counts[what])


def change(
    text: Text,
    how: Annotated[
        Literal[
            "backwards",
            "capitals",
            "small",
            "title",
            "words_backwards",
            "without_vowels",
            "without_spaces",
            "sorted_letters",
        ],
        Field(description="What to do with it"),
    ],
) -> str:
    """Write a text otherwise: backwards, in capitals, in small letters, each word capitalised, with
    the words in reverse order, without vowels, without spaces, or its letters sorted."""
    marks = graphemes(text)
    if how == "backwards":
        return "".join(reversed(marks))
    if how == "without_vowels":
        return "".join(m for m in marks if not (m[0].isalpha() and _plain(m) in "aeiou"))
    if how == "sorted_letters":
        return "".join(sorted(m for m in marks if m[0].isalpha()))
    changed: dict[str, str] = {
        "capitals": text.upper(),
        "small": text.lower(),
        "title": re.sub(r"\S+", lambda m: m[0][:1].upper() + m[0][1:].lower(), text),
        "words_backwards": " ".join(reversed(text.split())),
        "without_spaces": "".join(text.split()),
    }
    return changed[how]


def replace(
    text: Text,
    old: Annotated[str, Field(min_length=1, description="What is replaced, as it is written")],
    new: Annotated[str, Field(max_length=1000, description="By this; may be empty")],
) -> str:
    """Replace every occurrence of a part of a text."""
    return text.replace(old, new)


def find(
    text: Text,
    position: Annotated[int, Field(description="1 is the first, -1 the last")],
    unit: Annotated[Literal["letter", "word", "line"], Field(description="What is counted")],
) -> str:
    """The letter, word or line at a position of a text, counted from 1, or from its end."""
    units: list[str] = {
        "letter": [m for m in graphemes(text) if m[0].isalpha()],
        "word": _WORD.findall(text),
        "line": text.splitlines(),
    }[unit]
    if not 1 <= abs(position) <= len(units):
        raise BadText(f"there is no {unit} {position}; the text has {len(units)}")
    return units[position - 1 if position > 0 else position]


def graphemes(text: str) -> list[str]:
    """Characters with the marks that follow them.

    >>> len(graphemes("e\\u0301"))
    1
    """
    found: list[str] = []
    for character in unicodedata.normalize("NFC", text):
        if found and unicodedata.combining(character):
            found[-1] += character
        else:
            found.append(character)
    return found


def _plain(mark: str) -> str:
    return unicodedata.normalize("NFD", mark)[0].lower()


def _occurrences(marks: list[str], wanted: list[str]) -> int:
    n = at = 0
    while at + len(wanted) <= len(marks):
        if marks[at : at + len(wanted)] == wanted:
            n, at = n + 1, at + len(wanted)
        else:
            at += 1
    return n


def make() -> Any:
    return server(
        "text", "Counting and rewriting of letters and words.", count, change, replace, find
    )  # fmt: skip


if __name__ == "__main__":
    run(make())
