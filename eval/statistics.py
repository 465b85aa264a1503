"""Intervals: how much of a figure is luck."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from routers.intervals import Z95, wilson_interval

__all__ = [
    "Z95", "Estimate", "Interval", "Resamples", "bootstrap_interval", "interval_of_means",
    "mean_estimate", "mean_interval", "percentile_interval", "resampled", "wilson_interval",
]  # fmt: skip

Interval = tuple[float, float]
"""Of 95 %."""
_CHUNK_DRAWS = 1 << 20
"""Rows drawn at a time: 8 MiB of indices."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A figure with its 95 % interval."""

    value: float
    ci: Interval


def mean_estimate(values: np.ndarray, *, seed: int = 0) -> Estimate:
    """Mean of (n,) values, such as paired differences, with its bootstrap interval."""
    ci = bootstrap_interval(lambda rows: values[rows].mean(axis=1), len(values), seed=seed)
    return Estimate(value=float(values.mean()), ci=ci)


def mean_interval(values: np.ndarray, *, seed: int = 0) -> Interval:
    """95 % interval of a mean in [0, 1]: Wilson's where all values are 0 or 1, else bootstrap."""
    if np.isin(values, (0.0, 1.0)).all():
        return wilson_interval(float(values.sum()), len(values))
    return mean_estimate(values, seed=seed).ci


def bootstrap_interval(
    statistic: Callable[[np.ndarray], np.ndarray], n: int, *, n_resamples: int = 2000, seed: int = 0
) -> Interval:
    """95 % percentile interval, resampling questions.

    ``statistic`` maps rows, (n_resamples, n) indices, to (n_resamples,) values; infinite values
    (no answer right in a resample) sort last, so the upper end may be infinite.
    """
    return percentile_interval(resampled(statistic, n, n_resamples=n_resamples, seed=seed))


def resampled(
    statistic: Callable[[np.ndarray], np.ndarray], n: int, *, n_resamples: int, seed: int = 0
) -> np.ndarray:
    """(n_resamples,) values of a statistic of rows, as in ``bootstrap_interval``.

    Drawn a few at a time: 5000 resamples of 9000 questions would be a gigabyte. Any chunk gives the
    same draws.
    """
    rng, size = np.random.default_rng(seed), max(1, _CHUNK_DRAWS // max(1, n))
    starts = range(0, n_resamples, size)
    return np.concatenate(
        [statistic(rng.integers(0, n, size=(min(size, n_resamples - i), n))) for i in starts]
    )


class Resamples:
    """Bootstrap resamples of n questions, shared by every figure that is computed from them.

    One set of draws for all policies makes every comparison a paired one, and a mean over questions
    becomes a matrix product: thousands of figures cost what one does.
    """

    def __init__(self, n: int, *, n_resamples: int = 2000, seed: int = 0) -> None:
        if n == 0:
            raise ValueError("There is nothing to resample: no questions.")
        rng = np.random.default_rng(seed)
        self._counts = np.empty((n_resamples, n), np.float32)
        for row in self._counts:
            row[:] = np.bincount(rng.integers(0, n, n), minlength=n)

    def means(self, values: np.ndarray) -> np.ndarray:
        """(n_resamples, ...) means of each resample; values: (n, ...), finite."""
        # In doubles: costs of millionths of a dollar stand beside people's of tens.
        flat = values.reshape(len(values), -1).astype(float)
        parts = [self._counts[i : i + 256].astype(float) @ flat for i in range(0, len(self), 256)]
        result: np.ndarray = np.concatenate(parts) / len(values)
        return result.reshape(len(self), *values.shape[1:])

    def __len__(self) -> int:
        return len(self._counts)


def interval_of_means(
    values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """95 % percentile interval of a statistic of column means, each end (m,): ratios, differences,
    whole curves, from one resampling.

    values: (n, k), a row a question; ``statistic`` maps (..., k) means to (..., m), finite.
    """
    drawn = Resamples(len(values), n_resamples=1000, seed=seed).means(values)
    low, high = np.quantile(statistic(drawn), (0.025, 0.975), axis=0)
    return low, high


def percentile_interval(resampled: np.ndarray) -> Interval:
    """95 % percentile interval of resampled figures (n_resamples,); infinite ones sort last."""
    values, n = np.sort(resampled), len(resampled)
    return float(values[int(0.025 * n)]), float(values[int(np.ceil(0.975 * n)) - 1])
