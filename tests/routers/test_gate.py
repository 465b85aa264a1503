"""The gate's guarantee, by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from experts.errors import DataError
from routers.gate import fit_gate, least_abstention, upper_bound

ALPHA, DELTA = 0.05, 0.1


def answers(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Confidences that are right as often as they say."""
    confidence = rng.beta(12, 1, n)
    return confidence, (rng.random(n) < confidence).astype(float)


def true_risk(threshold: float) -> float:
    """Share of wrong ones among answers with at least this confidence, by numerical integration."""
    grid = np.linspace(threshold, 1, 2001)
    density = grid**11
    return float(np.trapezoid((1 - grid) * density, grid) / np.trapezoid(density, grid))


@pytest.mark.parametrize("n", [200, 1000])
def test_in_a_thousand_calibrations_the_bound_is_kept_as_often_as_promised(n: int) -> None:
    rng = np.random.default_rng(0)
    broken = accepted = 0
    for _ in range(1000):
        gate = fit_gate(*answers(n, rng), alpha=ALPHA, delta=DELTA)
        if np.isfinite(gate.threshold):
            accepted += 1
            broken += true_risk(gate.threshold) > ALPHA
    assert broken / 1000 <= DELTA
    assert accepted > 100  # and not by refusing everything


def test_more_calibration_lets_more_through() -> None:
    rng = np.random.default_rng(1)
    few, many = (
        np.mean([fit_gate(*answers(n, rng), alpha=ALPHA, delta=DELTA).coverage for _ in range(30)])
        for n in (200, 4000)
    )
    assert many > few


def test_it_accepts_nothing_rather_than_break_its_promise() -> None:
    gate = fit_gate(np.ones(20), np.ones(20), alpha=0.01, delta=0.05)  # too few, though all right
    assert not gate.accepts(np.array([1.0])).any()
    hopeless = fit_gate(np.linspace(0, 1, 500), np.zeros(500), alpha=0.05)
    assert hopeless.coverage == 0


def test_equal_confidences_are_accepted_together() -> None:
    confidence = np.repeat([0.9, 0.5], 200)
    right = np.concatenate([np.ones(200), np.zeros(200)])
    gate = fit_gate(confidence, right, alpha=0.05)
    assert gate.threshold == 0.9
    assert gate.coverage == 0.5


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(DataError, match="between 0 and 1"):
        fit_gate(np.ones(3), np.ones(3), alpha=0)
    with pytest.raises(DataError, match="there are none"):
        fit_gate(np.ones(0), np.ones(0), alpha=0.1)
    assert least_abstention(0.04, 0.05) == 0


def test_it_stops_at_the_first_threshold_that_fails() -> None:
    """Fixed-sequence testing: what is wrong among the surest is not outvoted by those after."""
    n = 4000
    confidence = np.linspace(1, 0, n)
    right = np.ones(n)
    right[100:400] = 0
    gate = fit_gate(confidence, right, alpha=0.1)
    assert upper_bound(300, n, 0.05) < 0.1  # everybody together would pass
    assert gate.coverage < 0.1


def test_an_answer_that_is_half_right_is_wrong() -> None:
    confidence = np.linspace(0.1, 1, 400)
    assert fit_gate(confidence, np.full(400, 0.9), alpha=0.1).coverage == 0
