"""How two steps are asked for in one text, and phrases of steps that nobody knows.

A composite is nested (``what is the token of the guild of Bem Stadur?``), in sequence (``Find
the guild of Bem Stadur. What is the token of that?``) or in one breath (``find the guild of Bem
Stadur, then name its token``). Unknown steps are made of random words: who is trained on a known
step beside them learns to do its own part whatever stands around it.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Protocol

from experts.lab.composites.names import made_up_person
from experts.lab.questions.grammar import (
    CLEAN,
    Noise,
    Pattern,
    Split,
    ask,
    in_shell,
    parse_pattern,
)
from experts.lab.questions.words import word_list

SUBJECT = "{s}"
"""Where what a composite is about stands, until it is filled in."""
_THAT = ("that", "the result", "what you get", "what comes out")
_IT = ("it", "that", "the result")
_THEN = (", then ", ", and then ", " and ")
_UNKNOWN_NOUNS = (
    "the {a} of {x}", "{x}'s {a}", "the {a} {b} of {x}", "the {a} that {x} {b}s",
    "the {a} by which {x} is {b}ed", "{x} in {a} {b}", "the number of {a}s in {x}",
    "the {a} letter of {x}", "the {a} that belongs to {x}", "the {a} used in {x}",
    "{x} {a}s in {b}", "{x} without its {a}s", "{x} with its {a} {b}ed",
)  # fmt: skip
_UNKNOWN_VERBS = (
    "{a} {x}", "name the {a} of {x}", "say which {a} {x} {b}s", "turn {x} into {a}s",
    "write {x} in {a} {b}s", "give {x}'s {a}", "look up the {a} of {x}", "tell the {a} {b} of {x}",
)  # fmt: skip
_NUMBER_SHARE = 0.3
_UNKNOWN_SUBJECTS = ("{name}", "{name}", "{c}", "{c}", "{c}, {d} and {e}", "{m} and {n}", "{n}")
UNKNOWN_WORDINGS = (*_UNKNOWN_NOUNS, *_UNKNOWN_VERBS)


class Wordings(Protocol):
    """Patterns with ``{x}``, nouns and verbs: a step's, or an unknown one's."""

    @property
    def patterns(self) -> tuple[Pattern, ...]: ...

    @property
    def takes_a_number(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Unknown:
    """The wordings of a step that is made up of random words."""

    patterns: tuple[Pattern, ...]
    takes_a_number: bool = False


def unknown_step(rng: Random) -> Unknown:
    """What it is done to is still open, as in a known one's."""
    words = dict(zip("ab", rng.sample(word_list(), 2), strict=True))

    def filled(text: str, form: str) -> Pattern:
        return parse_pattern(text.format(x="{x}", **words), form)

    noun, verb = rng.choice(_UNKNOWN_NOUNS), rng.choice(_UNKNOWN_VERBS)
    return Unknown((filled(noun, "noun"), filled(verb, "verb")), rng.random() < _NUMBER_SHARE)


def unknown_subject(rng: Random) -> str:
    """A person, a word, a list or numbers that nothing is known of."""
    words = dict(zip("cde", rng.sample(word_list(), 3), strict=True))
    m, n = rng.randint(1, 40), rng.randint(1, 40)
    return rng.choice(_UNKNOWN_SUBJECTS).format(name=made_up_person(rng), m=m, n=n, **words)


def ask_step(
    step: Wordings, subject: str, rng: Random, *, wordings: Split = "train", noise: Noise = CLEAN
) -> str:
    """One step by itself, as a question."""
    pattern = rng.choice(_of_split(step, wordings))
    return ask(_about(pattern, SUBJECT, rng), {"s": subject}, rng, shells_of=wordings, noise=noise)


def ask_composite(
    first: Wordings,
    second: Wordings,
    subject: str,
    rng: Random,
    *,
    wordings: Split = "train",
    noise: Noise = CLEAN,
) -> str:
    """The second step of what the first comes to, as one text."""
    form = rng.choice(("nested", "nested", "sequence", "breath"))
    if form == "nested":
        inner = _phrase(first, "noun", SUBJECT, rng, wordings)
        if _takes_a_number(second):
            inner = f"({inner})"
        template, shape = _phrase(second, "noun", inner, rng, wordings), "noun"
    elif form == "sequence":
        told = "that many" if _takes_a_number(second) else rng.choice(_THAT)
        begin = _phrase(first, "verb", SUBJECT, rng, wordings)
        rest = in_shell(_phrase(second, "noun", told, rng, wordings), "noun", rng, wordings)
        template, shape = f"{begin[:1].upper()}{begin[1:]}. {rest}", "full"
    else:
        told = "that many" if _takes_a_number(second) else rng.choice(_IT)
        begin = _phrase(first, "verb", SUBJECT, rng, wordings)
        rest = _phrase(second, "verb", told, rng, wordings)
        template, shape = f"{begin}{rng.choice(_THEN)}{rest}", "verb"
    slots = {"s": subject}
    return ask(parse_pattern(template, shape), slots, rng, shells_of=wordings, noise=noise)


def _takes_a_number(step: Wordings) -> bool:
    return step.takes_a_number


def _phrase(step: Wordings, form: str, about: str, rng: Random, wordings: Split) -> str:
    able = [p for p in _of_split(step, wordings) if p.form == form]
    able = able or [p for p in step.patterns if p.form == form]
    return rng.choice(able).choose(rng).replace("{x}", about)


def _of_split(step: Wordings, wordings: Split) -> list[Pattern]:
    """An unknown step has one wording of each form, whatever its split; and of a step with few
    wordings, all may be of the same split."""
    if isinstance(step, Unknown):
        return list(step.patterns)
    return [p for p in step.patterns if p.split == wordings] or list(step.patterns)


def _about(pattern: Pattern, what: str, rng: Random) -> Pattern:
    return parse_pattern(pattern.choose(rng).replace("{x}", what), pattern.form)
