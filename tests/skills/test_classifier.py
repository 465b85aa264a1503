"""The trained annotator: what it learns, how sure it is, and what it keeps."""

from __future__ import annotations

import numpy as np
import pytest

from skills.annotate import NeighbourAnnotator, RouterAnnotator
from skills.annotators import annotator_from_state, make_annotator
from skills.classifier import ClassifierAnnotator
from skills.errors import SkillsError

SKILLS = ("north", "east", "up")
KINDS = ("neighbours", "descriptors", "classifier")


def questions(n: int = 90, *, spread: float = 0.6) -> tuple[np.ndarray, list[str]]:
    """Around three directions of ten dimensions."""
    rng = np.random.default_rng(0)
    labels = [SKILLS[i % 3] for i in range(n)]
    vectors = np.eye(10)[[i % 3 for i in range(n)]] + spread * rng.normal(size=(n, 10))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), labels


def made(kind: str) -> RouterAnnotator:
    return make_annotator(kind, dict(zip(SKILLS, np.eye(10, dtype=np.float32)[:3], strict=True)))


@pytest.mark.parametrize("kind", KINDS)
def test_every_annotator_keeps_the_protocol(kind: str) -> None:
    vectors, labels = questions()
    annotator = made(kind).fit(vectors, labels, SKILLS)
    annotation = annotator.annotate(vectors)
    assert annotator.kind == kind
    assert annotator.skills == SKILLS
    assert annotation.p_skill.shape == (90, 3)
    np.testing.assert_allclose(annotation.p_skill.sum(axis=1), 1, rtol=1e-5)
    right = np.array(SKILLS)[annotation.p_skill.argmax(1)] == np.array(labels)
    assert right.mean() > 0.7
    again = annotator_from_state(kind, annotator.state()).annotate(vectors)
    np.testing.assert_allclose(again.p_skill, annotation.p_skill, atol=0.02)
    np.testing.assert_allclose(again.novelty, annotation.novelty, atol=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_a_hidden_group_is_not_named(kind: str) -> None:
    vectors, labels = questions()
    annotator = made(kind).fit(vectors, labels, SKILLS)
    strange = annotator.blind(vectors, labels, np.array(labels))
    own = strange.p_skill[np.arange(90), [SKILLS.index(s) for s in labels]]
    assert own.max() == 0
    known = annotator.blind(vectors, labels)
    assert strange.novelty.mean() > known.novelty.mean() + 0.1


def test_the_temperature_makes_it_as_sure_as_it_is_right() -> None:
    vectors, labels = questions(300, spread=0.8)
    annotator = ClassifierAnnotator().fit(vectors, labels, SKILLS)
    fresh, truth = questions(900, spread=0.8)
    p_skill = annotator.annotate(fresh[300:]).p_skill
    right = np.array(SKILLS)[p_skill.argmax(1)] == np.array(truth[300:])
    assert abs(p_skill.max(axis=1).mean() - right.mean()) < 0.05
    few = ClassifierAnnotator().fit(*questions(48, spread=0.8), SKILLS)
    assert few.temperature_ > 1.2  # of ten dimensions and hardly penalised, it is too sure


def test_one_skill_alone_is_always_it() -> None:
    vectors, _ = questions(6)
    annotator = ClassifierAnnotator().fit(vectors, ["east"] * 6, SKILLS)
    assert annotator.annotate(vectors).p_skill[:, 1].tolist() == [1.0] * 6


def test_two_skills_have_odds_of_their_own() -> None:
    vectors, labels = questions(60, spread=0.2)
    rows = [i for i, s in enumerate(labels) if s != "up"]
    annotator = ClassifierAnnotator().fit(vectors[rows], [labels[i] for i in rows], SKILLS)
    p_skill = annotator.annotate(vectors[rows]).p_skill
    assert p_skill[:, 2].max() == 0
    assert (np.array(SKILLS)[p_skill.argmax(1)] == np.array(labels)[rows]).mean() > 0.9


def test_new_wordings_are_read_better_than_by_neighbours() -> None:
    """Where what tells skills apart is little of what a question says."""
    vectors, labels = questions(150, spread=1.0)
    fresh, truth = questions(600, spread=1.0)
    right = {
        type(a).__name__: np.mean(
            np.array(SKILLS)[a.fit(vectors, labels, SKILLS).annotate(fresh[150:]).p_skill.argmax(1)]
            == np.array(truth[150:])
        )
        for a in (ClassifierAnnotator(inverse_penalty=1.0), NeighbourAnnotator(k=5))
    }
    assert right["ClassifierAnnotator"] > right["NeighbourAnnotator"]


def test_what_cannot_be_made_is_refused_with_a_reason() -> None:
    with pytest.raises(SkillsError, match="needs the taxonomy's descriptors"):
        make_annotator("descriptors")
    with pytest.raises(SkillsError, match="no annotator 'keywords' of embeddings"):
        make_annotator("keywords")
    with pytest.raises(SkillsError, match="no labelled questions"):
        ClassifierAnnotator().fit(np.zeros((0, 3)), [], SKILLS)
    with pytest.raises(SkillsError, match="No descriptor of down"):
        made("descriptors").fit(np.eye(10)[:1], ["down"], ["down"])
