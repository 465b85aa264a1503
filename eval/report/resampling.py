"""Intervals of what is computed from means over questions: ratios, differences, whole curves.

``eval.statistics`` has the intervals of a single figure; here one resampling serves many figures at
once, so that a report with hundreds of intervals takes a second.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

N_RESAMPLES = 1000
_CHUNK = 50


def resampled_means(
    values: np.ndarray, *, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> np.ndarray:
    """(n_resamples, k) means of columns of ``values`` (n, k), resampling rows with replacement."""
    n = len(values)
    rng = np.random.default_rng(seed)
    means = np.empty((n_resamples, values.shape[1]))
    for start in range(0, n_resamples, _CHUNK):
        size = min(_CHUNK, n_resamples - start)
        drawn = rng.integers(0, n, size=(size, n))
        counts = np.array([np.bincount(row, minlength=n) for row in drawn], float)
        means[start : start + size] = counts @ values / n
    return means


def interval(
    values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """95 % percentile interval of a statistic of column means, each end (m,).

    values: (n, k), a row a question; ``statistic`` maps (..., k) means to (..., m).
    """
    low, high = np.quantile(statistic(resampled_means(values, seed=seed)), (0.025, 0.975), axis=0)
    return low, high
