"""Arrivals have the rates that they claim, and pools the sizes."""

from __future__ import annotations

import numpy as np
import pytest

from experts.residency.workloads import (
    bursty_times,
    experts_of,
    poisson_times,
    self_exciting_times,
    zipf_shares,
)


@pytest.mark.parametrize("times", [poisson_times, bursty_times, self_exciting_times])
def test_arrivals_come_at_their_rate_in_order_and_repeat(times) -> None:  # type: ignore[no-untyped-def]
    drawn = [times(20_000, 10.0, seed=seed) for seed in range(3)]
    for at_s in drawn:
        assert len(at_s) == 20_000
        assert at_s[0] >= 0
        assert (np.diff(at_s) >= 0).all()
    assert np.mean([20_000 / at_s[-1] for at_s in drawn]) == pytest.approx(10.0, rel=0.15)
    assert (times(20_000, 10.0, seed=0) == drawn[0]).all()


def test_bursts_are_burstier_than_poisson() -> None:
    def dispersion(at_s: np.ndarray) -> float:
        counts = np.bincount((at_s / 20).astype(int))[:-1]
        return float(counts.var() / counts.mean())

    assert dispersion(poisson_times(20_000, 10.0, seed=0)) < 2
    assert dispersion(bursty_times(20_000, 10.0, seed=0)) > 5
    assert dispersion(self_exciting_times(20_000, 10.0, seed=0)) > 2.5


def test_a_trillion_parameters_in_a_hundred_and_fifty_experts() -> None:
    models = experts_of(150, 1e12)
    parameters = [float(m.name.split("-")[1][:-1]) * 1e9 for m in models]
    assert sum(parameters) == pytest.approx(1e12, rel=0.01)
    assert (min(parameters), max(parameters)) == (1e9, 70e9)
    assert max(m.n_bytes for m in models) == 70 * 10**9  # 8 bits
    assert zipf_shares(150, 1.0).sum() == pytest.approx(1.0)
