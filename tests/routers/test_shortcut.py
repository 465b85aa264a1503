"""The shortcut answers what its words settle, and leaves the rest to the encoder."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
import pytest

from routers.shortcut import MIN_QUESTIONS, MIN_RIGHT, Shortcut
from skills.quick import QuickAnnotator

CATEGORY_OF = {
    "add": "sums",
    "halve": "sums",
    "capital": "places",
    "river": "places",
    "rhyme": "words",
}
WORDINGS = {
    "add": ["add {} and {}", "what is {} plus {}"],
    "halve": ["halve {} and {}", "what is half of {} of {}"],
    "capital": ["name the capital of {} or {}", "which city governs {} or {}"],
    "river": ["name the longest river of {} or {}", "which stream crosses {} or {}"],
    "rhyme": ["find a rhyme for {} and {}", "say something that sounds like {} or {}"],
}


def questions(n: int, *, seed: int) -> tuple[list[str], list[str]]:
    rng = Random(seed)
    drawn = [(rng.choice(ws), s) for s, ws in WORDINGS.items() for _ in range(n)]
    texts = [w.format(rng.choice("abcdefgh") * 3, rng.randint(2, 99)) for w, _ in drawn]
    order = rng.sample(range(len(texts)), len(texts))
    return [texts[i] for i in order], [drawn[i][1] for i in order]


@pytest.fixture(scope="module")
def shortcut() -> Shortcut:
    fitted = Shortcut.fit(*questions(50, seed=0), CATEGORY_OF)
    assert fitted is not None
    return fitted


def skills_said(shortcut: Shortcut, texts: Sequence[str]) -> tuple[list[str], np.ndarray]:
    annotation, settled = shortcut.annotate(texts)
    return [shortcut.annotator.skills[i] for i in annotation.p_skill.argmax(axis=1)], settled


def test_what_it_settles_is_right(shortcut: Shortcut) -> None:
    texts, labels = questions(40, seed=1)
    said, settled = skills_said(shortcut, texts)
    right = np.array([CATEGORY_OF[a] == CATEGORY_OF[b] for a, b in zip(said, labels, strict=True)])
    assert settled.mean() > 0.5
    assert right[settled].mean() >= MIN_RIGHT


def test_what_it_never_saw_it_leaves_open(shortcut: Shortcut) -> None:
    strange = ["", "Who are you?", "Write a poem about the sea.", "🙂", "\ud800"]
    annotation, settled = shortcut.annotate(strange)
    assert not settled.any()
    np.testing.assert_allclose(annotation.p_skill.sum(axis=1), 1)
    assert annotation.novelty[0] == 1.0


def test_no_texts_are_no_annotations(shortcut: Shortcut) -> None:
    annotation, settled = shortcut.annotate([])
    assert annotation.p_skill.shape == (0, len(CATEGORY_OF))
    assert settled.shape == (0,)


def test_its_state_says_the_same(shortcut: Shortcut) -> None:
    texts, _ = questions(10, seed=2)
    again = Shortcut.from_state(shortcut.state())
    np.testing.assert_allclose(
        again.annotate(texts)[0].p_skill, shortcut.annotate(texts)[0].p_skill, atol=2e-3
    )
    assert again.min_confidence == shortcut.min_confidence


def test_words_that_say_nothing_make_no_shortcut() -> None:
    _, labels = questions(50, seed=0)
    rng = Random(0)
    texts = [" ".join(rng.choices("abcdefgh", k=6)) for _ in labels]
    assert Shortcut.fit(texts, labels, CATEGORY_OF) is None


def test_few_questions_or_one_category_make_no_shortcut() -> None:
    texts, labels = questions(MIN_QUESTIONS // 5 - 1, seed=0)
    assert Shortcut.fit(texts, labels, CATEGORY_OF) is None
    texts, labels = questions(50, seed=0)
    assert Shortcut.fit(texts, labels, dict.fromkeys(CATEGORY_OF, "all")) is None


def test_two_skills_are_told_apart() -> None:
    annotator = QuickAnnotator().fit(["a b", "a b", "c d"], ["x", "x", "y"], ["y", "z", "x"])
    p = annotator.annotate(["a b", "c d"]).p_skill
    assert p.argmax(axis=1).tolist() == [2, 0]
    assert (p[:, 1] == 0).all()  # z was never seen
