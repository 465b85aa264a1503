"""Questions of two skills in sequence: the second part needs what the first one comes to.

``What is the capital of Peru? Now take the answer. Spell that word backwards.`` Both parts are
drawn as the laboratory draws them, from two categories, so no expert but the generalist was trained
on both, and none on such questions. They are put as one text: whoever is to take them apart has to
do it himself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from eval.questions import Question, as_question
from experts.lab.questions import SKILLS, LabSkill, draw_question
from experts.lab.questions.grammar import ask
from experts.lab.questions.skill import Draw, Split
from experts.lab.questions.words import VOWELS

LINKS = ("Now take the answer.", "With that:", "Then, with the result:", "Next step:")
_SKILLS: Mapping[str, LabSkill] = {s.name: s for s in SKILLS}
_MARK = "\N{WHITE SQUARE}"
"""Stands for the first part's answer; no wording holds it."""
_MIN_LETTERS, _MAX_LETTERS = 3, 9
"""Of a word that is handed on: as long as those that experts learned to spell."""
_MAX_NUMBER = 999
_NO_ENGLISH = ("{t}", "{c}", "{low}", "word {w}", "number {a}", "number {b}")
"""A shop sold that number apples; the word that word."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TwoParts:
    """A question, and its parts for whoever is told them."""

    question: Question
    first: Question
    second_form: str
    """With a mark for the first part's answer."""

    def second(self, said: str) -> str:
        """The second part as a question that stands by itself."""
        return self.second_form.replace(_MARK, said.strip() or "nothing")


Second = Callable[[str, Random], tuple[Draw, str]]
"""The problem that an answer leads to, its slots with a mark for the answer; and how the answer is
referred to."""


def _rewriting(rewrite: Callable[[str], str]) -> Second:
    def second(word: str, rng: Random) -> tuple[Draw, str]:
        return Draw(word.lower(), {"w": _MARK}, rewrite(word)), "that word"

    return second


def _adding(number: str, rng: Random) -> tuple[Draw, str]:
    a, b = int(number), rng.randint(1, 99)
    low, high = sorted((a, b))
    return Draw(f"{low}+{high}", {"a": _MARK, "b": str(b)}, str(a + b)), "that number"


def _subtracting(number: str, rng: Random) -> tuple[Draw, str]:
    a = int(number)
    b = rng.randint(1, max(1, a - 1))
    return Draw(f"{a}-{b}", {"a": _MARK, "b": str(b)}, str(a - b)), "that number"


def _multiplying(number: str, rng: Random) -> tuple[Draw, str]:
    a, b = int(number), rng.randint(2, 9)
    low, high = sorted((a, b))
    return Draw(f"{low}*{high}", {"a": _MARK, "b": str(b)}, str(a * b)), "that number"


_SECOND: Mapping[str, Second] = {
    "reverse_word": _rewriting(lambda w: w[::-1]),
    "remove_vowels": _rewriting(lambda w: "".join(c for c in w if c.lower() not in VOWELS)),
    "uppercase": _rewriting(str.upper),
    "count_letters": _rewriting(lambda w: str(len(w))),
    "addition": _adding,
    "subtraction": _subtracting,
    "multiplication": _multiplying,
}
_TO_WORDS = ("capital", "language", "element_of_symbol", "pick_position", "weekday", "month")
_TO_NUMBERS = ("count_letters", "atomic_number", "pick_extreme")
_SECOND_OF = {
    **dict.fromkeys(_TO_WORDS, ("reverse_word", "remove_vowels", "uppercase", "count_letters")),
    **dict.fromkeys(_TO_NUMBERS, ("addition", "subtraction", "multiplication")),
}
"""Which skills can follow a first one; always of another category."""


def two_part_questions(n: int, split: Split, *, seed: int) -> list[TwoParts]:
    """``n`` questions, none twice; both problems are of the split, and half of the first parts and
    half of the second ones are asked in wordings of the split, which nobody was trained on."""
    rng = Random(f"sequences/{seed}/{split}")
    drawn: dict[str, TwoParts] = {}
    while len(drawn) < n:
        name = rng.choice(tuple(_SECOND_OF))
        found = _drawn(_SKILLS[name], _SKILLS[rng.choice(_SECOND_OF[name])], split, rng)
        if found is not None:
            drawn[found.question.question] = found
    return list(drawn.values())


def _drawn(head: LabSkill, tail: LabSkill, split: Split, rng: Random) -> TwoParts | None:
    """None where what was drawn does not fit together."""
    first = draw_question(head, rng, split, held_out_wording=rng.random() < 0.5)
    if not _can_be_handed_on(first.answer, as_number=head.name in _TO_NUMBERS):
        return None
    problem, reference = _SECOND[tail.name](first.answer, rng)
    wordings: Split = split if rng.random() < 0.5 else "train"
    able = [
        p
        for p in tail.patterns
        if p.split == wordings and not any(slot in p.text for slot in _NO_ENGLISH)
    ]
    pattern = rng.choice(able)
    if not problem.answer or tail.split_of(problem, pattern) != split:
        return None
    second = ask(pattern, problem.slots, rng)
    stop = "" if first.text[-1] in ".?!:" else "."
    text = f"{first.text}{stop} {rng.choice(LINKS)} {second.replace(_MARK, reference)}"
    return TwoParts(
        question=Question(
            question=text,
            answer=problem.answer,
            split=split,
            grader="exact_case" if tail.case_matters else "exact",
        ),
        first=as_question(first, split),
        second_form=second,
    )


def _can_be_handed_on(answer: str, *, as_number: bool) -> bool:
    if as_number:
        return answer.isdecimal() and 1 <= int(answer) <= _MAX_NUMBER
    return answer.isalpha() and answer.isascii() and _MIN_LETTERS <= len(answer) <= _MAX_LETTERS
