"""Decisions with the shortcut are the encoder's decisions, sooner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eval.questions import lab_questions
from orchestrator.conclave import Conclave
from orchestrator.config import Config
from orchestrator.fitted import Fitted
from orchestrator.ledger import Ledger
from orchestrator.states import SHIPPED_STATE

QUESTIONS = lab_questions(4, "val", held_out_wording=True, seed=11)
TEXTS = [q.question for q in QUESTIONS]
N_CHARS = np.array([len(t) for t in TEXTS])


@pytest.fixture(scope="module")
def shipped() -> Conclave:
    return Conclave.shipped(Config(), ledger=Ledger(":memory:"))


def test_most_questions_are_settled_and_agree_with_the_encoder(shipped: Conclave) -> None:
    fitted = shipped.require_fitted()
    embedded: list[str] = []

    def embed(texts: Sequence[str]) -> np.ndarray:
        embedded.extend(texts)
        return shipped.embedder.embed(texts)

    quick = fitted.score(TEXTS, N_CHARS, embed)
    assert len(embedded) < 0.7 * len(TEXTS)
    slow = replace(fitted, shortcut=None).score(TEXTS, N_CHARS, shipped.embedder.embed)
    assert quick.skills == slow.skills
    category = np.array([fitted.category_of[s] for s in quick.skills])
    truth = np.array([fitted.category_of[str(q.skill)] for q in QUESTIONS])
    right_quick = category[quick.p_skill.argmax(axis=1)] == truth
    right_slow = category[slow.p_skill.argmax(axis=1)] == truth
    assert right_quick.mean() >= right_slow.mean() - 0.02
    asked = [t in set(embedded) for t in TEXTS]
    # By how like known questions are, in single precision: sums over other batches differ.
    np.testing.assert_allclose(quick.p_correct[asked], slow.p_correct[asked], atol=2e-6)
    np.testing.assert_allclose(quick.novelty[asked], slow.novelty[asked], atol=1e-6)


def test_it_can_be_turned_off() -> None:
    conclave = Conclave.shipped(Config(shortcut=False), ledger=Ledger(":memory:"))
    assert conclave.require_fitted().shortcut is None


def test_it_is_saved_with_the_rest_and_may_be_missing(shipped: Conclave, tmp_path: Path) -> None:
    fitted = shipped.require_fitted()
    for shortcut in (fitted.shortcut, None):
        replace(fitted, shortcut=shortcut).save(tmp_path)
        again = Fitted.load(tmp_path, shipped.pool, shipped.embedder.name)
        assert (again.shortcut is None) == (shortcut is None)
    assert fitted.shortcut is not None
    assert sum(file.stat().st_size for file in SHIPPED_STATE.iterdir()) < 1.2e6
