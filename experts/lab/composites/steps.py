"""The steps: what each member can do, and how it is asked for.

A step takes a text and gives a text. Its wordings (``patterns/{step}.txt``) are noun phrases and
verb phrases around ``{x}``, what it is done to: a person, a word, a list, a number, or another
phrase.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal

from experts.lab.composites import world
from experts.lab.questions.grammar import Pattern, read_patterns
from experts.lab.questions.words import VOWELS, word_list

MemberName = Literal["people", "guilds", "sums"]
Kind = Literal["person", "guild", "capital", "country", "word", "list", "numbers", "number", "end"]
"""What a step takes and gives; an end is taken by no other step."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that one member can do."""

    name: str
    member: MemberName
    takes: Kind
    gives: Kind
    draw: Callable[[Random], str]
    """What it is done to when it is asked for by itself, as text."""
    do: Callable[[str], str]
    patterns: tuple[Pattern, ...]
    is_fact: bool = False

    @property
    def takes_a_number(self) -> bool:
        return self.takes == "number"


def _second_letter(word: str) -> str:
    return word[1:2]


def _without_vowels(word: str) -> str:
    return "".join(c for c in word if c not in VOWELS)


def _ends_swapped(word: str) -> str:
    return word[-1] + word[1:-1] + word[0]


def _items(text: str) -> list[str]:
    """Of a list as it is written: ``cat, stone and tree``.

    >>> _items("cat, stone and tree")
    ['cat', 'stone', 'tree']
    """
    return text.replace(" and ", ", ").split(", ")


def _longest(text: str) -> str:
    return max(_items(text), key=len)


def _numbers(text: str) -> list[int]:
    return [int(n) for n in _items(text)]


def _any_word(rng: Random) -> str:
    """Short enough to be thought in one go, with something to leave out and something to keep."""
    while True:
        word = rng.choice(word_list())
        if 4 <= len(word) <= 8 and 0 < len(_without_vowels(word)) < len(word):
            return word


def _three_words(rng: Random) -> str:
    """No two as long as each other, so that one is the longest."""
    while True:
        a, b, c = words = [_any_word(rng) for _ in range(3)]
        if len({len(w) for w in words}) == 3:
            return f"{a}, {b} and {c}"


def _two_numbers(rng: Random, most: int) -> str:
    a = rng.randint(1, most)
    return f"{a} and {rng.choice([n for n in range(1, most + 1) if n != a])}"


MAX_SUM = 40


def _step(
    name: str,
    member: MemberName,
    takes: Kind,
    gives: Kind,
    draw: Callable[[Random], str],
    do: Callable[[str], str],
    *,
    is_fact: bool = False,
) -> Step:
    patterns = read_patterns(name, "experts.lab.composites")
    return Step(name, member, takes, gives, draw, do, patterns, is_fact)


def _fact(
    name: str, member: MemberName, takes: Kind, gives: Kind, table: Mapping[str, str]
) -> Step:
    keys = tuple(table)
    return _step(
        name, member, takes, gives, lambda rng: rng.choice(keys), table.__getitem__, is_fact=True
    )


STEPS: tuple[Step, ...] = (
    _fact("guild", "people", "person", "guild", world.GUILD_OF),
    _fact("country", "people", "capital", "country", world.COUNTRY_OF),
    _step("reverse", "people", "word", "word", _any_word, lambda w: w[::-1]),
    _step("drop_vowels", "people", "word", "word", _any_word, _without_vowels),
    _step("swap_ends", "people", "word", "word", _any_word, _ends_swapped),
    _fact("token", "guilds", "guild", "end", world.TOKEN_OF),
    _fact("currency", "guilds", "country", "end", world.CURRENCY_OF),
    _step("second_letter", "guilds", "word", "end", _any_word, _second_letter),
    _step("last_letter", "guilds", "word", "end", _any_word, lambda w: w[-1]),
    _step("capitals", "guilds", "word", "end", _any_word, str.upper),
    _step("longest", "guilds", "list", "word", _three_words, _longest),
    _step("first_in_alphabet", "guilds", "list", "word", _three_words, lambda t: min(_items(t))),
    _step("last_named", "guilds", "list", "word", _three_words, lambda t: _items(t)[-1]),
    _step("weeks", "guilds", "number", "end", lambda r: str(r.randint(1, MAX_SUM)),
          lambda n: str(7 * int(n))),
    _step("dozens", "guilds", "number", "end", lambda r: str(r.randint(1, MAX_SUM)),
          lambda n: str(12 * int(n))),
    _step("hours", "guilds", "number", "end", lambda r: str(r.randint(1, MAX_SUM)),
          lambda n: str(60 * int(n))),
    _step("add", "sums", "numbers", "number", lambda r: _two_numbers(r, MAX_SUM // 2),
          lambda t: str(sum(_numbers(t)))),
    _step("subtract", "sums", "numbers", "number", lambda r: _two_numbers(r, MAX_SUM),
          lambda t: str(max(_numbers(t)) - min(_numbers(t)))),
    _step("double", "sums", "number", "number", lambda r: str(r.randint(1, MAX_SUM // 2)),
          lambda n: str(2 * int(n))),
)  # fmt: skip
STEP_OF: Mapping[str, Step] = {s.name: s for s in STEPS}


def pairs() -> tuple[tuple[Step, Step], ...]:
    """All composites of two members: first and second step."""
    return tuple(
        (a, b) for a in STEPS for b in STEPS if a.member != b.member and a.gives == b.takes
    )
