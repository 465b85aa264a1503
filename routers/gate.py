"""A gate with a guarantee: accept an answer only where the risk of a wrong one is bounded.

Chosen on calibration outcomes so that, with probability at least 1 - delta over these, at most
alpha of the accepted answers are wrong. Exact and finite: Clopper-Pearson bounds, thresholds tested
from the strictest to the loosest, stopping at the first that fails (fixed-sequence testing, which
needs no correction for having tried many). Marginal and for exchangeable questions only: fit it
again when the traffic changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experts.errors import DataError

N_THRESHOLDS = 50
_HEADROOM = 2.5
"""The first threshold accepts so many times what a flawless sample would need: a smaller one could
not pass, or one unlucky answer there would end the sequence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RiskGate:
    """Accept where the confidence is at least ``threshold``; nothing, where that is infinite."""

    threshold: float
    alpha: float
    """Largest share of accepted answers that may be wrong."""
    delta: float
    """Largest probability that the gate was badly chosen."""
    coverage: float
    """Share of the calibration answers that it accepts."""

    def accepts(self, confidence: np.ndarray) -> np.ndarray:
        """Same shape, bool."""
        result: np.ndarray = confidence >= self.threshold
        return result


def fit_gate(
    confidence: np.ndarray, right: np.ndarray, *, alpha: float, delta: float = 0.05
) -> RiskGate:
    """confidence, right: (n,) calibration answers that nothing was fitted on; right in [0, 1], and
    anything below 1 counts as wrong.

    The loosest gate that passes; one that accepts nothing when none does, which is certain when n
    is too small: even without a mistake the bound is 1 - delta^(1/n). Source: Clopper & Pearson
    1934; on routing, arXiv:2606.29054.
    """
    if not (0 < alpha < 1 and 0 < delta < 1):
        raise DataError(f"alpha and delta must lie between 0 and 1; got {alpha:g} and {delta:g}.")
    if len(confidence) == 0:
        raise DataError("A gate needs calibration outcomes, and there are none.")
    order = np.argsort(-confidence, kind="stable")
    wrong = np.cumsum(right[order] < 1)
    # The grid depends on the confidences alone, never on who was right.
    flawless = np.log(delta) / np.log(1 - alpha)
    first = int(np.ceil(min(_HEADROOM * flawless, max(flawless, len(order)))))
    best, coverage = np.inf, 0.0
    for n in _sizes(first, len(order)):
        threshold = float(confidence[order[n - 1]])
        n_accepted = int(np.searchsorted(-confidence[order], -threshold, side="right"))
        if upper_bound(int(wrong[n_accepted - 1]), n_accepted, delta) > alpha:
            break
        best, coverage = threshold, n_accepted / len(order)
    return RiskGate(threshold=best, alpha=alpha, delta=delta, coverage=coverage)


def _sizes(first: int, last: int) -> list[int]:
    """How many answers the thresholds accept, strictest first."""
    if first > last:
        return []
    return sorted(set(np.linspace(first, last, N_THRESHOLDS).astype(int).tolist()))


def upper_bound(n_wrong: int, n: int, delta: float) -> float:
    """Clopper-Pearson: the rate is below it with probability at least 1 - delta.

    >>> round(upper_bound(0, 59, 0.05), 3)
    0.05
    """
    from scipy.stats import beta

    return 1.0 if n_wrong >= n else float(beta.ppf(1 - delta, n_wrong + 1, n - n_wrong))


def least_abstention(base_risk: float, alpha: float) -> float:
    """Share of questions that any gate must refuse to keep risk ``alpha``, even a perfect one.

    (base_risk - alpha) / (1 - alpha), or 0: look at it before asking for the impossible.

    >>> least_abstention(0.2, 0.05)
    0.15789473684210528
    """
    return max(0.0, (base_risk - alpha) / (1 - alpha))
