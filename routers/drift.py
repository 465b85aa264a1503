"""Has an arm changed? Page-Hinkley's test on blind residuals, for better and for worse.

Residuals are standardised by what the fitted state expected, z = (score - p) / sqrt(p (1 - p)),
with a variance of at least ``_MIN_VARIANCE``, so that one miss of an arm that never missed is no
alarm. The sums of z +- tolerance are compared with their extremes so far, and an alarm is given
when they are ``threshold`` apart (Page 1954; Hinkley 1971). What the fit itself does not know of a
rate (its posterior sd) is added to the tolerance: a rate within a standard deviation of the fitted
one is no change.

False alarms, by simulation (``conclave eval learning``): docs/learning.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_MIN_VARIANCE = 0.05

Change = Literal["better", "worse"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftRates:
    """How sure an alarm must be."""

    tolerance: float = 0.25
    """In standard deviations of one outcome."""
    threshold: float = 15.0


class PageHinkley:
    """Of one arm."""

    def __init__(self, rates: DriftRates) -> None:
        self.rates = rates
        self.n = 0
        """Observations, each by its weight rounded up."""
        self.alarm: Change | None = None
        """The latest."""
        self.n_alarms = 0
        self.n_at_alarm = 0
        self.worse, self.better = 0.0, 0.0
        """How far the sums are from their extremes."""

    def observe(self, p: float, sd: float, score: float, weight: float = 1.0) -> Change | None:
        """The alarm that this observation gives, if any; the test then starts anew."""
        scale = max(p * (1 - p), _MIN_VARIANCE) ** 0.5
        tolerance = self.rates.tolerance + sd / scale
        z = (score - p) / scale
        self.n += 1
        self.worse = max(0.0, self.worse + weight * (-z - tolerance))
        self.better = max(0.0, self.better + weight * (z - tolerance))
        found: Change | None = None
        if self.worse > self.rates.threshold:
            found = "worse"
        elif self.better > self.rates.threshold:
            found = "better"
        if found:
            self.alarm, self.n_at_alarm = found, self.n
            self.n_alarms += 1
            self.worse = self.better = 0.0
        return found
