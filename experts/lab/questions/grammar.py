"""Wordings: how one question can be asked in many ways.

A *pattern* is text with slots and alternatives: ``the [sum|total] of {a} and {b}``. The patterns of
a skill are lines of ``patterns/{skill}.txt``, by grammatical form (noun phrase, verb phrase,
question, full text); *shells*, in ``patterns/shells.txt``, turn a phrase into something a person
would type. By a hash of its text a wording is of the split train (four in five), val or test (one
in ten each): those of val and test are never trained on, so that accuracy on them measures
understanding rather than recall, and those of test are kept for reporting.

Drawing the slots' values belongs to the skills; nothing here knows what a question means.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from random import Random
from typing import Literal, get_args

HELD_OUT_EVERY = 5
Split = Literal["train", "val", "test"]
FORMS = ("noun", "verb", "ask", "full")

OPENERS = (
    "Hi!", "Hello,", "Hey there.", "Good morning.", "Quick one:", "For my homework:", "I am stuck.",
    "Please help.", "OK,", "We are playing a quiz.", "This came up at work today.", "Hi there,",
    "My son asked me this.", "I am doing a puzzle.", "One more:", "Excuse me,", "Next question.",
)  # fmt: skip
CLOSERS = (
    "Thanks!", "Thank you.", "Just the answer, please.", "Answer briefly.", "Thanks in advance.",
    "Only the answer.", "I need it for school.", "No explanation needed.", "Please be quick.",
)  # fmt: skip

_TOKEN = re.compile(r"\[([^\[\]]*)\]|\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Pattern:
    """One wording of a skill, parsed once."""

    text: str
    """As written in its file; the identity that splits hash."""
    form: str
    split: Split
    parts: tuple[tuple[str, ...] | str, ...]
    """Literals and ``{slot}`` texts as strings, alternatives as tuples of such texts."""

    def choose(self, rng: Random) -> str:
        """One of the texts that the pattern stands for, its slots still open."""
        return "".join(p if isinstance(p, str) else rng.choice(p) for p in self.parts)


def _parts(text: str) -> tuple[tuple[str, ...] | str, ...]:
    parts: list[tuple[str, ...] | str] = []
    end = 0
    for match in _TOKEN.finditer(text):
        if match.group(1) is None:
            continue  # a slot outside of alternatives stays in the literal
        parts += [text[end : match.start()], tuple(match.group(1).split("|"))]
        end = match.end()
    return tuple(p for p in (*parts, text[end:]) if p)


def content_hash(content: str) -> int:
    """A number in [0, 65536) that is the same on every machine and in every run."""
    return int.from_bytes(hashlib.blake2b(content.encode(), digest_size=2).digest(), "big")


def read_patterns(name: str, room: str = "experts.lab.questions") -> tuple[Pattern, ...]:
    """Patterns of ``patterns/{name}.txt`` in a room: a line each, under ``# noun``, ``# verb``, ...

    Raises ValueError for an unknown form: a typing error there would silently lose wordings.
    """
    text = files(room).joinpath(f"patterns/{name}.txt").read_text("utf-8")
    patterns: list[Pattern] = []
    form = ""
    for line in filter(None, text.splitlines()):
        if line.startswith("# "):
            form = line[2:]
            if form not in FORMS:
                raise ValueError(f"{name}.txt: unknown form {form!r}; known: {', '.join(FORMS)}.")
        else:
            patterns.append(parse_pattern(line, form))
    return tuple(patterns)


def parse_pattern(text: str, form: str) -> Pattern:
    return Pattern(text, form, _split_of(text), _parts(text))


def _split_of(line: str) -> Split:
    which, rest = content_hash(line) // HELD_OUT_EVERY, content_hash(line) % HELD_OUT_EVERY
    return "train" if rest else "val" if which % 2 else "test"


SHELLS = read_patterns("shells")
_SHELLS: Mapping[tuple[str, Split], tuple[Pattern, ...]] = {
    (form, split): tuple(s for s in SHELLS if s.form == form and s.split == split)
    for form in FORMS
    for split in get_args(Split)
}


@dataclass(frozen=True, slots=True)
class Noise:
    """How often a text is spoilt the way hurried people spoil theirs; each in [0, 1]."""

    typo: float = 0.0
    """Chance of one letter dropped or two swapped, outside of the slots."""
    strange_word: float = 0.0
    """Chance of a word or two of the wording being replaced by one that nobody knows, or lost."""
    lower_case: float = 0.0
    no_punctuation: float = 0.0


CLEAN = Noise()


def ask(
    pattern: Pattern,
    slots: Mapping[str, str],
    rng: Random,
    *,
    shells_of: Split = "train",
    noise: Noise = CLEAN,
) -> str:
    """One finished question: pattern in a shell, sometimes with an opener or a closer."""
    text = in_shell(pattern.choose(rng), pattern.form, rng, shells_of)
    dice = rng.random()
    if dice < 0.10:
        text = f"{rng.choice(OPENERS)} {text}"
    elif dice < 0.17 and text[-1] in ".?!":
        text = f"{text} {rng.choice(CLOSERS)}"
    if rng.random() < noise.strange_word:
        text = _with_strange_word(text, rng)
    if rng.random() < noise.typo:
        text = _with_typo(text, rng)
    if rng.random() < noise.no_punctuation:
        text = text.rstrip(".?!")
    text = text.format_map(slots)
    return text.lower() if rng.random() < noise.lower_case else text


def in_shell(text: str, form: str, rng: Random, shells_of: Split = "train") -> str:
    """A phrase as something that a person would type; its slots stay open."""
    if shells := _SHELLS[form, shells_of]:  # a full text needs none
        text = rng.choice(shells).choose(rng).replace("{_}", text)
    return text[:1].upper() + text[1:]


def _with_strange_word(template: str, rng: Random) -> str:
    """Scramble or drop one or two words outside of the slots: a reader learns to go by the rest,
    as it must when it meets a wording with words that it never saw."""
    for _ in range(rng.choice((1, 1, 2))):
        spots = list(re.finditer(r"(?<![\w{])[A-Za-z]{3,}(?![\w}])", template))
        if not spots:
            return template
        spot = rng.choice(spots)
        letters = list(spot.group())
        rng.shuffle(letters)
        word = "".join(letters) if rng.random() < 0.7 else ""
        template = template[: spot.start()] + word + template[spot.end() :]
    return template


def _with_typo(template: str, rng: Random) -> str:
    """Drop a letter, or swap it with the next, in a word outside of the slots."""
    spots = [m.start() for m in re.finditer(r"(?<=[a-z])[a-z](?=[a-z])(?![^{]*\})", template)]
    if not spots:
        return template
    i = rng.choice(spots)
    middle = "" if rng.random() < 0.5 else template[i + 1] + template[i]
    return template[:i] + middle + template[i + (2 if middle else 1) :]


def wording_words(patterns: Sequence[Pattern]) -> set[str]:
    """Words of the trained wordings, without slots: what the word tokenizer keeps whole."""
    texts = [p.text for p in (*patterns, *SHELLS) if p.split == "train"]
    texts += [*OPENERS, *CLOSERS]
    return {w for t in texts for w in re.findall(r"[A-Za-z]+", re.sub(r"\{\w+\}", " ", t))}
