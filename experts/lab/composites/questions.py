"""Questions for latent experts: single steps, and composites of two, by what training may show.

Kinds: ``single`` steps of any member; ``knowledge``, two facts in a row; ``procedures``, two
procedures in a row. The split ``train`` shows nothing about a held-out entity, neither composite
nor single, and no held-out pair of procedures. ``val`` and ``test`` draw the others: ``entities``
(knowledge about held-out guilds and countries), ``pairs`` (trained pairs of procedures, with
problems that training did not draw) and ``new_pairs``.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal, get_args

from experts.lab.composites import world
from experts.lab.composites.phrases import ask_composite, ask_step
from experts.lab.composites.steps import STEPS, Step, pairs
from experts.lab.questions.skill import Split, split_of

Kind = Literal["single", "entities", "seen_entities", "pairs", "new_pairs"]
KINDS: tuple[Kind, ...] = get_args(Kind)
NEW_PAIRS = frozenset(
    (
        ("reverse", "last_letter"), ("drop_vowels", "second_letter"), ("swap_ends", "capitals"),
        ("longest", "swap_ends"), ("first_in_alphabet", "reverse"), ("last_named", "drop_vowels"),
        ("add", "hours"), ("subtract", "weeks"), ("double", "dozens"),
    )
)  # fmt: skip
"""Of procedures, that no training question combined; each of their steps is in trained pairs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentQuestion:
    """One question with its reference answer."""

    text: str
    answer: str
    kind: Kind
    steps: tuple[str, ...]
    """One, or two in the order in which they are done."""
    members: tuple[str, ...]
    """Who knows them."""


def draw_questions(kind: Kind, split: Split, n: int, *, seed: int) -> list[LatentQuestion]:
    """``n`` questions of a kind, none twice. Wordings are those of training: what is held out is
    what they are about."""
    rng = Random(f"{kind}/{split}/{seed}")
    found: dict[str, LatentQuestion] = {}
    while len(found) < n:
        question = _drawn(kind, split, rng)
        if question is not None:
            found[question.text] = question
    return list(found.values())


def training_questions(n: int, *, seed: int) -> list[LatentQuestion]:
    """A third each: single steps, knowledge, procedures; shuffled."""
    third = n // 3
    rng = Random(f"order/{seed}")
    drawn = [
        *draw_questions("single", "train", n - 2 * third, seed=seed),
        *draw_questions("seen_entities", "train", third, seed=seed),
        *draw_questions("pairs", "train", third, seed=seed),
    ]
    rng.shuffle(drawn)
    return drawn


def _drawn(kind: Kind, split: Split, rng: Random) -> LatentQuestion | None:
    """None where what was drawn belongs elsewhere."""
    if kind == "single":
        step = rng.choice(STEPS)
        subject = step.draw(rng)
        if step.is_fact:
            entity = step.do(subject) if step.gives in ("guild", "country") else subject
            if split == "train" and world.is_held_out(entity):
                return None
        elif split_of(f"{step.name}|{subject}") != split:
            return None
        text, answer = ask_step(step, subject, rng), step.do(subject)
        return LatentQuestion(
            text=text, answer=answer, kind=kind, steps=(step.name,), members=(step.member,)
        )
    first, second = rng.choice(_PAIRS[kind])
    subject = first.draw(rng)
    between = first.do(subject)
    if first.is_fact:
        if world.is_held_out(between) != (kind == "entities"):
            return None
    elif split_of(f"{first.name}|{subject}") != split:
        return None
    text = ask_composite(first, second, subject, rng)
    return LatentQuestion(
        text=text,
        answer=second.do(between),
        kind=kind,
        steps=(first.name, second.name),
        members=(first.member, second.member),
    )


def _is_new(pair: tuple[Step, Step]) -> bool:
    return (pair[0].name, pair[1].name) in NEW_PAIRS


_FACTS = tuple(p for p in pairs() if p[0].is_fact)
_PROCEDURES = tuple(p for p in pairs() if not p[0].is_fact)
_PAIRS = {
    "entities": _FACTS,
    "seen_entities": _FACTS,
    "pairs": tuple(p for p in _PROCEDURES if not _is_new(p)),
    "new_pairs": tuple(p for p in _PROCEDURES if _is_new(p)),
}
