"""Can a probability be believed: reliability, risk and coverage.

``predicted`` are probabilities of being right, ``right`` scores in [0, 1]; both (n,).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True, slots=True)
class ReliabilityBin:
    """What was promised and what came, in one bin of predictions."""

    n: int
    predicted: float
    observed: float


def reliability(
    predicted: np.ndarray, right: np.ndarray, *, n_bins: int = 15
) -> list[ReliabilityBin]:
    """Non-empty bins of equal width, closed above: (0, 1/n], ... as Guo et al. 2017 have them
    (arXiv:1706.04599, equation 3); 0 itself is in the first."""
    # Rounded: 0.3 * 10 is above 3 in binary, and would leave its bin.
    which = np.maximum(np.ceil(np.round(predicted * n_bins, 9)).astype(int) - 1, 0)
    return [
        ReliabilityBin(
            n=int((which == b).sum()),
            predicted=float(predicted[which == b].mean()),
            observed=float(right[which == b].mean()),
        )
        for b in np.unique(which)
    ]


def ece(predicted: np.ndarray, right: np.ndarray, *, n_bins: int = 15) -> float:
    """Expected calibration error: mean gap between promised and observed, weighted by counts.

    >>> round(ece(np.array([0.9, 0.9, 0.1, 0.1]), np.array([1, 1, 0, 0])), 3)
    0.1
    """
    bins = reliability(predicted, right, n_bins=n_bins)
    return sum(b.n * abs(b.predicted - b.observed) for b in bins) / max(1, len(predicted))


def risk_coverage(confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(coverage, risk), each (n,): answer the surest k questions only, for k = 1..n.

    Ties in confidence are one decision: their risk is shared, whatever the order of the rows.
    """
    order = np.argsort(-confidence, kind="stable")
    wrong, sure = 1.0 - right[order], confidence[order]
    _, tie = np.unique(-sure, return_inverse=True)
    wrong = (np.bincount(tie, wrong) / np.bincount(tie))[tie]
    k = np.arange(1, len(wrong) + 1)
    return k / len(wrong), np.cumsum(wrong) / k


def aurc(confidence: np.ndarray, right: np.ndarray) -> float:
    """Area under the risk-coverage curve: mean risk over all coverages. Lower is better.

    Source: Geifman et al. 2019, arXiv:1805.08206.
    """
    return float(risk_coverage(confidence, right)[1].mean())
