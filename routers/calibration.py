"""Calibration: from a score that orders well to a probability that can be believed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np


@dataclass(frozen=True)
class Calibrator:
    """A monotone piecewise-linear map of [0, 1] to [0, 1], fitted by isotonic regression.

    The empty calibrator is the identity.
    """

    knots_x: tuple[float, ...] = ()
    knots_y: tuple[float, ...] = ()

    @classmethod
    def fit(cls, predicted: np.ndarray, right: np.ndarray) -> Self:
        """predicted, right: (n,) in [0, 1]; NaN in ``right`` is left out.

        One pseudo-observation of each outcome keeps the ends away from 0 and 1: isotonic
        regression otherwise promises certainty wherever a small sample was unanimous.
        """
        from sklearn.isotonic import IsotonicRegression

        known = ~np.isnan(right)
        x, y = predicted[known], right[known]
        if len(x) == 0:
            return cls()
        x = np.concatenate([x, [x.min(), x.max()]])
        y = np.concatenate([y, [1.0, 0.0]])
        model = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(x, y)
        return cls(
            tuple(float(v) for v in model.X_thresholds_),
            tuple(float(v) for v in model.y_thresholds_),
        )

    def apply(self, predicted: np.ndarray) -> np.ndarray:
        """Same shape as ``predicted``."""
        if not self.knots_x:
            return predicted
        result: np.ndarray = np.interp(predicted, *self._knots)
        return result

    @cached_property
    def _knots(self) -> tuple[np.ndarray, np.ndarray]:
        """As arrays, made once: making them took longer than the interpolation."""
        return np.array(self.knots_x), np.array(self.knots_y)


def expected_calibration_error(
    predicted: np.ndarray, right: np.ndarray, *, n_bins: int = 15
) -> float:
    """ECE: mean |accuracy - confidence| over equal-width bins, weighted by their counts.

    Source: Guo et al. 2017, arXiv:1706.04599, section 2.
    """
    bins = np.minimum((predicted * n_bins).astype(int), n_bins - 1)
    gaps = [
        abs(float(right[bins == b].mean() - predicted[bins == b].mean())) * int((bins == b).sum())
        for b in np.unique(bins)
    ]
    return sum(gaps) / len(predicted)
