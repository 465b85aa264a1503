"""Questions that strategies are compared on: one skill, two in sequence, look-alikes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.bundled.borders import border_questions
from eval.bundled.sequences import TwoParts, two_part_questions
from eval.questions import Question, lab_questions
from experts.lab.questions import SKILLS
from experts.lab.questions.skill import Split

ONE, TWO, BORDER = "one skill", "two in sequence", "look-alike"
KINDS = (ONE, TWO, BORDER)


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """Questions of all kinds, in one row."""

    questions: tuple[Question, ...]
    kinds: tuple[str, ...]
    two_parts: tuple[TwoParts, ...]

    def rows(self, kind: str) -> np.ndarray:
        return np.flatnonzero(np.array(self.kinds) == kind)


def draw(n: int, split: Split, *, seed: int) -> Drawn:
    """``n`` questions of each kind; of those of one skill, half in held-out wordings, all skills
    alike as far as ``n`` divides."""
    each = -(-n // (2 * len(SKILLS)))
    one: list[Question] = []
    for held_out in (False, True):
        of = lab_questions(each, split, held_out_wording=held_out, seed=seed)
        order = np.random.default_rng(seed).permutation(len(of))
        one += [of[int(i)] for i in order[: (n + held_out) // 2]]
    two = two_part_questions(n, split, seed=seed)
    of_kind = {
        ONE: one,
        TWO: [t.question for t in two],
        BORDER: border_questions(n, split, seed=seed),
    }
    kept = {q.query_id: (q, kind) for kind, some in of_kind.items() for q in some}
    return Drawn(
        questions=tuple(q for q, _ in kept.values()),
        kinds=tuple(kind for _, kind in kept.values()),
        two_parts=tuple(two),
    )
