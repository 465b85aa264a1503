"""Calibration and its error."""

from __future__ import annotations

import numpy as np

from routers.calibration import Calibrator, expected_calibration_error


def test_overconfidence_is_taken_back() -> None:
    rng = np.random.default_rng(0)
    said = rng.uniform(size=4000)
    right = (rng.uniform(size=4000) < said**2).astype(float)
    calibrator = Calibrator.fit(said[:2000], right[:2000])
    before = expected_calibration_error(said[2000:], right[2000:])
    after = expected_calibration_error(calibrator.apply(said[2000:]), right[2000:])
    assert before > 0.12
    assert after < 0.05


def test_no_sample_is_large_enough_for_certainty() -> None:
    calibrator = Calibrator.fit(np.array([0.2, 0.4, 0.9]), np.array([0.0, 0.0, 1.0]))
    applied = calibrator.apply(np.array([0.0, 1.0]))
    assert applied.min() > 0
    assert applied.max() < 1


def test_order_is_kept() -> None:
    rng = np.random.default_rng(1)
    calibrator = Calibrator.fit(rng.uniform(size=50), rng.integers(0, 2, 50).astype(float))
    assert (np.diff(calibrator.apply(np.linspace(0, 1, 101))) >= 0).all()


def test_unknown_outcomes_are_left_out() -> None:
    assert Calibrator.fit(np.array([0.5]), np.array([np.nan])) == Calibrator()


def test_ece_by_hand() -> None:
    # Two answers said to be 0.9 sure, one right: gap 0.4; two at 0.1, none right: gap 0.1.
    said, right = np.array([0.9, 0.9, 0.1, 0.1]), np.array([1.0, 0.0, 0.0, 0.0])
    assert abs(expected_calibration_error(said, right) - 0.25) < 1e-9
