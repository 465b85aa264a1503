"""Intervals of proportions."""

from __future__ import annotations

import math

Z95 = 1.959963984540054


def wilson_interval(successes: float, n: float) -> tuple[float, float]:
    """95 % interval of a proportion; sensible also at 0 and 1. Source: Wilson 1927.

    Discounted observations count as fractions: n is then what they are worth.

    >>> tuple(round(x, 3) for x in wilson_interval(19, 20))
    (0.764, 0.991)
    """
    if n <= 0:
        return 0.0, 1.0
    p = successes / n
    centre = p + Z95**2 / (2 * n)
    half = Z95 * math.sqrt(max(0.0, p * (1 - p) / n) + Z95**2 / (4 * n**2))
    scale = 1 + Z95**2 / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)
