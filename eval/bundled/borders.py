"""Questions at the borders of fields: they look like another expert's, and are not.

Two kinds. *Borrowed words*: a task of one field on words of another ("Spell zinc backwards", "Which
is the second of peru, chad, mali?"). *Near wordings*: among many wordings that nobody was trained
on, those whose words are nearest to questions of another category. Neither asks a router which
questions it finds hard: that would be another examination for each router.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from random import Random

import numpy as np

from eval.questions import Question, as_question
from experts.lab.questions import SKILLS, LabQuestion, draw_question
from experts.lab.questions.facts import table
from experts.lab.questions.grammar import ask
from experts.lab.questions.lists import ORDINALS, POSITIONS
from experts.lab.questions.skill import Draw, Split
from experts.lab.questions.units import MONTHS, WEEKDAYS
from experts.lab.questions.words import VOWELS
from skills.embedders import make_embedder

_DRAWN_FOR_ONE = 10
"""Wordings that are drawn for each that is kept."""
_KNOWN_PER_SKILL = 40
_WORDS = "hashing-1024"
_MIN_LETTERS, _MAX_LETTERS = 3, 9


def border_questions(n: int, split: Split, *, seed: int) -> list[Question]:
    """``n`` questions, none twice: borrowed words, and near wordings, half of each."""
    rng = Random(f"borders/{seed}/{split}")
    borrowed: dict[str, Question] = {}
    while len(borrowed) < n // 2:
        if (question := _borrowed(split, rng)) is not None:
            borrowed[question.question] = question
    near = [q for q in _near_wordings(n, split, rng) if q.question not in borrowed]
    return [*borrowed.values(), *near[: n - len(borrowed)]]


@cache
def _foreign_words() -> tuple[str, ...]:
    """Countries, elements, weekdays and months that can be spelled as other words are."""
    names = [r["country"] for r in table("countries")] + [r["element"] for r in table("elements")]
    lower = (name.lower() for name in (*names, *WEEKDAYS, *MONTHS))
    return tuple(
        w
        for w in dict.fromkeys(lower)
        if w.isascii() and w.isalpha() and _MIN_LETTERS <= len(w) <= _MAX_LETTERS
    )


def _borrowed(split: Split, rng: Random) -> Question | None:
    """A task of words or lists; None where the problem belongs to another split."""
    skill = rng.choice([s for s in SKILLS if s.name in _TASKS])
    problem = _TASKS[skill.name](rng.sample(_foreign_words(), rng.choice((3, 3, 4))), rng)
    wordings: Split = split if rng.random() < 0.5 else "train"
    pattern = rng.choice([p for p in skill.patterns if p.split == wordings])
    if not problem.answer or skill.split_of(problem, pattern) != split:
        return None
    return Question(
        question=ask(pattern, problem.slots, rng),
        answer=problem.answer,
        skill=skill.name,
        split=split,
        grader="exact_case" if skill.case_matters else "exact",
    )


def _rewriting(rewrite: Callable[[str], str]) -> Callable[[list[str], Random], Draw]:
    return lambda words, rng: Draw(words[0], {"w": words[0]}, rewrite(words[0]))


def _picking(words: list[str], rng: Random) -> Draw:
    place = rng.randrange(len(words))
    slots = {"l": ", ".join(words), "o": ORDINALS[place], "p": POSITIONS[place]}
    return Draw(f"{','.join(words)}@{place}", slots, words[place])


def _sorting(words: list[str], rng: Random) -> Draw:
    return Draw(",".join(words), {"l": ", ".join(words)}, ", ".join(sorted(words)))


_TASKS: Mapping[str, Callable[[list[str], Random], Draw]] = {
    "reverse_word": _rewriting(lambda w: w[::-1]),
    "remove_vowels": _rewriting(lambda w: "".join(c for c in w if c not in VOWELS)),
    "uppercase": _rewriting(str.upper),
    "count_letters": _rewriting(lambda w: str(len(w))),
    "pick_position": _picking,
    "sort_words": _sorting,
}


def _near_wordings(n: int, split: Split, rng: Random) -> list[Question]:
    """At least ``n``, those nearest to a foreign category first: by how much more their words are
    like its nearest known question than like their own category's (cosines of hashed words)."""
    embed = make_embedder(_WORDS).embed

    def drawn(n_each: int, of: Split, *, held_out: bool) -> list[LabQuestion]:
        found: dict[str, LabQuestion] = {}
        for skill in SKILLS:
            for _ in range(n_each):
                question = draw_question(skill, rng, of, held_out_wording=held_out)
                found[question.text] = question
        return list(found.values())

    known = drawn(_KNOWN_PER_SKILL, "train", held_out=False)
    strange = drawn(-(-_DRAWN_FOR_ONE * n // len(SKILLS)), split, held_out=True)
    alike = embed([q.text for q in strange]) @ embed([q.text for q in known]).T
    is_kin = np.array([[q.category == k.category for k in known] for q in strange])
    own = np.where(is_kin, alike, -1.0).max(axis=1)
    foreign = np.where(is_kin, -1.0, alike).max(axis=1)
    nearest_first = np.argsort(own - foreign, kind="stable")
    return [as_question(strange[int(i)], split) for i in nearest_first]
