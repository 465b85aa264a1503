"""Which answers to a question are the same: numbers by value, literals by meaning, text as it is.

Votes and answer models go by it, live and on recorded outcomes alike; graders need not agree with
it (they judge against a reference). Nothing here looks at who is right.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from experts.numbers import last_number

_ASSERTED = re.compile(r"\A\s*assert\b.*?==\s*(.+)\Z", re.S)
_OPTION = re.compile(r"\(([A-Z])\)")
_REMEMBERED_CHARS = 200
_LITERAL_START = tuple("[({'\"")
_CONSTANTS = ("True", "False", "None")


def answer_numbers(answers: np.ndarray) -> np.ndarray:
    """(n_queries, n_arms) integers, equal within a row where answers are; -1 for none.

    answers: (n_queries, n_arms) objects, text or None.
    """
    numbers = np.full(answers.shape, -1)
    for i, row in enumerate(answers):
        numbers[i] = numbered(canonical(row))
    return numbers


def numbered(keys: Sequence[str | None]) -> np.ndarray:
    """(n,) integers in order of appearance, equal where keys are; -1 for None."""
    seen: dict[str, int] = {}
    return np.array([-1 if k is None else seen.setdefault(k, len(seen)) for k in keys], int)


def canonical(answers: Sequence[str | None]) -> list[str | None]:
    """One writing for each distinct answer to one question; None for no answer.

    Where at least half of the answers are plain numbers, a sentence stands for the number that it
    ends in.

    >>> canonical(["1,250", "$1250.00", "It costs 1250", "x", None])
    ['1250', '1250', '1250', 'x', None]
    >>> canonical(["B", "(B)", "Lima", "lima"])
    ['B', 'B', 'Lima', 'lima']
    >>> canonical(["'abc'", "abc", "assert f(1) == 'abc'", "[1,2]", "[1, 2]"])
    ['abc', 'abc', 'abc', '[1, 2]', '[1, 2]']
    """
    plain = [_alone(a) if a and a.strip() else None for a in answers]
    kinds = [found[0] for found in plain if found is not None]
    numeric = kinds.count("number") * 2 >= max(1, len(kinds))
    keys: list[str | None] = []
    for found in plain:
        if found is None:
            keys.append(None)
            continue
        kind, key = found
        if kind == "text" and numeric and (number := last_number(key)) is not None:
            key = str(number.value)
        keys.append(key)
    return keys


def _alone(answer: str) -> tuple[str, str]:
    """Kind (number, literal or text) and canonical writing of one answer by itself."""
    # A strategy compares all that it has heard after every step.
    return _short_alone(answer) if len(answer) <= _REMEMBERED_CHARS else _read_alone(answer)


@lru_cache(maxsize=4096)
def _short_alone(answer: str) -> tuple[str, str]:
    return _read_alone(answer)


def _read_alone(answer: str) -> tuple[str, str]:
    text = answer.strip().strip("`").strip()
    if asserted := _ASSERTED.match(text):
        text = asserted[1].strip()
    if option := _OPTION.fullmatch(text):
        return "text", option[1]
    if text.startswith(_LITERAL_START) or text in _CONSTANTS:
        written = _literal(text)
        if written is not None:
            return "literal", written
    if len(text) < _SHORT and (number := last_number(text)) is not None and _only_a_number(text):
        return "number", str(number.value)
    return "text", " ".join(text.split())


def _ordered(value: object) -> object:
    """The same value, written one way: the order of a dictionary's keys says nothing."""
    if isinstance(value, dict):
        return {k: _ordered(value[k]) for k in sorted(value, key=repr)}
    if isinstance(value, set):
        return sorted(map(repr, value))
    if isinstance(value, list | tuple):
        return type(value)(_ordered(v) for v in value)
    return value


_SHORT = 60


def _literal(text: str) -> str | None:
    """A literal's canonical writing; None where the text is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a model's "\d" is no business of ours
        try:
            value = ast.literal_eval(text)
            return value if isinstance(value, str) else repr(_ordered(value))
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            # TypeError: {{}}, a set of what cannot be in one. ValueError: also an integer of more
            # digits than Python writes (0xfff...), which it does read.
            return None


_NUMBER_PARTS = re.compile(r"[-+\u2212$€£%\d.,/\s{}()^*]|\\[a-z]*frac|\\[!,;:$%]")


def _only_a_number(text: str) -> bool:
    """Nothing but a number and its dress: signs, separators, a currency, a LaTeX fraction."""
    return not _NUMBER_PARTS.sub("", text)
