"""Profiles as they are now: what is shown is what decisions believe."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.fitted import Fitted
from orchestrator.ledger import Ledger
from orchestrator.profiles import current_profiles
from orchestrator.roster import success_by_category
from tests.orchestrator.learning.test_learning import judged, made


def test_bad_feedback_lowers_what_is_shown_of_that_expert_on_that_skill(
    ledger: Ledger, fitted: Fitted
) -> None:
    system = made(ledger, fitted)
    for i in range(20):
        judged(system, i, 0.0)
    system.learn()
    assert system.learner
    was, now = fitted.router.profiles_, current_profiles(fitted, system.learner.shifts)
    arm, skill = now.arms.index("sums"), now.skills.index("addition")
    assert was.posterior()[0][arm, skill] > 0.9
    assert now.posterior()[0][arm, skill] < 0.4
    assert now.n[arm, skill] > was.n[arm, skill] + 15
    others = [j for j in range(len(now.arms)) if j != arm]
    np.testing.assert_array_equal(now.posterior()[0][others], was.posterior()[0][others])
    shown, fitted_rates = success_by_category(now), success_by_category(was)
    assert shown["sums"]["arithmetic"] < fitted_rates["sums"]["arithmetic"] - 0.2
    assert shown["generalist"] == fitted_rates["generalist"]


def test_nothing_learned_changes_nothing(ledger: Ledger, fitted: Fitted) -> None:
    shifts = made(ledger, fitted).learner.shifts  # type: ignore[union-attr]
    for learned in (None, shifts):
        mean, sd = current_profiles(fitted, learned).posterior()
        assert mean == pytest.approx(fitted.router.profiles_.posterior()[0])
        assert sd == pytest.approx(fitted.router.profiles_.posterior()[1])
